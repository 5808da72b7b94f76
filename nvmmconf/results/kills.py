# SPDX-License-Identifier: BSD-2-Clause
"""What `nvmmconf faults` found: which case notices which seeded fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvmmconf.results.errors import ResultsError

_FORMAT = 1


@dataclass(frozen=True)
class KilledBy:
    """A case that does not pass with the fault on."""

    case: str
    area: str
    message: str


@dataclass(frozen=True)
class FaultRow:
    """A seeded fault, and the cases that noticed it: none where it survived."""

    fault: str
    summary: str
    cases: int
    seconds: float
    kills: tuple[KilledBy, ...]


@dataclass(frozen=True)
class KillTable:
    """One run of `nvmmconf faults`; `complete` if each fault was given all cases."""

    started_at: str
    complete: bool
    profiles: tuple[str, ...]
    cases: int
    areas: tuple[str, ...]
    faults: tuple[FaultRow, ...]


def read_kills(path: Path) -> KillTable | None:
    """The table in the file `path`, None where there is no file.

    Raises ResultsError for a file that is none of ours.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(path, None, error.strerror or str(error)) from None
    try:
        found = json.loads(content)
        if found["format"] != _FORMAT:
            raise ResultsError(path, None, f"format {found['format']!r}; this reads {_FORMAT}")
        return KillTable(
            str(found["started_at"]),
            bool(found["complete"]),
            tuple(map(str, found["profiles"])),
            int(found["cases"]),
            tuple(map(str, found["areas"])),
            tuple(map(_row, found["faults"])),
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        problem = f"no table of seeded faults: {type(error).__name__}: {error}"
        raise ResultsError(path, None, problem) from None


def _row(found: Any) -> FaultRow:
    return FaultRow(
        str(found["fault"]),
        str(found["summary"]),
        int(found["cases"]),
        float(found["seconds"]),
        tuple(
            KilledBy(str(one["case"]), str(one["area"]), str(one["message"]))
            for one in found["kills"]
        ),
    )
