# SPDX-License-Identifier: BSD-2-Clause
"""The PC that a guest sees.  Knows nothing of NVMM; each device is a module of its own.

`interfaces` is what an accelerator may know of it.
"""

from nvmmconf.board.debugcon import DebugConsole
from nvmmconf.board.guestport import (
    GuestDone,
    GuestEvent,
    GuestFailure,
    GuestLog,
    GuestMalformed,
    GuestPort,
    GuestSync,
)
from nvmmconf.board.memory import AddressSpace
from nvmmconf.board.ports import PortDevice, PortSpace
from nvmmconf.board.testboard import TestBoard
from nvmmconf.board.testdev import TestDevice

__all__ = [
    "AddressSpace",
    "DebugConsole",
    "GuestDone",
    "GuestEvent",
    "GuestFailure",
    "GuestLog",
    "GuestMalformed",
    "GuestPort",
    "GuestSync",
    "PortDevice",
    "PortSpace",
    "TestBoard",
    "TestDevice",
]
