# SPDX-License-Identifier: BSD-2-Clause
"""The files of finished runs.

A run has a folder `reports/runs/<run_id>/` with these files of records, one
on a line:

`controller.jsonl`
    the header, then what was planned
`worker-<id>.jsonl`
    what each worker started and ended, as it happened
`run.jsonl`
    all of it, merged: header, planned, ended, both in plan order
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nvmmconf.results.atomic import write_atomically
from nvmmconf.results.codec import encode
from nvmmconf.results.errors import ResultsError
from nvmmconf.results.lines import read_plan
from nvmmconf.results.merge import CONTROLLER_FILE, merge_run
from nvmmconf.results.records import CaseResult, Ended, Run

RUN_FILE = "run.jsonl"
"""Name of the merged file in a run folder."""

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z]{1,32}", re.ASCII)
"""What the id of a run looks like; it is the name of its folder."""


def save_run(run: Run, folder: Path) -> Path:
    """Write `run` to `folder`, made if need be, as its `run.jsonl`; returns that path.

    The file is replaced whole or not at all.  Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN_FILE
    write_atomically(path, b"".join(run_lines(run)))
    return path


def run_lines(run: Run) -> Iterator[bytes]:
    """The lines of `run` as a file: header, planned, ended."""
    yield encode(run.header)
    for result in run.results:
        yield encode(result.planned)
    for result in run.results:
        yield encode(result.ended)


def load_run(path: Path) -> Run:
    """The run in the file `path`, or in the run folder `path`.

    A folder whose run died before it was merged is merged here, in memory.
    Raises ResultsError for a file that is foreign, half-written, or of
    another format.
    """
    if path.is_dir():
        if not (path / RUN_FILE).exists() and (path / CONTROLLER_FILE).exists():
            return merge_run(path)
        path = path / RUN_FILE
    header, plan, rest = read_plan(path)
    ends: dict[str, Ended] = {}
    for line in rest:
        if not isinstance(line.record, Ended):
            raise ResultsError(path, line.number, "after the plan a run has only ends")
        case = line.record.case
        if case not in plan:
            raise ResultsError(path, line.number, f"case {case!r} was not planned")
        if case in ends:
            raise ResultsError(path, line.number, f"case {case!r} ends twice")
        ends[case] = line.record
    if len(ends) < len(plan):
        without = len(plan) - len(ends)
        raise ResultsError(path, None, f"half-written: {without} planned cases have no end")
    return Run(header, tuple(CaseResult(plan[case], ends[case]) for case in plan))


def find_runs(reports_dir: Path) -> list[Path]:
    """The run folders in `reports_dir/runs`, newest first; what is none is passed over.

    Raises OSError.
    """
    folder = reports_dir / "runs"
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if RUN_ID.fullmatch(path.name))
    runs = [p for p in found if (p / RUN_FILE).exists() or (p / CONTROLLER_FILE).exists()]
    return sorted(runs, key=lambda path: path.name, reverse=True)
