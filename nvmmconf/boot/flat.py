# SPDX-License-Identifier: BSD-2-Clause
"""A flat binary: its bytes at an address, and the processor there in a mode of choice."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from nvmmconf.abi import Gpr
from nvmmconf.accel import Registers
from nvmmconf.boot import cpu
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.plan import BootPlan, MemoryWrite, Placer, Ram, sorted_writes

BOOT_SECTOR = 0x7C00
"""Where a PC's firmware puts a boot sector; its stack grows down from there."""

STACK_SIZE = 0x4000


class FlatMode(enum.Enum):
    """In which mode a flat binary begins."""

    REAL16 = "real16"
    PROT32 = "prot32"
    LONG64 = "long64"


def load_flat(data: bytes, gpa: int, mode: FlatMode, ram: Sequence[Ram]) -> BootPlan:
    """Plan to start `data` at `gpa`, its first byte.

    real16: below 64 KiB CS is 0 and IP the address, as for a boot sector; above,
    CS is the address / 16 and IP 0.  SS:SP is 0:7C00.  prot32 and long64: flat
    segments, a GDT, a stack of 16 KiB; long64 has the first 4 GiB mapped as
    they are.  Raises BootError where the image does not fit there.
    """
    if not data:
        raise BootError("the image is empty")
    what = f"flat binary at {gpa:#x}, size {len(data):#x}, {mode.value}"
    placer = Placer(ram)
    placer.claim("the image", gpa, len(data))
    writes = [MemoryWrite(gpa, data)]
    if mode is FlatMode.REAL16:
        return BootPlan(what, sorted_writes(writes), _real16(gpa))
    if gpa >= 1 << 32:
        raise BootError(f"the image at {gpa:#x}: the first instruction has to be below 4 GiB")
    gdt = placer.low("the GDT", len(cpu.GDT))
    writes.append(MemoryWrite(gdt, cpu.GDT))
    stack = placer.low("the stack", STACK_SIZE) + STACK_SIZE
    if mode is FlatMode.PROT32:
        registers = cpu.protected(gpa, gdt_gpa=gdt)
        registers.gpr[Gpr.RSP] = stack
    else:
        tables = placer.low("the page tables", cpu.PAGE_TABLE_SIZE, 4096)
        writes.append(MemoryWrite(tables, cpu.identity_tables(tables)))
        registers = cpu.long64(gpa, stack, tables, gdt)
    return BootPlan(what, sorted_writes(writes), registers)


def _real16(gpa: int) -> Registers:
    if gpa < 0x10000:
        return cpu.real16(0, gpa, (0, BOOT_SECTOR))
    if gpa >= 0x100000 or gpa % 16:
        raise BootError(
            f"--at {gpa:#x}: a real-mode image begins below 64 KiB, or at a multiple of 16"
            " below 1 MiB"
        )
    return cpu.real16(gpa >> 4, 0, (0, BOOT_SECTOR))
