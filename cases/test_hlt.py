# SPDX-License-Identifier: BSD-2-Clause
"""HLT: SDM 2A "HLT"; the exit HALTED of NVMM."""

from nvmmconf.suite import ExitReason, Stop, VirtualMachine, requirement


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
