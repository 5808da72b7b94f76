# SPDX-License-Identifier: BSD-2-Clause
"""The requirement table: every id that a case, a test or a comment may cite."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("requirements.csv")


@dataclass(frozen=True)
class Requirement:
    """One row: what is promised, under which heading of which document.

    Ids begin with A (the accelerator), K (the kernel) or L (libnvmm).  `source`
    names the document and, in brackets, what it says of the row's kind or origin.
    """

    id: str
    area: str
    text: str
    source: str


class UnknownRequirementError(ValueError):
    """An id that the table does not have."""


@cache
def requirements() -> Mapping[str, Requirement]:
    """Return the table by id, in the documents' order."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return {row["id"]: Requirement(**row) for row in csv.DictReader(file)}


def requirement_row(identifier: str) -> Requirement:
    """Return the row of `identifier`; raises UnknownRequirementError, with near ids."""
    try:
        return requirements()[identifier]
    except KeyError:
        near = difflib.get_close_matches(identifier, requirements(), n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise UnknownRequirementError(f"no requirement {identifier!r}{hint}") from None
