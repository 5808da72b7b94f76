# SPDX-License-Identifier: BSD-2-Clause
"""What a case is written with.

`requirement` says what a case proves; its `vm` argument is a `VirtualMachine`,
whose `boot` returns a `VmRun`; the rest are the values that those hold.
"""

from nvmmconf.abi import ExitReason, Gpr, Prot, Segment
from nvmmconf.accel import Outcome, Stop
from nvmmconf.guest import Mode
from nvmmconf.nvmm import BareExit, IoExit, MemoryExit
from nvmmconf.suite.address import Address
from nvmmconf.suite.marker import requirement
from nvmmconf.suite.vm import GuestHangError, UnimplementedWarning, VirtualMachine, VmRun

__all__ = [
    "Address",
    "BareExit",
    "ExitReason",
    "Gpr",
    "GuestHangError",
    "IoExit",
    "MemoryExit",
    "Mode",
    "Outcome",
    "Prot",
    "Segment",
    "Stop",
    "UnimplementedWarning",
    "VirtualMachine",
    "VmRun",
    "requirement",
]
