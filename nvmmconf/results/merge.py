# SPDX-License-Identifier: BSD-2-Clause
"""From what the controller and the workers wrote to one result per planned case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nvmmconf.results.errors import ResultsError
from nvmmconf.results.lines import read_lines, read_plan
from nvmmconf.results.records import CaseResult, Ended, Run, Started, Verdict, judged
from nvmmconf.results.summary import most_severe

CONTROLLER_FILE = "controller.jsonl"
"""Name of the controller's file in a run folder."""

_NEVER_STARTED = "planned, but the run ended before it started"


def worker_file(worker: str) -> str:
    """Name of the file of worker `worker` (`gw0`) in a run folder."""
    return f"worker-{worker}.jsonl"


def merge_run(folder: Path, crashed: Mapping[str, str] | None = None) -> Run:
    """The run in `folder`, from its controller and worker files.

    `crashed` maps the id of a case in which the controller saw a worker die
    to what it has to say about it.  A case has the most severe of its ends;
    a start without an end, and a case in `crashed`, count as a CRASH, and a
    case with nothing at all is MISSING.  What follows the last line end of a
    worker's file counts as nothing, as the host may have died in the write.

    Raises ResultsError for a file that cannot be used, and OSError.
    """
    header, plan, rest = read_plan(folder / CONTROLLER_FILE)
    for line in rest:
        raise ResultsError(line.path, line.number, "a controller writes only what it planned")
    histories = {case: _History() for case in plan}
    for path in sorted(folder.glob(worker_file("*"))):
        _read_worker(path, histories)
    crashed = crashed or {}
    results = (
        CaseResult(planned, judged(planned, histories[case].end(case, crashed.get(case))))
        for case, planned in plan.items()
    )
    return Run(header, tuple(results))


@dataclass
class _History:
    """What the workers wrote about one case."""

    ended: list[Ended] = field(default_factory=list)
    unfinished: list[Started] = field(default_factory=list)

    def end(self, case: str, from_controller: str | None) -> Ended:
        """The one end of `case`; `from_controller` is how a worker died in it, if one did."""
        ends = self.ended + [
            Ended(case, started.worker, Verdict.CRASH, 0.0, _crash(started.worker, from_controller))
            for started in self.unfinished
        ]
        if not ends:
            if from_controller is None:
                return Ended(case, "", Verdict.MISSING, 0.0, _NEVER_STARTED)
            return Ended(case, "", Verdict.CRASH, 0.0, _crash("", from_controller))
        worst = most_severe(ends, key=lambda ended: ended.verdict)
        if from_controller is not None and worst.verdict.severity < Verdict.CRASH.severity:
            # It died after the end was written, in the teardown: the evidence
            # is good and stays, but a crash is never shown as a pass.
            message = _crash(worst.worker, from_controller)
            return dataclasses.replace(worst, verdict=Verdict.CRASH, message=message)
        return worst


def _crash(worker: str, from_controller: str | None) -> str:
    message = f"worker {worker} died in this case" if worker else "a worker died in this case"
    return f"{message}: {from_controller}" if from_controller else message


def _read_worker(path: Path, histories: Mapping[str, _History]) -> None:
    in_flight: dict[str, Started] = {}
    for line in read_lines(path, torn_tail=True):
        record = line.record
        if not isinstance(record, Started | Ended):
            raise ResultsError(path, line.number, "a worker writes only starts and ends")
        history = histories.get(record.case)
        if history is None:
            raise ResultsError(path, line.number, f"case {record.case!r} was not planned")
        if isinstance(record, Started):
            in_flight[record.case] = record
        else:
            in_flight.pop(record.case, None)
            history.ended.append(record)
    for case, started in in_flight.items():
        histories[case].unfinished.append(started)
