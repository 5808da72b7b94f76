# SPDX-License-Identifier: BSD-2-Clause
"""The processor as a loader leaves it to a guest."""

from __future__ import annotations

import struct

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.accel import Registers, SegmentRegister

_DATA = (Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS)
_FLAT = 0xFFFFFFFF

CODE32, CODE64, DATA = 0x08, 0x18, 0x10
"""Selectors of the table below."""

GDT = struct.pack(
    "<4Q",
    0,
    0x00CF9B000000FFFF,  # 0x08: 32-bit code
    0x00CF93000000FFFF,  # 0x10: data
    0x00AF9B000000FFFF,  # 0x18: 64-bit code
)
"""For guests that a loader starts in protected or 64-bit mode without a table of their own."""

PAGE_TABLE_SIZE = 6 * 4096
"""Bytes of `identity_tables`."""


def power_up() -> Registers:
    """Return the registers after RESET (SDM 3A 10.1.1, table 10-1)."""
    registers = Registers()
    registers.gpr[Gpr.RIP] = 0xFFF0
    registers.gpr[Gpr.RDX] = 0x600  # family 6
    registers.cr[Cr.CR0] = 0x60000010  # CD, NW, ET
    for segment in _DATA:
        registers.seg[segment] = SegmentRegister.data(0)
    registers.seg[Segment.CS] = SegmentRegister.code(0xF000, 0xFFFF0000)
    registers.seg[Segment.LDT] = SegmentRegister(flags=0x8200)
    registers.seg[Segment.TR] = SegmentRegister(flags=0x8B00)
    return registers


def real16(segment: int, ip: int, stack: tuple[int, int]) -> Registers:
    """Real mode at `segment`:`ip`, the data segments 0; `stack` is SS and SP."""
    registers = power_up()
    registers.gpr |= {Gpr.RIP: ip, Gpr.RDX: 0, Gpr.RSP: stack[1]}
    registers.cr[Cr.CR0] = 0x10
    registers.seg[Segment.CS] = SegmentRegister.code(segment, segment << 4)
    registers.seg[Segment.SS] = SegmentRegister.data(stack[0], stack[0] << 4)
    registers.seg[Segment.IDT] = SegmentRegister(limit=0x3FF)
    return registers


def protected(
    entry: int, *, code: int = CODE32, data: int = DATA, gdt_gpa: int | None = None
) -> Registers:
    """32-bit protected mode, flat, paging and interrupts off (Multiboot 3.2's state).

    `gdt_gpa` is where `GDT` was put; without one the table register is empty.
    """
    registers = power_up()
    registers.gpr |= {Gpr.RIP: entry, Gpr.RDX: 0}
    registers.cr[Cr.CR0] = 0x11  # PE, ET
    code32 = SegmentRegister.code(code, 0, _FLAT)
    code32.flags |= 0xC00000  # D, G
    registers.seg[Segment.CS] = code32
    for segment in _DATA:
        registers.seg[segment] = SegmentRegister.data(data, 0, _FLAT)
    registers.seg[Segment.GDT] = _table(gdt_gpa, len(GDT))
    registers.seg[Segment.IDT] = SegmentRegister(limit=0)
    return registers


def long64(entry: int, stack: int, cr3: int, gdt_gpa: int) -> Registers:
    """64-bit mode on the identity map at `cr3`, interrupts off."""
    registers = protected(entry, gdt_gpa=gdt_gpa)
    registers.gpr[Gpr.RSP] = stack
    registers.seg[Segment.CS] = SegmentRegister.code(CODE64, 0, _FLAT, long=True)
    registers.cr |= {Cr.CR0: 0x80000011, Cr.CR3: cr3, Cr.CR4: 0x20}  # PG PE ET; PAE
    registers.msr[Msr.EFER] = 0x500  # LME, LMA
    return registers


def _table(gpa: int | None, size: int) -> SegmentRegister:
    return SegmentRegister(limit=0) if gpa is None else SegmentRegister(base=gpa, limit=size - 1)


def identity_tables(gpa: int) -> bytes:
    """Return page tables for `gpa` (page-aligned) that map the first 4 GiB as they are."""
    present = 0x23  # P, RW, A
    pml4 = struct.pack("<Q", gpa + 0x1000 | present).ljust(4096, b"\0")
    pointers = struct.pack("<4Q", *(gpa + 0x2000 + 0x1000 * n | present for n in range(4)))
    pages = struct.pack("<2048Q", *(n << 21 | 0xE3 for n in range(2048)))  # also D, PS
    return pml4 + pointers.ljust(4096, b"\0") + pages
