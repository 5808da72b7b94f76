# SPDX-License-Identifier: BSD-2-Clause
"""The programmable interval timer and port 0x61 (Intel 82C54 datasheet, order number 231244).

Port 0x61 is that of the PC AT as Intel's PIIX has it (NMI status and control).  Left out:
the parity and channel check NMIs behind it, and the speaker's sound.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from nvmmconf.board.counter import Counter, CounterState, Mode
from nvmmconf.board.interfaces import Alarm, Clock
from nvmmconf.board.irq import Line
from nvmmconf.board.ports import PortSpace

PORT = 0x40
PORT_COUNT = 4
CONTROL = 3
"""The control word's offset; 0 to 2 are the counters."""
PORT_B = 0x61

READ_BACK = 3
"""Instead of a counter's number in the control word."""
READ_BACK_NO_COUNT = 1 << 5
READ_BACK_NO_STATUS = 1 << 4

STATUS_OUT = 1 << 7
STATUS_NULL_COUNT = 1 << 6

PORT_B_GATE2 = 1 << 0
PORT_B_SPEAKER = 1 << 1
PORT_B_WRITABLE = 0x0F
PORT_B_REFRESH = 1 << 4
PORT_B_OUT2 = 1 << 5

REFRESH = 18
"""CLK pulses between two changes of the refresh bit: 15.085 us."""

# CLK is 105/88 MHz, a twelfth of 14.31818 MHz.
PULSES, NANOSECONDS = 105, 88_000


def pulses_at(when: int) -> int:
    """CLK pulses in the first `when` nanoseconds."""
    return when * PULSES // NANOSECONDS


def time_of(pulse: int) -> int:
    """The first nanosecond at which `pulses_at` gives `pulse`."""
    return -(-pulse * NANOSECONDS // PULSES)


class Access(enum.IntEnum):
    """Which bytes of a count are written and read, by its number in the control word."""

    LATCH = 0
    LOW = 1
    HIGH = 2
    BOTH = 3


@dataclass(frozen=True)
class ChannelState:
    """A counter and its bus interface."""

    counter: CounterState
    command: int = Access.BOTH << 4
    """Bits 5 to 0 of the last control word."""
    high_next: bool = False
    """The next read is the high byte."""
    written: int | None = None
    """The low byte of two, whose high byte is to come."""
    latched: tuple[int, ...] = ()
    """Bytes of a latched count that are to be read."""
    status: int | None = None
    """A latched status byte."""


@dataclass(frozen=True)
class I8254State:
    """The timer and port 0x61."""

    channels: tuple[ChannelState, ...]
    port_b: int = 0


def _from_bcd(value: int) -> int:
    return sum((value >> 4 * digit & 0xF) * 10**digit for digit in range(4))


@dataclass
class _Channel:
    """One counter's bus interface."""

    counter: Counter
    command: int = Access.BOTH << 4
    high_next: bool = False
    written: int | None = None
    latched: tuple[int, ...] = ()
    status: int | None = None
    alarm: Alarm | None = field(default=None, repr=False)
    level: bool = False
    """What the listener knows of OUT."""

    @property
    def access(self) -> Access:
        return Access(self.command >> 4 & 3)

    def write_command(self, value: int) -> None:
        self.command = value & 0x3F
        mode = self.command >> 1 & 7
        # 6 and 7 are 2 and 3: the highest bit does not count there.
        self.counter.control(Mode(mode if mode < 6 else mode - 4), bool(self.command & 1))
        self.high_next, self.written, self.latched, self.status = False, None, (), None

    def write(self, value: int) -> None:
        count = value
        if self.access is Access.HIGH:
            count = value << 8
        elif self.access is Access.BOTH:
            if self.written is None:
                self.written = value
                self.counter.first_byte()
                return
            count = value << 8 | self.written
            self.written = None
        self.counter.count(_from_bcd(count) % 10000 if self.command & 1 else count)

    def latch_count(self) -> None:
        if self.latched:
            return
        low, high = self.counter.value & 0xFF, self.counter.value >> 8
        self.latched = {Access.LOW: (low,), Access.HIGH: (high,)}.get(self.access, (low, high))

    def latch_status(self) -> None:
        if self.status is None:
            self.status = (
                self.command
                | STATUS_OUT * self.counter.out
                | STATUS_NULL_COUNT * self.counter.null_count
            )

    def read(self) -> int:
        if self.status is not None:
            status, self.status = self.status, None
            return status
        if self.latched:
            byte, self.latched = self.latched[0], self.latched[1:]
            return byte
        high = self.access is Access.HIGH
        if self.access is Access.BOTH:
            high, self.high_next = self.high_next, not self.high_next
        return self.counter.value >> 8 if high else self.counter.value & 0xFF


class _PortB:
    """Port 0x61."""

    max_size = 1

    def __init__(self, timer: I8254) -> None:
        self._timer = timer

    def port_read(self, offset: int, size: int) -> int:
        return self._timer.read_port_b()

    def port_write(self, offset: int, size: int, value: int) -> None:
        self._timer.write_port_b(value)


class I8254:
    """Three counters at 105/88 MHz; `out0` is told of counter 0's OUT (IRQ 0 in a PC).

    GATE 0 and 1 are high; GATE 2 is port 0x61's bit 0.  Of OUT's levels `out0` is told each
    that lasts; a low pulse of one CLK is told when it ends, and of several that have
    passed by a late call the last.  Nobody is called where OUT will not change.
    """

    max_size = 1

    def __init__(self, clock: Clock, out0: Line | None = None) -> None:
        self._clock = clock
        self._listener = out0
        self._channels = [_Channel(Counter()) for _ in range(3)]
        self._port_b = 0
        self.port_b = _PortB(self)
        """The device at port 0x61."""
        self.reset()

    def connect(self, ports: PortSpace) -> None:
        """Claim the timer's ports and 0x61."""
        ports.claim(PORT, PORT_COUNT, self)
        ports.claim(PORT_B, 1, self.port_b)

    @property
    def speaker(self) -> bool:
        """Whether the speaker is given counter 2's OUT."""
        return bool(self._port_b & PORT_B_SPEAKER)

    def reset(self) -> None:
        """Power on.  The datasheet leaves the counters undefined: here mode 0, stopped."""
        channels = [ChannelState(CounterState(gate=number != 2)) for number in range(3)]
        self.load(I8254State(tuple(channels)))

    def save(self) -> I8254State:
        """All of it; only CLK's phase is not kept."""
        self._advance()
        channels = tuple(
            ChannelState(c.counter.save(), c.command, c.high_next, c.written, c.latched, c.status)
            for c in self._channels
        )
        return I8254State(channels, self._port_b)

    def load(self, state: I8254State) -> None:
        """Go on from `state`; tells `out0` its level."""
        now = pulses_at(self._clock.now())
        for channel, saved in zip(self._channels, state.channels, strict=True):
            channel.counter.load(saved.counter, now)
            channel.command = saved.command
            channel.high_next = saved.high_next
            channel.written = saved.written
            channel.latched = saved.latched
            channel.status = saved.status
        self._port_b = state.port_b
        if self._listener is not None:
            self._channels[0].level = self._channels[0].counter.out
            self._listener(self._channels[0].level)
        self._arm()

    # ---- time ------------------------------------------------------------------------

    def _advance(self) -> None:
        """Bring the counters up to now and tell of OUT 0."""
        now = pulses_at(self._clock.now())
        for channel in self._channels[1:]:
            channel.counter.advance(now)
        self._tell(self._channels[0].counter.advance(now))

    def _tell(self, rose: bool) -> None:
        channel = self._channels[0]
        out = channel.counter.out
        if self._listener is None:
            return
        if rose and channel.level:
            self._listener(False)
            channel.level = False
        if rose and not out:
            self._listener(True)
            channel.level = True
        if out != channel.level:
            channel.level = out
            self._listener(out)

    def _arm(self) -> None:
        """Ask to be called when OUT 0 changes, if anybody listens."""
        channel = self._channels[0]
        if self._listener is None:
            return
        if channel.alarm is not None:
            channel.alarm.cancel()
            channel.alarm = None
        edge = channel.counter.next_edge()
        if edge is not None:
            channel.alarm = self._clock.call_at(time_of(edge), self._on_alarm)

    def _on_alarm(self) -> None:
        self._channels[0].alarm = None
        self._advance()
        self._arm()

    # ---- registers -----------------------------------------------------------------------

    def port_read(self, offset: int, size: int) -> int:
        """A counter's status, latched or current count; the control word cannot be read."""
        if offset == CONTROL:
            return 0xFF
        self._advance()
        return self._channels[offset].read()

    def port_write(self, offset: int, size: int, value: int) -> None:
        """A count, a control word, or a command to latch."""
        self._advance()
        number = offset
        if offset != CONTROL:
            self._channels[number].write(value)
        elif value >> 6 == READ_BACK:
            self._read_back(value)
            return
        else:
            number = value >> 6
            if Access(value >> 4 & 3) is Access.LATCH:
                self._channels[number].latch_count()
                return
            self._channels[number].write_command(value)
        if number == 0:
            self._tell(rose=False)
            self._arm()

    def _read_back(self, value: int) -> None:
        for number, channel in enumerate(self._channels):
            if value & 2 << number:
                if not value & READ_BACK_NO_COUNT:
                    channel.latch_count()
                if not value & READ_BACK_NO_STATUS:
                    channel.latch_status()

    def read_port_b(self) -> int:
        """Port 0x61: its four writable bits, refresh, OUT 2."""
        self._advance()
        refresh = pulses_at(self._clock.now()) // REFRESH & 1
        return self._port_b | PORT_B_REFRESH * refresh | PORT_B_OUT2 * self._channels[2].counter.out

    def write_port_b(self, value: int) -> None:
        """Port 0x61: GATE 2, the speaker, and two NMI enables, which are kept only."""
        self._advance()
        self._port_b = value & PORT_B_WRITABLE
        self._channels[2].counter.set_gate(bool(value & PORT_B_GATE2))
