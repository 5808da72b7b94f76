# SPDX-License-Identifier: BSD-2-Clause
"""Setting and getting a vCPU's state: each field, each group, the page that both sides share.

nvmm_vcpu_setstate(), nvmm_vcpu_getstate() and nvmm_vcpu_run() of libnvmm(3).  What the
architecture refuses to run with: SDM 3C 26.2 and 26.3, APM 2 15.5.1.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nvmmconf.nvmm import get_bytes, put_bytes
from nvmmconf.suite import (
    Capability,
    Cr,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    InvalidExit,
    Level,
    Machine,
    Mode,
    Msr,
    PreparedGuest,
    Segment,
    StateFlag,
    Stubs,
    Vcpu,
    VcpuConfSupport,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    needs,
    requirement,
)

GROUPS = [flag for flag in StateFlag if flag is not StateFlag.ALL]

PLACES = {
    StateFlag.SEGS: slice(0, 160),
    StateFlag.GPRS: slice(160, 304),
    StateFlag.CRS: slice(304, 352),
    StateFlag.DRS: slice(352, 400),
    StateFlag.MSRS: slice(400, 488),
    StateFlag.INTR: slice(488, 496),
    StateFlag.FPU: slice(496, 1008),
}
"""Where each group is in struct nvmm_x64_state."""

HALT = """
here:
    hlt
    jmp     here
there:
    nop
    hlt
    jmp     there
"""
LONG = modes(Mode.LONG64)
MASK = 0xFFFF_FFFF_FFFF_FFFF
NUMBERED = [gpr for gpr in Gpr if gpr < Gpr.RIP]


def _run(guest: PreparedGuest) -> Vcpu:
    """Run until it halts; its vCPU, with nothing in its page that is current."""
    check.equal(guest.next_exit().reason, ExitReason.HALTED, "exit")
    return guest.vcpu


def _get(vcpu: Vcpu, group: StateFlag) -> bytes:
    vcpu.getstate(group)
    return vcpu.state_bytes()[PLACES[group]]


def _spoil(vcpu: Vcpu) -> bytes:
    """Put into the page what no group has; the whole of it."""
    image = bytes(byte ^ 0xA5 for byte in vcpu.state_bytes())
    vcpu.put_state_bytes(image)
    return image


def _cached(vcpu: Vcpu) -> StateFlag:
    """The groups that getstate leaves as they are in the page."""
    image = _spoil(vcpu)
    cached = StateFlag(0)
    for group in GROUPS:
        if _get(vcpu, group) == image[PLACES[group]]:
            cached |= group
    return cached


# ---- changes of state ----


def _cr(register: Cr, set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        vcpu.state.crs[register] = vcpu.state.crs[register] & ~clear_bits | set_bits

    return put


def _msr(register: Msr, set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        vcpu.state.msrs[register] = vcpu.state.msrs[register] & ~clear_bits | set_bits

    return put


def _gpr(register: Gpr, value: int) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        vcpu.state.gprs[register] = value

    return put


def _dr(register: Dr, set_bits: int) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        vcpu.state.drs[register] |= set_bits

    return put


def _flags(set_bits: int, clear_bits: int = 0) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        vcpu.state.gprs[Gpr.RFLAGS] = vcpu.state.gprs[Gpr.RFLAGS] & ~clear_bits | set_bits

    return put


def _attribute(segment: Segment, **values: int) -> Callable[[Vcpu], None]:
    def put(vcpu: Vcpu) -> None:
        raw = vcpu.state.segs[segment]
        for name, value in values.items():
            if name in ("base", "limit", "selector"):
                setattr(raw, name, value)
            else:
                setattr(raw.attrib, "def" if name == "default" else name, value)

    return put


# ---- each field, over a run ----


def _over_a_run(guest: PreparedGuest, group: StateFlag, put: Callable[[Vcpu], None]) -> Vcpu:
    """Change `group` by `put`, run, and fetch it again."""
    vcpu = guest.vcpu
    vcpu.getstate(group)
    put(vcpu)
    vcpu.setstate(group)
    _run(guest)
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
    vcpu = _over_a_run(guest, StateFlag.GPRS, _gpr(Gpr.RIP, guest.symbol("there")))
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
        vcpu = _over_a_run(guest, StateFlag.GPRS, _gpr(Gpr.RFLAGS, 2 | flag))
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
        vcpu = _over_a_run(guest, StateFlag.SEGS, _attribute(segment, base=base))
        check.equal(vcpu.state.segs[segment].base, base, "base")


@requirement("K-SET-1", "K-SET-10", "A-REG-3")
@LONG
@pytest.mark.parametrize("table", [Segment.GDT, Segment.IDT])
def test_descriptor_table_is_kept(vm: VirtualMachine, table: Segment) -> None:
    """Base and limit of GDTR and IDTR are kept; selector and attributes they have none."""
    guest = vm.prepare_code(HALT)
    for base, limit in ((0x12345678, 0x3FF), (0xFFFF80001234ABCD, 0xFFFF), (0, 0)):
        vcpu = _over_a_run(guest, StateFlag.SEGS, _attribute(table, base=base, limit=limit))
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
    vcpu = _over_a_run(guest, StateFlag.SEGS, _attribute(segment, p=0))
    assert vcpu.state.segs[segment].attrib.p == 0


@requirement("K-SET-1", "A-REG-4")
@modes(Mode.PROT32)
@pytest.mark.parametrize("register", [Cr.CR2, Cr.CR3])
def test_cr2_and_cr3_are_kept(vm: VirtualMachine, register: Cr) -> None:
    """CR2 and CR3 are after a run what was set."""
    guest = vm.prepare_code(HALT)
    for value in (0x12345000, 0xFFFFF018, 0):
        vcpu = _over_a_run(guest, StateFlag.CRS, _cr(register, value, MASK))
        check.equal(vcpu.state.crs[register], value, register.name)


@requirement("K-SET-1", "A-REG-4")
@LONG
def test_cr2_has_64_bits(vm: VirtualMachine) -> None:
    """CR2 is kept with all its bits, canonical or not."""
    guest = vm.prepare_code(HALT)
    for value in (0xFFFF8123456789AB, 0x8123456789ABCDEF):
        vcpu = _over_a_run(guest, StateFlag.CRS, _cr(Cr.CR2, value, MASK))
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
    vcpu = _over_a_run(guest, StateFlag.CRS, _cr(Cr.CR8, value, MASK))
    assert vcpu.state.crs[Cr.CR8] <= 15


@requirement("K-SET-17", "A-REG-7")
@LONG
def test_tsc_that_was_set(vm: VirtualMachine) -> None:
    """The guest's TSC goes on from the value that the caller has set (BH-71)."""
    guest = vm.prepare_code("    rdtsc\n" + HALT)
    guest.vcpu.getstate(StateFlag.MSRS)
    guest.vcpu.state.msrs[Msr.TSC] = 1 << 56
    guest.vcpu.setstate(StateFlag.MSRS)
    vcpu = _run(guest)
    vcpu.getstate(StateFlag.GPRS)
    tsc = vcpu.state.gprs[Gpr.RDX] << 32 | vcpu.state.gprs[Gpr.RAX]
    check(1 << 56 <= tsc < 1 << 57, f"TSC {tsc:#x} is at least what was set")


@requirement("K-SET-7")
@LONG
@pytest.mark.parametrize("value", [0, 1, 3, 0xFFFF_FFFF_FFFF_FFFF, 1 << 63])
def test_xcr0_is_sanitised(vm: VirtualMachine, capability: Capability, value: int) -> None:
    """XCR0 is after a run what was set, less what the capability lacks, and with x87 (BH-74)."""
    guest = vm.prepare_code(HALT)
    vcpu = _over_a_run(guest, StateFlag.CRS, _cr(Cr.XCR0, value, MASK))
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
        vcpu = _over_a_run(guest, StateFlag.MSRS, _msr(register, value, MASK))
        check.equal(vcpu.state.msrs[register], value, register.name)


@requirement("K-SET-19")
@LONG
def test_evt_pending_is_read_only(vm: VirtualMachine) -> None:
    """evt_pending is the kernel's to tell: set by the caller it does nothing, and is gone."""
    guest = vm.prepare_code(HALT)
    guest.set_intr()
    guest.vcpu.state.intr.evt_pending = 1
    guest.vcpu.setstate(StateFlag.INTR)
    vcpu = _run(guest)
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


# ---- groups ----


@requirement("K-SET-2", "K-COMM-3", "L-ST-1", "L-ST-3")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_only_the_groups_that_were_named_are_set(vm: VirtualMachine, group: StateFlag) -> None:
    """setstate of one group sets that; what was put into the page for others is lost."""
    guest = vm.prepare_code(HALT)
    vcpu = _run(guest)
    vcpu.getstate(StateFlag.ALL)
    before = vcpu.state_bytes()
    _spoil(vcpu)
    image = bytearray(vcpu.state_bytes())
    image[PLACES[group]] = before[PLACES[group]]
    vcpu.put_state_bytes(bytes(image))
    vcpu.setstate(group)
    _run(guest)
    for other in GROUPS:
        got, wanted = _get(vcpu, other), before[PLACES[other]]
        if other is StateFlag.MSRS:  # the TSC, its last, goes on
            got, wanted = got[:80], wanted[:80]
        check(got == wanted, f"{other.name} as before")


@requirement("K-COMM-5", "L-ST-2")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_getstate_fills_only_what_is_wanted(vm: VirtualMachine, group: StateFlag) -> None:
    """getstate of one group writes that one's part of the page and nothing else."""
    vcpu = _run(vm.prepare_code(HALT))
    image = _spoil(vcpu)
    vcpu.getstate(group)
    after = vcpu.state_bytes()
    for other in GROUPS:
        same = after[PLACES[other]] == image[PLACES[other]]
        check.equal(same, other is not group, f"{other.name} untouched")


@requirement("L-ST-2", "K-COMM-5")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_second_getstate_asks_nobody(vm: VirtualMachine, group: StateFlag) -> None:
    """What getstate has fetched is cached: the next one leaves an edit in place (L-ST-3)."""
    vcpu = _run(vm.prepare_code(HALT))
    vcpu.getstate(group)
    image = _spoil(vcpu)
    assert _get(vcpu, group) == image[PLACES[group]]


@requirement("L-ST-4", "K-COMM-10", "L-ST-5")
@LONG
@pytest.mark.parametrize("group", GROUPS)
def test_what_was_set_reads_back_raw(vm: VirtualMachine, group: StateFlag) -> None:
    """getstate after setstate, before a run, gives the caller's values, whatever they are."""
    vcpu = _run(vm.prepare_code(HALT))
    image = _spoil(vcpu)
    vcpu.setstate(group)
    assert _get(vcpu, group) == image[PLACES[group]]
    for other in GROUPS:
        if other is not group:
            check(_get(vcpu, other) != image[PLACES[other]], f"{other.name} fetched")


@requirement("L-ST-1", "K-SET-1")
@pytest.mark.parametrize("bits", [0, 1 << 7, 1 << 63, 0xFFFF_FFFF_FFFF_FFFF])
def test_setstate_takes_any_flags(vcpu: Vcpu, bits: int) -> None:
    """setstate never fails, also with bits that name nothing."""
    image = vcpu.state_bytes()
    vcpu.setstate(StateFlag(bits))
    check.equal(vcpu.state_bytes(), image, "the page")


@requirement("K-COMM-2", "L-ST-6")
@LONG
def test_run_makes_the_page_stale(vm: VirtualMachine) -> None:
    """After a run getstate tells what the guest has done, not what was read before."""
    guest = vm.prepare_code("""
        mov     eax, 7
        hlt
    again:
        inc     eax
        hlt
        jmp     again
    """)
    vcpu = _run(guest)
    for number in (7, 8, 9):
        vcpu.getstate(StateFlag.ALL)
        check.equal(vcpu.state.gprs[Gpr.RAX], number, "RAX")
        _run(guest)


@requirement("K-COMM-3")
@LONG
def test_commit_happens_once(vm: VirtualMachine) -> None:
    """setstate is for the next run alone: the one after does not set the state again."""
    guest = vm.prepare_code("""
    again:
        inc     eax
        hlt
        jmp     again
    """)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.GPRS)
    vcpu.state.gprs[Gpr.RAX] = 0x10
    vcpu.setstate(StateFlag.GPRS)
    for number in (0x11, 0x12, 0x13):
        _run(guest)
        vcpu.getstate(StateFlag.GPRS)
        check.equal(vcpu.state.gprs[Gpr.RAX], number, "RAX")


@requirement("L-ST-6a", "K-COMM-4")
@LONG
def test_bad_event_is_refused_after_the_commit(vm: VirtualMachine) -> None:
    """Where the event is bad the run is EINVAL; the state was set, no instruction executed."""
    guest = vm.prepare_code(HALT)
    vcpu = _run(guest)
    vcpu.getstate(StateFlag.GPRS)
    vcpu.state.gprs[Gpr.RAX] = 0x1234
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(StateFlag.GPRS)
    vcpu.inject(EventType.EXCP, 32)
    with expect_errno(errno.EINVAL):
        guest.next_exit()
    _spoil(vcpu)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RAX], 0x1234, "RAX")
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there"), "RIP")
    _run(guest)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there") + 2, "RIP, without the event")


@requirement("L-ST-7")
@LONG
def test_failing_run_leaves_the_exit(vm: VirtualMachine) -> None:
    """A run that fails leaves the exit structure as the run before filled it."""
    guest = vm.prepare_code("    out 0x99, al\n" + HALT)
    taken = guest.next_exit()
    check.equal(taken.reason, ExitReason.IO, "exit")
    guest.vcpu.inject(EventType.EXCP, 32)
    with expect_errno(errno.EINVAL):
        guest.next_exit()
    check.equal(guest.vcpu.last_exit, taken, "the exit")


@requirement("L-ST-8", "K-COMM-5", "A-REG-9")
def test_vcpus_have_pages_of_their_own(machine: Machine) -> None:
    """The state that one vCPU is given is not another's."""
    first, second = machine.create_vcpu(0), machine.create_vcpu(1)
    before = second.state_bytes()
    _spoil(first)
    first.setstate(StateFlag.ALL)
    second.getstate(StateFlag.ALL)
    assert second.state_bytes() == before


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


# ---- state that comes with an exit ----

PROVIDED = """
    mov     ecx, 0xC0000082             # LSTAR
    mov     eax, 0x12345678
    mov     edx, 0x7FFF
    wrmsr
    mov     eax, 0x23450000
    mov     cr2, rax
    xor     eax, eax
    mov     fs, eax
    mov     ecx, 0x12345678
    mov     ebx, 0x8000000              # no memory, and nothing else
    mov     rdi, rbx
    mov     rsi, rbx
    mov     r15d, 0x15151515
insn:
    {{ insn }}
    jmp     insn
"""
IO_GROUPS = StateFlag.GPRS | StateFlag.SEGS | StateFlag.CRS | StateFlag.MSRS
EXITS = {
    "in": ("in al, 0x99", ExitReason.IO, IO_GROUPS),
    "out": ("out 0x99, al", ExitReason.IO, IO_GROUPS),
    "load": ("mov eax, [rbx]", ExitReason.MEMORY, IO_GROUPS),
    "store": ("mov [rbx], r15", ExitReason.MEMORY, IO_GROUPS),
    "rdmsr": ("rdmsr", ExitReason.RDMSR, StateFlag.GPRS),
    "wrmsr": ("wrmsr", ExitReason.WRMSR, StateFlag.GPRS),
    "hlt": ("hlt", ExitReason.HALTED, StateFlag(0)),
    "ud2": ("ud2", ExitReason.SHUTDOWN, StateFlag(0)),
}


@requirement("K-COMM-6", "K-COMM-7", "K-COMM-8", "L-ST-6", level=Level.SHOULD)
@LONG
@pytest.mark.parametrize("name", EXITS)
def test_exit_brings_these_groups(vm: VirtualMachine, name: str) -> None:
    """IO and MEMORY exits bring GPRS, SEGS, CRS, MSRS, those of MSRs GPRS, others nothing."""
    insn, reason, groups = EXITS[name]
    guest = vm.prepare_code(PROVIDED, insn=insn)
    check.equal(guest.next_exit().reason, reason, "exit")
    check.equal(repr(_cached(guest.vcpu)), repr(groups), "groups that are there already")


@requirement("L-ST-6", "A-SYNC-1", "A-REG-9")
@LONG
@pytest.mark.parametrize("name", EXITS)
def test_state_of_an_exit_is_the_guests(vm: VirtualMachine, name: str) -> None:
    """After an exit getstate tells the guest's state as of the instruction, provided or not."""
    insn, reason, _ = EXITS[name]
    guest = vm.prepare_code(PROVIDED, insn=insn)
    check.equal(guest.next_exit().reason, reason, "exit")
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.ALL)
    state = vcpu.state
    if name != "ud2":  # a shutdown's state is not defined
        rip = guest.symbol("insn") + (name == "hlt")
        check.equal(state.gprs[Gpr.RIP], rip, "RIP")
    check.equal(state.gprs[Gpr.R15], 0x15151515, "R15")
    check.equal(state.gprs[Gpr.RCX], 0x12345678, "RCX")
    check.equal(state.segs[Segment.FS].selector, 0, "FS")
    check.equal(state.crs[Cr.CR2], 0x23450000, "CR2")
    check.equal(state.msrs[Msr.LSTAR], 0x7FFF12345678, "LSTAR")


@requirement("K-COMM-8", level=Level.SHOULD)
@LONG
@needs(VcpuConfSupport.CPUID)
def test_cpuid_exit_brings_nothing(vm: VirtualMachine) -> None:
    """An exit for CPUID brings no state with it; what getstate fetches is right."""
    guest = vm.prepare_code("    mov eax, 0x40000123\n    cpuid\n" + HALT)
    guest.vcpu.configure_cpuid_exit(0x40000123)
    check.equal(guest.next_exit().reason, ExitReason.CPUID, "exit")
    check.equal(repr(_cached(guest.vcpu)), repr(StateFlag(0)), "groups")


@requirement("K-COMM-8", level=Level.SHOULD)
@LONG
def test_window_exit_brings_nothing(vm: VirtualMachine) -> None:
    """INT_READY brings no state with it."""
    guest = vm.prepare_code("    sti\n    nop\n    nop\n" + HALT)
    guest.set_intr(int_window_exiting=True)
    check.equal(guest.next_exit().reason, ExitReason.INT_READY, "exit")
    check.equal(repr(_cached(guest.vcpu)), repr(StateFlag(0)), "groups")


# ---- bad state ----


@dataclass(frozen=True)
class Bad:
    """State that some processors refuse; `always`: all do."""

    group: StateFlag
    put: Callable[[Vcpu], None]
    always: bool = False
    shutdown: bool = False
    """Where it is not refused the guest may fall over it."""


CRS, MSR, SEG, DRS, GPR = (
    StateFlag.CRS,
    StateFlag.MSRS,
    StateFlag.SEGS,
    StateFlag.DRS,
    StateFlag.GPRS,
)
BAD = {
    "cr0-upper-half": Bad(CRS, _cr(Cr.CR0, 1 << 32), True),
    "efer-upper-half": Bad(MSR, _msr(Msr.EFER, 1 << 32), True),
    "efer-reserved": Bad(MSR, _msr(Msr.EFER, 2), True),
    "dr7-upper-half": Bad(DRS, _dr(Dr.DR7, 1 << 32), True),
    "long-mode-without-pae": Bad(CRS, _cr(Cr.CR4, 0, 0x20), True),
    "cs-l-and-d": Bad(SEG, _attribute(Segment.CS, default=1), True),
    "pat-type-2": Bad(MSR, _msr(Msr.PAT, 2, 0xFF)),
    "cr0-nw-without-cd": Bad(CRS, _cr(Cr.CR0, 1 << 29)),
    "dr6-upper-half": Bad(DRS, _dr(Dr.DR6, 1 << 32)),
    "rflags-bit-1": Bad(GPR, _flags(0, 2)),
    "rflags-bit-3": Bad(GPR, _flags(8)),
    "rflags-bit-15": Bad(GPR, _flags(1 << 15)),
    "cs-absent": Bad(SEG, _attribute(Segment.CS, p=0), False, True),
    "tr-type": Bad(SEG, _attribute(Segment.TR, type=2)),
    "tr-absent": Bad(SEG, _attribute(Segment.TR, p=0)),
    "gdt-limit": Bad(SEG, _attribute(Segment.GDT, limit=0x10000)),
    "fs-base": Bad(SEG, _attribute(Segment.FS, base=1 << 63)),
    "limit-without-g": Bad(SEG, _attribute(Segment.ES, limit=0xFFFFFFFF, g=0)),
    "lma-missing": Bad(MSR, _msr(Msr.EFER, 0, 0x400), False, True),
    "pg-without-pe": Bad(CRS, _cr(Cr.CR0, 0, 1), False, True),
    "svme": Bad(MSR, _msr(Msr.EFER, 1 << 12)),
}
ALL_ONES, GUEST_STATE = 0xFFFF_FFFF_FFFF_FFFF, 33


def _entered(vm: VirtualMachine) -> PreparedGuest:
    """A guest that has been entered once already (kernel 14.1, 12), and stands before HLT."""
    guest = vm.prepare_code(HALT)
    _run(guest)
    return guest


@requirement("K-SET-21", "K-SET-22")
@LONG
@pytest.mark.parametrize("name", BAD)
def test_bad_state(vm: VirtualMachine, name: str) -> None:
    """State that the processor refuses is INVALID, and looks like no other exit (BH-91).

    What every processor refuses must be refused; the rest one vendor's takes.
    """
    bad = BAD[name]
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(bad.group)
    bad.put(vcpu)
    vcpu.setstate(bad.group)
    taken = guest.next_exit()
    if isinstance(taken, InvalidExit) or bad.always:
        check.equal(taken.reason, ExitReason.INVALID, "exit")
        hwcode = taken.hwcode if isinstance(taken, InvalidExit) else None
        check(hwcode in (ALL_ONES, GUEST_STATE), f"hardware code {hwcode}: guest state")
    else:
        allowed = [ExitReason.HALTED] + [ExitReason.SHUTDOWN] * bad.shutdown
        check(taken.reason in allowed, f"{taken.reason_name}: the guest ran")


@requirement("K-SET-21", "K-SET-22")
@LONG
@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.always])
def test_refused_state_executes_nothing(vm: VirtualMachine, name: str) -> None:
    """An entry that is refused changes nothing, and with good state the guest goes on."""
    bad = BAD[name]
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.ALL)
    good = vcpu.state_bytes()
    bad.put(vcpu)
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(bad.group | StateFlag.GPRS)
    check.equal(guest.next_exit().reason, ExitReason.INVALID, "exit")
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there"), "RIP")
    vcpu.put_state_bytes(good)
    vcpu.state.gprs[Gpr.RIP] = guest.symbol("there")
    vcpu.setstate(bad.group | StateFlag.GPRS)
    _run(guest)
    vcpu.getstate(StateFlag.GPRS)
    check.equal(vcpu.state.gprs[Gpr.RIP], guest.symbol("there") + 2, "RIP with good state")


@requirement("K-SET-3", "K-SET-4")
@LONG
@pytest.mark.parametrize("bit", [13, 22, 31, 63])
def test_cr4_bits_that_nobody_offers_are_dropped(vm: VirtualMachine, bit: int) -> None:
    """CR4 bits that the kernel keeps from the guest (VMXE, PKE, ...) are gone when set (BH-76)."""
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.CRS)
    before = vcpu.state.crs[Cr.CR4]
    vcpu.state.crs[Cr.CR4] = before | 1 << bit
    vcpu.setstate(StateFlag.CRS)
    _run(guest)
    vcpu.getstate(StateFlag.CRS)
    check.equal(vcpu.state.crs[Cr.CR4], before, "CR4")


@requirement("K-SET-8")
@LONG
def test_svme_is_the_hosts(vm: VirtualMachine) -> None:
    """EFER.SVME that the caller sets is refused, or not to be seen afterwards (BH-68)."""
    guest = _entered(vm)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.MSRS)
    vcpu.state.msrs[Msr.EFER] |= 1 << 12
    vcpu.setstate(StateFlag.MSRS)
    taken = guest.next_exit()
    check(taken.reason in (ExitReason.INVALID, ExitReason.HALTED), f"exit {taken.reason_name}")
    if taken.reason is ExitReason.HALTED:
        vcpu.getstate(StateFlag.MSRS)
        check.equal(vcpu.state.msrs[Msr.EFER] >> 12 & 1, 0, "SVME")


@requirement("K-SET-1")
@LONG
@pytest.mark.parametrize("rip", [1 << 47, 0xFFFF_7FFF_FFFF_FFFF])
def test_noncanonical_rip_faults_in_the_guest(vm: VirtualMachine, rip: int) -> None:
    """RIP that is not canonical is no bad state: the guest's fetch raises #GP(0)."""
    guest = vm.prepare_code("""
        IDT_SETUP
        EXPECT_FAULT 13, after
    ready:
        hlt
        FAIL    "no #GP"
    after:
        CHECK_MEM dword, [fault_error], 0, "error code"
        DONE
    """)
    guest.run()
    guest.registers.gpr[Gpr.RIP] = rip
    assert guest.run().done


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
    _run(guest)
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
    _run(guest)
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
    _run(guest)
    vcpu.getstate(StateFlag.FPU)
    check.equal(vcpu.state.fpu.fx_mxcsr, value & capability.mxcsr_mask, "MXCSR")
    check.equal(vcpu.state.fpu.fx_mxcsr_mask, capability.mxcsr_mask, "MXCSR_MASK")


# ---- instructions that NVMM does not execute ----


@requirement("K-INV-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_invd_is_executed(vm: VirtualMachine) -> None:
    """INVD is for the guest a change of caches only: it goes on behind it (SDM 2 "INVD", BH-75)."""
    guest = vm.prepare_code("    invd\n" + HALT)
    taken = guest.next_exit()
    assert taken.reason_name == "HALTED"
