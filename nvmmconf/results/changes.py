# SPDX-License-Identifier: BSD-2-Clause
"""What changed between runs: pure functions over verdicts."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nvmmconf.results.history import Outcome
from nvmmconf.results.records import Verdict

_FLIPS = 3
"""Changes between as required and not, from which a case counts as intermittent."""


class Change(enum.Enum):
    """How a case differs from before."""

    REGRESSION = "regression"
    """It was as required, and is not."""
    FIX = "fix"
    """It was not as required, and is."""
    NEW = "new"
    """It was not there before."""
    GONE = "gone"
    """It was there before."""
    OTHER = "other"
    """Another verdict, as good or as bad."""


@dataclass(frozen=True)
class Changed:
    """A case that differs; `before` or `after` is None where it was, or is, not there."""

    case: str
    change: Change
    before: Outcome | None
    after: Outcome | None


def compare(before: Mapping[str, Outcome], after: Mapping[str, Outcome]) -> tuple[Changed, ...]:
    """What differs, in the order of `after`, then what is gone."""
    found = []
    for case, outcome in after.items():
        change = changed(before.get(case), outcome)
        if change is not None:
            found.append(Changed(case, change, before.get(case), outcome))
    found += [
        Changed(case, Change.GONE, outcome, None)
        for case, outcome in before.items()
        if case not in after
    ]
    return tuple(found)


def changed(before: Outcome | None, after: Outcome) -> Change | None:
    """How one case differs; None where its verdict is what it was."""
    if before is None:
        return Change.NEW
    if before.verdict is after.verdict:
        return None
    if before.verdict.is_good != after.verdict.is_good:
        return Change.FIX if after.verdict.is_good else Change.REGRESSION
    return Change.OTHER


class Kind(enum.Enum):
    """How a verdict stands to what was expected and to earlier runs."""

    EXPECTED = "as expected"
    KNOWN = "known"
    REGRESSION = "regression"
    FIXED = "fixed"
    NEVER = "never passed"
    INTERMITTENT = "intermittent"
    UNEXPECTED = "not as expected"


@dataclass(frozen=True)
class Standing:
    """That, in words."""

    kind: Kind
    words: str


_AS_EXPECTED = Standing(Kind.EXPECTED, "as expected")


def standing(verdict: Verdict, known: str, earlier: Sequence[tuple[str, Verdict]]) -> Standing:
    """How `verdict` stands to `earlier`: run ids with their verdicts, oldest first.

    The run named is the newest in which the case was otherwise.  A run that
    never came to the case (`missing`) says nothing of it.
    """
    past = [(run, was.is_good) for run, was in earlier if was is not Verdict.MISSING]
    good = verdict.is_good
    if verdict is Verdict.KNOWN:
        return Standing(Kind.KNOWN, f"known ({known})")
    if verdict is Verdict.FIXED:
        return Standing(Kind.UNEXPECTED, f"unexpected pass ({known})")
    if good and all(was for _, was in past):
        return _AS_EXPECTED
    line = [*(was for _, was in past), good]
    if sum(a != b for a, b in pairwise(line)) >= _FLIPS:
        bad = line.count(False)
        return Standing(Kind.INTERMITTENT, f"intermittent: {bad} of {len(line)} runs failed")
    other = [run for run, was in past if was != good]
    if good:
        if past[-1][1]:
            return _AS_EXPECTED
        return Standing(Kind.FIXED, f"fixed since {other[-1]}")
    if other:
        return Standing(Kind.REGRESSION, f"regression since {other[-1]}")
    if past:
        return Standing(Kind.NEVER, "never passed")
    return Standing(Kind.UNEXPECTED, "not as expected")
