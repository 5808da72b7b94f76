# SPDX-License-Identifier: BSD-2-Clause
"""A BIOS image: where it appears, and the processor after RESET."""

from __future__ import annotations

from dataclasses import dataclass, field

from nvmmconf.accel import Registers
from nvmmconf.boot import cpu
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.plan import PAGE

LARGEST = 16 << 20
"""Bytes; the top 16 MiB below 4 GiB are what an ISA-era chipset decodes for it."""

LARGEST_LOW = 256 << 10
"""Bytes of its end that appear below 1 MiB also: C0000 to FFFFF."""


@dataclass(frozen=True)
class BiosPlan:
    """How to start a BIOS: `rom` ends at 4 GiB, its last `low_size` bytes at 1 MiB also."""

    what: str
    rom: bytes = field(repr=False)
    low_size: int
    registers: Registers


def load_bios(data: bytes) -> BiosPlan:
    """Plan to start the BIOS `data` at its last 16 bytes, FFFF:FFF0.

    Raises BootError for a size that cannot be mapped.
    """
    if not data:
        raise BootError("the BIOS image is empty")
    if len(data) % PAGE:
        raise BootError(
            f"the BIOS image has {len(data)} bytes, which is not a multiple of {PAGE}:"
            " it ends at 4 GiB and is mapped by pages"
        )
    if len(data) > LARGEST:
        raise BootError(f"the BIOS image has {len(data)} bytes; the most is {LARGEST} (16 MiB)")
    return BiosPlan(
        f"BIOS of {len(data) >> 10} KiB", data, min(len(data), LARGEST_LOW), cpu.power_up()
    )
