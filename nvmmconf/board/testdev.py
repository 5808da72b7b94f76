# SPDX-License-Identifier: BSD-2-Clause
"""The test device: a write ends the run, as with QEMU's isa-debug-exit."""

from __future__ import annotations

from collections.abc import Callable

PORT = 0xF4
PORT_COUNT = 4
"""Ports 0xF4 to 0xF7, as `-device isa-debug-exit,iobase=0xf4,iosize=0x04`."""


class TestDevice:
    """Writing v calls `on_exit` with the status (v << 1) | 1; a read gives 0."""

    __test__ = False  # not a pytest class, whatever its name

    def __init__(self, on_exit: Callable[[int], None]) -> None:
        self._on_exit = on_exit

    def port_read(self, offset: int, size: int) -> int:
        """Nothing to read."""
        return 0

    def port_write(self, offset: int, size: int, value: int) -> None:
        """End the run."""
        self._on_exit(value << 1 | 1)
