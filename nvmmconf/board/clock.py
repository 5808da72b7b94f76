# SPDX-License-Identifier: BSD-2-Clause
"""Time as the devices know it: one clock that a test moves by hand, and one that really runs."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)

LONGEST_WAIT = 3600.0
"""Seconds after which a waiting thread looks again; far below what any system refuses."""


def _where(frame: FrameType | None) -> str:
    """Who armed an alarm: module and line, function.  Keeps no frame alive."""
    if frame is None:
        return "an unknown place"
    module = frame.f_globals.get("__name__", "?")
    return f"{module}:{frame.f_lineno} in {frame.f_code.co_qualname}"


class _Alarm:
    """A call to come, in the list of the clock that gave it out."""

    def __init__(
        self, clock: _Pending, when: int, serial: int, callback: Callable[[], None], where: str
    ) -> None:
        self.order = (when, serial)
        self.when = when
        self.callback = callback
        self.where = where
        self._clock = clock

    def cancel(self) -> None:
        """Never make it.  Idempotent, also after it was made."""
        self._clock.remove(self)


class _Pending:
    """The alarms to come, by time, the ones of the same time in the order of arming."""

    def __init__(self) -> None:
        self._mutex = threading.Condition()
        self._alarms: list[_Alarm] = []
        self._serial = 0

    @property
    def armed(self) -> bool:
        """Whether any alarm is pending.  Sure only for who holds the board's lock."""
        with self._mutex:
            return bool(self._alarms)

    def remove(self, alarm: _Alarm) -> None:
        """Take `alarm` off the list, if it is there."""
        with self._mutex:
            place = bisect_left(self._alarms, alarm.order, key=lambda other: other.order)
            if place < len(self._alarms) and self._alarms[place] is alarm:
                del self._alarms[place]

    def _add(self, when: int, callback: Callable[[], None], frame: FrameType | None) -> _Alarm:
        with self._mutex:
            self._serial += 1
            alarm = _Alarm(self, when, self._serial, callback, _where(frame))
            insort(self._alarms, alarm, key=lambda other: other.order)
            self._mutex.notify_all()
            return alarm

    def _take(self, until: int) -> _Alarm | None:
        """Take the first alarm that is due at `until` off the list."""
        with self._mutex:
            if self._alarms and self._alarms[0].when <= until:
                return self._alarms.pop(0)
            return None


class ManualClock(_Pending):
    """A clock that stands still until `advance`.  Calls are made there, by the same thread.

    An exception of a callback goes up to the caller of `advance`, with a note
    of where the alarm was armed; the clock then stands at that alarm's time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0

    def now(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> _Alarm:
        """Call `callback` once when the clock has been advanced to `when` or beyond.

        A `when` that has passed is due at the next `advance`, be it by 0.
        """
        frame = inspect.currentframe()
        return self._add(when, callback, frame and frame.f_back)

    def advance(self, ns: int) -> None:
        """Let `ns` nanoseconds pass; `now()` is each callback's own time while it runs.

        Callbacks may arm new alarms, which are called too where they are due.
        Raises ValueError where `ns` is negative.
        """
        if ns < 0:
            raise ValueError(f"a clock does not go back: advance by {ns} ns")
        target = self._now + ns
        while alarm := self._take(target):
            self._now = max(self._now, alarm.when)
            try:
                alarm.callback()
            except BaseException as error:
                error.add_note(f"in an alarm that was armed at {alarm.where}")
                raise
        self._now = max(self._now, target)


class HostClock(_Pending):
    """The host's monotonic clock.  Owned: `close` it, or use it as a context manager.

    One daemon thread, started with the first alarm, makes the calls, each
    holding `lock`.  So who holds `lock` and cancels an alarm knows that it is
    not being called and will not be.  What a callback raises is logged with the
    place where the alarm was armed and given to `on_error` (holding `lock`, too);
    the clock runs on.
    """

    def __init__(
        self,
        lock: threading.RLock,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        super().__init__()
        self._lock = lock
        self._on_error = on_error
        self._start = time.monotonic_ns()
        self._thread: threading.Thread | None = None
        self._busy = False
        """The thread has the lock, or waits for it."""
        self._closed = False

    def __enter__(self) -> HostClock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def now(self) -> int:
        """Nanoseconds since the clock was made."""
        return time.monotonic_ns() - self._start

    def call_at(self, when: int, callback: Callable[[], None]) -> _Alarm:
        """Call `callback` once at or after `when`, holding the lock.

        Never within this call, even where `when` has passed.  Raises RuntimeError
        where the clock was closed.
        """
        frame = inspect.currentframe()
        with self._mutex:
            if self._closed:
                raise RuntimeError("the clock is closed, no alarm can be armed")
            alarm = self._add(when, callback, frame and frame.f_back)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="board clock", daemon=True)
                self._thread.start()
            return alarm

    def close(self) -> None:
        """Make no call any more; pending alarms are dropped.  Idempotent.

        Takes the lock, so no call is being made once this returned (but the one
        that it is called from).
        """
        with self._lock, self._mutex:
            self._closed = True
            self._alarms.clear()
            self._mutex.notify_all()
            thread = self._thread
            # One that waits for a lock which our caller may hold cannot be waited for,
            # nor one that makes the call that closes.  It ends by itself.
            busy = self._busy
        if thread is not None and not busy:
            thread.join()

    def _run(self) -> None:
        while self._wait():
            with self._lock:
                alarm = self._take(self.now())
                if alarm is not None:
                    self._call(alarm)
                with self._mutex:
                    self._busy = False

    def _wait(self) -> bool:
        """Sleep until an alarm is due; False where the clock was closed."""
        with self._mutex:
            while not self._closed:
                left = LONGEST_WAIT
                if self._alarms:
                    left = (self._alarms[0].when - self.now()) / 1e9
                    if left <= 0:
                        self._busy = True
                        return True
                    left = min(left, LONGEST_WAIT)
                self._mutex.wait(left)
            return False

    def _call(self, alarm: _Alarm) -> None:
        try:
            alarm.callback()
        except BaseException as error:
            log.exception("board clock: exception in an alarm that was armed at %s", alarm.where)
            if self._on_error is None:
                return
            try:
                self._on_error(error)
            except BaseException:
                log.exception("board clock: exception in on_error")
