# SPDX-License-Identifier: BSD-2-Clause
"""What an author or a user reads when a guest cannot be built."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from nvmmconf.guest import GuestError, GuestLibrary, Mode, Toolchain

HEADER = "# SPDX\n# Text.\n# area: pio\n# modes: " + " ".join(mode.value for mode in Mode) + "\n"


def build(guests: Path, folder: Path, mode: Mode, body: str) -> str:
    """The message that building a guest with this body, from line 5 on, ends in."""
    (folder / "odd.S").write_text(HEADER + body)
    library = GuestLibrary(folder, folder / "cache", include=guests / "include")
    with pytest.raises(GuestError) as caught:
        library.image("odd", mode)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder / "odd.S") in message
    return message


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # Assembler, wherever the line stands in the rendered source.
        ("start:\n    nop\n    hlq\n", r"odd\.S:7: no such instruction: `hlq'"),
        (
            "{% for i in range(9) %}\nl{{ i }}:\n    nop\n{% endfor %}\nstart:\n    hlq {{ ax }}\n",
            r"odd\.S:10: no such instruction: .* in: hlq [re]?ax",
        ),
        (
            "start:\n{% for i in range(3) %}\n    bad{{ i }}\n{% endfor %}\n",
            r"odd\.S:7: no such instruction: `bad0'",
        ),
        ("{# a\n comment #}\nstart: {{ 'hlq' }}\n", r"odd\.S:7: .*hlq"),
        ("{% if true %}\nstart: hlq\n{% endif %}\n", r"odd\.S:6: .*hlq"),
        ("start:\n    EXIT 0x1234\n", r"odd\.S:6: .*0x1234 .*in: EXIT 0x1234 \(in a macro, .*inc:"),
        # Linker.
        ("start:\n    jmp  elsewhere\n", r"odd\.S:6: undefined symbol 'elsewhere' in: jmp"),
        ("begin:\n    hlt\n", r"odd\.S: no label 'start:'"),
        ('start: hlt\n    .section .mine, "aw"\n    .byte 1\n', r"odd\.S: no place for .*'\.mine'"),
        (
            "start: hlt\n    .bss\n    .skip 0x100000\n",
            r"odd\.S: the guest does not fit: it ends at",
        ),
        # Template.
        ("start:\n    mov {{ eflags }}, 1\n", r"odd\.S:6: 'eflags' is undefined"),
        ("start:\n\n{% if mode %}\n", r"odd\.S:7: "),
        ("start:\n{{ 1 // 0 }}\n", r"odd\.S:6: .*zero"),
        ("{% include 'nosuch.inc' %}\n", r"odd\.S: no shared file 'nosuch\.inc' in .*include"),
    ],
)
def test_message_names_the_template_line(
    guests: Path, tmp_path: Path, mode: Mode, body: str, expected: str
) -> None:
    message = build(guests, tmp_path, mode, body)
    assert re.search(expected, message), message


def test_error_in_a_shared_file_names_it(guests: Path, tmp_path: Path) -> None:
    include = tmp_path / "include"
    shutil.copytree(guests / "include", include)
    macros = include / "macros.inc"
    macros.write_text("    hlq\n" + macros.read_text())
    library = GuestLibrary(guests, tmp_path / "cache", include=include)
    with pytest.raises(GuestError, match=r"macros\.inc:1: no such instruction"):
        library.image("hlt", Mode.REAL16)
    macros.write_text("{{ nothing }}\n")
    with pytest.raises(GuestError, match=r"include/macros\.inc:1: 'nothing' is undefined"):
        GuestLibrary(guests, tmp_path / "cache", include=include).image("hlt", Mode.REAL16)


def test_mode_that_a_guest_lacks(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "only.S").write_text("# Text.\n# area: a\n# modes: long64\nstart: hlt\n")
    library = GuestLibrary(tmp_path, tmp_path / "cache", include=guests / "include")
    with pytest.raises(GuestError, match=r"only\.S: not for mode real16 \(modes: long64\)"):
        library.image("only", Mode.REAL16)


@pytest.mark.parametrize("tool", ["as", "ld", "objcopy"])
def test_missing_tool_is_one_line_with_its_package(tmp_path: Path, tool: str) -> None:
    for other in {"as", "ld", "objcopy"} - {tool}:
        (tmp_path / other).write_text("#!/bin/sh\n")
        (tmp_path / other).chmod(0o755)
    with pytest.raises(GuestError) as caught:
        Toolchain.find({"PATH": str(tmp_path)})
    message = str(caught.value)
    for word in (f"'{tool}' not found", "apt install binutils", "NetBSD: the 'comp' set"):
        assert word in message
    assert "\n" not in message


def test_missing_override_names_its_variable() -> None:
    with pytest.raises(GuestError, match="NVMMCONF_LD=/no/such/ld not found"):
        Toolchain.find({"PATH": "/usr/bin:/bin", "NVMMCONF_LD": "/no/such/ld"})


def test_missing_tool_stops_the_build(
    guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVMMCONF_AS", "/no/such/as")
    with pytest.raises(GuestError, match="NVMMCONF_AS=/no/such/as not found"):
        GuestLibrary(guests, tmp_path).image("hlt", Mode.REAL16)


def test_tool_that_is_none(guests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "as"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("NVMMCONF_AS", str(fake))
    with pytest.raises(GuestError, match="is it from GNU binutils"):
        GuestLibrary(guests, tmp_path / "cache").image("hlt", Mode.REAL16)


def test_unknown_symbol_tells_near_names(library: GuestLibrary) -> None:
    image = library.image("hlt", Mode.REAL16)
    with pytest.raises(GuestError, match=r"hlt \(real16\) has no symbol 'after_htl'; near: after_"):
        image.symbol("after_htl")


def test_cache_that_cannot_be_written(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GuestError, match="file/cache: cannot keep images there"):
        GuestLibrary(guests, tmp_path / "file" / "cache").image("hlt", Mode.REAL16)
