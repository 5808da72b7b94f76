# SPDX-License-Identifier: BSD-2-Clause
"""docs/coverage-of-peers.md names cases that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"`(\w+/[^`]+)`")
_LIST = "import sys; from nvmmconf.cli import main; sys.exit(main(['list']))"


def test_every_case_named_exists() -> None:
    text = (REPOSITORY / "docs" / "coverage-of-peers.md").read_text()
    done = subprocess.run(
        [sys.executable, "-c", _LIST], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    cases = {line.split("\t")[0] for line in done.stdout.splitlines()}
    named = _NAME.findall(text)
    assert len(named) > 80
    missing = [
        name
        for name in named
        if not (
            any(case.startswith(name[:-1]) for case in cases)
            if name.endswith("*")
            else name in cases
        )
    ]
    assert not missing


def test_every_test_of_the_peers_has_a_row() -> None:
    """12 of I/O, 20 of memory in 64-bit mode, 7 in real mode, 2 others."""
    text = (REPOSITORY / "docs" / "coverage-of-peers.md").read_text()
    _, *parts = text.split("\n## ")
    rows = [[line for line in part.splitlines() if line.startswith("| ")][2:] for part in parts]
    assert [len(one) for one in rows[:4]] == [12, 20, 7, 2]
