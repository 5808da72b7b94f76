# SPDX-License-Identifier: BSD-2-Clause
"""The table of what a backend or a version has otherwise than "ideal", beside the quirks.

profile_rows.csv: `row` names the specification's row (kernel 14.2 and 14.3, or what these sum up),
`profiles` has it. In the scenarios and fields that `scenario` and `field` (regular expressions)
match, the bits of `mask` may be `ideal` there and `profile` here, `*` being anything. With the mask
`rest` nothing is compared from that field on: the guest goes another way. A row without a field
cannot be seen so, and `note` says why.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .transcript import Field

TABLE = Path(__file__).resolve().parent / "profile_rows.csv"
PROFILES = ("v1-svm", "v1-vmx", "v2-svm", "v2-vmx", "v3-svm", "v3-vmx")
ALL = ~0
MASKS = {"all": ALL, "rest": None}


def named(words: str) -> frozenset[str]:
    """Profiles by what they have in common: "vmx", "v1", "v3-svm"."""
    found: set[str] = set()
    for word in words.split():
        some = {name for name in PROFILES if word == name or word in name.split("-")}
        if not some:
            raise ValueError(f"{TABLE.name}: there is no profile '{word}'")
        found |= some
    return frozenset(found)


def number(text: str) -> int | None:
    return None if text == "*" else int(text, 16)


@dataclass(frozen=True)
class Row:
    """A line of the table; `mask` is None where nothing is compared any more."""

    name: str
    profiles: frozenset[str]
    scenario: re.Pattern[str]
    field: re.Pattern[str]
    mask: int | None
    ideal: int | None
    profile: int | None

    def allows(self, there: Field, here: Field) -> bool:
        """Whether this field differs as this row says, ideal `there` and the profile `here`."""
        return there.path == here.path and self.shows(here) and holds(self.ideal, there, self.mask)

    def ends(self, there: Field, here: Field) -> bool:
        """Whether the profile goes another way from here on; ideal may be elsewhere already."""
        return (
            self.mask is None
            and self.shows(here)
            and (there.path != here.path or holds(self.ideal, there, self.mask))
        )

    def shows(self, here: Field) -> bool:
        return self.field.fullmatch(here.path) is not None and holds(self.profile, here, self.mask)


def holds(want: int | None, field: Field, mask: int | None) -> bool:
    return want is None or field.value & (ALL if mask is None else mask) == want


@dataclass(frozen=True)
class Unseen:
    """A row of the specification that no scenario can show, and why."""

    name: str
    note: str


def read() -> tuple[list[Row], list[Unseen]]:
    rows: list[Row] = []
    unseen: list[Unseen] = []
    with TABLE.open(newline="") as file:
        for line in csv.DictReader(file):
            if not line["field"]:
                unseen.append(Unseen(line["row"], line["note"]))
                continue
            mask = line["mask"]
            rows.append(
                Row(
                    name=line["row"],
                    profiles=named(line["profiles"]),
                    scenario=re.compile(line["scenario"] or ".*"),
                    field=re.compile(line["field"]),
                    mask=MASKS[mask] if mask in MASKS else int(mask, 16),
                    ideal=number(line["ideal"]),
                    profile=number(line["profile"]),
                )
            )
    return rows, unseen


def differences(ideal: Sequence[Field], here: Sequence[Field], rows: Sequence[Row]) -> list[str]:
    """What differs and no row allows, as lines to read; rows must be those of the scenario."""
    lines: list[str] = []
    for a, b in zip(ideal, here, strict=False):
        if any(row.ends(a, b) for row in rows):
            return lines
        if a.path != b.path:
            return [*lines, f"{a.path} there, {b.path} here"]
        free = 0
        for row in rows:
            if row.mask is not None and row.allows(a, b):
                free |= row.mask
        if (a.value ^ b.value) & ~free:
            lines.append(f"{a.path}: {a.value:#x} there, {b.value:#x} here")
    if len(ideal) != len(here):
        lines.append(f"{len(ideal)} fields there, {len(here)} here")
    return lines
