# SPDX-License-Identifier: BSD-2-Clause
"""Boot images, made field by field from the specifications' tables."""

from __future__ import annotations

import struct

from nvmmconf.boot import MapEntry, MapType, Ram

RAM = (Ram(0, 0xA0000), Ram(0x100000, 0x700000))
MAP = (
    MapEntry(0, 0xA0000, MapType.AVAILABLE),
    MapEntry(0xA0000, 0x60000, MapType.RESERVED),
    MapEntry(0x100000, 0x700000, MapType.AVAILABLE),
)
MAGIC = 0x1BADB002


def header(flags: int = 0, *addresses: int) -> bytes:
    """A Multiboot header; the three words add up to 0."""
    return struct.pack(
        f"<3I{len(addresses)}I", MAGIC, flags, -(MAGIC + flags) & 0xFFFFFFFF, *addresses
    )


def elf32(
    segments: list[tuple[int, bytes, int]],
    entry: int,
    *,
    machine: int = 3,
    kind: int = 2,
    virtual: int = 0,
) -> bytes:
    """An ELF32 executable; a segment is its physical address, its bytes, its size in memory.

    Each lies `virtual` above its physical address, virtually.
    """
    table = 52
    at = table + 32 * len(segments)
    headers, body = b"", b""
    for gpa, data, size in segments:
        headers += struct.pack("<8I", 1, at + len(body), gpa + virtual, gpa, len(data), size, 7, 4)
        body += data
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    rest = struct.pack(
        "<HHIIIIIHHHHHH", kind, machine, 1, entry, table, 0, 0, 52, 32, len(segments), 0, 0, 0
    )
    return ident + rest + headers + body


def elf64(gpa: int, data: bytes, entry: int) -> bytes:
    """An ELF64 executable with one segment."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    rest = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (
        ident + rest + struct.pack("<IIQQQQQQ", 1, 7, 120, gpa, gpa, len(data), len(data), 4) + data
    )


def linux(kernel: bytes, *, version: int = 0x20C, init_size: int = 0, longest: int = 255) -> bytes:
    """A bzImage with one set-up sector."""
    image = bytearray(1024)
    image[0x1F1] = 1
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x200:0x202] = b"\xeb\x66"  # JMP: the header ends at 0x268
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    image[0x211] = 1
    struct.pack_into("<I", image, 0x214, 0x100000)
    struct.pack_into("<I", image, 0x238, longest)
    struct.pack_into("<I", image, 0x260, init_size)
    return bytes(image) + kernel
