# SPDX-License-Identifier: BSD-2-Clause
"""Where a PC's RAM lies: below the hole at 640 KiB, above it, and above 4 GiB."""

from __future__ import annotations

from dataclasses import dataclass

CONVENTIONAL_END = 0xA0000
"""640 KiB: the end of conventional memory, where the VGA window begins."""
SHADOW = 0xC0000
"""The area of option ROMs and BIOS, to 1 MiB: RAM in this PC, as a BIOS finds it unlocked."""
EXTENDED = 0x100000
BELOW_4G = 0xC0000000
"""RAM ends here at the latest; from here to 4 GiB is for devices and the BIOS."""
ABOVE_4G = 1 << 32

SMALLEST = 1 << 20
"""Bytes: all that lies below 1 MiB."""


@dataclass(frozen=True)
class RamRange:
    """`size` bytes of RAM at `gpa`, which lie `offset` bytes into the machine's memory."""

    gpa: int
    size: int
    offset: int

    @property
    def end(self) -> int:
        """First GPA after it."""
        return self.gpa + self.size


def usable_ram(size: int) -> tuple[RamRange, ...]:
    """Return what a guest may use of `size` bytes of memory, by address.

    The 384 KiB below 1 MiB are in the machine, but not the guest's to use.
    Raises ValueError below SMALLEST.
    """
    if size < SMALLEST:
        raise ValueError(f"a PC has at least {SMALLEST >> 10} KiB of memory, not {size >> 10}")
    below = min(size, BELOW_4G)
    parts = [
        RamRange(0, CONVENTIONAL_END, 0),
        RamRange(EXTENDED, below - EXTENDED, EXTENDED),
        RamRange(ABOVE_4G, size - below, below),
    ]
    return tuple(part for part in parts if part.size)
