# SPDX-License-Identifier: BSD-2-Clause
"""Reading a file of records, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvmmconf.results.codec import Record, RecordError, decode
from nvmmconf.results.errors import ResultsError
from nvmmconf.results.records import Planned, RunHeader


@dataclass(frozen=True)
class Line:
    """A record and where it stood; `number` counts from 1."""

    path: Path
    number: int
    record: Record


def read_lines(path: Path, *, torn_tail: bool = False) -> Iterator[Line]:
    """The records in `path`, in order.

    `torn_tail` lets pass what follows the last line end.  Raises ResultsError
    for anything else that is no record, and for a file that cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultsError(path, None, error.strerror or str(error)) from None
    *lines, tail = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = decode(line)
        except RecordError as error:
            raise ResultsError(path, number, str(error)) from None
        yield Line(path, number, record)
    if tail and not torn_tail:
        raise ResultsError(path, len(lines) + 1, "half-written: the last line has no end")


def read_plan(path: Path) -> tuple[RunHeader, dict[str, Planned], Iterator[Line]]:
    """The header, the planned cases by id in plan order, and the lines after them.

    Raises ResultsError as `read_lines` does, for a file that does not begin
    with a header, and for a case that is planned twice.  A torn tail is an
    error: a plan that lost a case would hide that it never ran.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise ResultsError(path, None, "empty: not even the header of a run was written")
    if not isinstance(first.record, RunHeader):
        raise ResultsError(path, first.number, "the first record is no header of a run")
    plan: dict[str, Planned] = {}
    for line in lines:
        if not isinstance(line.record, Planned):
            return first.record, plan, _chain(line, lines)
        if line.record.case in plan:
            raise ResultsError(path, line.number, f"case {line.record.case!r} is planned twice")
        plan[line.record.case] = line.record
    return first.record, plan, iter(())


def _chain(line: Line, lines: Iterator[Line]) -> Iterator[Line]:
    yield line
    yield from lines
