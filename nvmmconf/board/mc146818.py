# SPDX-License-Identifier: BSD-2-Clause
"""The real-time clock and CMOS memory (Motorola MC146818A datasheet), as a PC has it.

Left out: other time bases than 32.768 kHz (the divider then stands), daylight saving and
the square wave.  The century in byte 0x32 is the PC's, not the chip's.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from nvmmconf.board.interfaces import Alarm, Clock
from nvmmconf.board.irq import Line, unconnected
from nvmmconf.board.ports import PortSpace
from nvmmconf.board.rtctime import TimeOfDay

PORT = 0x70
PORT_COUNT = 2
NMI_MASK = 1 << 7
SIZE = 128

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
DAY_OF_WEEK, DAY, MONTH, YEAR = range(6, 10)
REG_A, REG_B, REG_C, REG_D = range(0x0A, 0x0E)
CENTURY = 0x32

A_UIP = 1 << 7
A_DIVIDER = 0x70
A_DIVIDER_32768 = 0x20
A_RATE = 0x0F

B_SET = 1 << 7
B_PIE = 1 << 6
B_AIE = 1 << 5
B_UIE = 1 << 4
B_SQWE = 1 << 3
B_DM = 1 << 2
B_24 = 1 << 1

C_IRQF = 1 << 7
C_PF = 1 << 6
C_AF = 1 << 5
C_UF = 1 << 4
C_FLAGS = C_PF | C_AF | C_UF
"""Each at the place of its enable in register B."""

D_VRT = 1 << 7

DONT_CARE = 0xC0
"""Both bits set in an alarm byte: it matches anything."""

SECOND = 1_000_000_000
UPDATE_WARNING = 244_000
"""Nanoseconds from UIP to the update cycle."""
UPDATE_CYCLE = 1_984_000
"""Nanoseconds of an update cycle; the time changes at its end."""
FIRST_UPDATE = SECOND // 2
"""From letting the divider go to the first change of time."""
OSCILLATOR = 32768


@dataclass(frozen=True)
class Mc146818State:
    """The registers and how far the divider is."""

    registers: bytes
    index: int
    nmi_masked: bool
    elapsed: int | None
    """Nanoseconds that the divider has counted, None where it is held."""
    updates: int
    """Seconds that are in the registers of those."""
    periods: int
    """Periods of the periodic interrupt that have been seen of those."""


class Mc146818:
    """An RTC that shows `base` when it is made and then follows `clock`; `irq` is IRQ 8.

    `contents` goes to the bytes beyond the clock's own (see `cmos`).  Time stands
    still while the machine does not exist, as with its clock.
    """

    max_size = 1

    def __init__(
        self,
        clock: Clock,
        base: datetime.datetime,
        irq: Line = unconnected,
        contents: Mapping[int, int] | None = None,
    ) -> None:
        self._clock = clock
        self._irq = irq
        self._alarm: Alarm | None = None
        registers = bytearray(SIZE)
        registers[REG_A] = A_DIVIDER_32768 | 6
        registers[REG_B] = B_24
        registers[REG_D] = D_VRT
        TimeOfDay.of(base).store(registers, binary=False, hours24=True)
        for index, value in (contents or {}).items():
            if not REG_D < index < SIZE or index == CENTURY:
                raise ValueError(f"CMOS byte {index:#x} is none of the RAM's: 0xe to 0x7f")
            registers[index] = value
        self.load(Mc146818State(bytes(registers), 0, False, base.microsecond * 1000, 0, 0))

    def connect(self, ports: PortSpace) -> None:
        """Claim both ports."""
        ports.claim(PORT, PORT_COUNT, self)

    @property
    def nmi_masked(self) -> bool:
        """Whether bit 7 of port 0x70 keeps NMIs from the CPU."""
        return self._nmi_masked

    def reset(self) -> None:
        """The RESET pin: no interrupts.  Time and memory have a battery.

        NMIs pass after it, as with QEMU; PIIX would hold them until firmware opens the gate.
        """
        self._sync()
        self._registers[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE)
        self._registers[REG_C] = 0
        self._index = 0
        self._nmi_masked = False
        self._update()

    def save(self) -> Mc146818State:
        """All of it."""
        self._sync()
        self._update()
        return Mc146818State(
            registers=bytes(self._registers),
            index=self._index,
            nmi_masked=self._nmi_masked,
            elapsed=self._elapsed,
            updates=self._updates,
            periods=self._periods,
        )

    def load(self, state: Mc146818State) -> None:
        """Go on from `state` and drive the interrupt."""
        self._registers = bytearray(state.registers)
        self._index = state.index
        self._nmi_masked = state.nmi_masked
        # The clock's time at which the divider was zero.
        self._zero = None if state.elapsed is None else self._clock.now() - state.elapsed
        self._updates = state.updates
        self._periods = state.periods
        self._update()

    # ---- time ----------------------------------------------------------------------------

    @property
    def _elapsed(self) -> int | None:
        return None if self._zero is None else self._clock.now() - self._zero

    @property
    def _period(self) -> int:
        """Oscillator pulses between two periodic interrupts, 0 for none."""
        rate = self._registers[REG_A] & A_RATE
        if rate in (1, 2):
            rate += 7
        return 1 << rate - 1 if rate else 0

    def _count_periods(self) -> int:
        elapsed = self._elapsed
        if elapsed is None or not self._period:
            return 0
        return elapsed * OSCILLATOR // (SECOND * self._period)

    @property
    def _set(self) -> bool:
        return bool(self._registers[REG_B] & B_SET)

    def _sync(self) -> None:
        """Let pass what has passed."""
        elapsed = self._elapsed
        if elapsed is None:
            return
        seconds = elapsed // SECOND - self._updates
        if seconds > 0:
            self._updates += seconds
            if not self._set:
                self._pass(seconds)
        periods = self._count_periods()
        if periods > self._periods:
            self._registers[REG_C] |= C_PF
        self._periods = periods

    def _modes(self) -> tuple[bool, bool]:
        b = self._registers[REG_B]
        return bool(b & B_DM), bool(b & B_24)

    def _pass(self, seconds: int) -> None:
        until_alarm = self._until_alarm()
        time = TimeOfDay.load(self._registers, *self._modes())
        time.after(seconds).store(self._registers, *self._modes())
        self._registers[REG_C] |= C_UF
        if until_alarm is not None and until_alarm <= seconds:
            self._registers[REG_C] |= C_AF

    def _until_alarm(self) -> int | None:
        """Updates until the time matches the alarm bytes, 1 to 86400; None where it never will."""
        registers = self._registers
        alarm = bytearray(SIZE)
        for index in (SECONDS, MINUTES, HOURS):
            alarm[index] = registers[index + 1]
        wanted = TimeOfDay.load(alarm, *self._modes())
        return TimeOfDay.load(registers, *self._modes()).until(
            None if alarm[HOURS] & DONT_CARE == DONT_CARE else wanted.hour,
            None if alarm[MINUTES] & DONT_CARE == DONT_CARE else wanted.minute,
            None if alarm[SECONDS] & DONT_CARE == DONT_CARE else wanted.second,
        )

    # ---- interrupts ----------------------------------------------------------------------

    def _update(self) -> None:
        """Drive the interrupt, and ask to be called when it would be asserted next."""
        c = self._registers[REG_C] & C_FLAGS
        asserted = bool(c & self._registers[REG_B])
        self._registers[REG_C] = c | C_IRQF * asserted
        self._irq(asserted)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if asserted or self._zero is None:
            return
        due = self._due()
        if due:
            self._alarm = self._clock.call_at(self._zero + min(due), self._on_alarm)

    def _due(self) -> list[int]:
        """When the enabled interrupts come next, in the divider's nanoseconds."""
        enabled = self._registers[REG_B]
        due = []
        if enabled & B_PIE and self._period:
            pulses = (self._periods + 1) * self._period
            due.append(-(-pulses * SECOND // OSCILLATOR))
        if enabled & B_UIE and not self._set:
            due.append((self._updates + 1) * SECOND)
        if enabled & B_AIE and not self._set:
            until = self._until_alarm()
            if until is not None:
                due.append((self._updates + until) * SECOND)
        return due

    def _on_alarm(self) -> None:
        self._alarm = None
        self._sync()
        self._update()

    # ---- registers -----------------------------------------------------------------------

    def port_read(self, offset: int, size: int) -> int:
        """The selected byte at the odd port; the index cannot be read."""
        if offset == 0:
            return 0xFF
        self._sync()
        value = self._registers[self._index]
        if self._index == REG_A:
            value |= A_UIP * self._updating()
        elif self._index == REG_C:
            self._update()
            value = self._registers[REG_C]
            self._registers[REG_C] = 0
        self._update()
        return value

    def _updating(self) -> bool:
        elapsed = self._elapsed
        if elapsed is None or self._set:
            return False
        return SECOND - elapsed % SECOND <= UPDATE_WARNING + UPDATE_CYCLE

    def port_write(self, offset: int, size: int, value: int) -> None:
        """The index and the NMI mask, or the selected byte."""
        if offset == 0:
            self._index = value & ~NMI_MASK
            self._nmi_masked = bool(value & NMI_MASK)
            return
        self._sync()
        if self._index == REG_A:
            self._write_a(value & ~A_UIP)
        elif self._index == REG_B:
            # Setting the time ends the interest in updates.
            self._registers[REG_B] = value & ~B_UIE if value & B_SET else value
        elif self._index not in (REG_C, REG_D):
            self._registers[self._index] = value
        self._update()

    def _write_a(self, value: int) -> None:
        runs = value & A_DIVIDER == A_DIVIDER_32768
        self._registers[REG_A] = value
        if not runs:
            self._zero = None
        elif self._zero is None:
            self._zero = self._clock.now() - (SECOND - FIRST_UPDATE)
            self._updates = 0
        self._periods = self._count_periods()
