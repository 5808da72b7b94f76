# SPDX-License-Identifier: BSD-2-Clause
"""Small wrong texts for softnvmm's hypervisor, each with the tests that must notice it.

The *.toml files beside this one have them: in `file` of nvmmconf/softnvmm, `old` (which is there
exactly once) becomes `new`, which breaks the requirements `rows`; one of `tests` then fails. A test
is named by its group and its own name: "run hlt", "golden v2-svm-assist-io-io".
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOFT = Path("nvmmconf") / "softnvmm"
API = Path("tests") / "softnvmm_api"
# Groups of tests: how pytest names the one whose name goes in place of the braces.
GROUPS = {
    **{
        name: f"test_api.py::test_{name}[plain-{{}}]"
        for name in ("life", "memory", "comm", "contract", "mapping", "run")
    },
    "v1": "test_api.py::test_version_1_machine[plain-{}]",
    "golden": "test_golden.py::test_golden[plain-{}]",
    "ideal": "test_golden.py::test_ideal_differs_where_listed_only[plain-{}]",
    "kernel": "test_golden_kernel.py::test_golden_kernel[plain-{}]",
    "rows": "test_profile_rows.py::test_profile_is_ideal_but_for_quirks_and_rows[{}-plain]",
    "needed": "test_profile_rows.py::test_no_row_can_be_left_out[{}-plain]",
    "threads": "test_threads.py::test_threads[plain-{}]",
}


@dataclass(frozen=True)
class Mutant:
    """One wrong text; `where` says which one it is, to people."""

    where: str
    file: str
    rows: tuple[str, ...]
    tests: tuple[str, ...]
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The file's text with the mutant in it.

        Raises ValueError where the old text is not there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.where}: the old text is {count} times in {self.file}")
        return text.replace(self.old, self.new)

    def nodes(self) -> list[str]:
        """The tests' names for pytest.

        Raises ValueError for a group that does not exist.
        """
        return [node(test, self.where) for test in self.tests]


def node(test: str, where: str) -> str:
    group, _, name = test.partition(" ")
    if group not in GROUPS:
        raise ValueError(f"{where}: there is no group of tests '{group}'")
    return f"{API}/{GROUPS[group].format(name)}"


def read() -> list[Mutant]:
    """All of them, in the order of the files."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        with path.open("rb") as file:
            entries = tomllib.load(file)["mutant"]
        for number, entry in enumerate(entries, 1):
            rows = tuple(entry["rows"])
            found.append(
                Mutant(
                    where=f"{path.stem} {number} ({', '.join(rows)})",
                    file=entry["file"],
                    rows=rows,
                    tests=tuple(entry["tests"]),
                    old=entry["old"],
                    new=entry["new"],
                )
            )
    return found
