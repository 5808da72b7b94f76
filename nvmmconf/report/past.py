# SPDX-License-Identifier: BSD-2-Clause
"""A run beside earlier ones: what each result stands to, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nvmmconf.results import Run, Verdict
from nvmmconf.results.changes import Change, Kind, Standing, changed, standing
from nvmmconf.results.history import History, Outcome, PastRun

WINDOW = 10
"""Earlier runs that a result is held against."""


@dataclass(frozen=True)
class Before:
    """The newest earlier verdict of a case, and the run that it is from."""

    run_id: str
    verdict: Verdict


@dataclass(frozen=True)
class ChangedResult:
    """A result that differs from the newest earlier one of the same case."""

    case: str
    change: Change
    verdict: Verdict
    before: Before | None


@dataclass(frozen=True)
class Past:
    """What earlier runs say of a run; `baseline` is the newest of them, None if there is none.

    `standings` has the results that are not simply as expected, `gone` the cases that
    the baseline had on the same targets, in the same areas.
    """

    baseline: PastRun | None = None
    standings: Mapping[str, Standing] = field(default_factory=dict)
    changes: tuple[ChangedResult, ...] = ()
    gone: tuple[str, ...] = ()

    def of(self, change: Change) -> tuple[ChangedResult, ...]:
        """The results that changed so."""
        return tuple(one for one in self.changes if one.change is change)


def window(run: PastRun, runs: Sequence[PastRun]) -> tuple[PastRun, ...]:
    """The runs that `run` is held against, newest first, of `runs`, newest first.

    Those that are older, have a target in common, and no seeded faults: a
    fault says nothing of an NVMM, and what fails by one is a regression.
    """
    position = next(
        (n for n, one in enumerate(runs) if one.header.run_id == run.header.run_id), len(runs)
    )
    mine = {target.name for target in run.header.targets}
    older = (one for one in runs[position + 1 :] if not one.header.faults)
    found = [one for one in older if mine & {target.name for target in one.header.targets}]
    return tuple(found[:WINDOW])


def past_of(run: Run, earlier: Sequence[PastRun], history: History) -> Past:
    """What `earlier`, newest first, says of `run`."""
    oldest_first = [one.header.run_id for one in reversed(earlier)]
    verdicts = history.verdicts(oldest_first)
    standings: dict[str, Standing] = {}
    changes = []
    for result in run.results:
        case, verdict = result.planned.case, result.ended.verdict
        entries = [(oldest_first[position], was) for position, was in verdicts.get(case, ())]
        # A run that never came to the case tells less than one before it that did.
        line = [entry for entry in entries if entry[1] is not Verdict.MISSING] or entries
        found = standing(verdict, result.planned.known, line)
        if found.kind is not Kind.EXPECTED:
            standings[case] = found
        if not earlier:
            continue
        before = Before(*line[-1]) if line else None
        change = changed(Outcome(before.verdict) if before else None, Outcome(verdict))
        if change is not None:
            changes.append(ChangedResult(case, change, verdict, before))
    baseline = earlier[0] if earlier else None
    return Past(baseline, standings, tuple(changes), _gone(run, baseline, verdicts, oldest_first))


def _gone(
    run: Run,
    baseline: PastRun | None,
    verdicts: Mapping[str, Sequence[tuple[int, Verdict]]],
    oldest_first: Sequence[str],
) -> tuple[str, ...]:
    if baseline is None:
        return ()
    planned = {result.planned.case for result in run.results}
    places = {(result.planned.area, result.planned.target) for result in run.results}
    newest = len(oldest_first) - 1
    return tuple(
        sorted(
            case
            for case, line in verdicts.items()
            if line[-1][0] == newest
            and case not in planned
            and (case.partition("/")[0], case.rpartition("@")[2]) in places
        )
    )
