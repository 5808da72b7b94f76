# SPDX-License-Identifier: BSD-2-Clause
"""Shutdown: SDM 3A 7.15 (interrupt 8, double fault); the exit SHUTDOWN of NVMM."""

from nvmmconf.suite import ExitReason, Stop, VirtualMachine, requirement


@requirement("K-SHUT-1", "A-EXIT-7")
def test_triple_fault_shuts_down(vm: VirtualMachine) -> None:
    """An exception that cannot be delivered, nor the #DF after it, is a shutdown."""
    run = vm.boot("shutdown")
    assert run.reasons() == [ExitReason.SHUTDOWN]
    assert run.reason is Stop.RESET
