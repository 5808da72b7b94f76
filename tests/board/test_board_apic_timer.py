# SPDX-License-Identifier: BSD-2-Clause
"""The local APIC's timer, SDM 3A 10.5.4: a bus clock of 1 GHz, divided, counts down."""

from __future__ import annotations

import pytest
from apic_rig import MASKED, PERIODIC, Rig
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board.apic_timer import MERGE_NS, TICK_NS, ApicTimer
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.local_apic import LocalApic

SVR, TIMER, INITIAL, CURRENT, DIVIDE = 0x0F0, 0x320, 0x380, 0x390, 0x3E0
# Figure 10-10: bits 0, 1 and 3.
DIVISORS = {0b0000: 2, 0b0001: 4, 0b0010: 8, 0b0011: 16, 0b1000: 32, 0b1001: 64, 0b1010: 128}
DIVISORS[0b1011] = 1


def taken(rig: Rig) -> bool:
    """Take the timer's interrupt, if there is one."""
    if not rig.cpu.intr:
        return False
    assert rig.apic.acknowledge() == 0x40
    rig.write(0xB0, 0)
    return True


@pytest.mark.parametrize("divide", DIVISORS)
def test_one_shot_counts_down_to_zero_and_stays(divide: int) -> None:
    rig, step = Rig(), DIVISORS[divide] * TICK_NS
    rig.write(DIVIDE, divide)
    rig.write(TIMER, 0x40)
    rig.clock.advance(12345)
    rig.write(INITIAL, 1000)
    for count in (1000, 999, 998):
        assert rig.read(CURRENT) == count
        rig.clock.advance(step - 1)
        assert rig.read(CURRENT) == count
        rig.clock.advance(1)
    rig.clock.advance(997 * step - 1)
    assert (rig.read(CURRENT), taken(rig)) == (1, False)
    rig.clock.advance(1)
    assert (rig.read(CURRENT), taken(rig)) == (0, True)
    rig.clock.advance(5000 * step)
    assert (rig.read(CURRENT), taken(rig)) == (0, False)
    assert rig.read(INITIAL) == 1000
    assert not rig.clock.armed


@given(
    divide=st.sampled_from(sorted(DIVISORS)),
    initial=st.integers(1, 50).map(lambda n: n * MERGE_NS),
    steps=st.lists(st.integers(0, 100 * MERGE_NS), max_size=8),
)
def test_periodic_reloads_when_it_reaches_zero(divide: int, initial: int, steps: list[int]) -> None:
    """An interrupt each `initial` counts; between them the count goes from `initial` to 1."""
    rig, step = Rig(), DIVISORS[divide]
    rig.write(DIVIDE, divide)
    rig.write(TIMER, PERIODIC | 0x40)
    rig.write(INITIAL, initial)
    seen = 0
    for advance in steps:
        before = rig.clock.now() // (initial * step)
        rig.clock.advance(advance)
        cycles, rest = divmod(rig.clock.now(), initial * step)
        assert rig.read(CURRENT) == initial - rest // step
        assert taken(rig) is (cycles > before)
        seen += cycles - before
    assert rig.clock.armed


def test_every_period_is_an_interrupt() -> None:
    rig, times = Rig(), []

    def interrupt(asserted: bool) -> None:
        if asserted:
            times.append(rig.clock.now())
            assert rig.apic.acknowledge() == 0x40
            rig.write(0xB0, 0)

    rig.cpu.interrupt = interrupt  # type: ignore[method-assign]
    rig.write(DIVIDE, 0b1011)
    rig.write(TIMER, PERIODIC | 0x40)
    rig.write(INITIAL, MERGE_NS)
    rig.clock.advance(5 * MERGE_NS)
    assert times == [MERGE_NS * n for n in range(1, 6)]


def test_a_period_of_nothing_does_not_keep_the_board_busy() -> None:
    """A period of a nanosecond: the count is exact, expiries are merged."""
    clock, calls = ManualClock(), []
    timer = ApicTimer(clock, lambda: calls.append(clock.now()))
    timer.divide = 0b1011
    timer.configure(periodic=True, wanted=True)
    timer.initial = 1
    clock.advance(1 + 100 * MERGE_NS)
    assert calls == [1 + MERGE_NS * n for n in range(101)]
    timer.initial = 3
    clock.advance(MERGE_NS * 3 + 2)
    assert timer.current == 1


def test_an_initial_count_of_zero_stops_it() -> None:
    rig = Rig()
    rig.write(TIMER, PERIODIC | 0x40)
    rig.write(INITIAL, 100)
    rig.clock.advance(150)
    assert rig.clock.armed
    rig.write(INITIAL, 0)
    assert (rig.read(CURRENT), rig.clock.armed) == (0, False)
    rig.clock.advance(1000)
    assert not taken(rig)


def test_a_write_of_the_initial_count_starts_again() -> None:
    rig = Rig()
    rig.write(TIMER, 0x40)
    rig.write(INITIAL, 100)
    rig.clock.advance(199)
    rig.write(INITIAL, 50)
    assert rig.read(CURRENT) == 50
    rig.clock.advance(99)
    assert not taken(rig)
    rig.clock.advance(1)
    assert taken(rig)


@pytest.mark.parametrize("mode", [0, PERIODIC])
def test_a_masked_timer_counts_and_interrupts_nobody(mode: int) -> None:
    """Nor does it keep anybody waiting: no alarm is armed."""
    rig = Rig()
    rig.write(TIMER, MASKED | mode | 0x40)
    rig.write(INITIAL, 100)
    assert not rig.clock.armed
    rig.clock.advance(230)
    assert rig.read(CURRENT) == (85 if mode else 0)
    rig.write(TIMER, mode | 0x40)
    assert (taken(rig), rig.clock.armed) == (False, bool(mode))
    rig.clock.advance(169)
    assert (rig.read(CURRENT), taken(rig)) == ((1, False) if mode else (0, False))
    rig.clock.advance(1)
    assert taken(rig) is bool(mode)


def test_masking_and_unmasking_does_not_shift_the_time() -> None:
    rig = Rig()
    rig.write(DIVIDE, 0b1010)  # 128
    rig.write(TIMER, PERIODIC | 0x40)
    rig.write(INITIAL, 1000)
    for _ in range(100):
        rig.clock.advance(77)
        rig.write(TIMER, MASKED | PERIODIC | 0x40)
        rig.write(TIMER, PERIODIC | 0x40)
    rig.clock.advance(128_000 - 7700 - 1)
    assert not taken(rig)
    rig.clock.advance(1)
    assert taken(rig)


def test_one_shot_made_periodic_while_it_runs_goes_on() -> None:
    rig = Rig()
    rig.write(TIMER, 0x40)
    rig.write(INITIAL, 10_000)
    rig.clock.advance(8000)
    rig.write(TIMER, PERIODIC | 0x40)
    assert rig.read(CURRENT) == 6000
    rig.clock.advance(12_000)
    assert taken(rig)
    rig.clock.advance(19_999)
    assert not taken(rig)
    rig.clock.advance(1)
    assert taken(rig)
    rig.write(TIMER, 0x40)
    rig.clock.advance(20_000)
    assert taken(rig)
    rig.clock.advance(20_000)
    assert (taken(rig), rig.read(CURRENT)) == (False, 0)


def test_another_divisor_goes_on_from_the_count_that_is_reached() -> None:
    rig = Rig()
    rig.write(TIMER, 0x40)
    rig.write(INITIAL, 100)
    rig.clock.advance(101)  # 50 counts of 2 ns, and half of one
    rig.write(DIVIDE, 0b1011)
    assert rig.read(CURRENT) == 50
    rig.clock.advance(49)
    assert not taken(rig)
    rig.clock.advance(1)
    assert taken(rig)


def test_an_illegal_vector_is_an_error_and_no_interrupt() -> None:
    rig = Rig()
    rig.write(TIMER, 0x0F)
    rig.write(INITIAL, 10)
    rig.clock.advance(20)
    assert (rig.cpu.intr, rig.errors()) == (False, 0x40)


def test_disabled_by_software_it_counts_on_without_an_alarm() -> None:
    """10.4.7.2: the LVT is masked; that is all."""
    rig = Rig()
    rig.write(TIMER, PERIODIC | 0x40)
    rig.write(INITIAL, 100)
    rig.write(0xF0, 0xFF)
    assert not rig.clock.armed
    rig.clock.advance(20)
    assert rig.read(CURRENT) == 90


class _LateClock(ManualClock):
    """A clock whose alarms come late, as one whose thread waits for the board's lock."""

    def pass_unseen(self, ns: int) -> None:
        """Time passes, and no alarm is called yet."""
        self._now += ns


@pytest.mark.parametrize("register", [TIMER, DIVIDE, INITIAL, SVR])
@pytest.mark.parametrize("value", [0, MASKED])
def test_an_expiry_comes_before_what_is_written_after_it(register: int, value: int) -> None:
    """Masked, disabled or started anew later, it has been an interrupt already."""
    rig = Rig()
    clock = _late(rig)
    rig.write(TIMER, 0x40)
    rig.write(INITIAL, 1000)
    clock.pass_unseen(5000 * 2 * TICK_NS)
    rig.write(register, value)
    assert taken(rig)
    clock.advance(0)
    assert not taken(rig)


def test_an_expiry_whose_alarm_is_late_is_saved() -> None:
    """What was counted down is not lost between two machines."""
    rig = Rig()
    clock = _late(rig)
    rig.write(TIMER, 0x40)
    rig.write(INITIAL, 1000)
    clock.pass_unseen(5000 * 2 * TICK_NS)
    other = Rig()
    other.apic.load(rig.apic.save())
    other.clock.advance(0)
    assert taken(other)


def _late(rig: Rig) -> _LateClock:
    """Give the rig's APIC such a clock."""
    clock = _LateClock()
    rig.apic = LocalApic(0, rig.bus, clock, rig.inta, is_bsp=True)
    rig.apic.connect(rig.cpu)
    rig.write(SVR, 0x1FF)
    return clock
