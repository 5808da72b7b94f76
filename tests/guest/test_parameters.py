# SPDX-License-Identifier: BSD-2-Clause
"""Guests with parameters, guests in a case's own words, and images with many entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.guest import GuestError, GuestLibrary, Image, Mode, Parameter, disassemble

HEADER = "# SPDX\n# Text.\n# area: pio\n# modes: real16 long64\n"
BODY = "start:\n    {{ insn }} al, {{ value }}\n"


def texts(image: Image) -> list[str]:
    return [row.text for row in disassemble(image)]


@pytest.fixture
def written(guests: Path, tmp_path: Path) -> GuestLibrary:
    (tmp_path / "one.S").write_text(HEADER + "# parameters: insn value\n" + BODY)
    return GuestLibrary(tmp_path, tmp_path / "cache", include=guests / "include")


def test_parameters_go_into_the_guest(written: GuestLibrary) -> None:
    assert written.source("one").parameters == ("insn", "value")
    assert texts(written.image("one", Mode.REAL16, insn="mov", value=7)) == ["mov al, 7"]
    image = written.image("one", Mode.REAL16, insn="add", value=0x55)
    assert texts(image) == ["add al, 0x55"]
    assert dict(image.parameters) == {"insn": "add", "value": 0x55}


def test_other_values_are_another_image(written: GuestLibrary) -> None:
    one = written.image("one", Mode.REAL16, insn="mov", value=1)
    two = written.image("one", Mode.REAL16, insn="mov", value=2)
    assert one.elf != two.elf
    assert one.segments != two.segments
    assert written.image("one", Mode.REAL16, value=1, insn="mov") is one


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"insn": "mov"}, r"one\.S: parameter 'value' is missing \(parameters: insn value\)"),
        ({"insn": "mov", "value": 1, "size": 2}, r"one\.S: no parameter 'size'"),
        ({"insn": "mov", "value": 1.5}, r"one\.S: parameter 'value' is float"),
        ({"insn": "mov\x01", "value": 1}, r"one\.S: parameter 'insn' has control"),
    ],
)
def test_wrong_parameters_are_named(
    written: GuestLibrary, given: dict[str, Parameter], expected: str
) -> None:
    with pytest.raises(GuestError, match=expected):
        written.image("one", Mode.REAL16, **given)


def test_truth_values_are_numbers(written: GuestLibrary) -> None:
    image = written.image("one", Mode.REAL16, insn="mov", value=True)
    assert texts(image) == ["mov al, 1"]
    assert written.image("one", Mode.REAL16, insn="mov", value=1) is image


def test_guest_without_parameters_takes_none(library: GuestLibrary) -> None:
    with pytest.raises(GuestError, match=r"hlt\.S: no parameter 'value' \(parameters: none\)"):
        library.image("hlt", Mode.REAL16, value=1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a-b", r"one\.S:5: 'a-b' is no name for a parameter"),
        ("bits", r"one\.S:5: parameter 'bits' has the name of a template variable"),
        ("a a", r"one\.S:5: parameter 'a' is named twice"),
    ],
)
def test_wrong_declaration(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "one.S").write_text(HEADER + f"# parameters: {line}\nstart: hlt\n")
    with pytest.raises(GuestError, match=expected):
        GuestLibrary(tmp_path, tmp_path / "cache").source("one")


@pytest.mark.parametrize("mode", list(Mode))
def test_inline(library: GuestLibrary, mode: Mode) -> None:
    image = library.inline(
        """
        mov {{ ax }}, {{ value }}
        hlt
        """,
        mode,
        name="hlt/wakes_up[real16]",
        value=5,
    )
    assert texts(image) == [f"mov {mode.variables()['ax']}, 5", "hlt"]
    assert image.name == "hlt-wakes_up-real16"
    assert image.elf.parent.name.startswith(image.name)


def test_inline_error_counts_the_lines_of_its_text(library: GuestLibrary) -> None:
    with pytest.raises(GuestError, match=r"<mine>:2: no such instruction: `hlq'"):
        library.inline("\n    nop\n    hlq\n", Mode.REAL16, name="mine")
    with pytest.raises(GuestError, match=r"<mine>:2: 'width' is undefined"):
        library.inline("nop\nmov al, {{ width }}", Mode.REAL16, name="mine")
    with pytest.raises(GuestError, match=r"<mine>: no parameter 'width'"):
        library.inline("nop", Mode.REAL16, name="mine", width=1)
    with pytest.raises(GuestError, match=r"<mine>:1: no such instruction: `hlq'"):
        library.inline("{{ insn }}\nnop", Mode.REAL16, name="mine", insn="nop\nhlq")


def test_inline_parameter_of_several_lines(library: GuestLibrary) -> None:
    image = library.inline("{{ insns }}\nhlt", Mode.LONG64, insns="nop\ncld")
    assert texts(image) == ["nop", "cld", "hlt"]


@pytest.mark.parametrize("mode", list(Mode))
def test_one_image_with_many_entries(library: GuestLibrary, mode: Mode) -> None:
    body = "{% for n in range(40) %}\nat_{{ n }}: mov al, {{ n }}\n hlt\n{% endfor %}\n"
    image = library.inline(body + "start: hlt\n", mode)
    for n in range(40):
        there = image.entering(f"at_{n}")
        assert there.entry == there.entry_state.rip == image.symbol(f"at_{n}")
        assert there.read(there.linear(f"at_{n}"), 3) == bytes([0xB0, n, 0xF4])
    assert image.entry == image.symbol("start")
    with pytest.raises(GuestError, match="no symbol 'at_40'"):
        image.entering("at_40")


def test_images_used_last_are_kept(
    guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvmmconf.guest.library.KEPT", 2)
    library = GuestLibrary(guests, tmp_path)
    hello = library.image("hello", Mode.REAL16)
    hlt = library.image("hlt", Mode.REAL16)
    assert library.image("hello", Mode.REAL16) is hello
    library.image("shutdown", Mode.REAL16)
    assert library.image("hello", Mode.REAL16) is hello
    again = library.image("hlt", Mode.REAL16)
    assert again is not hlt
    assert again == hlt
