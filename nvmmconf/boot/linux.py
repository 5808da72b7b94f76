# SPDX-License-Identifier: BSD-2-Clause
"""The Linux/x86 boot protocol, 32-bit entry: how memtest86+ and Linux kernels are packaged.

Offsets are those of the kernel's own Documentation/arch/x86/boot.rst.  The
file is not trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from nvmmconf.abi import Gpr, Segment
from nvmmconf.accel import SegmentRegister
from nvmmconf.boot import cpu
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.multiboot import MapEntry
from nvmmconf.boot.plan import BootPlan, MemoryWrite, Placer, Ram, sorted_writes, text_bytes

_HEADER = 0x1F1
_SIGNATURE_AT, _SIGNATURE = 0x202, b"HdrS"
_OLDEST = 0x0202
"""2.02: `cmd_line_ptr` exists."""
_UNDEFINED_LOADER = 0xFF
_LOADED_HIGH = 0x01
_DEFAULT_SETUP_SECTORS = 4
_SECTOR = 512
_MOST_MAP_ENTRIES = 128
_CODE, _DATA = 0x10, 0x18

_GDT = struct.pack("<4Q", 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
"""The protocol wants code at 0x10, data at 0x18."""


def is_linux(data: bytes) -> bool:
    """True where `data` has the protocol's signature."""
    return data[_SIGNATURE_AT : _SIGNATURE_AT + 4] == _SIGNATURE


def load_linux(
    data: bytes,
    ram: Sequence[Ram],
    memory_map: Sequence[MapEntry],
    *,
    command_line: str = "",
    initrd: bytes = b"",
) -> BootPlan:
    """Plan to start the kernel `data` at its 32-bit entry, ESI at the zero page.

    Raises BootError, one line, for whatever is wrong with it or does not fit.
    """
    if not is_linux(data) or len(data) < 0x264:
        raise BootError("no Linux boot protocol header: 'HdrS' at 0x202 is missing or cut short")
    (version,) = struct.unpack_from("<H", data, 0x206)
    if version < _OLDEST:
        raise BootError(f"Linux boot protocol {version >> 8}.{version & 0xFF:02}: 2.02 is needed")
    sectors = data[_HEADER] or _DEFAULT_SETUP_SECTORS
    kernel = data[(sectors + 1) * _SECTOR :]
    if not kernel:
        raise BootError(
            f"the Linux image ends within its {sectors} set-up sectors: it has {len(data)} bytes"
        )
    (load_flags,) = struct.unpack_from("<B", data, 0x211)
    if not load_flags & _LOADED_HIGH:
        raise BootError("the Linux image is a zImage, loaded below 1 MiB: only bzImage is taken")
    (entry,) = struct.unpack_from("<I", data, 0x214)
    size = len(kernel)
    if version >= 0x020A:
        size = max(size, struct.unpack_from("<I", data, 0x260)[0])
    line = text_bytes(command_line, "the command line")
    if version >= 0x0206:
        (longest,) = struct.unpack_from("<I", data, 0x238)
        if len(line) - 1 > longest:
            raise BootError(
                f"the command line has {len(line) - 1} bytes; this kernel takes {longest}"
            )
    placer = Placer(ram)
    placer.claim("the kernel", entry, size)
    writes = [MemoryWrite(entry, kernel)]

    page = _zero_page(data, memory_map)
    page[0x210] = _UNDEFINED_LOADER
    if initrd:
        gpa = placer.high("the initial RAM disk", len(initrd))
        writes.append(MemoryWrite(gpa, initrd))
        struct.pack_into("<II", page, 0x218, gpa, len(initrd))
    gdt = placer.low("the GDT", len(_GDT))
    text = placer.low("the command line", len(line))
    struct.pack_into("<I", page, 0x228, text)
    info = placer.low("the zero page", len(page), len(page))
    writes += [MemoryWrite(gdt, _GDT), MemoryWrite(text, line), MemoryWrite(info, bytes(page))]

    registers = cpu.protected(entry, code=_CODE, data=_DATA, gdt_gpa=gdt)
    registers.seg[Segment.GDT] = SegmentRegister(base=gdt, limit=len(_GDT) - 1)
    registers.gpr |= {Gpr.RSI: info, Gpr.RSP: gdt}
    what = f"Linux boot protocol {version >> 8}.{version & 0xFF:02}, entry {entry:#x}"
    return BootPlan(what, sorted_writes(writes), registers, info)


def _zero_page(data: bytes, memory_map: Sequence[MapEntry]) -> bytearray:
    """`struct boot_params`: the image's header, text mode 3, the memory map."""
    page = bytearray(4096)
    end = min(_SIGNATURE_AT + data[0x201], 0x290)  # its length is the jump's displacement
    page[_HEADER:end] = data[_HEADER:end]
    page[0x06], page[0x07], page[0x0E], page[0x0F], page[0x10] = 3, 80, 25, 1, 16
    if len(memory_map) > _MOST_MAP_ENTRIES:
        raise BootError(f"the memory map has {len(memory_map)} entries; 128 fit")
    page[0x1E8] = len(memory_map)
    for number, entry in enumerate(memory_map):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * number, entry.gpa, entry.size, entry.type)
    return page
