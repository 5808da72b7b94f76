# SPDX-License-Identifier: BSD-2-Clause
"""The clocks: when and in which order alarms are called."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board.clock import HostClock, ManualClock
from nvmmconf.board.interfaces import Alarm, Clock

WAIT = 60.0
"""Seconds after which something that must happen counts as never."""


def both_are_clocks(lock: threading.RLock) -> tuple[Clock, Clock]:
    """Type-checked: both are what the interface asks for."""
    return ManualClock(), HostClock(lock)


# ---- by hand ------------------------------------------------------------------------


@given(
    alarms=st.lists(st.integers(0, 30), max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
    steps=st.lists(st.integers(0, 12), max_size=8),
)
def test_each_alarm_is_called_once_at_its_time_in_order(
    alarms: list[int], cancelled: set[int], steps: list[int]
) -> None:
    """By time, and first armed first called among equals."""
    clock = ManualClock()
    called: list[tuple[int, int]] = []
    armed: list[Alarm] = []
    for number, when in enumerate(alarms):
        armed.append(clock.call_at(when, lambda n=number: called.append((clock.now(), n))))
    for number in cancelled & set(range(len(armed))):
        armed[number].cancel()
    for step in steps:
        clock.advance(step)
    end = sum(steps)
    due = sorted((w, n) for n, w in enumerate(alarms) if n not in cancelled and w <= end)
    assert called == (due if steps else [])
    assert clock.now() == end
    left = [w for n, w in enumerate(alarms) if n not in cancelled and (w > end or not steps)]
    assert clock.armed is bool(left)


def test_a_callback_arms_more_which_are_called_too_where_they_are_due() -> None:
    clock, times = ManualClock(), []

    def tick() -> None:
        times.append(clock.now())
        clock.call_at(clock.now() + 10, tick)

    clock.call_at(10, tick)
    clock.advance(45)
    assert times == [10, 20, 30, 40]
    clock.advance(5)
    assert times == [10, 20, 30, 40, 50]


def test_a_callback_cancels_one_of_the_same_time() -> None:
    clock, seen = ManualClock(), []
    clock.call_at(5, lambda: second.cancel())
    second = clock.call_at(5, lambda: seen.append(2))
    clock.advance(5)
    assert (seen, clock.armed) == ([], False)
    second.cancel()


def test_cancelling_what_was_made_or_cancelled_touches_no_other() -> None:
    clock, seen = ManualClock(), []
    made, dropped = clock.call_at(1, lambda: seen.append(1)), clock.call_at(2, lambda: None)
    for number in (3, 4):
        clock.call_at(number, lambda n=number: seen.append(n))
    clock.advance(1)
    for _ in range(2):
        made.cancel()
        dropped.cancel()
    clock.advance(5)
    assert seen == [1, 3, 4]


def test_a_time_that_has_passed_is_due_at_once() -> None:
    clock, seen = ManualClock(), []
    clock.advance(100)
    clock.call_at(50, lambda: seen.append(clock.now()))
    assert seen == []
    clock.advance(0)
    assert seen == [100]


def test_the_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="advance by -1 ns"):
        ManualClock().advance(-1)


def test_what_a_callback_raises_goes_up_with_a_note_of_where_it_was_armed() -> None:
    clock, seen = ManualClock(), []
    clock.call_at(3, lambda: 1 / 0)
    clock.call_at(4, lambda: seen.append(4))
    with pytest.raises(ZeroDivisionError) as caught:
        clock.advance(10)
    assert "test_board_clock" in caught.value.__notes__[0]
    assert clock.now() == 3
    clock.advance(1)
    assert seen == [4]


# ---- the host's ------------------------------------------------------------------------


class Rig:
    """A host clock, and what went wrong in it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.errors: list[BaseException] = []
        self.clock = HostClock(self.lock, self.errors.append)


@pytest.fixture
def rig() -> Iterator[Rig]:
    one = Rig()
    with one.clock:
        yield one


def test_no_thread_before_the_first_alarm(rig: Rig) -> None:
    before = threading.active_count()
    assert rig.clock.now() >= 0
    assert not rig.clock.armed
    assert threading.active_count() == before
    rig.clock.call_at(1 << 62, lambda: None)
    rig.clock.call_at(1 << 62, lambda: None)
    assert threading.active_count() == before + 1
    assert rig.clock.armed
    rig.clock.close()
    assert threading.active_count() == before


def test_a_call_is_made_not_before_its_time_by_another_thread_that_has_the_lock(rig: Rig) -> None:
    done = threading.Event()
    seen: list[tuple[int, int]] = []

    def callback() -> None:
        # Nobody else can have it now.
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(rig.lock.acquire(blocking=False)))
        other.start()
        other.join()
        assert taken == [False]
        seen.append((rig.clock.now(), threading.get_ident()))
        done.set()

    when = rig.clock.now() + 2_000_000
    rig.clock.call_at(when, callback)
    assert done.wait(WAIT)
    ((at, thread),) = seen
    assert at >= when
    assert thread != threading.get_ident()
    with rig.lock:
        assert rig.errors == []


def test_an_earlier_alarm_overtakes_one_that_is_waited_for(rig: Rig) -> None:
    done = threading.Event()
    rig.clock.call_at(1 << 62, lambda: None)
    rig.clock.call_at(0, done.set)
    assert done.wait(WAIT)
    assert rig.clock.armed


def test_calls_come_in_order_though_all_are_late(rig: Rig) -> None:
    done, seen = threading.Event(), []
    with rig.lock:
        for number, when in enumerate([3, 1, 2, 1]):
            rig.clock.call_at(when, lambda n=number: seen.append(n))
        rig.clock.call_at(4, done.set)
        assert seen == []
    assert done.wait(WAIT)
    assert seen == [1, 3, 2, 0]


def test_what_is_cancelled_with_the_lock_held_is_not_called(rig: Rig) -> None:
    """Also where it is due already and the thread waits for the lock."""
    done, seen = threading.Event(), []
    for _ in range(200):
        with rig.lock:
            alarm = rig.clock.call_at(0, lambda: seen.append(1))
            alarm.cancel()
            alarm.cancel()
            assert not rig.clock.armed
    rig.clock.call_at(0, done.set)
    assert done.wait(WAIT)
    assert seen == []


def test_an_alarm_is_pending_until_its_call(rig: Rig) -> None:
    """Who holds the lock sees either an armed alarm or what its call did."""
    done = threading.Event()
    with rig.lock:
        rig.clock.call_at(0, done.set)
        for _ in range(1000):
            assert rig.clock.armed
            assert not done.is_set()
    assert done.wait(WAIT)
    with rig.lock:
        assert not rig.clock.armed


def test_an_exception_is_logged_and_given_on_and_the_clock_runs_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()
    rig.clock.call_at(0, lambda: 1 / 0)
    rig.clock.call_at(1, lambda: pytest.fail("not even an Exception"))
    rig.clock.call_at(2, done.set)
    assert done.wait(WAIT)
    assert [type(error).__name__ for error in rig.errors] == ["ZeroDivisionError", "Failed"]
    assert "test_an_exception_is_logged" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_an_on_error_that_fails_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def on_error(error: BaseException) -> None:
        raise LookupError("of on_error")

    done = threading.Event()
    with HostClock(threading.RLock(), on_error) as clock:
        clock.call_at(0, lambda: 1 / 0)
        clock.call_at(1, done.set)
        assert done.wait(WAIT)
    assert "of on_error" in caplog.text


def test_a_closed_clock_calls_nothing_and_takes_nothing() -> None:
    rig, seen = Rig(), []
    with rig.lock:
        rig.clock.call_at(0, lambda: seen.append(1))
        rig.clock.close()  # holds the lock that the thread may be waiting for
        assert not rig.clock.armed
    rig.clock.close()
    with pytest.raises(RuntimeError, match="closed"):
        rig.clock.call_at(0, lambda: seen.append(2))
    assert seen == []


def test_a_call_may_close_the_clock() -> None:
    rig, done = Rig(), threading.Event()

    def callback() -> None:
        rig.clock.close()
        done.set()

    rig.clock.call_at(0, callback)
    assert done.wait(WAIT)
    rig.clock.close()
    assert rig.errors == []
