# SPDX-License-Identifier: BSD-2-Clause
"""The requirement table, and that it is what the specifications say."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from nvmmconf.requirements import (
    Requirement,
    UnknownRequirementError,
    extract,
    requirement_row,
    requirements,
)
from nvmmconf.requirements.table import FILE

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT.parent / "shared" / "spec"


def rows() -> list[dict[str, str]]:
    with FILE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_accelerators_rows_are_all_there() -> None:
    """85 of them: each section numbers its own from 1 without a gap."""
    ids = [name for name in requirements() if name.startswith("A-")]
    assert len(ids) == 85
    numbers: dict[str, list[int]] = {}
    for name in ids:
        section, _, number = name.rpartition("-")
        numbers.setdefault(section, []).append(int(number))
    assert numbers == {section: list(range(1, len(n) + 1)) for section, n in numbers.items()}
    assert {section: len(n) for section, n in numbers.items()} == {
        "A-INIT": 6,
        "A-VCPU": 9,
        "A-REG": 13,
        "A-SYNC": 5,
        "A-EVT": 4,
        "A-PRE": 9,
        "A-POST": 2,
        "A-EXIT": 12,
        "A-MSR": 8,
        "A-CB": 2,
        "A-LOOP": 7,
        "A-MEM": 8,
    }


def test_ids_are_unique() -> None:
    """In the file: a mapping would hide the second."""
    ids = [row["id"] for row in rows()]
    assert len(ids) == len(set(ids)) == len(requirements())


def test_every_row_is_complete_and_plain() -> None:
    for row in requirements().values():
        assert re.fullmatch(r"[AKL]-[A-Z]+-\d+[a-z]?", row.id)
        assert row.area, row
        assert row.text, row
        assert row.source, row
        assert row.text == row.text.strip()
        assert not set("*`") & set(row.area + row.source), row
        assert "**" not in row.text, row


def test_a_row() -> None:
    assert requirement_row("A-EXIT-7") == Requirement(
        "A-EXIT-7",
        "Exits",
        "SHUTDOWN: asks the machine for a guest reset; leaves with an interrupt.",
        "accelerator",
    )
    assert requirement_row("L-VCPU-2").source == "libnvmm (K, Q)"


@pytest.mark.parametrize(("wrong", "near"), [("A-EXIT-66", "A-EXIT-6"), ("K-HTL-1", "K-HLT-1")])
def test_an_unknown_id_names_near_ones(wrong: str, near: str) -> None:
    with pytest.raises(UnknownRequirementError) as raised:
        requirement_row(wrong)
    assert str(raised.value).startswith(f"no requirement {wrong!r}; near: ")
    assert near in str(raised.value).split("near: ")[1].split(", ")
    assert isinstance(raised.value, ValueError)


def test_an_unknown_id_that_resembles_nothing() -> None:
    with pytest.raises(UnknownRequirementError, match=r"^no requirement 'zzzzzz'$"):
        requirement_row("zzzzzz")


# ---- where it comes from -----------------------------------------------------------

DOCUMENT = """\
# Title
## 4.6a Some `area` of it
| id | fact | kind |
| --- | --- | --- |
| K-ABC-1 | **Bold** and `code` with a \\| bar. | C |
| K-ABC-2a | Second. | K, Q |
| not an id | K-ABC-9 | C |
Text that cites K-ABC-8.
### 3.1 Below
| A-EXIT-3 | MEMORY | does `this`. |
| A-INIT-1 | Only text. |
"""


def test_extraction(tmp_path: Path) -> None:
    file = tmp_path / "sample.md"
    file.write_text(DOCUMENT)
    assert list(extract.rows(file)) == [
        Requirement("K-ABC-1", "Some area of it", "Bold and code with a \\| bar.", "sample (C)"),
        Requirement("K-ABC-2a", "Some area of it", "Second.", "sample (K, Q)"),
        Requirement("A-EXIT-3", "Below", "MEMORY: does this.", "sample"),
        Requirement("A-INIT-1", "Below", "Only text.", "sample"),
    ]


def test_the_table_is_what_extraction_makes_of_the_specifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SPEC.is_dir():
        pytest.skip("no specifications beside this checkout (../shared/spec)")
    made = tmp_path / "made.csv"
    monkeypatch.setattr(extract, "FILE", made)
    extract.main(SPEC)
    assert made.read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8")
