# SPDX-License-Identifier: BSD-2-Clause
"""Exceptions: SDM 3A chapter 7; NVMM leaves them to the guest."""

from nvmmconf.suite import ExitReason, VirtualMachine, requirement


@requirement("K-INK-12")
def test_ud_is_delivered_without_an_exit(vm: VirtualMachine) -> None:
    """#UD goes to the guest's handler, and userland sees nothing but the guest's own output."""
    run = vm.boot("ud")
    assert run.console == "UK"
    assert run.status == 1
    assert run.reasons() == [ExitReason.IO] * 3
