# SPDX-License-Identifier: BSD-2-Clause
"""System control port A of the PS/2: fast A20 and fast reset (Intel PIIX datasheet, PORT 92)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.irq import Line, unconnected
from nvmmconf.board.ports import PortSpace

PORT = 0x92

FAST_INIT = 1 << 0
FAST_A20 = 1 << 1


@dataclass(frozen=True)
class Port92State:
    """The register."""

    value: int


class Port92:
    """Bit 0 rising calls `on_reset`; bit 1 drives `a20`.  The other bits read as 0.

    `a20` is told of the level; whether addresses are masked is the board's matter.
    """

    max_size = 1

    def __init__(self, on_reset: Callable[[], None], a20: Line = unconnected) -> None:
        self._on_reset = on_reset
        self._a20 = a20
        self._value = 0
        self.reset()

    def connect(self, ports: PortSpace) -> None:
        """Claim the port."""
        ports.claim(PORT, 1, self)

    @property
    def a20(self) -> bool:
        """Whether this port asks for address line 20."""
        return bool(self._value & FAST_A20)

    def reset(self) -> None:
        """Both bits 0."""
        self.load(Port92State(0))

    def save(self) -> Port92State:
        """The register."""
        return Port92State(self._value)

    def load(self, state: Port92State) -> None:
        """Take the register over; resets nothing."""
        self._value = state.value
        self._a20(self.a20)

    def port_read(self, offset: int, size: int) -> int:
        """The two bits as written."""
        return self._value

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Gate A20; reset on bit 0's way from 0 to 1."""
        rises = value & ~self._value & FAST_INIT
        self._value = value & (FAST_A20 | FAST_INIT)
        self._a20(self.a20)
        if rises:
            self._on_reset()
