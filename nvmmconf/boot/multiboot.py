# SPDX-License-Identifier: BSD-2-Clause
"""Multiboot 1 (version 0.6.96): the header, the image, and what the kernel is told.

Section numbers are the specification's.  The file is not trusted.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from nvmmconf.abi import Gpr
from nvmmconf.boot import cpu, elf
from nvmmconf.boot.elf import LoadSegment
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.plan import (
    PAGE,
    BootPlan,
    MemoryWrite,
    Placer,
    Ram,
    sorted_writes,
    text_bytes,
)

HEADER_MAGIC = 0x1BADB002
BOOT_MAGIC = 0x2BADB002
"""In EAX at the kernel's entry (3.2)."""

SEARCHED = 8192
"""The header lies within the first 8192 bytes (3.1)."""

INFO_SIZE = 116
LOADER_NAME = "nvmmconf"
_MOST_MODULES = 256
_TEXT_GPA, _TEXT_COLUMNS, _TEXT_ROWS = 0xB8000, 80, 25


class HeaderFlag(enum.IntFlag):
    """`flags` of the header (3.1.2); bits 0 to 15 are demands, the others offers."""

    ALIGN_MODULES = 1 << 0
    MEMORY_INFO = 1 << 1
    VIDEO_MODE = 1 << 2
    ADDRESSES = 1 << 16


_KNOWN = HeaderFlag.ALIGN_MODULES | HeaderFlag.MEMORY_INFO | HeaderFlag.VIDEO_MODE
_DEMANDS = 0xFFFF


class InfoFlag(enum.IntFlag):
    """`flags` of the information structure (3.3): which fields are valid."""

    MEMORY = 1 << 0
    COMMAND_LINE = 1 << 2
    MODULES = 1 << 3
    MEMORY_MAP = 1 << 6
    LOADER_NAME = 1 << 9
    FRAMEBUFFER = 1 << 12


class MapType(enum.IntEnum):
    """Types of the memory map's entries (3.3)."""

    AVAILABLE = 1
    RESERVED = 2


@dataclass(frozen=True)
class MapEntry:
    """A range of the memory map."""

    gpa: int
    size: int
    type: MapType


@dataclass(frozen=True)
class Module:
    """A boot module: its bytes, and its string (by custom the file's name and arguments)."""

    data: bytes = field(repr=False)
    text: str = ""


@dataclass(frozen=True)
class Addresses:
    """The a.out kludge: the header's address fields (3.1.3)."""

    header: int
    load: int
    load_end: int
    bss_end: int
    entry: int


@dataclass(frozen=True)
class Header:
    """A Multiboot header, found `offset` bytes into the file."""

    offset: int
    flags: HeaderFlag
    addresses: Addresses | None


def find_header(data: bytes) -> Header | None:
    """Return the header, None where the file has none.  Raises BootError where it is cut short."""
    start = data[:SEARCHED]
    for offset in range(0, len(start) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", start, offset)
        if magic != HEADER_MAGIC or (magic + flags + checksum) & 0xFFFFFFFF:
            continue
        addresses = None
        if flags & HeaderFlag.ADDRESSES:
            if offset + 32 > len(start):
                raise BootError(f"the Multiboot header at {offset:#x} is cut short")
            addresses = Addresses(*struct.unpack_from("<5I", start, offset + 12))
        return Header(offset, HeaderFlag(flags), addresses)
    return None


def load_multiboot(
    data: bytes,
    ram: Sequence[Ram],
    memory_map: Sequence[MapEntry],
    *,
    command_line: str = "",
    modules: Sequence[Module] = (),
) -> BootPlan:
    """Plan to start the Multiboot kernel `data`.

    `command_line` is the whole of it, the kernel's name included; `memory_map`
    is what the kernel is told.  Raises BootError, one line, for whatever
    is wrong with the image or does not fit into `ram`.
    """
    header = find_header(data)
    if header is None:
        raise BootError(f"no Multiboot header in the first {SEARCHED} bytes of the image")
    unknown = header.flags & _DEMANDS & ~_KNOWN
    if unknown:
        raise BootError(f"the Multiboot header demands what is unknown: flags {int(unknown):#x}")
    placer = Placer(ram)
    if header.addresses is not None:  # which go before an ELF header (3.1.2)
        segment, entry = _kludge(data, header.offset, header.addresses)
        segments: tuple[LoadSegment, ...] = (segment,)
        what = "Multiboot image with address fields"
    elif data[:4] == elf.MAGIC:
        program = elf.read_program(data)
        segments, entry = program.segments, program.entry
        what = "Multiboot ELF image"
    else:
        raise BootError("the image is no ELF file, and its Multiboot header has no address fields")
    for number, one in enumerate(segments):
        placer.claim(f"segment {number} of the image", one.gpa, one.size)
    if entry >= 1 << 32:
        raise BootError(f"the entry point {entry:#x} is beyond what 32-bit code reaches")
    writes = [MemoryWrite(one.gpa, one.data) for one in segments]
    info_gpa = _add_info(writes, placer, memory_map, command_line, modules)
    registers = cpu.protected(entry)
    registers.gpr |= {Gpr.RAX: BOOT_MAGIC, Gpr.RBX: info_gpa}
    return BootPlan(f"{what}, entry {entry:#x}", sorted_writes(writes), registers, info_gpa)


def _kludge(data: bytes, offset: int, fields: Addresses) -> tuple[LoadSegment, int]:
    """3.1.3: the segment that the address fields describe, and its entry."""
    if fields.load > fields.header:
        raise BootError(
            f"the Multiboot header's load_addr {fields.load:#x} is above its header_addr"
            f" {fields.header:#x}"
        )
    first = offset - (fields.header - fields.load)
    if first < 0:
        raise BootError(
            f"the Multiboot header at {offset:#x} of the file cannot be {fields.header:#x}:"
            f" load_addr {fields.load:#x} would be before the file's beginning"
        )
    if fields.load_end == 0:
        size = len(data) - first
    elif fields.load_end < fields.load:
        raise BootError(
            f"the Multiboot header's load_end_addr {fields.load_end:#x} is below load_addr"
            f" {fields.load:#x}"
        )
    else:
        size = fields.load_end - fields.load
    if first + size > len(data):
        raise BootError(
            f"the Multiboot header wants {size:#x} bytes from {first:#x} of the file on,"
            f" which has {len(data):#x}"
        )
    load_end = fields.load + size
    if 0 < fields.bss_end < load_end:
        raise BootError(
            f"the Multiboot header's bss_end_addr {fields.bss_end:#x} is below the image's end"
            f" {load_end:#x}"
        )
    end = max(load_end, fields.bss_end)
    if not fields.load <= fields.entry < end:
        raise BootError(
            f"the Multiboot header's entry_addr {fields.entry:#x} is not within the image"
            f" ({fields.load:#x} to {end:#x})"
        )
    piece = data[first : first + size]
    return LoadSegment(fields.load, fields.load, end - fields.load, piece), fields.entry


def _add_info(
    writes: list[MemoryWrite],
    placer: Placer,
    memory_map: Sequence[MapEntry],
    command_line: str,
    modules: Sequence[Module],
) -> int:
    """3.3: put the information structure and what it points at into memory; return its GPA."""
    if len(modules) > _MOST_MODULES:
        raise BootError(f"{len(modules)} modules; the most is {_MOST_MODULES}")

    def put(what: str, data: bytes) -> int:
        gpa = placer.low(what, len(data))
        writes.append(MemoryWrite(gpa, data))
        return gpa

    table = b""
    for number, module in enumerate(modules):
        # Always on pages, which a kernel may demand.
        gpa = placer.high(f"module {number}", len(module.data), PAGE)
        writes.append(MemoryWrite(gpa, module.data))
        if gpa + len(module.data) > 0xFFFFFFFF:
            raise BootError(f"module {number} would lie above 4 GiB")
        text = put(f"module {number}'s string", text_bytes(module.text, "a module's string"))
        table += struct.pack("<4I", gpa, gpa + len(module.data), text, 0)
    entries = b"".join(
        struct.pack("<IQQI", 20, entry.gpa, entry.size, entry.type) for entry in memory_map
    )
    info = bytearray(INFO_SIZE)
    flags = InfoFlag.MEMORY | InfoFlag.COMMAND_LINE | InfoFlag.MODULES | InfoFlag.MEMORY_MAP
    flags |= InfoFlag.LOADER_NAME | InfoFlag.FRAMEBUFFER
    line = put("the command line", text_bytes(command_line, "the command line"))
    mods = put("the module table", table) if table else 0
    struct.pack_into("<3I", info, 0, flags, *_kibibytes(memory_map))
    struct.pack_into("<3I", info, 16, line, len(modules), mods)
    struct.pack_into("<2I", info, 44, len(entries), put("the memory map", entries))
    struct.pack_into("<I", info, 64, put("the loader's name", text_bytes(LOADER_NAME, "name")))
    # EGA text: 2 bytes a character.
    struct.pack_into(
        "<QIIIBB",
        info,
        88,
        _TEXT_GPA,
        _TEXT_COLUMNS * 2,
        _TEXT_COLUMNS,
        _TEXT_ROWS,
        16,
        2,
    )
    return put("the Multiboot information", bytes(info))


def _kibibytes(memory_map: Sequence[MapEntry]) -> tuple[int, int]:
    """`mem_lower` and `mem_upper`: KiB from 0, at most 640, and from 1 MiB to the first hole."""

    def from_(start: int) -> int:
        end = start
        for entry in sorted(memory_map, key=lambda one: one.gpa):
            if entry.type is MapType.AVAILABLE and entry.gpa <= end < entry.gpa + entry.size:
                end = entry.gpa + entry.size
        return (end - start) >> 10

    return min(from_(0), 640), min(from_(1 << 20), 0xFFFFFFFF)
