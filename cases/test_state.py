# SPDX-License-Identifier: BSD-2-Clause
"""Setting and getting a vCPU's state: each field, over a run.

nvmm_vcpu_setstate(), nvmm_vcpu_getstate() and nvmm_vcpu_run() of libnvmm(3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from state_bench import (
    HALT,
    LONG,
    MASK,
    NUMBERED,
    put_attribute,
    put_cr,
    put_gpr,
    put_msr,
    run_to_halt,
)

from nvmmconf.nvmm import get_bytes, put_bytes
from nvmmconf.suite import (
    Capability,
    Cr,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    Level,
    Mode,
    Msr,
    PreparedGuest,
    Segment,
    StateFlag,
    Stubs,
    Vcpu,
    VirtualMachine,
    check,
    modes,
    requirement,
)

# ---- each field, over a run ----


def _over_a_run(guest: PreparedGuest, group: StateFlag, put: Callable[[Vcpu], None]) -> Vcpu:
    """Change `group` by `put`, run, and fetch it again."""
    vcpu = guest.vcpu
    vcpu.getstate(group)
    put(vcpu)
    vcpu.setstate(group)
    run_to_halt(guest)
    vcpu.getstate(group)
    return vcpu


@requirement("K-SET-1", "A-REG-2", "A-REG-13")
@LONG
def test_general_registers_are_kept(vm: VirtualMachine) -> None:
    """Each general register is after a run what was set, all 64 bits."""

    def put(vcpu: Vcpu) -> None:
        for register in NUMBERED:
            vcpu.state.gprs[register] = 0x8123456789ABCDE0 + register

    vcpu = _over_a_run(vm.prepare_code(HALT), StateFlag.GPRS, put)
    for register in NUMBERED:
        check.equal(vcpu.state.gprs[register], 0x8123456789ABCDE0 + register, register.name)


@requirement("K-SET-1", "A-REG-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_rip_is_where_the_guest_goes_on(vm: VirtualMachine) -> None:
    """The guest goes on at the RIP that was set."""
    guest = vm.prepare_code(HALT)
    vcpu = _over_a_run(guest, StateFlag.GPRS, put_gpr(Gpr.RIP, guest.symbol("there")))
    assert vcpu.state.gprs[Gpr.RIP] == guest.symbol("there") + 2


FLAGS = {
    "CF": 1,
    "PF": 4,
    "AF": 0x10,
    "ZF": 0x40,
    "SF": 0x80,
    "IF": 0x200,
    "DF": 0x400,
    "OF": 0x800,
    "IOPL": 0x3000,
    "NT": 0x4000,
    "AC": 1 << 18,
    "ID": 1 << 21,
}


@requirement("K-SET-1", "A-REG-2")
@LONG
def test_flags_are_kept(vm: VirtualMachine) -> None:
    """A flag of RFLAGS that is set is set after the run, and no other is."""
    guest = vm.prepare_code(HALT)
    for name, flag in FLAGS.items():
        vcpu = _over_a_run(guest, StateFlag.GPRS, put_gpr(Gpr.RFLAGS, 2 | flag))
        check.equal(vcpu.state.gprs[Gpr.RFLAGS], 2 | flag, name)


SEGMENT_FIELDS: dict[str, list[int]] = {
    "selector": [0x0008, 0xFFFB],
    "base": [0x12345678, 0xFFFFF000],
    "limit": [0, 0xFFFFF],
    "type": [1, 3, 5, 7],
    "dpl": [1, 2, 3],
    "avl": [1],
    "l": [1],
    "def": [1],
    "g": [1],
}
DATA_SEGMENTS = (Segment.DS, Segment.ES, Segment.FS, Segment.GS)
ATTRIBUTES = {"type": 3, "s": 1, "dpl": 0, "p": 1, "avl": 0, "l": 0, "def": 0, "g": 0}


def _holder(vcpu: Vcpu, segment: Segment, field: str) -> Any:
    raw = vcpu.state.segs[segment]
    return raw.attrib if field in ATTRIBUTES else raw


@requirement("K-SET-1", "A-REG-3", "A-REG-13")
@LONG
@pytest.mark.parametrize("field", SEGMENT_FIELDS)
def test_data_segments_field_is_kept(vm: VirtualMachine, field: str) -> None:
    """Each field of DS, ES, FS and GS is after a run what was set, and no other has changed."""
    guest = vm.prepare_code(HALT)
    for value in SEGMENT_FIELDS[field]:
        wanted = {"selector": 0x10, "base": 0, "limit": 0xFFFF} | ATTRIBUTES
        wanted[field] = value
        if field == "g":
            wanted["limit"] = 0xFFFFFFFF

        def put(vcpu: Vcpu, wanted: dict[str, int] = wanted) -> None:
            for segment in DATA_SEGMENTS:
                for name, number in wanted.items():
                    setattr(_holder(vcpu, segment, name), name, number)

        vcpu = _over_a_run(guest, StateFlag.SEGS, put)
        for segment in DATA_SEGMENTS:
            for name, number in wanted.items():
                got = getattr(_holder(vcpu, segment, name), name)
                check.equal(got, number, f"{segment.name} {name}")


@requirement("K-SET-1", "A-REG-3")
@LONG
@pytest.mark.parametrize("segment", [Segment.FS, Segment.GS, Segment.LDT, Segment.TR])
def test_base_has_64_bits(vm: VirtualMachine, segment: Segment) -> None:
    """The bases of FS, GS, LDTR and TR are kept with all their 64 bits."""
    guest = vm.prepare_code(HALT)
    for base in (0x00007FFFFFFFF000, 0xFFFF800000000000):
        vcpu = _over_a_run(guest, StateFlag.SEGS, put_attribute(segment, base=base))
        check.equal(vcpu.state.segs[segment].base, base, "base")


@requirement("K-SET-1", "K-SET-10", "A-REG-3")
@LONG
@pytest.mark.parametrize("table", [Segment.GDT, Segment.IDT])
def test_descriptor_table_is_kept(vm: VirtualMachine, table: Segment) -> None:
    """Base and limit of GDTR and IDTR are kept; selector and attributes they have none."""
    guest = vm.prepare_code(HALT)
    for base, limit in ((0x12345678, 0x3FF), (0xFFFF80001234ABCD, 0xFFFF), (0, 0)):
        vcpu = _over_a_run(guest, StateFlag.SEGS, put_attribute(table, base=base, limit=limit))
        check.equal(vcpu.state.segs[table].base, base, "base")
        check.equal(vcpu.state.segs[table].limit, limit, "limit")


@requirement("K-SET-11", "K-SET-1")
@LONG
@pytest.mark.parametrize(
    "segment", [Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.LDT, Segment.SS]
)
def test_absent_segment_stays_absent(vm: VirtualMachine, segment: Segment) -> None:
    """A segment that is set with P=0 is run with, and reads back with P=0 (BH-86)."""
    guest = vm.prepare_code(HALT)
    vcpu = _over_a_run(guest, StateFlag.SEGS, put_attribute(segment, p=0))
    assert vcpu.state.segs[segment].attrib.p == 0


@requirement("K-SET-1", "A-REG-4")
@modes(Mode.PROT32)
@pytest.mark.parametrize("register", [Cr.CR2, Cr.CR3])
def test_cr2_and_cr3_are_kept(vm: VirtualMachine, register: Cr) -> None:
    """CR2 and CR3 are after a run what was set."""
    guest = vm.prepare_code(HALT)
    for value in (0x12345000, 0xFFFFF018, 0):
        vcpu = _over_a_run(guest, StateFlag.CRS, put_cr(register, value, MASK))
        check.equal(vcpu.state.crs[register], value, register.name)


@requirement("K-SET-1", "A-REG-4")
@LONG
def test_cr2_has_64_bits(vm: VirtualMachine) -> None:
    """CR2 is kept with all its bits, canonical or not."""
    guest = vm.prepare_code(HALT)
    for value in (0xFFFF8123456789AB, 0x8123456789ABCDEF):
        vcpu = _over_a_run(guest, StateFlag.CRS, put_cr(Cr.CR2, value, MASK))
        check.equal(vcpu.state.crs[Cr.CR2], value, "CR2")


@requirement("K-SET-13", "A-REG-4")
@LONG
def test_cr8_is_kept(vm: VirtualMachine) -> None:
    """CR8, 0 to 15, is after a run what was set, also in the exit."""
    guest = vm.prepare_code(HALT)
    for value in (*range(16), 0):
        vcpu = guest.vcpu
        vcpu.getstate(StateFlag.CRS)
        vcpu.state.crs[Cr.CR8] = value
        vcpu.setstate(StateFlag.CRS)
        taken = guest.next_exit()
        check.equal(taken.reason, ExitReason.HALTED, "exit")
        check.equal(taken.state.cr8, value, "CR8 in the exit")
        vcpu.getstate(StateFlag.CRS)
        check.equal(vcpu.state.crs[Cr.CR8], value, "CR8")


@requirement("K-SET-13", "A-REG-4")
@LONG
@pytest.mark.parametrize("value", [0x10, 0x25, 0xFF])
def test_cr8_has_four_bits(vm: VirtualMachine, value: int) -> None:
    """Of a CR8 above 15 that the caller sets no bit above 3 is kept (SDM 3A 10.8.6, BH-78)."""
    guest = vm.prepare_code(HALT)
    vcpu = _over_a_run(guest, StateFlag.CRS, put_cr(Cr.CR8, value, MASK))
    assert vcpu.state.crs[Cr.CR8] <= 15


@requirement("K-SET-17", "A-REG-7")
@LONG
def test_tsc_that_was_set(vm: VirtualMachine) -> None:
    """The guest's TSC goes on from the value that the caller has set (BH-71)."""
    guest = vm.prepare_code("    rdtsc\n" + HALT)
    guest.vcpu.getstate(StateFlag.MSRS)
    guest.vcpu.state.msrs[Msr.TSC] = 1 << 56
    guest.vcpu.setstate(StateFlag.MSRS)
    vcpu = run_to_halt(guest)
    vcpu.getstate(StateFlag.GPRS)
    tsc = vcpu.state.gprs[Gpr.RDX] << 32 | vcpu.state.gprs[Gpr.RAX]
    check(1 << 56 <= tsc < 1 << 57, f"TSC {tsc:#x} is at least what was set")


@requirement("K-SET-7")
@LONG
@pytest.mark.parametrize("value", [0, 1, 3, 0xFFFF_FFFF_FFFF_FFFF, 1 << 63])
def test_xcr0_is_sanitised(vm: VirtualMachine, capability: Capability, value: int) -> None:
    """XCR0 is after a run what was set, less what the capability lacks, and with x87 (BH-74)."""
    guest = vm.prepare_code(HALT)
    vcpu = _over_a_run(guest, StateFlag.CRS, put_cr(Cr.XCR0, value, MASK))
    wanted = value & capability.xcr0_mask | 1 if capability.xcr0_mask else 0
    assert vcpu.state.crs[Cr.XCR0] == wanted


ADDRESSES = (0x00007FFF12345678, 0xFFFF800012345678)
DEBUG = {
    **dict.fromkeys((Dr.DR0, Dr.DR1, Dr.DR2, Dr.DR3), ADDRESSES),
    Dr.DR6: (0xFFFF0FF0, 0xFFFFEFFF),
    Dr.DR7: (0x400, 0xFFFF0755),
}


@requirement("K-SET-24", "A-REG-5")
@LONG
@pytest.mark.parametrize("register", DEBUG)
def test_debug_register_is_kept(vm: VirtualMachine, register: Dr) -> None:
    """A debug register is after a run what was set."""
    guest = vm.prepare_code(HALT)
    for value in DEBUG[register]:

        def put(vcpu: Vcpu, value: int = value) -> None:
            for dr in (Dr.DR0, Dr.DR1, Dr.DR2, Dr.DR3):
                vcpu.state.drs[dr] = 0x0000700000000000
            vcpu.state.drs[register] = value

        vcpu = _over_a_run(guest, StateFlag.DRS, put)
        check.equal(vcpu.state.drs[register], value, register.name)


MSRS = {
    Msr.STAR: (0x0023001012345678, 0xFEDCBA9876543210),
    Msr.LSTAR: (0x00007FFF12345678, 0xFFFF800012345678),
    Msr.CSTAR: (0x00007ABC12345678, 0xFFFFFFFF87654321),
    Msr.SFMASK: (0x00047700, 0x00257FD5),
    Msr.KERNELGSBASE: (0x00007FFFFFFFF000, 0xFFFF888012340000),
    Msr.SYSENTER_CS: (0x8, 0xFFF8),
    Msr.SYSENTER_ESP: (0x1000, 0x87654321),
    Msr.SYSENTER_EIP: (0x2000, 0xFEDCBA98),
    Msr.PAT: (0x0001040506070000, 0x0706050401000706),
    Msr.EFER: (0x500, 0xD01),
}


@requirement("K-SET-23", "A-REG-7")
@LONG
@pytest.mark.parametrize("register", MSRS)
def test_msr_is_kept(vm: VirtualMachine, register: Msr) -> None:
    """An MSR is after a run what was set."""
    guest = vm.prepare_code(HALT)
    for value in MSRS[register]:
        vcpu = _over_a_run(guest, StateFlag.MSRS, put_msr(register, value, MASK))
        check.equal(vcpu.state.msrs[register], value, register.name)


@requirement("K-SET-19")
@LONG
def test_evt_pending_is_read_only(vm: VirtualMachine) -> None:
    """evt_pending is the kernel's to tell: set by the caller it does nothing, and is gone."""
    guest = vm.prepare_code(HALT)
    guest.set_intr()
    guest.vcpu.state.intr.evt_pending = 1
    guest.vcpu.setstate(StateFlag.INTR)
    vcpu = run_to_halt(guest)
    vcpu.getstate(StateFlag.INTR)
    check.equal(vcpu.state.intr.evt_pending, 0, "evt_pending")
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("here") + 1, "RIP")


@requirement("K-SET-19")
@LONG
def test_interrupt_state_does_not_drop_the_event(vm: VirtualMachine) -> None:
    """An event whose delivery met an exit arrives, though INTR is set with evt_pending 0."""
    stubs = Stubs(vm, unmapped=((0x14000, 0x1000),))
    guest, vcpu = stubs.guest, stubs.guest.vcpu
    guest.registers.gpr[Gpr.RSP] = 0x15000  # nothing below it to push to
    guest.inject(EventType.EXCP, 6)
    taken = guest.next_exit()
    check.equal(taken.reason, ExitReason.MEMORY, "exit")
    check.equal(taken.state.evt_pending, True, "evt_pending")
    vcpu.getstate(StateFlag.ALL)
    vcpu.state.intr.evt_pending = 0
    vcpu.state.gprs[Gpr.RSP] = stubs.top
    vcpu.setstate(StateFlag.INTR | StateFlag.GPRS)
    check.equal(guest.next_exit().reason, ExitReason.HALTED, "exit with a stack")
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], stubs.stub(6) + 1, "RIP: in the handler")


# ---- what the guest sees ----

STORES = "".join(f"    mov [0x5000 + 8 * {r:d}], {r.name.lower()}\n" for r in NUMBERED)
LOADS = "".join(f"    movabs {r.name.lower()}, 0x9182736455463700 + {r:d}\n" for r in NUMBERED)


@requirement("A-REG-2", "A-REG-8")
@LONG
def test_guest_sees_general_registers(vm: VirtualMachine) -> None:
    """What each general register is set to is what the guest has in it."""
    guest = vm.prepare_code(STORES + HALT)
    for register in NUMBERED:
        guest.registers.gpr[register] = 0x8123456789ABCDE0 + register
    guest.run()
    for r in NUMBERED:
        got = int.from_bytes(guest.memory(0x5000 + 8 * r, 8), "little")
        check.equal(got, 0x8123456789ABCDE0 + r, r.name)


@requirement("A-REG-2", "A-REG-9", "A-REG-10")
@LONG
def test_guests_general_registers_are_told(vm: VirtualMachine) -> None:
    """What the guest loads into each general register is what getstate tells."""
    run = vm.run_code(LOADS + HALT)
    for register in NUMBERED:
        wanted = 0x9182736455463700 + register
        check.equal(run.registers.gpr[register], wanted, register.name)


# ---- FPU ----


def _fpu_bytes(vcpu: Vcpu) -> bytes:
    vcpu.getstate(StateFlag.FPU)
    return get_bytes(vcpu.state.fpu, 512)


@requirement("K-SET-16", "A-REG-6", "A-REG-13")
@LONG
@pytest.mark.parametrize("half", ["low", "high"])
def test_xmm_registers_are_kept(vm: VirtualMachine, half: str) -> None:
    """Each half of each XMM register is after a run what was set, and the other as before."""
    guest = vm.prepare_code(HALT)
    vcpu = guest.vcpu
    image = bytearray(_fpu_bytes(vcpu))
    for index in range(16):
        at = 160 + 16 * index + 8 * (half == "high")
        image[at : at + 8] = (0x8123456789ABCDE0 + index).to_bytes(8, "little")
    put_bytes(vcpu.state.fpu, bytes(image))
    vcpu.setstate(StateFlag.FPU)
    run_to_halt(guest)
    check.equal(_fpu_bytes(vcpu)[160:416], bytes(image[160:416]), "XMM registers")


@requirement("K-SET-14", "K-SET-15", level=Level.SHOULD)
@LONG
@pytest.mark.parametrize("mask", [0, 0xFFBF])
def test_mxcsr_is_not_masked_by_the_image(
    vm: VirtualMachine, capability: Capability, mask: int
) -> None:
    """MXCSR is after a run what was set, less what the processor lacks: FXRSTOR's mask field is
    ignored (SDM 2 "FXRSTOR")."""
    guest = vm.prepare_code(HALT)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.FPU)
    vcpu.state.fpu.fx_mxcsr = 0x1FC0
    vcpu.state.fpu.fx_mxcsr_mask = mask
    vcpu.setstate(StateFlag.FPU)
    run_to_halt(guest)
    vcpu.getstate(StateFlag.FPU)
    assert vcpu.state.fpu.fx_mxcsr == 0x1FC0 & capability.mxcsr_mask


@requirement("K-SET-14")
@LONG
@pytest.mark.parametrize("value", [0, 0x9F80, 0xFFBF, 0x3F])
def test_mxcsr_is_kept(vm: VirtualMachine, capability: Capability, value: int) -> None:
    """MXCSR is after a run what was set, less what the capability's mask lacks."""
    guest = vm.prepare_code(HALT)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.FPU)
    vcpu.state.fpu.fx_mxcsr = value
    vcpu.state.fpu.fx_mxcsr_mask = capability.mxcsr_mask
    vcpu.setstate(StateFlag.FPU)
    run_to_halt(guest)
    vcpu.getstate(StateFlag.FPU)
    check.equal(vcpu.state.fpu.fx_mxcsr, value & capability.mxcsr_mask, "MXCSR")
    check.equal(vcpu.state.fpu.fx_mxcsr_mask, capability.mxcsr_mask, "MXCSR_MASK")
