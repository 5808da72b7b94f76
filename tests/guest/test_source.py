# SPDX-License-Identifier: BSD-2-Clause
"""The opening comment of a guest, and finding guests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvmmconf.guest import GuestError, GuestLibrary, Mode

HEADER = "# SPDX-License-Identifier: BSD-2-Clause\n"


def write(folder: Path, name: str, text: str) -> GuestLibrary:
    (folder / f"{name}.S").write_text(text)
    return GuestLibrary(folder, folder / "cache")


def test_header_is_read(tmp_path: Path) -> None:
    library = write(
        tmp_path,
        "two-lines",
        HEADER
        + "# Does one thing,\n# and does it well.\n#\n# More for the curious.\n"
        + "# area: pio\n# modes: long64 real16\n\nstart:\n    # modes: none\n    hlt\n",
    )
    source = library.source("two-lines")
    assert source.sentence == "Does one thing, and does it well."
    assert source.area == "pio"
    assert source.modes == (Mode.LONG64, Mode.REAL16)
    assert library.modes("two-lines") == source.modes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Text.\n# area: pio\nstart: hlt\n", r"odd\.S: .* no 'modes:' line"),
        ("# Text.\n# area: pio\n# modes:\n", r"odd\.S: .* no 'modes:' line"),
        ("# Text.\n# modes: real16\n", r"odd\.S: .* no 'area:' line"),
        ("# area: pio\n# modes: real16\n", r"odd\.S: .* does not say what"),
        ("# Text.\n# area: pio\n# modes: real16 real17\n", r"odd\.S:4: unknown mode 'real17'"),
        ("# Text.\n# area: pio\n# modes: real16 real16\n", r"odd\.S:4: mode 'real16' is named tw"),
        ("# Text.\n# area: a\n# area: b\n# modes: real16\n", r"odd\.S:4: a second 'area:' line"),
        ("\n# Text.\n# area: a\n# modes: real16\n", r"odd\.S: .* no 'area:' line"),
    ],
)
def test_wrong_header_names_the_file(tmp_path: Path, text: str, expected: str) -> None:
    library = write(tmp_path, "odd", HEADER + text)
    with pytest.raises(GuestError) as caught:
        library.source("odd")
    assert re.search(expected, str(caught.value))
    assert str(tmp_path / "odd.S") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_guest_tells_the_known_ones(guests: Path, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"nosuch\.S: no such guest \(there are: .*hello, hlt"):
        GuestLibrary(guests, tmp_path).source("nosuch")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="nowhere: no such folder"):
        GuestLibrary(tmp_path / "nowhere", tmp_path).names()


@pytest.mark.parametrize("name", ["../hlt", "a b", "", "A"])
def test_a_name_is_no_path(guests: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(GuestError, match="no name for a guest"):
        GuestLibrary(guests, tmp_path).source(name)


def test_every_guest_has_its_comment(guests: Path, library: GuestLibrary) -> None:
    assert {"hello", "hlt", "shutdown"} <= set(library.names())
    for name in library.names():
        first, _, _ = (guests / f"{name}.S").read_text().partition("\n")
        assert first == HEADER.strip()
        assert library.source(name).sentence.endswith(".")
