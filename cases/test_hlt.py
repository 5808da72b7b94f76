# SPDX-License-Identifier: BSD-2-Clause
"""HLT: SDM 2A "HLT"; the exit HALTED of NVMM, which keeps no halted state: a vCPU that is run again
goes on."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Mode,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

IF, RF = 1 << 9, 1 << 16


@requirement("K-HLT-1", "A-EXIT-6")
def test_hlt_with_nothing_pending_halts(vm: VirtualMachine) -> None:
    """HLT with nothing pending halts the vCPU, with RIP after it."""
    run = vm.boot("hlt")
    assert run.reason is Stop.HALTED
    assert run.rip == run.symbol("after_hlt")


@requirement("K-HLT-1", "A-EXIT-6")
def test_hlt_is_one_exit(vm: VirtualMachine) -> None:
    """One HLT gives one exit, HALTED, and RIP is after it already then."""
    run = vm.boot("hlt")
    assert run.reasons() == [ExitReason.HALTED]
    assert run.all_exits()[-1].rip == run.symbol("after_hlt")


@requirement("K-HLT-5", "K-RUN-13")
def test_running_again_continues_after_hlt(vm: VirtualMachine) -> None:
    """Running a halted vCPU again executes the instruction after HLT."""
    halted = vm.boot("hlt")
    assert halted.rip == halted.symbol("after_hlt")
    run = halted.resume()
    assert run.reason is Stop.EXITED
    assert run.status == 1
    assert run.reasons() == [ExitReason.HALTED, ExitReason.IO]


@requirement("K-HLT-1", "K-HLT-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("prefixes", ["", "0x66", "0xF3", "0x2E", "0x66, 0x67, 0xF2, 0x3E"])
def test_rip_is_after_the_whole_instruction(vm: VirtualMachine, prefixes: str) -> None:
    """RIP is after HLT and all its prefixes."""
    code = f"    .byte {prefixes}{', ' if prefixes else ''}0xF4\nafter:\n    nop\n    hlt\nend:\n"
    stubs = Stubs(vm, code)
    assert stubs.run().rip == stubs.symbol("after")
    assert stubs.run().rip == stubs.symbol("end")


@requirement("K-HLT-1", "K-HLT-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("count", [2, 5, 20])
def test_each_hlt_halts(vm: VirtualMachine, count: int) -> None:
    """As many HLTs, so many exits, and RIP moves on by one instruction each."""
    stubs = Stubs(vm, f"    .fill {count}, 1, 0xF4\n")
    for number in range(1, count + 1):
        taken = stubs.guest.next_exit()
        check.equal(taken.reason, ExitReason.HALTED, f"exit {number}")
        check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("here") + number, "RIP")


@requirement("K-HLT-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_hlt_ends_the_shadow(vm: VirtualMachine) -> None:
    """HLT is the instruction that STI's shadow covers: after it there is none."""
    stubs = Stubs(vm, "    sti\n    hlt\n")
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    check.equal(taken.state.int_shadow, False, "shadow in exitstate")
    check.equal(stubs.guest.state().intr.int_shadow, False, "shadow in state")
    check.equal(taken.state.rflags & IF, IF, "IF")


@requirement("K-HLT-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_hlt_clears_rf(vm: VirtualMachine) -> None:
    """HLT clears RF, as every instruction does that is done."""
    stubs = Stubs(vm, "    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= RF
    taken = stubs.guest.next_exit()
    assert taken.reason is ExitReason.HALTED
    assert taken.state.rflags & RF == 0


@requirement("K-HLT-3")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_hlt_with_if_set_disarms_the_window(vm: VirtualMachine) -> None:
    """HLT with IF set is as good as an open window: HALTED, and the window is no longer armed
    (BH-84)."""
    stubs = Stubs(vm, "    sti\n    hlt\nafter:\n    nop\n    hlt\n")
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    check.equal(taken.state.int_window_exiting, False, "window in exitstate")
    check.equal(stubs.guest.state().intr.int_window_exiting, False, "window in state")
    check.equal(stubs.guest.next_exit().reason, ExitReason.HALTED, "next exit")


@requirement("K-HLT-4")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_hlt_with_if_clear_keeps_the_window(vm: VirtualMachine) -> None:
    """HLT with IF clear keeps the window armed, and it opens later."""
    stubs = Stubs(vm, "    hlt\n    sti\n    nop\nopen:\n    nop\n    hlt\n")
    stubs.guest.set_intr(int_window_exiting=True)
    taken = stubs.guest.next_exit()
    check.equal(taken.reason, ExitReason.HALTED, "exit")
    check.equal(taken.state.int_window_exiting, True, "window")
    check.equal(stubs.guest.next_exit().reason, ExitReason.INT_READY, "next exit")
    check.equal(stubs.guest.state().gpr[Gpr.RIP], stubs.symbol("open"), "RIP there")


@requirement("K-HLT-1", "K-RUN-13")
@modes(Mode.REAL16, Mode.LONG64)
def test_hlt_changes_no_register(vm: VirtualMachine) -> None:
    """HLT changes RIP and nothing else."""
    stubs = Stubs(vm, "    hlt\n")
    before = stubs.guest.state()
    stubs.guest.next_exit()
    after = stubs.guest.state()
    moved = {Gpr.RIP: before.gpr[Gpr.RIP] + 1}
    check.equal(dict(after.gpr), {**before.gpr, **moved}, "general registers")
    check.equal(after.seg, before.seg, "segments")
    check.equal(after.dr, before.dr, "debug registers")
