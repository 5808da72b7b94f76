# SPDX-License-Identifier: BSD-2-Clause
"""The reset control register at 0xCF9 (Intel 82371FB/SB PIIX datasheet, RC)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.ports import PortSpace

PORT = 0xCF8
PORT_COUNT = 4
"""The doubleword that the register lies in."""
OFFSET = 0xCF9 - PORT

SYS_RST = 1 << 1
"""What a reset is: 0 of the CPU alone, 1 of everything."""
RST_CPU = 1 << 2
"""Its way from 0 to 1 resets."""
FULL_RST = 1 << 3
"""A power cycle, too (ICH and later); kept, and otherwise as a hard reset."""


class ResetKind(enum.Enum):
    """What is reset."""

    SOFT = "soft"
    """INIT to the CPU."""
    HARD = "hard"
    """The CPU and every device."""


@dataclass(frozen=True)
class ResetControlState:
    """The register."""

    value: int


class ResetControl:
    """Calls `on_reset` with the kind that SYS_RST had chosen when RST_CPU rises.

    The register answers to accesses of one byte only.  It lies under PCI's
    CONFIG_ADDRESS, a doubleword at 0xCF8, so this device claims all four ports: else
    the bus would cut a guest's look for PCI into bytes, and one of them would be a
    reset.  There is no PCI: all else reads as all ones and is lost.
    """

    def __init__(self, on_reset: Callable[[ResetKind], None]) -> None:
        self._on_reset = on_reset
        self._value = 0

    def connect(self, ports: PortSpace) -> None:
        """Claim the doubleword."""
        ports.claim(PORT, PORT_COUNT, self)

    def reset(self) -> None:
        """All bits 0."""
        self._value = 0

    def save(self) -> ResetControlState:
        """The register."""
        return ResetControlState(self._value)

    def load(self, state: ResetControlState) -> None:
        """Take the register over; resets nothing."""
        self._value = state.value

    def port_read(self, offset: int, size: int) -> int:
        """The register for one byte at 0xCF9, all ones for anything else."""
        if (offset, size) == (OFFSET, 1):
            return self._value
        return (1 << 8 * size) - 1

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Keep the bits; reset on RST_CPU's way from 0 to 1."""
        if (offset, size) != (OFFSET, 1):
            return
        rises = value & ~self._value & RST_CPU
        self._value = value & (SYS_RST | RST_CPU | FULL_RST)
        if rises:
            self._on_reset(ResetKind.HARD if value & SYS_RST else ResetKind.SOFT)
