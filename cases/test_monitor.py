# SPDX-License-Identifier: BSD-2-Clause
"""MONITOR and MWAIT: SDM 2B; exits of NVMM, which CPUID does not show, and for which the
accelerator raises #UD.  And exits that nobody knows: the guest cannot go on, and that is said."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    Cr,
    ExitReason,
    Gpr,
    InsnExit,
    InvalidExit,
    Mode,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
EXITS = {"monitor": ExitReason.MONITOR, "mwait": ExitReason.MWAIT}
RF = 1 << 16


@requirement("K-CPX-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", EXITS)
def test_exit_tells_the_next_instruction(vm: VirtualMachine, insn: str) -> None:
    """MONITOR and MWAIT exit with RIP on them, and npc after them; nothing else changes."""
    stubs = Stubs(vm, f"    nop\ninsn:\n    {insn}\nafter:\n    hlt\n")
    stubs.registers.gpr[Gpr.RAX] = 0x5000
    taken = stubs.guest.next_exit()
    assert isinstance(taken, InsnExit)
    state = stubs.guest.state()
    check.equal(taken.reason, EXITS[insn], "exit")
    check.equal(taken.npc, stubs.symbol("after"), "npc")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("insn"), "RIP")
    check.equal(state.gpr[Gpr.RAX], 0x5000, "RAX")


@requirement("K-CPX-1", "K-RUN-13")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", EXITS)
def test_guest_goes_on_at_npc(vm: VirtualMachine, insn: str) -> None:
    """With RIP set to npc the guest goes on behind the instruction (BH-67)."""
    stubs = Stubs(vm, f"    {insn}\n    inc ebx\n    hlt\nend:\n")
    taken = stubs.guest.next_exit()
    assert isinstance(taken, InsnExit)
    stubs.registers.gpr[Gpr.RIP] = taken.npc
    assert stubs.guest.next_exit().reason is ExitReason.HALTED
    assert stubs.guest.state().gpr[Gpr.RBX] == 1


@requirement("K-CPX-1", "K-RUN-13")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", EXITS)
def test_same_exit_comes_again(vm: VirtualMachine, insn: str) -> None:
    """Run again without a change, the guest executes the same instruction again."""
    stubs = Stubs(vm, f"    {insn}\n    hlt\n")
    assert stubs.guest.next_exit().reason is EXITS[insn]
    assert stubs.guest.next_exit().reason is EXITS[insn]


@requirement("A-EXIT-10", "K-INJ-6", "K-INJ-8")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", EXITS)
def test_accelerator_raises_ud(vm: VirtualMachine, insn: str) -> None:
    """The guest sees a processor without MONITOR and MWAIT: #UD, with RIP on the instruction."""
    stubs = Stubs(vm, f"    nop\ninsn:\n    {insn}\n    hlt\n")
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (6, None), "event")
    check.equal(frame.ip, stubs.symbol("insn"), "return address")
    if vm.mode is not Mode.REAL16:
        check.equal(frame.flags & RF, RF, "RF of a fault")
    check.equal(stubs.exits(), [EXITS[insn], ExitReason.HALTED], "exits")


@requirement("K-CPX-1", "K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", EXITS)
def test_undefined_at_cpl_3(vm: VirtualMachine, insn: str) -> None:
    """At CPL 3 both raise #UD, and do not exit."""
    stubs = Stubs(vm, f"insn:\n    {insn}\n", user=True)
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (6, stubs.symbol("insn")), "event")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-CPX-1")
@modes(Mode.LONG64)
def test_cpuid_shows_neither(vm: VirtualMachine) -> None:
    """CPUID does not show MONITOR and MWAIT (leaf 1, ECX bit 3)."""
    stubs = Stubs(vm, "    mov eax, 1\n    xor ecx, ecx\n    cpuid\n    hlt\n")
    assert stubs.run().registers.gpr[Gpr.RCX] & 1 << 3 == 0


@requirement("A-EXIT-11")
@modes(Mode.LONG64)
def test_impossible_state_is_a_panic(vm: VirtualMachine) -> None:
    """State that no processor takes is an INVALID exit, which ends the guest and is told."""
    stubs = Stubs(vm, "    hlt\n")
    stubs.registers.cr[Cr.CR0] |= 1 << 40
    run = stubs.run()
    check.equal(run.reason, Stop.PANIC, "outcome")
    check.equal(stubs.exits(), [ExitReason.INVALID], "exits")
    last = run.all_exits()[-1].exit
    check(isinstance(last, InvalidExit) and f"{last.hwcode:#x}" in str(run.outcome), "code is told")
