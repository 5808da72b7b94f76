# SPDX-License-Identifier: BSD-2-Clause
"""Where a guest is: registers and the next instructions, for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.accel import Registers
from nvmmconf.guest.disassembly import disassemble_bytes

ReadVirtual = Callable[[int, int], bytes]
"""Up to so many bytes at a linear address: those before the first that is not mapped."""

_SHOWN = 6
"""Instructions."""
_LONGEST = 15
"""Bytes of an instruction (SDM 2A 2.3.11)."""

_FLAGS = (
    (0, "CF"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (14, "NT"),
    (16, "RF"),
    (17, "VM"),
    (18, "AC"),
)
_OLD = (Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX, Gpr.RSI, Gpr.RDI, Gpr.RBP, Gpr.RSP)
_NEW = (Gpr.R8, Gpr.R9, Gpr.R10, Gpr.R11, Gpr.R12, Gpr.R13, Gpr.R14, Gpr.R15)
_SEGMENTS = (Segment.CS, Segment.SS, Segment.DS, Segment.ES, Segment.FS, Segment.GS)


def code_bits(registers: Registers) -> int:
    """Return 16, 32 or 64: the size of the code at CS:RIP (SDM 3A 3.4.5)."""
    flags = registers.seg[Segment.CS].flags
    if registers.msr[Msr.EFER] & 0x400 and flags & 0x200000:
        return 64
    return 32 if flags & 0x400000 else 16


def mode_name(registers: Registers) -> str:
    """Return the processor's mode in words."""
    bits = code_bits(registers)
    if not registers.cr[Cr.CR0] & 1:
        return "real mode"
    if registers.gpr[Gpr.RFLAGS] & 0x20000:
        return "virtual-8086 mode"
    if registers.msr[Msr.EFER] & 0x400:
        return "64-bit mode" if bits == 64 else f"compatibility mode, {bits}-bit code"
    return f"protected mode, {bits}-bit code"


def describe(cpu: int, registers: Registers, read: ReadVirtual) -> str:
    """Several lines: mode, RIP, general registers, segments, control registers, instructions."""
    return "\n".join(_lines(cpu, registers, read))


def _lines(cpu: int, registers: Registers, read: ReadVirtual) -> Iterator[str]:
    bits = code_bits(registers)
    paging = ", paging" if registers.cr[Cr.CR0] >> 31 else ""
    code = registers.seg[Segment.CS]
    where = f"{code.selector:04x}:{registers.rip:0{bits // 4}x}"
    yield f"cpu {cpu}: {mode_name(registers)}{paging}, at {where}"
    for group in (_OLD, _NEW) if bits == 64 else (_OLD,):
        for first in (0, 4):
            yield "  " + "  ".join(
                _register(one, registers, bits) for one in group[first : first + 4]
            )
    yield f"  {_flags(registers.gpr[Gpr.RFLAGS])}"
    yield "  " + "  ".join(
        f"{one.name.lower()} {registers.seg[one].selector:04x}+{registers.seg[one].base:x}"
        for one in _SEGMENTS
    )
    yield (
        "  "
        + "  ".join(
            f"{one.name.lower()} {registers.cr[one]:x}" for one in (Cr.CR0, Cr.CR2, Cr.CR3, Cr.CR4)
        )
        + f"  efer {registers.msr[Msr.EFER]:x}"
    )
    yield from _instructions(registers, bits, read)


def _register(one: Gpr, registers: Registers, bits: int) -> str:
    name = one.name.lower()
    if bits != 64:
        return f"e{name[1:]} {registers.gpr[one] & 0xFFFFFFFF:08x}"
    return f"{name:3} {registers.gpr[one]:016x}"


def _flags(value: int) -> str:
    names = " ".join(name for bit, name in _FLAGS if value >> bit & 1)
    return f"rflags {value:x} ({names or 'none set'}, IOPL {value >> 12 & 3})"


def _instructions(registers: Registers, bits: int, read: ReadVirtual) -> Iterator[str]:
    base = 0 if bits == 64 else registers.seg[Segment.CS].base
    mask = (1 << 64) - 1 if bits == 64 else 0xFFFFFFFF
    code = read(base + registers.rip & mask, _SHOWN * _LONGEST)
    if not code:
        yield "  no memory is mapped there"
        return
    for number, row in enumerate(disassemble_bytes(code, registers.rip, bits)[:_SHOWN]):
        mark = "->" if number == 0 else "  "
        hexed = row.encoding.hex(" ")
        yield f"  {mark} {row.address:0{bits // 4}x}  {hexed:<30}  {row.text}"
