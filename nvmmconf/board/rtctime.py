# SPDX-License-Identifier: BSD-2-Clause
"""The ten time registers of an MC146818A: their formats, and how they count."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

SECONDS, MINUTES, HOURS, DAY_OF_WEEK, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
CENTURY = 0x32
PM = 1 << 7
"""In the hours, where there are 12."""

MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAY_SECONDS = 86400


def _number(raw: int, binary: bool) -> int:
    return raw if binary else (raw >> 4) * 10 + (raw & 0xF)


def _raw(number: int, binary: bool) -> int:
    return number & 0xFF if binary else (number // 10 << 4 | number % 10) & 0xFF


@dataclass(frozen=True)
class TimeOfDay:
    """The registers as numbers: hours 0 to 23, Sunday is 1, years without the century.

    They may be anything that a guest writes.  The datasheet does not say how the chip counts
    on from what is no time; here each field overflows once it is beyond its end.
    """

    second: int
    minute: int
    hour: int
    weekday: int
    day: int
    month: int
    year: int
    century: int

    @classmethod
    def of(cls, when: datetime.datetime) -> TimeOfDay:
        """Return `when` without its microseconds."""
        return cls(
            second=when.second,
            minute=when.minute,
            hour=when.hour,
            weekday=when.isoweekday() % 7 + 1,
            day=when.day,
            month=when.month,
            year=when.year % 100,
            century=when.year // 100,
        )

    @classmethod
    def load(cls, registers: bytes | bytearray, binary: bool, hours24: bool) -> TimeOfDay:
        """Read the registers, in the format of register B's DM and 24/12."""
        raw = registers[HOURS]
        hour = _number(raw if hours24 else raw & ~PM, binary)
        if not hours24 and 1 <= hour <= 12:
            hour = hour % 12 + (12 if raw & PM else 0)
        return cls(
            second=_number(registers[SECONDS], binary),
            minute=_number(registers[MINUTES], binary),
            hour=hour,
            weekday=_number(registers[DAY_OF_WEEK], binary),
            day=_number(registers[DAY], binary),
            month=_number(registers[MONTH], binary),
            year=_number(registers[YEAR], binary),
            century=_number(registers[CENTURY], binary=False),
        )

    def store(self, registers: bytearray, binary: bool, hours24: bool) -> None:
        """Write the registers."""
        registers[SECONDS] = _raw(self.second, binary)
        registers[MINUTES] = _raw(self.minute, binary)
        if hours24:
            registers[HOURS] = _raw(self.hour, binary)
        else:
            registers[HOURS] = _raw(self.hour % 12 or 12, binary) | PM * (self.hour >= 12)
        registers[DAY_OF_WEEK] = _raw(self.weekday, binary)
        registers[DAY] = _raw(self.day, binary)
        registers[MONTH] = _raw(self.month, binary)
        registers[YEAR] = _raw(self.year, binary)
        registers[CENTURY] = _raw(self.century, binary=False)

    def _next_day(self) -> TimeOfDay:
        weekday = self.weekday + 1 if self.weekday < 7 else 1
        day, month, year, century = self.day + 1, self.month, self.year, self.century
        # The chip knows of leap years that each fourth is one, which holds until 2099.
        length = MONTHS[(month - 1) % 12] + (month == 2 and year % 4 == 0)
        if day > length:
            day, month = 1, month + 1
        if month > 12:
            month, year = 1, year + 1
        if year > 99:
            year, century = 0, (century + 1) % 100
        return TimeOfDay(self.second, self.minute, self.hour, weekday, day, month, year, century)

    def after(self, seconds: int) -> TimeOfDay:
        """Return the time `seconds` updates later."""
        minutes, second = divmod(self.second + seconds, 60)
        hours, minute = divmod(self.minute + minutes, 60)
        days, hour = divmod(self.hour + hours, 24)
        time = TimeOfDay(
            second, minute, hour, self.weekday, self.day, self.month, self.year, self.century
        )
        for _ in range(days):
            time = time._next_day()
        return time

    def until(self, hour: int | None, minute: int | None, second: int | None) -> int | None:
        """Updates until the fields are these, 1 to 86400; None as a field matches any.

        The result is None where that never happens.
        """
        start = (self.hour * 60 + self.minute) * 60 + self.second
        at = start + 1
        while at <= start + DAY_SECONDS:
            if hour is not None and at // 3600 % 24 != hour:
                at += 3600 - at % 3600
            elif minute is not None and at // 60 % 60 != minute:
                at += 60 - at % 60
            elif second is not None and at % 60 != second:
                at += 1
            else:
                return at - start
        return None
