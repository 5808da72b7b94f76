# SPDX-License-Identifier: BSD-2-Clause
"""What is in an image, read by other means than the ones that made it."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from elftools.elf.elffile import ELFFile

from nvmmconf.guest import GuestError, GuestLibrary, Image, Mode
from nvmmconf.guest.entry import entry_state

RAM = 0x200000

EVERY = [(name, mode) for name in ("hello", "hlt", "shutdown") for mode in Mode]


@pytest.fixture(params=EVERY, ids=lambda pair: f"{pair[0]}-{pair[1].value}")
def image(request: pytest.FixtureRequest, library: GuestLibrary) -> Image:
    name, mode = request.param
    return library.image(name, mode)


def test_multiboot_header(image: Image) -> None:
    """Multiboot 0.6.96, 3.1: in the first 8192 bytes, 32-bit aligned, sum of three fields 0."""
    head = image.elf.read_bytes()[:8192]
    found = [at for at in range(0, len(head) - 12, 4) if head[at : at + 4] == b"\x02\xb0\xad\x1b"]
    assert len(found) == 1
    magic, flags, checksum = struct.unpack_from("<III", head, found[0])
    assert magic == 0x1BADB002
    assert (magic + flags + checksum) & 0xFFFFFFFF == 0
    assert flags & 0xFFFF & ~0x7 == 0, "no flag that a loader has to refuse"
    assert not flags & 1 << 16, "no address fields: the ELF header is meant"


def test_elf_container(image: Image) -> None:
    ident = image.elf.read_bytes()[:20]
    assert ident[:7] == b"\x7fELF\x01\x01\x01", "32-bit, little-endian"
    assert struct.unpack_from("<HH", ident, 16) == (2, 3), "an executable for the 80386"


def test_entry_is_in_a_segment_at_its_own_address(image: Image) -> None:
    with image.elf.open("rb") as file:
        elf = ELFFile(file)
        entry = elf["e_entry"]
        (home,) = (
            part
            for part in elf.iter_segments("PT_LOAD")
            if part["p_vaddr"] <= entry < part["p_vaddr"] + part["p_filesz"]
        )
        assert home["p_vaddr"] == home["p_paddr"]
    assert entry == image.multiboot_entry == image.symbol("boot")
    assert image.read(entry, 1) == b"\xfa", "CLI"


def test_segments_fit_into_memory(image: Image) -> None:
    assert len(image.segments) == 2
    for before, after in pairwise(image.segments):
        assert before.end <= after.gpa
    # QEMU's loader itself is in 0x7000-0x9fff; the top of the first 640 KiB is the BIOS's.
    assert image.segments[0].gpa >= 0x10000
    assert image.segments[-1].end <= (0x2F000 if image.mode is Mode.REAL16 else RAM)


def test_flat_image_is_what_the_elf_file_loads(image: Image) -> None:
    flat = image.flat.read_bytes()
    whole = bytearray(RAM)
    filled = 0
    with image.elf.open("rb") as file:
        for part in ELFFile(file).iter_segments("PT_LOAD"):
            if part["p_paddr"] >= image.flat_gpa:
                whole[part["p_paddr"] : part["p_paddr"] + part["p_filesz"]] = part.data()
                filled = max(filled, part["p_paddr"] + part["p_filesz"])
    assert flat == whole[image.flat_gpa : filled]
    assert flat == image.read(image.flat_gpa, len(flat))
    assert image.flat_gpa == (0x20000 if image.mode is Mode.REAL16 else 0x101000)


def test_symbol_map_has_all_symbols(image: Image) -> None:
    listed = {}
    for line in image.map.read_text().splitlines():
        value, _, name = line.split()
        listed[name] = int(value, 16)
    assert listed == dict(image.symbols)


def test_listing_shows_the_code(library: GuestLibrary) -> None:
    text = library.image("hlt", Mode.REAL16).listing.read_text()
    assert any("F4" in line and "hlt" in line for line in text.splitlines())


@pytest.mark.parametrize("mode", [Mode.COMPAT32, Mode.LONG64])
def test_page_tables_map_the_first_gigabyte(library: GuestLibrary, mode: Mode) -> None:
    image = library.image("hlt", mode)

    def table(gpa: int) -> tuple[int, ...]:
        return struct.unpack("<512Q", image.read(gpa, 4096))

    # P, RW, A and, of a page, D and PS.
    first = table(image.entry_state.cr3)
    assert first[0] & 0xFFF == 0x023
    assert not any(first[1:])
    second = table(first[0] & ~0xFFF)
    assert second[0] & 0xFFF == 0x023
    assert not any(second[1:])
    assert table(second[0] & ~0xFFF) == tuple(n << 21 | 0x0E3 for n in range(512))


@pytest.mark.parametrize("mode", [Mode.PROT32, Mode.COMPAT32, Mode.LONG64])
def test_descriptors_are_the_entry_state(library: GuestLibrary, mode: Mode) -> None:
    image = library.image("hlt", mode)
    state = image.entry_state
    assert state.gdtr.limit == (31 if mode is Mode.COMPAT32 else 23)
    assert state.rsp % 16 == 0
    assert state.rsp == image.symbol("stack_top")
    for segment in (state.cs, state.data):
        (raw,) = struct.unpack("<Q", image.read(state.gdtr.base + segment.selector, 8))
        limit = raw & 0xFFFF | raw >> 32 & 0xF0000
        access = raw >> 40 & 0xFF
        assert segment.base == raw >> 16 & 0xFFFFFF | raw >> 56 << 24 == 0
        assert segment.limit == (limit << 12 | 0xFFF)
        assert access == segment.type | segment.s << 4 | segment.dpl << 5 | segment.p << 7
        flags = raw >> 52 & 0xF
        assert flags == segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3


def test_addresses_in_words(library: GuestLibrary) -> None:
    image = library.image("hlt", Mode.LONG64)
    after = image.symbol("after_hlt")
    assert image.describe(after) == f"{after:#x} <after_hlt>"
    assert image.describe(after + 2) == f"{after + 2:#x} <after_hlt+0x2>"
    # Two labels on one instruction: the one next to it.
    assert image.describe(image.entry) == f"{image.entry:#x} <hlt_insn>"
    assert image.describe(0) == "0x0"
    assert image.describe(0x1F0000) == "0x1f0000"
    assert image.describe(image.symbol("gdt") + 8).endswith("<gdt+0x8>")
    # Just past the last instruction, and no further.
    text = next(part for part in image.sections if part.name == ".text")
    assert "<after_hlt+" in image.describe(text.address + text.size)
    assert "<" not in image.describe(text.address + text.size + 1)


def test_real16_symbols_are_offsets(library: GuestLibrary) -> None:
    image = library.image("hello", Mode.REAL16)
    assert image.entry < 0x10000
    assert image.linear("start") == 0x20000 + image.symbol("start")
    assert image.entry_state.rip == image.symbol("start")
    size = image.symbol("out_text_size")
    assert image.read(image.linear("out_text"), size) == b"hello from real16, a byte at a time\n"


def test_reading_outside_of_an_image(library: GuestLibrary) -> None:
    with pytest.raises(GuestError, match="has nothing at 0x0"):
        library.image("hlt", Mode.REAL16).read(0, 1)


def test_entry_states_of_two_images_differ_by_symbols_only() -> None:
    symbols = {"start": 1, "stack_top": 2, "pml4": 3, "gdt": 4, "gdt_end": 12}
    state = entry_state(Mode.LONG64, symbols)
    assert (state.rip, state.rsp, state.cr3) == (1, 2, 3)
    assert (state.gdtr.base, state.gdtr.limit) == (4, 7)
    assert entry_state(Mode.REAL16, symbols).rsp == 0xFFF0


@pytest.mark.parametrize("mode", list(Mode))
def test_image_from_text(library: GuestLibrary, mode: Mode) -> None:
    image = library.image_from_text("inline", mode, "nop\nthere: hlt\n")
    assert image.symbol("there") == image.entry + 1
    assert image.read(image.linear("start"), 2) == b"\x90\xf4"
    with_start = library.image_from_text("inline", mode, "nop\nstart: hlt\n")
    assert with_start.read(with_start.linear("start"), 1) == b"\xf4"
    with pytest.raises(GuestError, match=r"<inline>:2: no such instruction"):
        library.image_from_text("inline", mode, "nop\nhlq\n")
