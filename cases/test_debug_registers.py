# SPDX-License-Identifier: BSD-2-Clause
"""Debug registers: their bits, the breakpoints that they make, and that exits leave them alone.

SDM 3B 17.2 (DR0 to DR7), 17.3.1 (#DB); SDM 2 "MOV - debug registers"; APM 2 13.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from insn_bench import DONE, Bench, Effect

from nvmmconf.suite import Dr, Gpr, Mode, VirtualMachine, check, modes, requirement

REGISTERS = (Dr.DR0, Dr.DR1, Dr.DR2, Dr.DR3)
DR6_RESET, DR7_RESET = 0xFFFF0FF0, 0x400
BD, BS = 1 << 13, 1 << 14
GD = 1 << 13
DE = 1 << 3
RF, TF = 1 << 16, 1 << 8
WORD = 0x5000
"""What the data breakpoints watch."""

EVERYWHERE = modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
PROTECTED = modes(Mode.PROT32, Mode.LONG64)


def _bench(vm: VirtualMachine, **more: str) -> Bench:
    wide = "rax" if vm.mode is Mode.LONG64 else "eax"
    code = {}
    for number in (0, 1, 2, 3, 6, 7):
        code[f"put_{number}"] = f"mov dr{number}, {wide}"
        code[f"get_{number}"] = f"mov {wide}, dr{number}"
    for number in (4, 5):  # which assemblers refuse: MOV DR4, EAX is 0F 23 E0
        code[f"put_{number}"] = f".byte 0x0F, 0x23, {0xC0 + 8 * number}"
        code[f"get_{number}"] = f".byte 0x0F, 0x21, {0xC0 + 8 * number}"
    return Bench(vm, code | more)


def _get(bench: Bench, number: int) -> int:
    effect = bench.execute(f"get_{number}")
    check.equal((effect.end, effect.exits), (DONE, ()), f"read of DR{number}")
    return effect.gpr[Gpr.RAX]


def _put(bench: Bench, number: int, value: int, end: str = DONE) -> None:
    effect = bench.execute(f"put_{number}", {Gpr.RAX: value})
    check.equal((effect.end, effect.exits), (end, ()), f"DR{number} := {value:#x}")


# ---- contents ----


@requirement("K-SET-24", "A-REG-5", "A-REG-10")
@EVERYWHERE
@pytest.mark.parametrize("register", REGISTERS)
def test_address_is_kept(vm: VirtualMachine, register: Dr) -> None:
    """DR0 to DR3 hold what the guest writes, and what the caller sets; no other changes."""
    bench = _bench(vm)
    number = int(register) - int(Dr.DR0)
    wide = 0x00007FFF00000000 if vm.mode is Mode.LONG64 else 0
    for value in (wide | 0x12345678, wide | 0x87654321, 0):
        _put(bench, number, value)
        check.equal(_get(bench, number), value, "the guest's")
        for other in REGISTERS:
            wanted = value if other is register else 0
            check.equal(bench.guest.state().dr[other], wanted, f"{other.name}, getstate")
        bench.stubs.registers.dr[register] = value ^ 0xFF
        check.equal(_get(bench, number), value ^ 0xFF, "the caller's")


@requirement("A-REG-5", "A-REG-10")
@EVERYWHERE
@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, DR6_RESET), (DR6_RESET, DR6_RESET), (0xE00F, 0xFFFFEFFF), (0x1000, DR6_RESET)],
)
def test_fixed_bits_of_dr6(vm: VirtualMachine, value: int, wanted: int) -> None:
    """DR6 has ones in 31:17 and 10:4, a zero in 12; B0 to B3, BD, BS, BT are the guest's.

    Bits 11 and 16, which newer processors use, are not looked at.
    """
    bench = _bench(vm)
    _put(bench, 6, value | 0x10800)
    check.equal(_get(bench, 6) | 0x10800, wanted | 0x10800, "DR6")
    check.equal(bench.guest.state().dr[Dr.DR6] | 0x10800, wanted | 0x10800, "DR6, getstate")


@requirement("K-SET-24", "A-REG-5", "A-REG-10")
@EVERYWHERE
@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, 0x400), (0xFFFF0000, 0xFFFF0400), (0x3AA, 0x7AA), (0x155, 0x555), (0xD000, 0x400)],
)
def test_fixed_bits_of_dr7(vm: VirtualMachine, value: int, wanted: int) -> None:
    """DR7 has a one in bit 10, zeros in 12, 14 and 15; the rest is the guest's."""
    bench = _bench(vm)
    for number in range(4):
        _put(bench, number, 0x7000)  # where nothing is
    _put(bench, 7, value)
    check.equal(_get(bench, 7), wanted, "DR7")
    check.equal(bench.guest.state().dr[Dr.DR7], wanted, "DR7, getstate")


@requirement("A-REG-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("number", [6, 7])
@pytest.mark.parametrize("bit", [32, 63])
def test_upper_halves_of_dr6_and_dr7(vm: VirtualMachine, number: int, bit: int) -> None:
    """In 64-bit mode a write of ones into bits 63:32 of DR6 or DR7 is #GP(0)."""
    bench = _bench(vm)
    before = _get(bench, number)
    _put(bench, number, before | 1 << bit, "#GP(0)")
    check.equal(_get(bench, number), before, f"DR{number}")


@requirement("A-REG-5")
@EVERYWHERE
@pytest.mark.parametrize(("alias", "number"), [(4, 6), (5, 7)])
def test_aliases(vm: VirtualMachine, alias: int, number: int) -> None:
    """DR4 and DR5 are DR6 and DR7, and #UD where CR4.DE is set."""
    bench = _bench(vm)
    bench.set_cr4(clear_bits=DE)
    value = 0xFFFF4FF1 if number == 6 else 0x700
    _put(bench, alias, value)
    check.equal(_get(bench, number), value, f"DR{number}")
    check.equal(_get(bench, alias), value, f"DR{alias}")
    bench.set_cr4(DE)
    check.equal(bench.execute(f"get_{alias}").end, "#UD", f"read of DR{alias} with DE")
    check.equal(bench.execute(f"put_{alias}").end, "#UD", f"write of DR{alias} with DE")


# ---- #DB ----


def _is_debug(bench: Bench, effect: Effect, name: str, cause: int, *, trap: bool) -> None:
    """It ended in #DB at `name`, or (`trap`) behind it, with `cause` in DR6."""
    check(effect.end.startswith("#DB"), f"#DB: {effect.end}")
    if effect.frame is not None:
        where = bench.guest.symbol(f"{name}_after" if trap else name)
        check.equal(effect.frame.ip, where, "RIP pushed")
    check.equal(bench.guest.state().dr[Dr.DR6] & 0xE00F, cause, "DR6")


@requirement("K-SET-24", "A-REG-5")
@EVERYWHERE
@pytest.mark.parametrize("insn", ["get_7", "put_0"])
def test_general_detect(vm: VirtualMachine, insn: str) -> None:
    """With DR7.GD a MOV of a debug register is #DB before it, with BD; GD is off in the handler."""
    bench = _bench(vm)
    bench.stubs.registers.dr |= {Dr.DR7: DR7_RESET | GD, Dr.DR6: DR6_RESET}
    effect = bench.execute(insn, {Gpr.RAX: 0x1234})
    check.equal(effect.end, "#DB", insn)
    state = bench.guest.state()
    check.equal(state.dr[Dr.DR6] & 0xE00F, BD, "DR6")
    check.equal(state.dr[Dr.DR7], DR7_RESET, "DR7")
    check.equal(state.dr[Dr.DR0], 0, "DR0")


def _linear(bench: Bench, name: str) -> int:
    base = 0x20000 if bench.stubs.mode is Mode.REAL16 else 0
    return base + bench.guest.symbol(name)


@requirement("K-SET-24", "A-REG-5")
@EVERYWHERE
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("by_guest", [False, True])
def test_instruction_breakpoint(vm: VirtualMachine, number: int, by_guest: bool) -> None:
    """A breakpoint on an instruction is #DB before it, whoever has set it; with RFLAGS.RF the
    instruction executes."""
    bench = _bench(vm, target="inc ebx")
    enable = DR7_RESET | 2 << 2 * number
    if by_guest:
        _put(bench, number, _linear(bench, "target"))
        _put(bench, 7, enable)
    else:
        dr = bench.stubs.registers.dr
        dr |= {Dr(Dr.DR0 + number): _linear(bench, "target"), Dr.DR7: enable}
    effect = bench.execute("target", {Gpr.RBX: 5})
    _is_debug(bench, effect, "target", 1 << number, trap=False)
    check.equal(effect.gpr[Gpr.RBX], 5, "EBX")
    effect = bench.execute("target", {Gpr.RBX: 5}, flags=RF)
    check.equal((effect.end, effect.gpr[Gpr.RBX]), (DONE, 6), "with RF: end, EBX")
    bench.stubs.registers.dr[Dr.DR7] = DR7_RESET
    check.equal(bench.execute("target", {Gpr.RBX: 5}).end, DONE, "without the breakpoint")


@dataclass(frozen=True)
class Watch:
    """A data breakpoint (R/W: 1 write, 3 either), an access, and whether it is seen."""

    rw: int
    length: int
    insn: str
    offset: int
    seen: bool


WATCHES = {
    "write-byte": Watch(1, 1, "mov byte ptr [ebx], 1", 0, True),
    "write-word": Watch(1, 2, "mov word ptr [ebx], 1", 0, True),
    "write-dword": Watch(1, 4, "mov dword ptr [ebx], 1", 0, True),
    "read-not-written": Watch(1, 4, "mov eax, [ebx]", 0, False),
    "read": Watch(3, 4, "mov eax, [ebx]", 0, True),
    "write-as-either": Watch(3, 4, "mov [ebx], eax", 0, True),
    "overlap-below": Watch(3, 4, "mov eax, [ebx]", -3, True),
    "overlap-above": Watch(3, 4, "mov eax, [ebx]", 3, True),
    "just-below": Watch(3, 4, "mov eax, [ebx]", -4, False),
    "just-above": Watch(3, 4, "mov eax, [ebx]", 4, False),
    "last-byte": Watch(3, 2, "mov al, [ebx]", 1, True),
    "behind-last-byte": Watch(3, 2, "mov al, [ebx]", 2, False),
    "modify": Watch(1, 4, "add dword ptr [ebx], 1", 0, True),
}


@requirement("K-SET-24", "A-REG-5")
@PROTECTED
@pytest.mark.parametrize("name", WATCHES)
def test_data_breakpoint(vm: VirtualMachine, name: str) -> None:
    """A data breakpoint is #DB behind the access that touches what it watches, and no other."""
    watch = WATCHES[name]
    bench = _bench(vm, access=watch.insn)
    length = {1: 0, 2: 1, 4: 3}[watch.length]
    dr = bench.stubs.registers.dr
    dr |= {Dr.DR2: WORD, Dr.DR7: DR7_RESET | 1 << 5 | (length << 2 | watch.rw) << 24}
    effect = bench.execute("access", {Gpr.RBX: WORD + watch.offset})
    if watch.seen:
        _is_debug(bench, effect, "access", 1 << 2, trap=True)
    else:
        check.equal(effect.end, DONE, "access")
        check.equal(bench.guest.state().dr[Dr.DR6] & 0xE00F, 0, "DR6")


@requirement("K-SET-24", "A-REG-5")
@modes(Mode.LONG64)
def test_data_breakpoint_of_eight_bytes(vm: VirtualMachine) -> None:
    """LEN 2 watches eight bytes in 64-bit mode."""
    bench = _bench(vm, access="mov al, [rbx]")
    dr = bench.stubs.registers.dr
    dr |= {Dr.DR0: WORD, Dr.DR7: DR7_RESET | 2 | 0xB << 16}
    _is_debug(bench, bench.execute("access", {Gpr.RBX: WORD + 7}), "access", 1, trap=True)
    bench.stubs.registers.dr[Dr.DR6] = DR6_RESET
    check.equal(bench.execute("access", {Gpr.RBX: WORD + 8}).end, DONE, "the ninth")


@requirement("K-INK-12", "A-REG-2")
@EVERYWHERE
@pytest.mark.parametrize("insn", ["inc ebx", "mov [0x5000], eax", "cpuid", "rdtsc"])
def test_single_step(vm: VirtualMachine, insn: str) -> None:
    """RFLAGS.TF makes #DB behind each instruction, with BS, also one that NVMM executes."""
    bench = _bench(vm, stepped=insn)
    effect = bench.execute("stepped", {Gpr.RAX: 0}, flags=TF)
    _is_debug(bench, effect, "stepped", BS, trap=True)


# ---- over exits ----


@requirement("K-SET-24", "A-REG-5", "A-REG-13", "A-SYNC-5")
@EVERYWHERE
def test_breakpoints_outlive_exits(vm: VirtualMachine) -> None:
    """After many exits, state fetched and set, the debug registers are as before, and the
    breakpoint still works (BH-83)."""
    loop = "again: in al, 0x99\ndec ecx\njnz again\ntarget: nop"
    bench = _bench(vm, exits=loop)
    dr = bench.stubs.registers.dr
    dr |= {Dr.DR1: 0x1111, Dr.DR2: 0x2222, Dr.DR3: _linear(bench, "target")}
    dr |= {Dr.DR0: 0x4444, Dr.DR7: DR7_RESET | 0x80}
    wanted = dict(dr)
    effect = bench.execute("exits", {Gpr.RCX: 40})
    check.equal(len(effect.exits), 40, "exits")
    if effect.frame is not None:
        check.equal(effect.frame.vector, 1, "vector")
        check.equal(effect.frame.ip, bench.guest.symbol("target"), "RIP pushed")
    state = bench.guest.state()
    for register in (*REGISTERS, Dr.DR7):
        check.equal(state.dr[register], wanted[register], register.name)
    check.equal(state.dr[Dr.DR6] & 0xE00F, 8, "DR6")
