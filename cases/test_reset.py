# SPDX-License-Identifier: BSD-2-Clause
"""What a new vCPU is: the state of RESET, register by register.

SDM 3A 10.1.1 and table 10-1 (processor state after reset); nvmm_vcpu_create() of libnvmm(3).
First what getstate tells before anything has run, then what the guest's first instructions, at
FFFFFFF0h, find: the kernel could tell the one and load the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nvmmconf.nvmm import get_bytes
from nvmmconf.suite import (
    Capability,
    Cr,
    Dr,
    ExitReason,
    Gpr,
    HostMemory,
    Level,
    Machine,
    Msr,
    Prot,
    Segment,
    StateFlag,
    Vcpu,
    check,
    requirement,
)

ATTRIBUTES = ("type", "s", "dpl", "p", "avl", "l", "def", "g")

DATA = {"type": 3, "s": 1, "p": 1}
SEGMENTS = {
    Segment.CS: (0xF000, 0xFFFF0000, DATA),
    **dict.fromkeys((Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS), (0, 0, DATA)),
    Segment.LDT: (0, 0, {"type": 2, "s": 0, "p": 1}),
    Segment.TR: (0, 0, {"type": 3, "s": 0, "p": 1}),
}
"""Selector, base, and the attributes that are not 0; each limit is FFFFh."""

GPRS = {Gpr.RDX: 0x600, Gpr.RIP: 0xFFF0, Gpr.RFLAGS: 2}
CRS = {Cr.CR0: 0x60000010, Cr.XCR0: 1}
DRS = {Dr.DR6: 0xFFFF0FF0, Dr.DR7: 0x400}
MSRS = {Msr.PAT: 0x0007040600070406}

NE = 0x20


# ---- as getstate tells it ----


@requirement("K-RST-4", "L-VCPU-3")
@pytest.mark.parametrize("register", list(Gpr))
def test_general_register(vcpu: Vcpu, register: Gpr) -> None:
    """A new vCPU has RIP FFF0h, RFLAGS 2, the processor's signature in RDX, and else zeros."""
    vcpu.getstate(StateFlag.GPRS)
    assert vcpu.state.gprs[register] == GPRS.get(register, 0)


@requirement("K-RST-1", "K-RST-2", "K-RST-3", "L-VCPU-3")
@pytest.mark.parametrize("segment", SEGMENTS)
def test_segment_register(vcpu: Vcpu, segment: Segment) -> None:
    """CS begins at FFFF0000h, the others at 0, all with 64 KiB, present, readable and writable."""
    vcpu.getstate(StateFlag.SEGS)
    raw = vcpu.state.segs[segment]
    selector, base, attributes = SEGMENTS[segment]
    check.equal(raw.selector, selector, "selector")
    check.equal(raw.base, base, "base")
    check.equal(raw.limit, 0xFFFF, "limit")
    for name in ATTRIBUTES:
        check.equal(getattr(raw.attrib, name), attributes.get(name, 0), name)


@requirement("L-VCPU-3")
@pytest.mark.parametrize("table", [Segment.GDT, Segment.IDT])
def test_descriptor_table_register(vcpu: Vcpu, table: Segment) -> None:
    """GDTR and IDTR have base 0 and limit FFFFh."""
    vcpu.getstate(StateFlag.SEGS)
    raw = vcpu.state.segs[table]
    check.equal(raw.base, 0, "base")
    check.equal(raw.limit, 0xFFFF, "limit")


@requirement("K-RST-5", "K-RST-6", "L-VCPU-3")
@pytest.mark.parametrize("register", list(Cr))
def test_control_register(vcpu: Vcpu, register: Cr) -> None:
    """CR0 has CD, NW and ET, XCR0 the x87 bit, the other control registers nothing."""
    vcpu.getstate(StateFlag.CRS)
    assert vcpu.state.crs[register] == CRS.get(register, 0)


@requirement("K-RST-7", "L-VCPU-3")
@pytest.mark.parametrize("register", list(Dr))
def test_debug_register(vcpu: Vcpu, register: Dr) -> None:
    """DR6 and DR7 have their fixed ones, DR0 to DR3 are 0."""
    vcpu.getstate(StateFlag.DRS)
    assert vcpu.state.drs[register] == DRS.get(register, 0)


@requirement("K-RST-8", "L-VCPU-3")
@pytest.mark.parametrize("register", list(Msr))
def test_msr(vcpu: Vcpu, register: Msr) -> None:
    """PAT names WB, WT, UC-, UC twice; every other MSR, TSC too, is 0."""
    vcpu.getstate(StateFlag.MSRS)
    assert vcpu.state.msrs[register] == MSRS.get(register, 0)


@requirement("K-RST-9", "L-VCPU-3")
def test_no_interrupt_state(vcpu: Vcpu) -> None:
    """No shadow, no window armed, no event pending."""
    vcpu.getstate(StateFlag.INTR)
    intr = vcpu.state.intr
    for name in ("int_shadow", "int_window_exiting", "nmi_window_exiting", "evt_pending"):
        check.equal(getattr(intr, name), 0, name)


@requirement("K-RST-10", "L-VCPU-3")
def test_fpu_control_words(vcpu: Vcpu) -> None:
    """FCW is 40h, FSW 0, MXCSR 1F80h."""
    vcpu.getstate(StateFlag.FPU)
    fpu = vcpu.state.fpu
    check.equal(fpu.fx_cw, 0x40, "FCW")
    check.equal(fpu.fx_sw, 0, "FSW")
    check.equal(fpu.fx_opcode, 0, "FOP")
    check.equal(fpu.fx_mxcsr, 0x1F80, "MXCSR")


@requirement("K-RST-10", "L-VCPU-3a")
def test_fpu_tags(vcpu: Vcpu) -> None:
    """All eight x87 registers hold +0: a tag word of 5555h, which abridged is FFh."""
    vcpu.getstate(StateFlag.FPU)
    assert vcpu.state.fpu.fx_tw == 0xFF


@requirement("K-RST-10")
def test_x87_registers_are_zero(vcpu: Vcpu) -> None:
    """The x87 registers hold +0."""
    vcpu.getstate(StateFlag.FPU)
    for index in range(8):
        check.equal(get_bytes(vcpu.state.fpu.fx_87_ac[index], 10), bytes(10), f"register {index}")


@requirement("K-RST-10")
def test_xmm_registers_are_zero(vcpu: Vcpu) -> None:
    """The XMM registers hold 0."""
    vcpu.getstate(StateFlag.FPU)
    for index in range(16):
        check.equal(get_bytes(vcpu.state.fpu.fx_xmm[index], 16), bytes(16), f"XMM{index}")


@requirement("K-COMM-1", "L-ST-2")
@pytest.mark.parametrize("group", [flag for flag in StateFlag if flag is not StateFlag.ALL])
def test_state_comes_with_the_vcpu(vcpu: Vcpu, group: StateFlag) -> None:
    """A new vCPU's page holds its state already: getstate leaves what the caller has put there."""
    image = bytes(b ^ 0xA5 for b in vcpu.state_bytes())
    vcpu.put_state_bytes(image)
    vcpu.getstate(group)
    assert vcpu.state_bytes() == image


@requirement("K-RST-4", "K-RST-7", "K-COMM-1")
def test_second_vcpu_is_reset_alike(machine: Machine) -> None:
    """Every vCPU of a machine begins with the same state, whatever an earlier one has."""
    first = machine.create_vcpu(0)
    before = first.state_bytes()
    first.put_state_bytes(bytes(b ^ 0x5A for b in before))
    first.setstate(StateFlag.ALL)
    assert machine.create_vcpu(1).state_bytes() == before


@requirement("K-RST-4", "L-VCPU-4")
def test_created_again_is_reset_again(machine: Machine) -> None:
    """A vCPU that is destroyed and created again is reset, not what it was."""
    old = machine.create_vcpu(0)
    before = old.state_bytes()
    old.put_state_bytes(bytes(b ^ 0x5A for b in before))
    old.setstate(StateFlag.ALL)
    old.destroy()
    assert machine.create_vcpu(0).state_bytes() == before


# ---- as the guest finds it ----

TOP = 0xFFFFF000
PAGE = 0x1000


@contextmanager
def _reset_guest(machine: Machine, code: bytes) -> Iterator[tuple[Vcpu, HostMemory]]:
    """A new vCPU with `code` where it begins, run until it halts, nothing set by us.

    Its RAM: one page at 0, with zeros.
    """
    with HostMemory(2 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, 0, PAGE, Prot.READ | Prot.WRITE | Prot.EXEC)
        machine.gpa_map(memory.hva + PAGE, TOP, PAGE, Prot.READ | Prot.WRITE | Prot.EXEC)
        code += b"\xf4\xeb\xfd"  # hlt; jmp to it
        memory.data[PAGE : PAGE + len(code)] = code
        memory.data[2 * PAGE - 16 : 2 * PAGE - 13] = b"\xe9\x0d\xf0"  # jmp F000h
        vcpu = machine.create_vcpu(0)
        for _ in range(10_000):
            taken = vcpu.run()
            if taken.reason not in (ExitReason.NONE, ExitReason.STOPPED):
                break
        check.equal(taken.reason, ExitReason.HALTED, "exit")
        yield vcpu, memory


def _word(memory: HostMemory, at: int, size: int = 4) -> int:
    return int.from_bytes(bytes(memory.data[at : at + size]), "little")


@requirement("K-RST-1", "K-RST-4")
def test_first_instruction_is_at_fffffff0(machine: Machine) -> None:
    """The first instruction is fetched from FFFFFFF0h: base and RIP are what they say."""
    with _reset_guest(machine, b"") as (vcpu, _):
        vcpu.getstate(StateFlag.ALL)
        check.equal(vcpu.state.segs[Segment.CS].base, 0xFFFF0000, "CS base")
        check.equal(vcpu.state.gprs[Gpr.RIP] in (0xF001, 0xF003), True, "RIP behind the HLT")


STORE = {  # mov [0], register
    Gpr.RAX: b"\x66\xa3\x00\x00",
    Gpr.RCX: b"\x66\x89\x0e\x00\x00",
    Gpr.RDX: b"\x66\x89\x16\x00\x00",
    Gpr.RBX: b"\x66\x89\x1e\x00\x00",
    Gpr.RSP: b"\x66\x89\x26\x00\x00",
    Gpr.RBP: b"\x66\x89\x2e\x00\x00",
    Gpr.RSI: b"\x66\x89\x36\x00\x00",
    Gpr.RDI: b"\x66\x89\x3e\x00\x00",
}


@requirement("K-RST-4")
@pytest.mark.parametrize("register", STORE)
def test_guest_finds_general_register(machine: Machine, register: Gpr) -> None:
    """The guest's first instructions find the general registers as getstate told them."""
    with _reset_guest(machine, STORE[register]) as (_, memory):
        assert _word(memory, 0) == GPRS.get(register, 0)


MOVED = {  # mov eax, register; mov [0], eax
    "cr2": (b"\x0f\x20\xd0", 0),
    "cr3": (b"\x0f\x20\xd8", 0),
    "cr4": (b"\x0f\x20\xe0", 0),
    "dr0": (b"\x0f\x21\xc0", 0),
    "dr1": (b"\x0f\x21\xc8", 0),
    "dr2": (b"\x0f\x21\xd0", 0),
    "dr3": (b"\x0f\x21\xd8", 0),
    "dr6": (b"\x0f\x21\xf0", 0xFFFF0FF0),
    "dr7": (b"\x0f\x21\xf8", 0x400),
    "eflags": (b"\xbc\x00\x08\x66\x9c\x66\x58", 2),  # mov sp, 800h; pushfd; pop eax
    "ds": (b"\x66\x31\xc0\x8c\xd8", 0),  # xor eax, eax; mov ax, ds
    "ss": (b"\x66\x31\xc0\x8c\xd0", 0),
    "cs": (b"\x66\x31\xc0\x8c\xc8", 0xF000),
}


@requirement("K-RST-2", "K-RST-5", "K-RST-7")
@pytest.mark.parametrize("register", MOVED)
def test_guest_finds_register(machine: Machine, register: str) -> None:
    """Control, debug, flags and segment registers are for the guest what getstate told."""
    code, wanted = MOVED[register]
    with _reset_guest(machine, code + STORE[Gpr.RAX]) as (_, memory):
        assert _word(memory, 0) == wanted


@requirement("K-RST-5", "K-RST-12")
def test_guest_finds_cr0(machine: Machine) -> None:
    """CR0 is 60000010h, for the guest as for getstate afterwards; NE may be forced (VMX)."""
    with _reset_guest(machine, b"\x0f\x20\xc0" + STORE[Gpr.RAX]) as (vcpu, memory):
        vcpu.getstate(StateFlag.CRS)
        check.equal(_word(memory, 0) & ~NE, 0x60000010, "CR0, MOV")
        check.equal(vcpu.state.crs[Cr.CR0], _word(memory, 0), "CR0, getstate")


@requirement("L-VCPU-3")
@pytest.mark.parametrize(("table", "modrm"), [("gdtr", 0x06), ("idtr", 0x0E)])
def test_guest_finds_descriptor_table(machine: Machine, table: str, modrm: int) -> None:
    """SGDT and SIDT store limit FFFFh and base 0."""
    code = bytes((0x66, 0x0F, 0x01, modrm, 0, 0))  # in 32-bit form, else the base has 24 bits
    with _reset_guest(machine, code) as (_, memory):
        check.equal(_word(memory, 0, 2), 0xFFFF, f"limit of {table}")
        check.equal(_word(memory, 2), 0, f"base of {table}")


@requirement("K-RST-10", "L-VCPU-3a")
def test_guest_finds_x87(machine: Machine) -> None:
    """FNSTENV as one of the first instructions tells FCW 40h, FSW 0, and tags 5555h (BH-90)."""
    with _reset_guest(machine, b"\xd9\x36\x00\x00") as (_, memory):
        check.equal(_word(memory, 0, 2), 0x40, "FCW")
        check.equal(_word(memory, 2, 2), 0, "FSW")
        check.equal(_word(memory, 4, 2), 0x5555, "tags")


@requirement("K-RST-11")
def test_guest_finds_mxcsr(machine: Machine) -> None:
    """MXCSR is 1F80h for the guest, all exceptions masked."""
    code = (
        b"\x66\xb8\x00\x02\x00\x00\x0f\x22\xe0"  # CR4.OSFXSR
        b"\x0f\xae\x1e\x00\x00"  # stmxcsr [0]
    )
    with _reset_guest(machine, code) as (_, memory):
        assert _word(memory, 0) == 0x1F80


@requirement("K-RST-11")
def test_getstate_finds_mxcsr(machine: Machine, capability: Capability) -> None:
    """After a run that touches no FPU, getstate tells MXCSR 1F80h and the processor's mask."""
    with _reset_guest(machine, b"") as (vcpu, _):
        vcpu.getstate(StateFlag.FPU)
        check.equal(vcpu.state.fpu.fx_mxcsr, 0x1F80, "MXCSR")
        check.equal(vcpu.state.fpu.fx_mxcsr_mask, capability.mxcsr_mask, "MXCSR_MASK")


@requirement("K-RST-13", level=Level.INFO)
def test_guests_tsc_begins_at_zero(machine: Machine) -> None:
    """RESET makes TSC 0; some kernels let a new vCPU begin with the host's."""
    code = b"\x0f\x31" + STORE[Gpr.RAX] + b"\x66\x89\x16\x04\x00"
    with _reset_guest(machine, code) as (_, memory):
        check(_word(memory, 0, 8) < 1 << 32, f"TSC {_word(memory, 0, 8):#x} is just begun")
