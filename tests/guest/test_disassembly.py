# SPDX-License-Identifier: BSD-2-Clause
"""The disassembly against objdump's, and against bytes that are no code."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from nvmmconf.guest import GuestLibrary, Image, Mode, disassemble

MACHINE = {16: "i8086", 32: "i386", 64: "i386:x86-64"}
ROW = re.compile(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)")


def objdump(image: Image) -> list[tuple[int, bytes]]:
    """Address and encoding of every instruction in .text, as objdump has them."""
    tool = shutil.which("objdump")
    if tool is None:
        pytest.skip("no objdump in PATH")
    done = subprocess.run(
        [tool, "-d", "-w", "-j", ".text", "-m", MACHINE[image.mode.bits], str(image.elf)],
        check=True, capture_output=True, text=True, env={"LC_ALL": "C"},
    )  # fmt: skip
    rows = (ROW.match(line) for line in done.stdout.splitlines())
    return [(int(row[1], 16), bytes.fromhex(row[2])) for row in rows if row]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("name", ["hello", "hlt", "shutdown"])
def test_same_instructions_as_objdump(library: GuestLibrary, name: str, mode: Mode) -> None:
    image = library.image(name, mode)
    rows = disassemble(image)
    assert [(row.address, row.encoding) for row in rows] == objdump(image)
    assert all(image.read(image.code_base + row.address, len(row.encoding)) == row.encoding
               for row in rows)  # fmt: skip


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("name", ["hello", "hlt", "shutdown"])
def test_every_code_label_has_its_row(library: GuestLibrary, name: str, mode: Mode) -> None:
    image = library.image(name, mode)
    shown = {label: row.address for row in disassemble(image) for label in row.labels}
    assert shown == {
        label.name: label.address for label in image.labels if label.section == ".text"
    }


@pytest.mark.parametrize("mode", list(Mode))
def test_text_of_rows(library: GuestLibrary, mode: Mode) -> None:
    rows = {row.label: row for row in disassemble(library.image("hello", mode))}
    assert rows["out_insn"].text == "out 0xe9, al"
    assert rows["outsb_insn"].text.startswith("rep outsb")
    assert rows["after_out"].text.endswith("<next_byte>")
    assert rows["outsb_insn"].encoding == b"\xf3\x6e"
    both = disassemble(library.image("hlt", mode))[0]
    assert both.labels == ("start", "hlt_insn")
    assert both.label == "hlt_insn"


def test_data_is_not_shown_as_code(library: GuestLibrary) -> None:
    image = library.image("hello", Mode.LONG64)
    end = max(row.address + len(row.encoding) for row in disassemble(image))
    assert end <= image.symbol("out_text")


@pytest.mark.parametrize("mode", list(Mode))
def test_stays_in_step_at_labels(library: GuestLibrary, mode: Mode) -> None:
    # 0F 04 is no instruction; B8 takes what follows for its immediate.
    image = library.image_from_text(
        "odd", mode, "nop\nodd: .byte 0x0f, 0x04, 0xb8\nnext: hlt\nlast: nop\n"
    )
    rows = disassemble(image)
    assert [(row.text, row.label) for row in rows] == [
        ("nop", "start"),
        (".byte 0x0f", "odd"),
        ("add al, 0xb8", None),
        ("hlt", "next"),
        ("nop", "last"),
    ]


@pytest.mark.parametrize("mode", list(Mode))
def test_declared_data_in_text(library: GuestLibrary, mode: Mode) -> None:
    image = library.image_from_text(
        "table",
        mode,
        "jmp over\ntable: .fill 10, 1, 0x90\n.type table, @object\n"
        ".size table, . - table\nnop\nover: hlt\n",
    )
    rows = disassemble(image)
    assert [(len(row.encoding), row.label) for row in rows] == [
        (2, "start"), (8, "table"), (2, None), (1, None), (1, "over"),
    ]  # fmt: skip
    assert rows[0].text.endswith("<over>")
    assert rows[1].text == ".byte " + ", ".join(["0x90"] * 8)
    assert rows[3].text == "nop"
