# SPDX-License-Identifier: BSD-2-Clause
"""The real-time clock, by its datasheet (Motorola MC146818A), against Python's calendar."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.cmos import GIB, KIB, MIB, BootDevice, Floppy, cmos_contents
from nvmmconf.board.mc146818 import Mc146818

SECOND = 10**9
BASE = datetime.datetime(2024, 2, 28, 23, 59, 58)
SET, PIE, AIE, UIE, DM, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02


class Rtc:
    """The chip on its ports."""

    def __init__(self, base: datetime.datetime = BASE) -> None:
        self.clock = ManualClock()
        self.levels: list[tuple[int, bool]] = []
        self.rtc = Mc146818(self.clock, base, self._line)
        self.ports = PortSpace()
        self.rtc.connect(self.ports)

    def _line(self, level: bool) -> None:
        if not self.levels or self.levels[-1][1] is not level:
            self.levels.append((self.clock.now(), level))

    @property
    def irq(self) -> bool:
        return self.levels[-1][1]

    def __getitem__(self, index: int) -> int:
        self.ports.write(0x70, 1, index)
        return self.ports.read(0x71, 1)

    def __setitem__(self, index: int, value: int) -> None:
        self.ports.write(0x70, 1, index)
        self.ports.write(0x71, 1, value)

    def time(self) -> tuple[int, ...]:
        """Year, month, day, hour, minute, second, day of the week: raw."""
        return tuple(self[index] for index in (9, 8, 7, 4, 2, 0, 6))


def bcd(number: int) -> int:
    return int(str(number), 16)


def fields(when: datetime.datetime) -> list[int]:
    sunday_is_1 = when.isoweekday() % 7 + 1
    date = [when.year % 100, when.month, when.day]
    return [*date, when.hour, when.minute, when.second, sunday_is_1]


@settings(deadline=None)
@given(
    base=st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2099, 1, 1)),
    seconds=st.integers(0, 400 * 86400),
    binary=st.booleans(),
)
def test_it_counts_as_the_calendar_does(
    base: datetime.datetime, seconds: int, binary: bool
) -> None:
    rtc = Rtc(base.replace(microsecond=0))
    if binary:
        rtc[0x0B] = SET | H24 | DM
        for index, value in zip((9, 8, 7, 4, 2, 0, 6), fields(base), strict=True):
            rtc[index] = value
        rtc[0x0B] = H24 | DM
    rtc.clock.advance(seconds * SECOND)
    now = base + datetime.timedelta(seconds=seconds)
    expected = fields(now) if binary else [bcd(number) for number in fields(now)]
    assert list(rtc.time()) == expected
    if not binary:
        assert rtc[0x32] == bcd(now.year // 100)


@pytest.mark.parametrize(
    ("hour", "raw"), [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)]
)
def test_12_hours(hour: int, raw: int) -> None:
    """1 to 12, and PM in the highest bit."""
    rtc = Rtc(BASE.replace(hour=hour, minute=59, second=59))
    rtc[0x0B] = SET
    rtc[4] = raw
    rtc[0x0B] = 0
    rtc.clock.advance(3600 * SECOND)
    later = (hour + 1) % 24
    assert rtc[4] == bcd(later % 12 or 12) | 0x80 * (later >= 12)
    rtc.clock.advance(23 * 3600 * SECOND)
    assert rtc[4] == raw


def test_the_base_may_lie_within_a_second() -> None:
    rtc = Rtc(BASE.replace(microsecond=250_000))
    rtc.clock.advance(SECOND * 3 // 4 - 1)
    assert rtc[0] == 0x58
    rtc.clock.advance(1)
    assert rtc[0] == 0x59


def test_uip_warns_244_us_before_an_update_of_1984_us() -> None:
    rtc = Rtc()
    rtc.clock.advance(SECOND - 2_228_001)
    assert rtc[0x0A] & 0x80 == 0
    rtc.clock.advance(1)
    assert rtc[0x0A] & 0x80
    rtc.clock.advance(2_228_000)
    assert rtc[0x0A] & 0x80 == 0
    assert rtc[0] == 0x59


def test_set_stops_the_time_and_uip() -> None:
    rtc = Rtc()
    rtc[0x0B] = SET | H24
    rtc.clock.advance(SECOND - 1000)
    assert rtc[0x0A] & 0x80 == 0
    rtc.clock.advance(10 * SECOND)
    assert rtc[0] == 0x58
    assert rtc[0x0C] & 0x30 == 0
    rtc[0x0B] = H24
    rtc.clock.advance(SECOND)
    assert rtc[0] == 0x59


def test_the_first_update_is_half_a_second_after_the_divider_is_let_go() -> None:
    rtc = Rtc()
    rtc[0x0A] = 0x76
    rtc.clock.advance(10 * SECOND)
    assert rtc[0] == 0x58
    rtc[0x0A] = 0x26
    rtc.clock.advance(SECOND // 2 - 1)
    assert rtc[0] == 0x58
    rtc.clock.advance(1)
    assert rtc[0] == 0x59


# ---- interrupts ------------------------------------------------------------------------------


def test_update_ended() -> None:
    rtc = Rtc()
    rtc[0x0B] = H24 | UIE
    rtc.clock.advance(SECOND)
    assert rtc.levels[-1] == (SECOND, True)
    assert rtc[0x0C] == 0x80 | 0x40 | 0x10, "the periodic flag is set too, if not enabled"
    assert not rtc.irq
    assert rtc[0x0C] == 0
    rtc.clock.advance(SECOND)
    assert rtc.levels[-1] == (2 * SECOND, True)


def test_flags_without_their_enables_interrupt_nobody_until_these_come() -> None:
    rtc = Rtc()
    rtc.clock.advance(SECOND)
    assert not rtc.clock.armed
    rtc[0x0B] = H24 | UIE
    assert rtc.irq
    assert rtc[0x0C] & 0x90 == 0x90


RATES = {
    1: 256, 2: 128, 3: 8192, 4: 4096, 5: 2048, 6: 1024, 7: 512, 8: 256,
    9: 128, 10: 64, 11: 32, 12: 16, 13: 8, 14: 4, 15: 2,
}  # fmt: skip
"""Hz, as the datasheet's table for 32.768 kHz has them."""


@pytest.mark.parametrize("rate", RATES)
def test_the_periodic_rates(rate: int) -> None:
    rtc = Rtc()
    rtc[0x0A] = 0x20 | rate
    rtc[0x0B] = H24 | PIE
    for count in range(RATES[rate]):
        rtc.clock.advance(-(-(count + 1) * SECOND // RATES[rate]) - rtc.clock.now() - 1)
        assert not rtc.irq
        rtc.clock.advance(1)
        assert rtc.irq
        assert rtc[0x0C] & 0xC0 == 0xC0
    assert rtc.clock.now() == SECOND


def test_rate_0_is_none() -> None:
    rtc = Rtc()
    rtc[0x0A] = 0x20
    rtc[0x0B] = H24 | PIE
    assert not rtc.clock.armed
    rtc.clock.advance(SECOND)
    assert rtc[0x0C] & 0x40 == 0


@settings(deadline=None)
@given(
    base=st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2098, 1, 1)),
    hour=st.one_of(st.none(), st.integers(0, 23)),
    minute=st.one_of(st.none(), st.integers(0, 59)),
    second=st.one_of(st.none(), st.integers(0, 59)),
)
def test_the_alarm_comes_at_the_first_match(
    base: datetime.datetime, hour: int | None, minute: int | None, second: int | None
) -> None:
    base = base.replace(microsecond=0)
    rtc = Rtc(base)
    for index, value in ((5, hour), (3, minute), (1, second)):
        rtc[index] = 0xC0 if value is None else bcd(value)
    rtc[0x0B] = H24 | AIE
    rtc.clock.advance(86400 * SECOND)
    assert rtc.irq
    assert rtc.levels[-1][0] % SECOND == 0
    start = (base.hour * 60 + base.minute) * 60 + base.second
    ends = start + rtc.levels[-1][0] // SECOND
    matches = [
        at
        for at in range(start + 1, ends + 1)
        if second in (None, at % 60)
        and minute in (None, at // 60 % 60)
        and hour in (None, at // 3600 % 24)
    ]
    assert matches == [ends]


def test_an_alarm_that_is_no_time_never_comes() -> None:
    rtc = Rtc()
    rtc[5] = 0x25
    rtc[0x0B] = H24 | AIE
    assert not rtc.clock.armed
    rtc.clock.advance(3 * 86400 * SECOND)
    assert rtc[0x0C] & 0x20 == 0


def test_the_reset_pin_ends_interrupts_and_keeps_time_and_memory() -> None:
    rtc = Rtc()
    rtc[0x40] = 0x5A
    rtc[0x0B] = H24 | UIE | AIE | PIE
    rtc.clock.advance(SECOND)
    rtc.rtc.reset()
    assert not rtc.irq
    assert not rtc.clock.armed
    assert rtc[0x0B] == H24
    assert (rtc[0x40], rtc[0]) == (0x5A, 0x59)


# ---- ports and memory --------------------------------------------------------------------------


def test_bit_7_of_the_index_masks_nmis() -> None:
    rtc = Rtc()
    assert not rtc.rtc.nmi_masked
    rtc[0x0F] = 0xAA
    rtc.ports.write(0x70, 1, 0x8F)
    assert rtc.rtc.nmi_masked
    assert rtc.ports.read(0x71, 1) == 0xAA
    rtc.ports.write(0x70, 1, 0x0F)
    assert not rtc.rtc.nmi_masked
    rtc.ports.write(0x70, 1, 0x8F)
    rtc.rtc.reset()
    assert not rtc.rtc.nmi_masked
    assert rtc.ports.read(0x71, 1) == rtc[0], "seconds are selected"


def test_one_word_selects_and_writes() -> None:
    rtc = Rtc()
    rtc.ports.write(0x70, 2, 0x5A40)
    assert rtc[0x40] == 0x5A


def test_what_cannot_be_written() -> None:
    rtc = Rtc()
    rtc[0x0C] = 0xFF
    rtc[0x0D] = 0
    rtc[0x0A] = 0xA6
    assert rtc[0x0C] == 0
    assert rtc[0x0D] == 0x80, "the battery is good"
    assert rtc[0x0A] == 0x26
    rtc[0x0B] = SET | UIE
    assert rtc[0x0B] == SET, "SET ends UIE"


@pytest.mark.parametrize("index", [0, 0x0D, 0x32, 0x80])
def test_contents_are_ram_only(index: int) -> None:
    with pytest.raises(ValueError, match="none of the RAM's"):
        Mc146818(ManualClock(), BASE, contents={index: 1})


@settings(deadline=None)
@given(
    b=st.integers(0, 0x7F),
    a=st.integers(0, 0x7F),
    wait=st.integers(0, 3 * SECOND),
    steps=st.lists(st.integers(0, SECOND), max_size=6),
)
def test_a_loaded_clock_goes_on_as_the_saved_one(
    a: int, b: int, wait: int, steps: list[int]
) -> None:
    one, other = Rtc(), Rtc(datetime.datetime(1999, 1, 1))
    one[1] = one[3] = one[5] = 0xFF
    one[0x0A], one[0x0B] = a, b
    one.clock.advance(wait)
    other.clock.advance(777_777_777)
    other.rtc.load(one.rtc.save())
    for ns in steps:
        one.clock.advance(ns)
        other.clock.advance(ns)
        assert one.irq is other.irq
        assert [one[index] for index in range(128)] == [other[index] for index in range(128)]


# ---- what firmware finds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("below", "above"), [(MIB, 0), (16 * MIB, 0), (64 * MIB, 0), (3 * GIB, 0), (3 * GIB, 5 * GIB)]
)
def test_memory_sizes(below: int, above: int) -> None:
    """As SeaBIOS adds them up; the 16-bit KiB above 1 MiB stop at 64 MiB."""
    contents = cmos_contents(below, above)

    def little(index: int, size: int) -> int:
        return sum(contents[index + place] << 8 * place for place in range(size))

    assert little(0x15, 2) == 640
    assert little(0x17, 2) == little(0x30, 2) == min(below // KIB - 1024, 0xFFFF)
    assert little(0x5B, 3) * 64 * KIB == above
    found = little(0x34, 2) * 64 * KIB + 16 * MIB
    if found <= 16 * MIB:
        found = little(0x30, 2) * KIB + MIB
    assert found == below


def test_boot_order_floppies_equipment_cpus() -> None:
    order = (BootDevice.CDROM, BootDevice.DISK, BootDevice.NETWORK)
    contents = cmos_contents(
        MIB, cpus=4, boot=order, floppies=(Floppy.MB144, Floppy.KB720), check_floppy_signature=False
    )
    assert contents[0x3D] == 0x23
    assert contents[0x38] == 0x41
    assert contents[0x10] == 0x43
    assert contents[0x14] & 0xC1 == 0x41, "two floppies"
    assert contents[0x5F] == 3
    assert contents[0x0F] == 0
    assert cmos_contents(MIB)[0x14] & 1 == 0
    total = sum(contents.get(index, 0) for index in range(0x10, 0x2E))
    assert contents[0x2E] << 8 | contents[0x2F] == total


@pytest.mark.parametrize(
    ("below", "boot", "message"),
    [(MIB - 1, 0, "1 MiB"), (5 * GIB, 0, "4 GiB"), (MIB, 4, "3 places")],
)
def test_what_cmos_cannot_say(below: int, boot: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cmos_contents(below, boot=[BootDevice.DISK] * boot)
