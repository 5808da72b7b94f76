# SPDX-License-Identifier: BSD-2-Clause
"""What changed between runs, and the words for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.results import Verdict
from nvmmconf.results.changes import Change, Kind, compare, standing
from nvmmconf.results.history import Outcome

P, F, M = Verdict.PASS, Verdict.FAIL, Verdict.MISSING


def line(*verdicts: Verdict) -> list[tuple[str, Verdict]]:
    """Runs r1, r2, ... oldest first."""
    return [(f"r{number}", verdict) for number, verdict in enumerate(verdicts, start=1)]


@pytest.mark.parametrize(
    ("earlier", "verdict", "words"),
    [
        ((), P, "as expected"),
        ((), F, "not as expected"),
        ((P, P), P, "as expected"),
        ((P, P), F, "regression since r2"),
        ((P, F), F, "regression since r1"),
        ((P, M), F, "regression since r1"),
        ((F, F), F, "never passed"),
        ((F, F), P, "fixed since r2"),
        ((F, P), P, "as expected"),
        ((P, F, P), F, "intermittent: 2 of 4 runs failed"),
        ((F, P, F), P, "intermittent: 2 of 4 runs failed"),
        ((M, M), F, "not as expected"),
        ((P,), Verdict.HANG, "regression since r1"),
        ((Verdict.UNSUPPORTED,), Verdict.CRASH, "regression since r1"),
    ],
)
def test_standing(earlier: tuple[Verdict, ...], verdict: Verdict, words: str) -> None:
    assert standing(verdict, "", line(*earlier)).words == words


@given(st.lists(st.sampled_from(Verdict), max_size=6))
def test_what_is_known_says_why_whatever_was(earlier: list[Verdict]) -> None:
    found = standing(Verdict.KNOWN, "BH-1", line(*earlier))
    assert (found.kind, found.words) == (Kind.KNOWN, "known (BH-1)")
    assert standing(Verdict.FIXED, "BH-1", line(*earlier)).words == "unexpected pass (BH-1)"


@given(st.sampled_from(Verdict), st.lists(st.sampled_from(Verdict), max_size=8))
def test_good_is_never_called_worse_and_bad_never_as_expected(
    verdict: Verdict, earlier: list[Verdict]
) -> None:
    kind = standing(verdict, "why", line(*earlier)).kind
    if verdict.is_good:
        assert kind not in (Kind.REGRESSION, Kind.NEVER, Kind.UNEXPECTED)
    else:
        assert kind not in (Kind.EXPECTED, Kind.FIXED, Kind.KNOWN)


outcomes = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from(Verdict).map(Outcome), max_size=6
)


@given(outcomes, outcomes)
def test_comparing_is_a_partition_and_turns_round(
    before: dict[str, Outcome], after: dict[str, Outcome]
) -> None:
    there = {one.case: one.change for one in compare(before, after)}
    back = {one.case: one.change for one in compare(after, before)}
    opposite = {
        Change.REGRESSION: Change.FIX,
        Change.FIX: Change.REGRESSION,
        Change.NEW: Change.GONE,
        Change.GONE: Change.NEW,
        Change.OTHER: Change.OTHER,
    }
    assert back == {case: opposite[change] for case, change in there.items()}
    for case in before.keys() | after.keys():
        if case not in there:
            assert before[case].verdict is after[case].verdict
    for case, change in there.items():
        if change is Change.REGRESSION:
            assert before[case].verdict.is_good
            assert not after[case].verdict.is_good
