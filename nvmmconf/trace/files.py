# SPDX-License-Identifier: BSD-2-Clause
"""Traces in files: JSON Lines, a head and then a line an exit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvmmconf.trace.encode import decode_event, decode_exit, encode_event, encode_exit
from nvmmconf.trace.recorder import TracedExit

FORMAT = "nvmmconf trace"
VERSION = 1


class TraceFileError(Exception):
    """A file is no trace, or of a version that is not known here."""


@dataclass(frozen=True)
class SavedTrace:
    """What a file holds: the exits that were kept, and how many older ones were not."""

    exits: tuple[TracedExit, ...]
    dropped: int


def save_trace(path: Path, exits: Iterable[TracedExit], dropped: int = 0) -> None:
    """Write a trace; whole or not at all."""
    head = {"format": FORMAT, "version": VERSION, "dropped": dropped}
    rows = [json.dumps(head), *(json.dumps(_encode(traced)) for traced in exits)]
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        beside.write_text("\n".join(rows) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_trace(path: Path) -> SavedTrace:
    """Read a trace.  Raises TraceFileError with file and line, OSError."""
    exits: list[TracedExit] = []
    dropped: int | None = None
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            try:
                row = json.loads(text)
                if dropped is None:
                    dropped = _head(row)
                else:
                    exits.append(_decode(row))
            except (KeyError, TypeError, ValueError) as error:
                raise TraceFileError(f"{path}, line {number}: not a trace's: {error}") from error
    if dropped is None:
        raise TraceFileError(f"{path}: empty, so no trace")
    return SavedTrace(tuple(exits), dropped)


def _head(row: dict[str, Any]) -> int:
    if row["format"] != FORMAT:
        raise ValueError(f"format {row['format']!r}")
    if row["version"] != VERSION:
        raise ValueError(f"version {row['version']!r}; {VERSION} is known")
    return int(row["dropped"])


def _encode(traced: TracedExit) -> dict[str, Any]:
    return {
        "sequence": traced.sequence,
        "vcpu": traced.vcpu,
        "rip": traced.rip,
        "exit": encode_exit(traced.exit),
        "time": traced.time,
        "event": encode_event(traced.event),
        "changed": None if traced.changed is None else dict(traced.changed),
    }


def _decode(row: dict[str, Any]) -> TracedExit:
    return TracedExit(
        sequence=row["sequence"],
        vcpu=row["vcpu"],
        rip=row["rip"],
        exit=decode_exit(row["exit"]),
        time=row["time"],
        event=decode_event(row["event"]),
        changed=row["changed"],
    )
