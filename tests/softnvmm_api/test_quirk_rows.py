# SPDX-License-Identifier: BSD-2-Clause
"""Every row of the specification that names a deviation has its quirk, or says why it has none.

quirk_rows.csv: rows of libnvmm.md marked Q, rows of nvmm-kernel.md 14.1, and the defects of the bug
history, parts A to F, that NetBSD 10 still has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_quirks import play, quirks

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent.parent.parent / "shared" / "spec"
# Words of the bug history's "fixed" column for what was not fixed when NetBSD 10 was made.
OPEN = re.compile(
    "NB10|not fixed|open|known issue|by design|several|piecewise|later|part|202[3-6]|review"
)
# Of other tables of nvmm-kernel.md (8.2, 10, 14.2).
NO_ROW = {"no-decode-assists", "excp-21-no-error-code", "cr8-64-bits"}


def rows() -> list[tuple[str, list[str], str]]:
    with (HERE / "quirk_rows.csv").open(newline="") as file:
        return [(row["id"], row["quirks"].split(), row["note"]) for row in csv.DictReader(file)]


def test_every_row_is_there_once() -> None:
    names = [name for name, _, _ in rows()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("name", "named", "note"), rows())
def test_a_row_has_a_quirk_or_a_reason(name: str, named: list[str], note: str) -> None:
    assert named or note, f"{name} is mapped to nothing"
    assert set(named) <= set(quirks())


def test_every_quirk_comes_from_a_row() -> None:
    assert {quirk for _, named, _ in rows() for quirk in named} | NO_ROW == set(quirks())


def test_the_library_lists_every_quirk_named(client: Callable[..., Path], tmp_path: Path) -> None:
    """nvmm_soft_list(), as `profiles` prints it: what some real profile has."""
    _, shown = play(client("quirks_kernel.c"), "profiles", "", "", tmp_path)
    listed = {line.split()[1] for line in shown.splitlines() if " version " not in line}
    of_no_profile = {"int-n-runs-twice", "cr8-above-15-spills"}
    assert {quirk for _, named, _ in rows() for quirk in named} - listed == of_no_profile


def library_rows(text: str) -> set[str]:
    return {
        name
        for name, kinds in re.findall(r"^\| (L-[A-Z]+-\w+) \|.*\| ([A-Z, ]+) \|$", text, re.M)
        if "Q" in kinds
    }


def kernel_rows(text: str) -> set[str]:
    section = text[text.index("### 14.1 ") : text.index("### 14.2 ")]
    numbers = [int(n) for n in re.findall(r"(?:^|(?<=\. ))(\d+)\. (?=\S)", section, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    return {f"14.1-{n}" for n in numbers}


def open_defects(text: str) -> set[str]:
    parts = text[text.index("## A. ") : text.index("## G. ")]
    cells = [line.split("|") for line in parts.splitlines() if line.startswith("| BH-")]
    return {cell[1].strip() for cell in cells if OPEN.search(cell[3])}


@pytest.mark.skipif(not SPEC.is_dir(), reason="the specification is not beside the checkout")
def test_no_row_of_the_specification_is_forgotten() -> None:
    want = (
        library_rows((SPEC / "libnvmm.md").read_text())
        | kernel_rows((SPEC / "nvmm-kernel.md").read_text())
        | open_defects((SPEC / "bug-history.md").read_text())
    )
    assert {name for name, _, _ in rows()} == want
