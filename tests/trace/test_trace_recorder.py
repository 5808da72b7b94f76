# SPDX-License-Identifier: BSD-2-Clause
"""The trace: order, bound, numbers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.abi import ExitReason
from nvmmconf.nvmm import BareExit, ExitState
from nvmmconf.trace import Trace, TracedExit

STATE = ExitState(2, 0, False, False, False, False)
HALT = BareExit(ExitReason.HALTED, STATE)


def test_empty() -> None:
    trace = Trace()
    assert (trace.exits, trace.dropped) == ((), 0)


def test_what_is_recorded() -> None:
    trace = Trace()
    other = BareExit(ExitReason.NONE, STATE)
    trace.record(3, HALT, 0x7C01)
    trace.record(0, other, 2)
    assert trace.exits == (TracedExit(1, 3, 0x7C01, HALT), TracedExit(2, 0, 2, other))


@settings(deadline=None)
@given(keep=st.integers(1, 20), count=st.integers(0, 50))
def test_the_last_ones_are_kept_with_their_numbers(keep: int, count: int) -> None:
    trace = Trace(keep)
    for rip in range(count):
        trace.record(0, HALT, rip)
    kept = list(range(count))[-keep:]
    assert [one.rip for one in trace.exits] == kept
    assert [one.sequence for one in trace.exits] == [rip + 1 for rip in kept]
    assert trace.dropped == count - len(kept)


def test_what_was_returned_does_not_change() -> None:
    trace = Trace()
    trace.record(0, HALT, 1)
    before = trace.exits
    trace.record(0, HALT, 2)
    assert len(before) == 1


def test_a_thousand_unless_told() -> None:
    trace = Trace()
    for _ in range(1001):
        trace.record(0, HALT, 0)
    assert (len(trace.exits), trace.dropped) == (1000, 1)
