# SPDX-License-Identifier: BSD-2-Clause
"""The 8254, by its datasheet (Intel 82C54, order number 231244), against a clocked model."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.i8254 import I8254, pulses_at, time_of


class Pit:
    """A timer on its ports, that moves by CLK pulses."""

    def __init__(self, listen: bool = True) -> None:
        self.clock = ManualClock()
        self.edges: list[tuple[int, bool]] = []
        self.pit = I8254(self.clock, self._edge if listen else None)
        self.ports = PortSpace()
        self.pit.connect(self.ports)
        self.edges.clear()

    def _edge(self, level: bool) -> None:
        self.edges.append((pulses_at(self.clock.now()), level))

    def go(self, pulses: int) -> None:
        """Let CLK fall `pulses` times."""
        self.clock.advance(time_of(pulses_at(self.clock.now()) + pulses) - self.clock.now())

    def out(self, port: int, *values: int) -> None:
        for value in values:
            self.ports.write(port, 1, value)

    def read(self, port: int) -> int:
        return self.ports.read(port, 1)

    def start(self, counter: int, mode: int, count: int, bcd: bool = False) -> None:
        self.out(0x43, counter << 6 | 0x30 | mode << 1 | bcd)
        self.out(0x40 + counter, count & 0xFF, count >> 8)

    def gate2(self, level: bool) -> None:
        self.out(0x61, int(level))

    def out2(self) -> bool:
        return bool(self.read(0x61) & 0x20)

    def latched(self, counter: int) -> int:
        self.out(0x43, counter << 6)
        low = self.read(0x40 + counter)
        return self.read(0x40 + counter) << 8 | low

    def status(self, counter: int) -> int:
        self.out(0x43, 0xE0 | 2 << counter)
        return self.read(0x40 + counter)

    def trace(self, pulses: int) -> str:
        """OUT 2 now and after each pulse."""
        levels = "_-"[self.out2()]
        for _ in range(pulses):
            self.go(1)
            levels += "_-"[self.out2()]
        return levels


def test_the_clock_is_105_88ths_of_a_megahertz() -> None:
    assert pulses_at(88_000_000_000) == 105_000_000
    for pulse in (1, 2, 3, 104, 105, 1_193_182, 10**12 + 7):
        assert pulses_at(time_of(pulse)) == pulse
        assert pulses_at(time_of(pulse) - 1) == pulse - 1


# ---- the six modes: OUT as the datasheet's figures have it -------------------------------


def test_mode_0_goes_high_n_plus_1_pulses_after_the_count() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 0, 4)
    assert pit.trace(8) == "_____----"


def test_mode_0_waits_for_the_gate_with_the_count_loaded() -> None:
    """ "When GATE goes to 1, OUT will go high N CLK pulses later"."""
    pit = Pit()
    pit.start(2, 0, 3)
    assert pit.trace(6) == "_" * 7
    assert pit.latched(2) == 3
    pit.gate2(True)
    assert pit.trace(4) == "___--"


def test_mode_0_stops_at_the_first_byte_of_two() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 0, 10)
    pit.go(5)
    pit.out(0x42, 3)
    pit.go(100)
    assert not pit.out2()
    pit.out(0x42, 0)
    assert pit.trace(4) == "____-"


def test_mode_1_is_low_from_the_pulse_after_the_trigger_for_n_and_again() -> None:
    pit = Pit()
    pit.start(2, 1, 3)
    assert pit.trace(3) == "----"
    pit.gate2(True)
    assert pit.trace(6) == "-___---"
    pit.gate2(False)
    pit.gate2(True)
    assert pit.trace(2) == "-__"
    pit.gate2(False)
    pit.gate2(True)
    assert pit.trace(5) == "____--"[:6]


def test_mode_1_takes_a_new_count_only_with_a_trigger() -> None:
    pit = Pit()
    pit.start(2, 1, 3)
    pit.gate2(True)
    pit.go(1)
    pit.out(0x42, 5, 0)
    assert pit.trace(4) == "___--"
    pit.gate2(False)
    pit.gate2(True)
    assert pit.trace(7) == "-_____--"


def test_mode_2_is_low_for_the_last_pulse_of_n() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 2, 3)
    assert pit.trace(9) == "---_--_--_"


def test_mode_2_is_high_without_the_gate_and_starts_over_with_it() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 2, 3)
    pit.go(3)
    assert not pit.out2()
    pit.gate2(False)
    assert pit.trace(5) == "------"
    pit.gate2(True)
    assert pit.trace(6) == "---_--_"


def test_mode_2_takes_a_new_count_at_the_end_of_the_cycle() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 2, 4)
    pit.go(2)
    pit.out(0x42, 3, 0)
    assert pit.trace(8) == "--_--_--_"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(4, "---__--__--"), (5, "----__---__---"), (2, "--_-_-_"), (3, "---_--_")],
)
def test_mode_3_is_high_for_the_longer_half(count: int, expected: str) -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 3, count)
    assert pit.trace(len(expected) - 1) == expected


def test_mode_3_counts_by_two() -> None:
    """The figures' counts: 4 2 4 2 for an even count of 4; 4 2 0 4 2 4 2 0 for 5."""
    for count, expected in ((4, [4, 2, 4, 2, 4]), (5, [4, 2, 0, 4, 2, 4, 2, 0])):
        pit = Pit()
        pit.gate2(True)
        pit.start(2, 3, count)
        seen = []
        for _ in expected:
            pit.go(1)
            seen.append(pit.latched(2))
        assert seen == expected


def test_mode_4_strobes_n_plus_1_pulses_after_the_count_once() -> None:
    pit = Pit()
    pit.gate2(True)
    pit.start(2, 4, 3)
    assert pit.trace(7) == "----_---"
    pit.out(0x42, 2, 0)
    assert pit.trace(5) == "---_--"


def test_mode_5_strobes_n_plus_1_pulses_after_the_trigger() -> None:
    pit = Pit()
    pit.start(2, 5, 3)
    assert pit.trace(5) == "------"
    pit.gate2(True)
    assert pit.trace(6) == "----_--"
    pit.gate2(False)
    pit.gate2(True)
    assert pit.trace(6) == "----_--"


@pytest.mark.parametrize(("word", "mode"), [(6, 2), (7, 3)])
def test_modes_6_and_7_are_2_and_3(word: int, mode: int) -> None:
    pits = Pit(), Pit()
    for pit, number in zip(pits, (word, mode), strict=True):
        pit.gate2(True)
        pit.start(2, number, 5)
    assert pits[0].trace(20) == pits[1].trace(20)
    assert pits[0].status(2) & 0x0E == word << 1, "as written"


@pytest.mark.parametrize("mode", [2, 3])
def test_a_count_of_1_which_is_forbidden_there_is_2(mode: int) -> None:
    """And does not hang; the datasheet does not say what happens."""
    pits = Pit(), Pit()
    for count, pit in enumerate(pits, 1):
        pit.gate2(True)
        pit.start(2, mode, count)
    assert pits[0].trace(9) == pits[1].trace(9)


# ---- reading ---------------------------------------------------------------------------------


def test_a_latched_count_stays_until_it_is_read() -> None:
    pit = Pit()
    pit.start(0, 0, 0x1234)
    pit.go(5)
    pit.out(0x43, 0)
    pit.go(1000)
    pit.out(0x43, 0)
    assert (pit.read(0x40), pit.read(0x40)) == (0x30, 0x12), "the second command is ignored"
    assert pit.latched(0) == 0x1234 - 1004


def test_a_count_of_0_is_the_largest() -> None:
    for bcd, largest in ((False, 65536), (True, 10000)):
        pit = Pit()
        pit.gate2(True)
        pit.start(2, 0, 0, bcd)
        pit.go(largest)
        assert not pit.out2()
        pit.go(1)
        assert pit.out2()
        pit.go(1)
        assert pit.latched(2) == (0x9999 if bcd else 0xFFFF), "counts on"


def test_bcd() -> None:
    pit = Pit()
    pit.start(0, 2, 0x1000, bcd=True)
    pit.go(2)
    assert pit.latched(0) == 0x0999
    pit.go(999)
    assert pit.latched(0) == 0x1000


@pytest.mark.parametrize(("access", "expected"), [(1, [0x34, 0x34]), (2, [0x12, 0x12])])
def test_one_byte_of_the_count(access: int, expected: list[int]) -> None:
    """The byte that is not written is 0."""
    pit = Pit()
    pit.out(0x43, access << 4)
    pit.out(0x40, 0x35 if access == 1 else 0x13)
    pit.go(2)
    if access == 2:
        assert pit.read(0x40) == 0x12
        return
    assert [pit.read(0x40), pit.read(0x40)] == expected


def test_read_back_gives_status_then_count() -> None:
    pit = Pit()
    pit.out(0x43, 0xB4)
    assert pit.status(2) == 0x80 | 0x40 | 0x34, "OUT high, null count, as written"
    pit.gate2(True)
    pit.out(0x42, 10, 0)
    assert pit.status(2) & 0x40, "not loaded before a pulse"
    pit.go(1)
    pit.out(0x43, 0xC8)
    pit.go(5)
    pit.out(0x43, 0xC8)
    assert [pit.read(0x42) for _ in range(3)] == [0xB4, 10, 0]
    assert pit.read(0x42) == 5, "unlatched"


def test_read_back_of_several() -> None:
    pit = Pit()
    for counter in range(3):
        pit.start(counter, 0, 0x100 + counter)
    pit.go(1)
    pit.out(0x43, 0xDE)
    pit.go(7)
    for counter in range(3):
        assert (pit.read(0x40 + counter), pit.read(0x40 + counter)) == (counter, 1)


def test_the_control_word_cannot_be_read() -> None:
    assert Pit().read(0x43) == 0xFF


# ---- port 0x61 ------------------------------------------------------------------------------


def test_port_61_refresh_changes_every_15_us() -> None:
    pit = Pit()
    levels = []
    for _ in range(400):
        levels.append(pit.read(0x61) >> 4 & 1)
        pit.clock.advance(1000)
    changes = sum(a != b for a, b in itertools.pairwise(levels))
    assert changes in (26, 27), "400 us / 15.085 us"


def test_port_61_keeps_its_low_bits() -> None:
    pit = Pit()
    pit.out(0x61, 0xFF)
    assert pit.read(0x61) & 0xCF == 0x0F
    assert pit.pit.speaker


# ---- who listens to OUT 0 --------------------------------------------------------------------


@pytest.mark.parametrize("mode", [2, 3])
def test_a_periodic_counter_rises_every_n_pulses(mode: int) -> None:
    pit = Pit()
    pit.start(0, mode, 100)
    pit.edges.clear()
    pit.go(1001)
    rises = [when for when, level in pit.edges if level]
    assert rises == list(range(101, 1002, 100))
    assert all(a[1] != b[1] for a, b in itertools.pairwise(pit.edges))


def test_mode_0_rises_once() -> None:
    pit = Pit()
    pit.start(0, 0, 50)
    pit.go(200_000)
    assert pit.edges == [(51, True)]


def test_no_alarm_where_nobody_listens_or_nothing_comes() -> None:
    pit = Pit(listen=False)
    pit.start(0, 2, 100)
    assert not pit.clock.armed
    pit = Pit()
    pit.start(2, 2, 100)
    assert not pit.clock.armed
    pit.start(0, 0, 5)
    assert pit.clock.armed
    pit.go(6)
    assert not pit.clock.armed


def test_a_late_look_sees_one_edge_of_many() -> None:
    """A listener that was not called in time is told of one rise, not of thousands."""
    pit = Pit()
    pit.start(0, 2, 2)
    pit.edges.clear()
    alarm = pit.pit._channels[0].alarm
    assert alarm is not None
    alarm.cancel()
    pit.go(10_000_000)
    pit.read(0x40)
    assert [level for _, level in pit.edges] in ([False, True], [False, True, False])


# ---- against a model that is clocked pulse by pulse ------------------------------------------


class Clocked:
    """A counter as the datasheet tells it, one CLK pulse after the other, binary."""

    def __init__(self, mode: int, count: int, gate: bool) -> None:
        self.mode, self.n, self.gate = mode, count, gate
        self.out = mode != 0
        self.ce: int | None = None
        self.load = mode in (0, 2, 3, 4)
        self.armed = self.odd = False

    def write(self, count: int) -> None:
        self.n = count
        if self.mode in (0, 4):
            self.load = True
        if self.mode == 0:
            self.out = self.armed = False

    def set_gate(self, level: bool) -> None:
        if level and not self.gate and self.mode in (1, 2, 3, 5):
            self.load = True
        if not level and self.mode in (2, 3):
            self.out = True
        self.gate = level

    def _fill(self) -> None:
        self.ce, self.odd = self.n, bool(self.n & 1)
        if self.mode == 3:
            self.ce -= self.n & 1

    def pulse(self) -> None:
        if self.load:
            self.load = False
            self._fill()
            self.armed = True
            self.out = self.mode not in (0, 1)
            return
        if self.mode in (4, 5):
            self.out = True
        if self.ce is None or (not self.gate and self.mode in (0, 2, 3, 4)):
            return
        if self.mode == 2:
            if self.ce == 1:
                self._fill()
                self.out = True
            else:
                self.ce -= 1
                self.out = self.ce != 1
        elif self.mode == 3:
            # An odd count's high half has one more pulse, at zero.
            if self.ce == (0 if self.out and self.odd else 2):
                self.out = not self.out
                self._fill()
            else:
                self.ce -= 2
        else:
            self.ce = (self.ce - 1) & 0xFFFF
            if self.ce == 0 and self.armed:
                self.armed = False
                self.out = self.mode not in (4, 5)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("go"), st.integers(1, 40)),
        st.tuples(st.just("gate"), st.integers(0, 1)),
        st.tuples(st.just("count"), st.integers(2, 12)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=200)
@given(mode=st.integers(0, 5), count=st.integers(2, 12), gate=st.booleans(), actions=ACTIONS)
def test_any_sequence_is_that_of_the_clocked_counter(
    mode: int, count: int, gate: bool, actions: list[tuple[str, int]]
) -> None:
    """Jumps and saving in between make no difference."""
    pit, model = Pit(), Clocked(mode, count, gate)
    pit.gate2(gate)
    pit.out(0x43, 0x90 | mode << 1)
    pit.out(0x42, count)
    for what, value in actions:
        if what == "go":
            pit.go(value)
            for _ in range(value):
                model.pulse()
        elif what == "gate":
            pit.gate2(bool(value))
            model.set_gate(bool(value))
        else:
            pit.out(0x42, value)
            model.write(value)
        assert pit.out2() is model.out
        if model.ce is not None:
            assert pit.read(0x42) == model.ce & 0xFF
        pit.pit.load(pit.pit.save())


@settings(deadline=None)
@given(mode=st.integers(0, 5), count=st.integers(2, 300), jump=st.integers(0, 5000))
def test_a_loaded_timer_goes_on_as_the_saved_one(mode: int, count: int, jump: int) -> None:
    one, other = Pit(), Pit()
    other.clock.advance(123_456_789)
    for pit in (one,):
        pit.start(0, mode, count)
        pit.gate2(True)
        pit.start(2, mode, count)
        pit.go(jump)
    other.pit.load(one.pit.save())
    one.edges.clear()
    other.edges.clear()
    began = pulses_at(one.clock.now()), pulses_at(other.clock.now())
    for _ in range(20):
        one.go(37)
        other.go(37)
        assert one.latched(2) == other.latched(2)
        assert one.out2() is other.out2()
    assert [(when - began[0], level) for when, level in one.edges] == [
        (when - began[1], level) for when, level in other.edges
    ]
