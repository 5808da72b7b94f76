# SPDX-License-Identifier: BSD-2-Clause
"""What a PC's setup has put into the CMOS memory, where SeaBIOS looks for it.

The places are the PC AT's (Ralf Brown's CMOS list); those from 0x34 on are QEMU's and Bochs's.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

SHUTDOWN = 0x0F
FLOPPY_TYPES = 0x10
EQUIPMENT = 0x14
BASE_MEMORY = 0x15
EXTENDED_MEMORY = 0x17
CHECKSUM = 0x2E
"""High byte first; of 0x10 to 0x2D."""
CHECKED = range(0x10, 0x2E)
EXTENDED_MEMORY_POST = 0x30
MEMORY_ABOVE_16M = 0x34
BOOT_FLAGS = 0x38
BOOT_ORDER = 0x3D
MEMORY_ABOVE_4G = 0x5B
MORE_CPUS = 0x5F

EQUIPMENT_FLOPPY = 1 << 0
EQUIPMENT_FPU = 1 << 1


class BootDevice(enum.IntEnum):
    """A place in the boot order."""

    NONE = 0
    FLOPPY = 1
    DISK = 2
    CDROM = 3
    NETWORK = 4


class Floppy(enum.IntEnum):
    """A floppy drive."""

    NONE = 0
    KB360 = 1
    MB12 = 2
    KB720 = 3
    MB144 = 4
    MB288 = 5


def _little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def cmos_contents(
    below_4g: int,
    above_4g: int = 0,
    cpus: int = 1,
    boot: Sequence[BootDevice] = (),
    floppies: tuple[Floppy, Floppy] = (Floppy.NONE, Floppy.NONE),
    check_floppy_signature: bool = True,
) -> dict[int, int]:
    """Return the bytes by index, for `below_4g` bytes of RAM from 0 and `above_4g` from 4 GiB.

    Raises ValueError for RAM of less than 1 MiB or for more than 3 places in the boot order.
    """
    if below_4g < MIB or below_4g > 4 * GIB:
        raise ValueError(f"a PC has 1 MiB to 4 GiB of RAM from 0, not {below_4g} bytes")
    if len(boot) > 3:
        raise ValueError(f"the boot order has 3 places, not {len(boot)}")
    extended = _little(min((below_4g - MIB) // KIB, 0xFFFF), 2)
    above_16m = min(max(below_4g - 16 * MIB, 0) // (64 * KIB), 0xFFFF)
    order = [*boot, *[BootDevice.NONE] * 3]
    drives = sum(drive is not Floppy.NONE for drive in floppies)
    equipment = EQUIPMENT_FPU
    if drives:
        equipment |= EQUIPMENT_FLOPPY | drives - 1 << 6
    parts = {
        SHUTDOWN: b"\0",
        FLOPPY_TYPES: bytes([floppies[0] << 4 | floppies[1]]),
        EQUIPMENT: bytes([equipment]),
        BASE_MEMORY: _little(640, 2),
        EXTENDED_MEMORY: extended,
        EXTENDED_MEMORY_POST: extended,
        MEMORY_ABOVE_16M: _little(above_16m, 2),
        BOOT_FLAGS: bytes([order[2] << 4 | (not check_floppy_signature)]),
        BOOT_ORDER: bytes([order[1] << 4 | order[0]]),
        MEMORY_ABOVE_4G: _little(above_4g // (64 * KIB), 3),
        MORE_CPUS: bytes([cpus - 1]),
    }
    contents = {
        start + place: byte for start, part in parts.items() for place, byte in enumerate(part)
    }
    total = sum(contents.get(index, 0) for index in CHECKED)
    return contents | {CHECKSUM: total >> 8 & 0xFF, CHECKSUM + 1: total & 0xFF}
