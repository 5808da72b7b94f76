# SPDX-License-Identifier: BSD-2-Clause
"""Multiboot 1, as version 0.6.96 of its specification has it (section numbers below)."""

from __future__ import annotations

import struct

import pytest

from nvmmconf.abi import Cr, Gpr, Segment
from nvmmconf.boot import BootError, BootPlan, Module, find_header, load_multiboot
from tests.boot.images import MAP, RAM, elf32, elf64, header

CODE = b"\xf4" * 16


def memory(plan: BootPlan) -> bytearray:
    """RAM as the guest finds it."""
    ram = bytearray(8 << 20)
    for write in plan.writes:
        ram[write.gpa : write.end] = write.data
    return ram


def text_at(ram: bytearray, gpa: int) -> bytes:
    return bytes(ram[gpa : ram.index(0, gpa)])


def word(ram: bytearray, gpa: int) -> int:
    return int(struct.unpack_from("<I", ram, gpa)[0])


def boot(image: bytes, **options: object) -> tuple[BootPlan, bytearray]:
    plan = load_multiboot(image, RAM, MAP, **options)  # type: ignore[arg-type]
    return plan, memory(plan)


@pytest.mark.parametrize("offset", [0, 4, 4096, 8192 - 12])
def test_the_header_is_found_wherever_it_may_be(offset: int) -> None:
    """3.1: within the first 8192 bytes, at a multiple of 4."""
    found = find_header(bytes(offset) + header() + bytes(100))
    assert found is not None
    assert found.offset == offset


@pytest.mark.parametrize("offset", [2, 8192 - 8, 8192])
def test_a_header_elsewhere_is_none(offset: int) -> None:
    """3.1."""
    assert find_header(bytes(offset) + header() + bytes(100)) is None


def test_a_wrong_checksum_is_no_header() -> None:
    """3.1.1: magic, flags and checksum add up to 0."""
    assert find_header(struct.pack("<3I", 0x1BADB002, 0, 1)) is None


def test_an_elf_image_is_loaded_and_the_rest_of_its_memory_is_zero() -> None:
    body = header() + CODE
    plan, ram = boot(elf32([(0x100000, body, 0x1000)], 0x10000C))
    assert ram[0x100000 : 0x100000 + len(body)] == body
    assert not any(ram[0x100000 + len(body) : 0x101000])
    assert plan.registers.rip == 0x10000C


def test_the_machine_state_is_that_of_3_2() -> None:
    """3.2: EAX, EBX, flat 32-bit segments, PE without PG, VM and IF clear."""
    plan, _ = boot(elf32([(0x100000, header() + CODE, 28)], 0x10000C))
    registers = plan.registers
    assert registers.gpr[Gpr.RAX] == 0x2BADB002
    assert registers.gpr[Gpr.RBX] == plan.info_gpa
    assert registers.cr[Cr.CR0] & 0x80000001 == 1
    assert registers.gpr[Gpr.RFLAGS] & 0x20200 == 0
    for segment in (Segment.CS, Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS):
        register = registers.seg[segment]
        assert (register.base, register.limit) == (0, 0xFFFFFFFF)
        assert register.flags >> 22 & 1, "32-bit"
        assert register.flags >> 15 & 1, "present"
    assert registers.seg[Segment.CS].flags >> 8 & 0xA == 0xA, "readable code"
    assert registers.seg[Segment.DS].flags >> 8 & 0xA == 0x2, "writable data"


def test_a_virtual_entry_is_moved_with_its_segment() -> None:
    """As a kernel linked high has it: p_vaddr is not p_paddr."""
    image = elf32([(0x100000, header() + CODE, 28)], 0xC010000C, virtual=0xC0000000)
    assert boot(image)[0].registers.rip == 0x10000C


def test_a_64_bit_elf_is_entered_in_32_bit_mode() -> None:
    plan, _ = boot(elf64(0x100000, header() + CODE, 0x10000C))
    assert plan.registers.cr[Cr.CR0] & 0x80000001 == 1
    assert plan.registers.rip == 0x10000C


def test_the_kernel_is_told_what_3_3_says() -> None:
    """3.3: memory, command line, modules, memory map, loader's name."""
    modules = [Module(b"first" * 1000, "one.img a=b"), Module(b"second", "two.img")]
    image = elf32([(0x100000, header(3) + CODE, 0x12345)], 0x10000C)
    plan, ram = boot(image, command_line="kernel -v", modules=modules)
    info = plan.info_gpa
    assert info is not None
    flags, lower, upper, _, line, count, table = struct.unpack_from("<7I", ram, info)
    assert flags & 0b1001001101 == 0b1001001101
    assert flags & 0b110000 == 0, "no symbol table"
    assert (lower, upper) == (640, 7 * 1024)
    assert text_at(ram, line) == b"kernel -v"
    assert count == 2
    for number, module in enumerate(modules):
        start, end, text, reserved = struct.unpack_from("<4I", ram, table + 16 * number)
        assert ram[start:end] == module.data
        assert start % 4096 == 0, "header flag 0"
        assert start >= 0x112345, "above the image and its bss"
        assert text_at(ram, text) == module.text.encode()
        assert reserved == 0
    length, entry = struct.unpack_from("<2I", ram, info + 44)
    entries = []
    end = entry + length
    while entry < end:
        size, base, bytes_, kind = struct.unpack_from("<IQQI", ram, entry)
        entries.append((base, bytes_, kind))
        entry += size + 4  # "size" does not count itself
    assert entries == [(one.gpa, one.size, int(one.type)) for one in MAP]
    assert text_at(ram, word(ram, info + 64)) == b"nvmmconf"


def test_the_kludge_loads_what_its_addresses_say() -> None:
    """3.1.3: text and data from load_addr, zero up to bss_end_addr."""
    head = header(1 << 16, 0x200010, 0x200000, 0x200040, 0x200100, 0x200030)
    file = b"skip" * 4 + b"A" * 16 + head + b"B" * 0x100  # the header 0x20 into the file
    plan, ram = boot(file)
    assert ram[0x200000:0x200040] == file[16 : 16 + 0x40]
    assert not any(ram[0x200040:0x200100])
    assert plan.registers.rip == 0x200030


def test_the_kludge_with_load_end_0_loads_the_whole_file() -> None:
    """3.1.3."""
    file = header(1 << 16, 0x200000, 0x200000, 0, 0, 0x200020) + b"C" * 100
    _, ram = boot(file)
    assert ram[0x200000 : 0x200000 + len(file)] == file


def test_the_kludge_may_want_the_whole_file_and_no_byte_more() -> None:
    def image(load_end: int) -> bytes:
        return header(1 << 16, 0x200000, 0x200000, load_end, 0, 0x200020) + b"C" * 32

    size = len(image(0))
    _, ram = boot(image(0x200000 + size))
    assert ram[0x200000 : 0x200000 + size] == image(0x200000 + size)
    with pytest.raises(BootError, match="which has"):
        boot(image(0x200000 + size + 1))


def test_the_kludge_goes_before_an_elf_header() -> None:
    """3.1.2: with flag 16 the address fields are used instead of the ELF header's."""
    head = header(1 << 16, 0x300054, 0x300000, 0, 0, 0x300000)
    image = elf32([(0x100000, head + CODE, 48)], 0x100020)
    plan, ram = boot(image)
    assert plan.registers.rip == 0x300000
    assert ram[0x300000 : 0x300000 + len(image)] == image


_BODY = header() + CODE
_REFUSED = {
    "nothing": (b"", "no Multiboot header"),
    "no ELF": (header() + CODE, "no ELF file"),
    "a demand": (elf32([(0x100000, header(1 << 5), 12)], 0x100000), "demands what is unknown"),
    "short": (header(1 << 16), "cut short"),
    "no RAM": (elf32([(0xF0000000, _BODY, 64)], 0xF000000C), "no RAM"),
    "VGA": (elf32([(0xB8000, _BODY, 64)], 0xB800C), "no RAM"),
    "too large": (elf32([(0x100000, _BODY, 0x701000)], 0x10000C), "no RAM"),
    "bytes beyond": (elf32([(0x100000, _BODY, 4)], 0x10000C), "more bytes in the file"),
    "overlap": (
        elf32([(0x100000, _BODY, 64), (0x100020, CODE, 16)], 0x10000C),
        "overlaps segment 0",
    ),
    "entry": (elf32([(0x100000, _BODY, 64)], 0x200000), "in no segment"),
    "machine": (elf32([(0x100000, _BODY, 64)], 0x10000C, machine=8), "machine 8"),
    "shared": (elf32([(0x100000, _BODY, 64)], 0x10000C, kind=3), "type 3"),
    "no segments": (elf32([], 0) + header(), "0 program headers"),
    "kludge above": (header(1 << 16, 0x200000, 0x200004, 0, 0, 0x200004), "above its header_addr"),
    "kludge before": (header(1 << 16, 0x200000, 0x100000, 0, 0, 0x200004), "before the file"),
    "kludge end": (header(1 << 16, 0x200000, 0x200000, 0x100000, 0, 0x200004), "below load_addr"),
    "kludge long": (header(1 << 16, 0x200000, 0x200000, 0x200100, 0, 0x200004), "which has 0x20"),
    "kludge bss": (header(1 << 16, 0x200000, 0x200000, 0, 0x200004, 0x200004), "below the image"),
    "kludge entry": (header(1 << 16, 0x200000, 0x200000, 0, 0, 0x300000), "not within the image"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_a_wrong_image_is_refused_in_one_line(name: str) -> None:
    image, words = _REFUSED[name]
    with pytest.raises(BootError, match=words) as caught:
        boot(image)
    assert "\n" not in str(caught.value)


def test_a_header_cut_off_by_the_file_is_refused() -> None:
    image = elf32([(0x100000, header() + CODE, 28)], 0x10000C)
    for size in range(len(image)):
        with pytest.raises(BootError):
            boot(image[:size])


def test_a_zero_in_the_command_line_is_refused() -> None:
    image = elf32([(0x100000, header() + CODE, 28)], 0x10000C)
    with pytest.raises(BootError, match="zero character"):
        boot(image, command_line="a\0b")


def test_a_module_without_room_is_refused() -> None:
    image = elf32([(0x100000, header() + CODE, 28)], 0x10000C)
    with pytest.raises(BootError, match="more --memory"):
        boot(image, modules=[Module(bytes(7 << 20))])
