# SPDX-License-Identifier: BSD-2-Clause
"""The loadable part of an ELF executable: program headers, and nothing else of it.

The file is not trusted: every field is checked before it is used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from nvmmconf.boot.errors import BootError

MAGIC = b"\x7fELF"
_ET_EXEC = 2
_PT_LOAD = 1
_MACHINES = {3: "i386", 62: "x86-64"}
_MOST_HEADERS = 1024


@dataclass(frozen=True)
class LoadSegment:
    """One PT_LOAD: `data` at `gpa`, then zeroes up to `size` bytes."""

    gpa: int
    virtual: int
    size: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class ElfProgram:
    """What is to be loaded, and the GPA of the first instruction."""

    segments: tuple[LoadSegment, ...]
    entry: int


@dataclass(frozen=True)
class _Layout:
    """Where the fields are, for one ELF class."""

    header: struct.Struct  # e_type ... e_phnum, from offset 16
    program: struct.Struct


_LAYOUTS = {
    1: _Layout(struct.Struct("<HHIIIIIHHH"), struct.Struct("<IIIIIIII")),
    2: _Layout(struct.Struct("<HHIQQQIHHH"), struct.Struct("<IIQQQQQQ")),
}


def read_program(data: bytes) -> ElfProgram:
    """Read the executable in `data`, 32-bit or 64-bit, little-endian x86.

    A segment goes to its physical address; an entry that lies in a segment's
    virtual range is moved with it.  Raises BootError where a field cannot be meant.
    """
    if data[:4] != MAGIC or len(data) < 16:
        raise BootError("no ELF file: it does not begin with 7f 45 4c 46")
    layout = _LAYOUTS.get(data[4])
    if layout is None or data[5] != 1:
        raise BootError(
            f"ELF class {data[4]}, data encoding {data[5]}: only little-endian 32-bit and 64-bit"
        )
    if len(data) < 16 + layout.header.size:
        raise BootError(f"the ELF header is cut short: the file has {len(data)} bytes")
    kind, machine, _, entry, table, _, _, _, entry_size, count = layout.header.unpack_from(data, 16)
    if machine not in _MACHINES:
        raise BootError(f"ELF machine {machine}: only i386 (3) and x86-64 (62)")
    if kind != _ET_EXEC:
        raise BootError(f"ELF type {kind}: only an executable (2) has its place in memory")
    if entry_size != layout.program.size:
        raise BootError(f"an ELF program header has {entry_size} bytes, not {layout.program.size}")
    if not 0 < count <= _MOST_HEADERS:
        raise BootError(f"the ELF file has {count} program headers; 1 to {_MOST_HEADERS} are taken")
    if table + count * entry_size > len(data):
        raise BootError(
            f"the ELF program headers at {table:#x} go on beyond the file's {len(data)} bytes"
        )
    segments = []
    for number in range(count):
        segment = _segment(data, layout, table + number * entry_size, number)
        if segment is not None:
            segments.append(segment)
    if not segments:
        raise BootError("the ELF file has no segment to load")
    return ElfProgram(tuple(segments), _entry(entry, segments))


def _segment(data: bytes, layout: _Layout, at: int, number: int) -> LoadSegment | None:
    fields = layout.program.unpack_from(data, at)
    if layout.program.size == 32:
        kind, offset, virtual, gpa, in_file, size = fields[:6]
    else:
        kind, _, offset, virtual, gpa, in_file, size = fields[:7]
    if kind != _PT_LOAD or size == 0:
        return None
    if in_file > size:
        raise BootError(
            f"ELF segment {number} has more bytes in the file ({in_file:#x})"
            f" than in memory ({size:#x})"
        )
    if offset + in_file > len(data):
        raise BootError(
            f"ELF segment {number} (offset {offset:#x}, {in_file:#x} bytes) goes on beyond"
            f" the file's {len(data)} bytes"
        )
    return LoadSegment(gpa, virtual, size, data[offset : offset + in_file])


def _entry(entry: int, segments: list[LoadSegment]) -> int:
    for one in segments:
        if one.virtual <= entry < one.virtual + one.size:
            return entry - one.virtual + one.gpa
    for one in segments:
        if one.gpa <= entry < one.gpa + one.size:
            return entry
    raise BootError(f"the ELF entry point {entry:#x} lies in no segment that is loaded")
