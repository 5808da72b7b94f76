# SPDX-License-Identifier: BSD-2-Clause
"""What the package links itself is what GNU ld links, by the mode's linker script."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from nvmmconf.guest import GuestError, GuestLibrary, Image, Mode, Parameter

PARAMETERS: dict[str, dict[str, Parameter]] = {"smp": {"cpus": 3}, "to_long": {"cache": 0}}

ALL_SORTS = """\
    TEXT    text, "odd"
    .data
    .byte   1
pointer:
    {{ pointer }} pointer + 5, text_end
    .long   start - .Lhere
.Lhere:
    .section .text.second, "ax"
second:
    nop
    call    start
    .section .rodata.more, "a"
    .balign 64
more:
    .byte   7
    .bss
    .balign 32
room:
    .skip   100
    .text
start:
    IDT_SETUP 40
    EXPECT_FAULT 6, second
    jmp     second
    call    near_by
    mov     {{ ax }}, offset room + 3
    mov     {{ bx }}, [pointer]
    mov     dword ptr [room + 4], offset pointer
    push    offset more
    lea     {{ si }}, [{{ bx }} + text]
{% if bits == 64 %}
    mov     rax, offset room
    movabs  rax, offset room
    lea     rax, [rip + more + 2]
    mov     dword ptr [rip + room], 5
    MAP_PAGE 0x1FF000, 0x1FF000, 3
{% endif %}
    .fill   200, 1, 0x90
near_by:
    jmp     start
    LOG     "x", eax
    DONE
"""

BARE = "hlt\n"
ONLY_BSS = "start: hlt\n.bss\n.skip 5\nlast: .skip 1\n"
ONLY_DATA = "start: hlt\n.data\nlast: .byte 5\n"


def by_ld(image: Image) -> tuple[dict[int, bytes], dict[str, int], int]:
    """What the ELF file loads, its symbols, its entry."""
    with image.elf.open("rb") as file:
        elf = ELFFile(file)
        segments = {
            part["p_paddr"]: part.data().ljust(part["p_memsz"], b"\0")
            for part in elf.iter_segments("PT_LOAD")
        }
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = {
            symbol.name: symbol["st_value"]
            for symbol in table.iter_symbols()
            if symbol.name and symbol["st_info"]["type"] != "STT_FILE"
        }
        return segments, symbols, elf["e_entry"]


def same(image: Image) -> None:
    segments, symbols, entry = by_ld(image)
    assert {part.gpa: part.data for part in image.segments} == segments
    assert dict(image.symbols) == symbols
    assert image.multiboot_entry == entry


def test_every_guest_is_as_ld_links_it(library: GuestLibrary) -> None:
    for name in library.names():
        for mode in library.modes(name):
            same(library.image(name, mode, **PARAMETERS.get(name, {})))


@pytest.mark.parametrize("body", [ALL_SORTS, BARE, ONLY_BSS, ONLY_DATA])
@pytest.mark.parametrize("mode", list(Mode))
def test_all_sorts_of_references(library: GuestLibrary, mode: Mode, body: str) -> None:
    same(library.inline(body, mode, name="sorts"))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    mov al, offset distant\n", r"does not fit into 8 bits at \.text\+0x"),
        ("    .byte distant - . - 0x2000\n", r"does not fit into 8 bits at \.text\+0x"),
        ("    .long 1\n.comm shared, 4\n mov eax, [shared]\n", r"undefined symbol 'shared'"),
    ],
)
def test_what_cannot_be_linked(library: GuestLibrary, mode: Mode, body: str, expected: str) -> None:
    with pytest.raises(GuestError, match=expected):
        library.inline(f"start:\n{body}\n.data\n.skip 0x400\ndistant: .byte 0\n", mode)


def test_an_object_that_is_none(guests: Path, tmp_path: Path) -> None:
    image = GuestLibrary(guests, tmp_path).image("hlt", Mode.REAL16)
    path = image.files.folder / "image.o"
    whole = path.read_bytes()
    for broken in (b"", b"\x7fELF", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(GuestError, match="no object file"):
            GuestLibrary(guests, tmp_path).image("hlt", Mode.REAL16)
