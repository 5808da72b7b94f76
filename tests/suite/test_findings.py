# SPDX-License-Identifier: BSD-2-Clause
"""docs/findings.md, docs/bug-history-coverage.md, expectations of version 2 and cases agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from nvmmconf.suite.expectations import Known

REPOSITORY = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"`(\w+/[^`]+)`")
_LIST = "import sys; from nvmmconf.cli import main; sys.exit(main(['list']))"


@cache
def _cases() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LIST], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


def _named(document: str) -> set[str]:
    text = (REPOSITORY / "docs" / document).read_text()
    tables = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    return set(_NAME.findall(tables))


def _expected() -> set[str]:
    files = [REPOSITORY / "expectations" / f"v2-{vendor}.toml" for vendor in ("svm", "vmx")]
    return {one["case"] for file in files for one in tomllib.loads(file.read_text())["known"]}


def test_each_known_failure_of_version_2_is_a_finding() -> None:
    missing = _expected() - _named("findings.md")
    assert not missing, "add them to a row of docs/findings.md, or a row for them"


def test_each_finding_is_a_known_failure_of_version_2() -> None:
    named = _named("findings.md")
    assert len(named) > 100
    assert not named - _expected(), "version 2 does not fail them (any more)"


@pytest.mark.parametrize("document", ["findings.md", "bug-history-coverage.md"])
def test_each_case_named_exists(document: str) -> None:
    named = _named(document)
    assert len(named) > 50
    patterns = {name: Known(name, "a reason") for name in named}
    lost = [n for n, one in patterns.items() if not any(one.matches(case) for case in _cases())]
    assert not lost


def test_each_row_of_the_history_has_a_case_or_a_reason() -> None:
    """Parts A to F of the bug history: BH-1 to BH-94, and those with a letter."""
    text = (REPOSITORY / "docs" / "bug-history-coverage.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| BH-")]
    numbers = {int(re.match(r"\| BH-(\d+)", row)[1]) for row in rows}  # type: ignore[index]
    assert set(range(1, 96)) <= numbers
    for row in rows:
        name, _, cases = row.strip("| ").split(" | ", 2)
        assert _NAME.match(cases) or re.match(r"none: .{10}", cases), name
