# SPDX-License-Identifier: BSD-2-Clause
"""One counter of an 8254 (Intel 82C54 datasheet, order number 231244), its time in CLK pulses.

It is not clocked: `advance` works out what has happened since, from one event to the
next, and whole periods at once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Mode(enum.IntEnum):
    """What a counter does, by its number in the control word."""

    TERMINAL_COUNT = 0
    ONE_SHOT = 1
    RATE = 2
    SQUARE = 3
    SOFTWARE_STROBE = 4
    HARDWARE_STROBE = 5


TRIGGERED = (Mode.ONE_SHOT, Mode.HARDWARE_STROBE)
"""GATE's rise starts them, its level does not matter."""
PERIODIC = (Mode.RATE, Mode.SQUARE)
STROBES = (Mode.SOFTWARE_STROBE, Mode.HARDWARE_STROBE)
PULSED = (Mode.RATE, *STROBES)
"""OUT goes low for one CLK pulse."""


@dataclass(frozen=True)
class CounterState:
    """What a counter has; `load_in` counts from now."""

    mode: Mode = Mode.TERMINAL_COUNT
    bcd: bool = False
    gate: bool = True
    out: bool = False
    reload: int | None = None
    """The count register, 1 to 65536; None until one is written."""
    element: int = 0x10000
    """The counting element, 1 to 65536, which shows as 0."""
    odd: bool = False
    """The counting element was loaded from an odd count."""
    load_in: int | None = None
    """CLK pulses until the count register goes to the counting element."""
    counting: bool = False
    halted: bool = False
    """The first byte of two was written in mode 0."""
    armed: bool = False
    """OUT will change at terminal count."""
    strobe: bool = False
    """OUT is low for this CLK pulse."""
    null_count: bool = True
    """The count register's value is not in the counting element yet."""


class Counter:
    """A counter at CLK pulse `tick`; all calls but `advance` are about that moment."""

    def __init__(self, gate: bool = True) -> None:
        self.tick = 0
        self._load_at: int | None = None
        self._set(CounterState(gate=gate))

    def _set(self, state: CounterState) -> None:
        self._mode = state.mode
        self._bcd = state.bcd
        self._gate = state.gate
        self.out = state.out
        self._reload = state.reload
        self._element = state.element
        self._odd = state.odd
        self._load_at = None if state.load_in is None else self.tick + state.load_in
        self._counting = state.counting
        self._halted = state.halted
        self._armed = state.armed
        self._strobe = state.strobe
        self.null_count = state.null_count

    def save(self) -> CounterState:
        """All of it, but the time."""
        return CounterState(
            mode=self._mode,
            bcd=self._bcd,
            gate=self._gate,
            out=self.out,
            reload=self._reload,
            element=self._element,
            odd=self._odd,
            load_in=None if self._load_at is None else self._load_at - self.tick,
            counting=self._counting,
            halted=self._halted,
            armed=self._armed,
            strobe=self._strobe,
            null_count=self.null_count,
        )

    def load(self, state: CounterState, tick: int) -> None:
        """Take `state` over, at CLK pulse `tick`."""
        self.tick = tick
        self._set(state)

    # ---- what is written to it ------------------------------------------------------------

    @property
    def modulus(self) -> int:
        """The largest count, which is written as 0."""
        return 10000 if self._bcd else 0x10000

    def control(self, mode: Mode, bcd: bool) -> None:
        """A control word: OUT takes its first level and nothing is counted until a count comes."""
        self._mode, self._bcd = mode, bcd
        self.out = mode is not Mode.TERMINAL_COUNT
        self._reload = self._load_at = None
        self._element = min(self._element, self.modulus)
        self._counting = self._halted = self._armed = self._strobe = False
        self.null_count = True

    def first_byte(self) -> None:
        """The first byte of a count of two: stops mode 0."""
        if self._mode is Mode.TERMINAL_COUNT:
            self._halted = True
            self.out = self._armed = False
            self._load_at = None

    def count(self, value: int) -> None:
        """A whole count, 0 to 65535 (BCD: its value, 0 to 9999)."""
        first = self._reload is None
        self._reload = value or self.modulus
        self.null_count = True
        self._halted = False
        if self._mode is Mode.TERMINAL_COUNT:
            self.out = self._armed = False
        if self._mode in (Mode.TERMINAL_COUNT, Mode.SOFTWARE_STROBE) or (
            first and self._mode in PERIODIC
        ):
            self._load_at = self.tick + 1

    @property
    def gate(self) -> bool:
        """The level of GATE."""
        return self._gate

    def set_gate(self, level: bool) -> None:
        """GATE has `level`; its rise triggers."""
        rises = level and not self._gate
        falls = self._gate and not level
        self._gate = level
        if rises and self._reload is not None and self._mode in (*TRIGGERED, *PERIODIC):
            self._load_at = self.tick + 1
        if falls and self._mode in PERIODIC and self._reload is not None:
            self.out = True
            self._strobe = False

    # ---- what becomes of it -----------------------------------------------------------------

    @property
    def _running(self) -> bool:
        if not self._counting or self._halted:
            return False
        return self._gate or self._mode in TRIGGERED

    @property
    def _period(self) -> int:
        # Of 1, which the datasheet forbids, the smallest allowed is made.
        return max(self._reload or 2, 2)

    def _left(self) -> int | None:
        """CLK pulses until the counting element does something, None where it never will."""
        if self._strobe and self._mode in STROBES:
            return 1
        if not self._running:
            return None
        if self._mode is Mode.RATE:
            return 1 if self._strobe else max(self._element - 1, 1)
        if self._mode is Mode.SQUARE:
            return self._half_left()
        return self._element if self._armed else None

    def _half_left(self) -> int:
        """CLK pulses until OUT changes: the element goes down by two, an odd count's high
        half is one pulse longer and takes it down to zero.
        """
        return self._element // 2 + (self.out and self._odd)

    def next_event(self) -> int | None:
        """The CLK pulse at which something happens, None where nothing will."""
        left = self._left()
        event = None if left is None else self.tick + left
        if self._load_at is not None and (event is None or self._load_at <= event):
            return self._load_at
        return event

    def next_edge(self) -> int | None:
        """A CLK pulse at which it is worth looking at OUT, None where it will not change.

        A pulse of one CLK counts as a whole, at its end.
        """
        event = self.next_event()
        if event is None or event == self._load_at:
            return event
        if self._mode in PULSED and not self._strobe:
            return event + 1
        return event

    def advance(self, tick: int) -> bool:
        """Go on to CLK pulse `tick`.  Return whether OUT has risen on the way."""
        rose = False
        while (event := self.next_event()) is not None and event <= tick:
            before = self.out
            if event == self._load_at:
                self._pass(event)
                self._load()
            else:
                skipped = self._whole_periods(tick)
                self._pass(event)
                self.tick += skipped
                self._expire()
            rose |= self.out and not before
        self._pass(tick)
        return rose

    def _whole_periods(self, tick: int) -> int:
        """CLK pulses that may be left out on the way to `tick`, as all is the same after them."""
        if self._mode not in PERIODIC or self._load_at is not None or self.null_count:
            return 0
        return max((tick - self.tick) // self._period - 1, 0) * self._period

    def _pass(self, tick: int) -> None:
        """Count down to `tick`, with no event on the way."""
        if self._running:
            pulses = tick - self.tick
            if self._mode is Mode.SQUARE:
                self._element -= 2 * pulses
            else:
                self._element = (self._element - pulses - 1) % self.modulus + 1
        self.tick = tick

    def _load(self) -> None:
        """The count register goes to the counting element."""
        self._load_at = None
        self._fill()
        self._counting = True
        self._armed = True
        self._strobe = False
        self.out = self._mode not in (Mode.TERMINAL_COUNT, Mode.ONE_SHOT)

    def _fill(self) -> None:
        self.null_count = False
        self._element = self._reload or self.modulus
        if self._mode in PERIODIC:
            self._element = self._period
        self._odd = bool(self._element & 1)
        if self._mode is Mode.SQUARE:
            self._element &= ~1

    def _expire(self) -> None:
        """What `_left` has counted down to."""
        match self._mode:
            case Mode.TERMINAL_COUNT | Mode.ONE_SHOT:
                self.out, self._armed = True, False
            case Mode.RATE:
                self._strobe = not self._strobe
                self.out = not self._strobe
                if self.out:
                    self._fill()
            case Mode.SQUARE:
                self.out = not self.out
                self._fill()
            case Mode.SOFTWARE_STROBE | Mode.HARDWARE_STROBE:
                self._strobe = not self._strobe
                self.out = not self._strobe
                self._armed = False

    @property
    def value(self) -> int:
        """What a read of the counting element gives, in BCD where it counts so."""
        value = self._element % self.modulus
        if not self._bcd:
            return value
        return sum((value // 10**digit % 10) << 4 * digit for digit in range(4))
