# SPDX-License-Identifier: BSD-2-Clause
"""The local APIC's timer (SDM 3A 10.5.4): one-shot and periodic, no TSC deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.interfaces import Alarm, Clock

TICK_NS = 1
"""The bus clock, before it is divided, is 1 GHz."""
MERGE_NS = 10_000
"""Expiries of a periodic timer that follow closer than this come as one interrupt.

Else a guest could keep the whole board busy.  Counts are exact all the same.
"""
DIVIDE_WRITABLE = 0b1011


def divisor(configuration: int) -> int:
    """What the divide configuration register's bits 3, 1 and 0 mean (figure 10-10)."""
    code = configuration >> 1 & 4 | configuration & 3
    return 1 if code == 7 else 2 << code


@dataclass(frozen=True)
class TimerState:
    """A timer's state; `age` is the nanoseconds since its count was `count`."""

    initial: int = 0
    divide: int = 0
    count: int = 0
    age: int = 0


class ApicTimer:
    """Counts down from the initial count; `on_expiry` is called at zero while `wanted`.

    The count is worked out when it is asked for.  An alarm is armed only while
    an expiry would be seen.
    """

    def __init__(self, clock: Clock, on_expiry: Callable[[], None]) -> None:
        self._clock = clock
        self._on_expiry = on_expiry
        self._initial = 0
        self._divide = 0
        self._count = 0
        """What the count was at `_since`; 0 for a timer that is stopped."""
        self._since = 0
        self._periodic = False
        self._wanted = False
        self._alarm: Alarm | None = None
        self._due: int | None = None
        """When the alarm is."""

    @property
    def initial(self) -> int:
        """The initial count register; to write it starts the timer, 0 stops it."""
        return self._initial

    @initial.setter
    def initial(self, value: int) -> None:
        self._initial = self._count = value
        self._since = self._clock.now()
        self._arm(self._since)

    @property
    def divide(self) -> int:
        """The divide configuration register; a running count goes on from where it is."""
        return self._divide

    @divide.setter
    def divide(self, value: int) -> None:
        now = self._clock.now()
        self._count, self._since = self._at(now)[0], now
        self._divide = value & DIVIDE_WRITABLE
        self._arm(now)

    @property
    def current(self) -> int:
        """The current count register."""
        return self._at(self._clock.now())[0]

    def configure(self, *, periodic: bool, wanted: bool) -> None:
        """Whether it starts again at zero, and whether anybody wants to know of that."""
        now = self._clock.now()
        self._count, self._since = self._at(now)
        self._periodic, self._wanted = periodic, wanted
        self._arm(now)

    def settle(self) -> None:
        """Let an expiry happen that is due, where its alarm is late.

        To be called before anything is changed or saved that the expiry depends on:
        a clock's thread waits for the board's lock, which the caller holds.
        """
        if self._due is not None and self._due <= self._clock.now():
            self._expire()

    def save(self) -> TimerState:
        """The state, to be loaded later."""
        return TimerState(self._initial, self._divide, self._count, self._clock.now() - self._since)

    def load(self, state: TimerState, *, periodic: bool, wanted: bool) -> None:
        """Take over `state`, which goes on from now."""
        now = self._clock.now()
        self._initial, self._divide = state.initial, state.divide
        self._count, self._since = state.count, now - state.age
        self._periodic, self._wanted = periodic, wanted
        self._arm(now)

    @property
    def _step(self) -> int:
        """Nanoseconds of a count."""
        return TICK_NS * divisor(self._divide)

    def _at(self, now: int) -> tuple[int, int]:
        """The count at `now`, and the time of the step that it was reached with."""
        steps = (now - self._since) // self._step
        time = self._since + steps * self._step
        if steps < self._count:
            return self._count - steps, time
        if self._periodic and self._count:
            return self._initial - (steps - self._count) % self._initial, time
        return 0, time

    def _arm(self, after: int) -> None:
        """Set the alarm to the first expiry later than `after`."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._due = None
        if not self._wanted or self._count == 0:
            return
        expiry = self._since + self._count * self._step
        if expiry <= after:
            if not self._periodic:
                return
            period = self._initial * self._step
            expiry += ((after - expiry) // period + 1) * period
        self._due = expiry
        self._alarm = self._clock.call_at(expiry, self._expire)

    def _expire(self) -> None:
        now = self._clock.now()
        self._arm(now + MERGE_NS - 1 if self._periodic else now)
        self._on_expiry()
