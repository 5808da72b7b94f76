# SPDX-License-Identifier: BSD-2-Clause
"""The smallest board: RAM, a debug console, a test device."""

from __future__ import annotations

from collections.abc import Callable

from nvmmconf.board import debugcon, testdev
from nvmmconf.board.debugcon import DebugConsole
from nvmmconf.board.interfaces import Pages, RamBlock, Region, RegionKind
from nvmmconf.board.memory import AddressSpace
from nvmmconf.board.ports import PortSpace
from nvmmconf.board.testdev import TestDevice


class TestBoard:
    """RAM from GPA 0 in `ram`, a debug console at port 0xE9, a test device at 0xF4.

    `on_exit` is called with the status when the guest writes to the test device.
    """

    __test__ = False  # not a pytest class, whatever its name

    def __init__(self, ram: Pages, on_exit: Callable[[int], None]) -> None:
        self.ports = PortSpace()
        self.memory = AddressSpace()
        self.console = DebugConsole()
        self.ports.claim(debugcon.PORT, 1, self.console)
        self.ports.claim(testdev.PORT, testdev.PORT_COUNT, TestDevice(on_exit))
        block = RamBlock(ram, ram.size)
        self.memory.add_block(block)
        self.memory.map(Region("ram", RegionKind.RAM, 0, ram.size, block))
