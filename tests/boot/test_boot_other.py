# SPDX-License-Identifier: BSD-2-Clause
"""Flat binaries, BIOS images and the Linux boot protocol."""

from __future__ import annotations

import struct

import pytest

from nvmmconf.abi import Cr, Gpr, Msr, Segment
from nvmmconf.boot import BootError, FlatMode, load_bios, load_flat, load_linux
from tests.boot.images import MAP, RAM, linux


def test_a_boot_sector_begins_at_0_7c00() -> None:
    plan = load_flat(b"\xf4" * 512, 0x7C00, FlatMode.REAL16, RAM)
    registers = plan.registers
    assert (registers.seg[Segment.CS].selector, registers.rip) == (0, 0x7C00)
    assert registers.cr[Cr.CR0] & 1 == 0


def test_a_real_mode_image_above_64_kib_has_its_own_segment() -> None:
    registers = load_flat(b"\xf4", 0x20010, FlatMode.REAL16, RAM).registers
    code = registers.seg[Segment.CS]
    assert (code.selector, code.base, registers.rip) == (0x2001, 0x20010, 0)


@pytest.mark.parametrize("gpa", [0x20008, 0x100000])
def test_a_real_mode_image_where_no_segment_begins_is_refused(gpa: int) -> None:
    with pytest.raises(BootError, match="multiple of 16"):
        load_flat(b"\xf4", gpa, FlatMode.REAL16, RAM)


@pytest.mark.parametrize("mode", [FlatMode.PROT32, FlatMode.LONG64])
def test_the_selectors_in_use_are_in_the_gdt_of_memory(mode: FlatMode) -> None:
    """A guest may load them again: the hidden parts agree with the table (SDM 3A 3.4.5)."""
    plan = load_flat(b"\xf4", 0x100000, mode, RAM)
    table = plan.registers.seg[Segment.GDT]
    gdt = next(one.data for one in plan.writes if one.gpa == table.base)
    assert table.limit == len(gdt) - 1
    for segment in (Segment.CS, Segment.DS, Segment.SS):
        register = plan.registers.seg[segment]
        low, high = struct.unpack_from("<II", gdt, register.selector)
        assert high & 0xF0FF00 == register.flags, segment
        limit = (high & 0xF0000 | low & 0xFFFF) << 12 | 0xFFF
        assert (limit, register.base) == (register.limit, 0)


def test_64_bit_mode_has_the_first_4_gib_mapped_as_they_are() -> None:
    """SDM 3A 4.5: PML4, pointers, 2 MiB pages; walked here by hand."""
    plan = load_flat(b"\xf4", 0x100000, FlatMode.LONG64, RAM)
    registers = plan.registers
    assert registers.cr[Cr.CR0] & 0x80000001 == 0x80000001
    assert registers.cr[Cr.CR4] & 0x20
    assert registers.msr[Msr.EFER] & 0x500 == 0x500
    ram = bytearray(0x100000)
    for write in plan.writes:
        ram[write.gpa : write.end] = write.data

    def entry(table: int, index: int) -> int:
        value = struct.unpack_from("<Q", ram, table + 8 * index)[0]
        assert value & 3 == 3, "present and writable"
        return int(value)

    for address in (0, 0x100000, 0x12345678, 0xFFFFF000):
        pointers = entry(registers.cr[Cr.CR3], 0) & ~0xFFF
        directory = entry(pointers, address >> 30) & ~0xFFF
        page = entry(directory, address >> 21 & 0x1FF)
        assert page & 0x80, "a large page"
        assert (page & ~0x1FFFFF) | address & 0x1FFFFF == address


@pytest.mark.parametrize("mode", FlatMode)
@pytest.mark.parametrize(("data", "gpa"), [(b"", 0x7C00), (b"x" * 16, 0x9FFF8), (b"x", 0x900000)])
def test_a_flat_binary_that_does_not_fit_is_refused(data: bytes, gpa: int, mode: FlatMode) -> None:
    with pytest.raises(BootError, match=r"empty|no RAM"):
        load_flat(data, gpa, mode, RAM)


def test_a_bios_begins_16_bytes_below_4_gib() -> None:
    """SDM 3A 10.1.4."""
    plan = load_bios(bytes(0x20000))
    registers = plan.registers
    assert registers.seg[Segment.CS].base + registers.rip == 0xFFFFFFF0
    assert (registers.seg[Segment.CS].selector, registers.rip) == (0xF000, 0xFFF0)
    assert plan.low_size == 0x20000


def test_a_large_bios_shows_its_end_below_1_mib() -> None:
    assert load_bios(bytes(1 << 20)).low_size == 0x40000


@pytest.mark.parametrize("size", [0, 1, 0x1FFFF, (16 << 20) + 4096])
def test_a_bios_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(BootError, match="the BIOS image"):
        load_bios(bytes(size))


def test_a_linux_image_is_entered_as_its_protocol_says() -> None:
    """boot.rst, 32-bit boot protocol: CS 0x10, DS ES SS 0x18, ESI the zero page, EBP EDI EBX 0."""
    kernel = b"\xf4" * 100
    plan = load_linux(linux(kernel), RAM, MAP, command_line="console=ttyS0", initrd=b"disk" * 2000)
    registers = plan.registers
    assert registers.rip == 0x100000
    assert registers.seg[Segment.CS].selector == 0x10
    assert {registers.seg[one].selector for one in (Segment.DS, Segment.ES, Segment.SS)} == {0x18}
    assert [registers.gpr[one] for one in (Gpr.RBP, Gpr.RDI, Gpr.RBX)] == [0, 0, 0]
    ram = bytearray(8 << 20)
    for write in plan.writes:
        ram[write.gpa : write.end] = write.data
    page = registers.gpr[Gpr.RSI]
    assert ram[0x100000:0x100064] == kernel
    assert ram[page + 0x202 : page + 0x206] == b"HdrS"
    assert ram[page + 0x210] == 0xFF, "type_of_loader"
    (line,) = struct.unpack_from("<I", ram, page + 0x228)
    assert ram[line : line + 14] == b"console=ttyS0\0"
    disk, size = struct.unpack_from("<II", ram, page + 0x218)
    assert ram[disk : disk + size] == b"disk" * 2000
    entries = [
        struct.unpack_from("<QQI", ram, page + 0x2D0 + 20 * n) for n in range(ram[page + 0x1E8])
    ]
    assert entries == [(one.gpa, one.size, one.type) for one in MAP]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "HdrS"),
        (linux(b""), "set-up sectors"),
        (linux(b"x", version=0x201), "2.02 is needed"),
        (linux(b"x", init_size=0x800000), "no RAM"),
        (linux(b"x", longest=3), "takes 3"),
        (linux(b"x")[:0x211] + b"\0" + linux(b"x")[0x212:], "zImage"),
    ],
)
def test_a_wrong_linux_image_is_refused(image: bytes, words: str) -> None:
    with pytest.raises(BootError, match=words):
        load_linux(image, RAM, MAP, command_line="abcdef")


def test_a_command_line_may_be_as_long_as_the_kernel_says() -> None:
    """boot.rst, cmdline_size: without the terminating zero."""
    image = linux(b"x", longest=6)
    assert load_linux(image, RAM, MAP, command_line="abcdef")
    with pytest.raises(BootError, match="7 bytes"):
        load_linux(image, RAM, MAP, command_line="abcdefg")
