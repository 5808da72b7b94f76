# SPDX-License-Identifier: BSD-2-Clause
"""Small wrong texts for the hypervisor and for the accelerator, each with who must notice it.

The *.toml files beside this one have them: in `file`, `old` (which is there exactly once) becomes
`new`, which breaks the requirements `rows`; one of `tests` then fails. `what`, where it is said, is
the bug in words. A test is named by its group and its own name: "run hlt", "golden
v2-svm-assist-io-io". What accel*.toml have is Python of the accelerator and its binding (`file` is
under nvmmconf), the others' is C of softnvmm's hypervisor (`file` is under nvmmconf/softnvmm).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = Path("nvmmconf")
SOFT = PACKAGE / "softnvmm"
API = Path("tests") / "softnvmm_api"
ACCEL = Path("tests") / "accel"
# Groups of tests: how pytest names the one whose name goes in place of the braces.
SOFT_GROUPS = {
    **{
        name: f"{API}/test_api.py::test_{name}[plain-{{}}]"
        for name in ("life", "memory", "comm", "contract", "mapping", "run")
    },
    "v1": f"{API}/test_api.py::test_version_1_machine[plain-{{}}]",
    "golden": f"{API}/test_golden.py::test_golden[plain-{{}}]",
    "ideal": f"{API}/test_golden.py::test_ideal_differs_where_listed_only[plain-{{}}]",
    "kernel": f"{API}/test_golden_kernel.py::test_golden_kernel[plain-{{}}]",
    "rows": f"{API}/test_profile_rows.py::"
    "test_profile_is_ideal_but_for_quirks_and_rows[{}-plain]",
    "needed": f"{API}/test_profile_rows.py::test_no_row_can_be_left_out[{{}}-plain]",
    "threads": f"{API}/test_threads.py::test_threads[plain-{{}}]",
}
ACCEL_GROUPS = {
    file.stem.removeprefix("test_accel_"): f"{ACCEL}/{file.name}::test_{{}}"
    for file in sorted((ROOT / ACCEL).glob("test_accel_*.py"))
}


class Part(Enum):
    """What a mutant is of."""

    SOFTNVMM = "softnvmm"
    """C: built before its tests are asked."""
    ACCEL = "accel"
    """Python: used as it is."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return SOFT if self is Part.SOFTNVMM else PACKAGE

    @property
    def groups(self) -> dict[str, str]:
        """Its groups of tests."""
        return SOFT_GROUPS if self is Part.SOFTNVMM else ACCEL_GROUPS

    @classmethod
    def of(cls, stem: str) -> Part:
        """The part that a list's mutants are of."""
        return cls.ACCEL if stem.startswith("accel") else cls.SOFTNVMM


@dataclass(frozen=True)
class Mutant:
    """One wrong text; `where` says which one it is, to people, and `what` which bug."""

    where: str
    file: str
    rows: tuple[str, ...]
    tests: tuple[str, ...]
    old: str
    new: str
    part: Part = Part.SOFTNVMM
    what: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.where}{self.what and ': '}{self.what}"

    @property
    def path(self) -> Path:
        """The file, from the tree's root."""
        return self.part.folder / self.file

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
        return [node(test, self.where, self.part) for test in self.tests]


def node(test: str, where: str, part: Part = Part.SOFTNVMM) -> str:
    group, _, name = test.partition(" ")
    if group not in part.groups:
        raise ValueError(f"{where}: there is no group of tests '{group}'")
    return part.groups[group].format(name)


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
                    part=Part.of(path.stem),
                    what=entry.get("what", ""),
                )
            )
    return found
