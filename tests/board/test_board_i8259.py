# SPDX-License-Identifier: BSD-2-Clause
"""The 8259A pair, by its datasheet (Intel, order number 231468)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.i8259 import I8259Pair

MASTER, SLAVE = 0x20, 0xA0


class Pc:
    """The pair on its ports, initialised as a PC's firmware does: vectors 0x08 and 0x70."""

    def __init__(self, icw1: int = 0x11, icw4: int = 0x01) -> None:
        self.levels: list[bool] = []
        self.pair = I8259Pair(self.levels.append)
        self.ports = PortSpace()
        self.pair.connect(self.ports)
        for port, base, wiring in ((MASTER, 0x08, 4), (SLAVE, 0x70, 2)):
            self.ports.write(port, 1, icw1)
            for word in (base, wiring, icw4):
                self.ports.write(port + 1, 1, word)
        self.lines = {irq: self.pair.line(irq) for irq in range(16) if irq != 2}

    @property
    def intr(self) -> bool:
        return bool(self.levels) and self.levels[-1]

    def raise_(self, *irqs: int) -> None:
        for irq in irqs:
            self.lines[irq](True)

    def lower(self, *irqs: int) -> None:
        for irq in irqs:
            self.lines[irq](False)

    def out(self, port: int, value: int) -> None:
        self.ports.write(port, 1, value)

    def registers(self, port: int) -> tuple[int, int, int]:
        """IRR, ISR, IMR."""
        self.out(port, 0x0A)
        irr = self.ports.read(port, 1)
        self.out(port, 0x0B)
        return irr, self.ports.read(port, 1), self.ports.read(port + 1, 1)

    def drain(self) -> list[int]:
        """Acknowledge and end whatever asks."""
        vectors = []
        while self.intr:
            vectors.append(self.pair.acknowledge())
            if vectors[-1] >= 0x70:
                self.out(SLAVE, 0x20)
            self.out(MASTER, 0x20)
        return vectors


@pytest.mark.parametrize("irq", [irq for irq in range(16) if irq != 2])
def test_an_edge_is_delivered_once(irq: int) -> None:
    pc = Pc()
    pc.raise_(irq)
    assert pc.intr
    assert pc.pair.acknowledge() == (0x08 + irq if irq < 8 else 0x70 + irq - 8)
    assert not pc.intr
    port = SLAVE if irq >= 8 else MASTER
    assert pc.registers(port) == (0, 1 << (irq & 7), 0)
    pc.out(port, 0x20)
    pc.out(MASTER, 0x20)
    assert pc.registers(port) == (0, 0, 0)
    assert not pc.intr
    pc.raise_(irq)
    assert not pc.intr, "no edge without going low"
    pc.lower(irq)
    pc.raise_(irq)
    assert pc.intr


def test_nothing_goes_out_before_the_initialisation() -> None:
    levels: list[bool] = []
    pair = I8259Pair(levels.append)
    pair.line(0)(True)
    assert True not in levels


def test_priorities_of_a_pair_are_0_1_then_the_slaves_then_3_to_7() -> None:
    pc = Pc()
    pc.raise_(*reversed(pc.lines))
    slaves = list(range(0x70, 0x78))
    assert pc.drain() == [0x08, 0x09, *slaves, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F]


def test_in_service_holds_back_the_same_and_lower_but_not_higher() -> None:
    pc = Pc()
    pc.raise_(4)
    assert pc.pair.acknowledge() == 0x0C
    pc.lower(4)
    pc.raise_(4, 5)
    assert not pc.intr
    pc.raise_(3)
    assert pc.intr
    assert pc.pair.acknowledge() == 0x0B
    pc.out(MASTER, 0x20)
    assert pc.registers(MASTER)[1] == 1 << 4, "an EOI ends the highest in service"


def test_masked_requests_wait() -> None:
    pc = Pc()
    pc.out(MASTER + 1, 0x10)
    pc.raise_(4)
    assert not pc.intr
    assert pc.registers(MASTER) == (0x10, 0, 0x10)
    pc.out(MASTER + 1, 0)
    assert pc.intr


def test_a_request_that_is_withdrawn_is_spurious_irq_7() -> None:
    """ "If the IR input goes low before this time a DEFAULT IR7 will occur"; no ISR bit is set."""
    pc = Pc()
    pc.raise_(4)
    pc.lower(4)
    assert not pc.intr
    assert pc.pair.acknowledge() == 0x0F
    assert pc.registers(MASTER) == (0, 0, 0)


def test_a_slave_that_has_nothing_gives_its_irq_7() -> None:
    pc = Pc()
    pc.pair.master.input(2, True)
    assert pc.pair.acknowledge() == 0x77
    assert pc.registers(SLAVE)[1] == 0
    assert pc.registers(MASTER)[1] == 4, "the master's is in service"


def test_specific_eoi_ends_what_it_names() -> None:
    pc = Pc()
    for irq in (5, 3):
        pc.raise_(irq)
        pc.pair.acknowledge()
    pc.out(MASTER, 0x65)
    assert pc.registers(MASTER)[1] == 1 << 3


def test_automatic_eoi_leaves_nothing_in_service() -> None:
    pc = Pc(icw4=0x03)
    pc.raise_(8, 9)
    assert pc.pair.acknowledge() == 0x70
    assert pc.registers(MASTER)[1] == pc.registers(SLAVE)[1] == 0
    assert pc.intr, "the second of the slave's, though its INT asked all the time"
    assert pc.pair.acknowledge() == 0x71


def test_rotation_makes_the_ended_one_the_lowest() -> None:
    pc = Pc()
    pc.raise_(4)
    pc.pair.acknowledge()
    pc.out(MASTER, 0xA0)
    pc.lower(4)
    pc.raise_(0, 3, 4, 5)
    assert pc.drain() == [0x0D, 0x08, 0x0B, 0x0C]


def test_rotation_on_a_specific_eoi_and_set_priority() -> None:
    for words in ((0xE5,), (0x65, 0xC5)):
        pc = Pc()
        pc.raise_(5)
        pc.pair.acknowledge()
        for word in words:
            pc.out(MASTER, word)
        assert pc.registers(MASTER)[1] == 0
        pc.lower(5)
        pc.raise_(0, 5, 6)
        assert pc.drain() == [0x0E, 0x08, 0x0D]


def test_rotation_in_automatic_eoi_can_be_set_and_cleared() -> None:
    pc = Pc(icw4=0x03)
    pc.out(MASTER, 0x80)
    pc.raise_(0, 1)
    assert pc.pair.acknowledge() == 0x08
    pc.lower(0)
    pc.raise_(0)
    assert pc.pair.acknowledge() == 0x09, "0 is the lowest now"
    pc.out(MASTER, 0x00)
    assert pc.pair.acknowledge() == 0x08


def test_special_mask_mode_lets_lower_ones_through_and_keeps_the_masked_from_an_eoi() -> None:
    pc = Pc()
    pc.raise_(3)
    pc.pair.acknowledge()
    pc.raise_(6)
    pc.out(MASTER + 1, 1 << 3)
    assert not pc.intr
    pc.out(MASTER, 0x68)
    assert pc.intr
    assert pc.pair.acknowledge() == 0x0E
    pc.out(MASTER, 0x20)
    assert pc.registers(MASTER)[1] == 1 << 3
    pc.out(MASTER, 0x20)
    assert pc.registers(MASTER)[1] == 1 << 3
    pc.out(MASTER, 0x48)
    pc.out(MASTER, 0x20)
    assert pc.registers(MASTER)[1] == 0


@pytest.mark.parametrize(("icw4", "comes"), [(0x01, False), (0x11, True)])
def test_special_fully_nested_mode_lets_a_slave_ask_again(icw4: int, comes: bool) -> None:
    pc = Pc(icw4=icw4)
    pc.raise_(12)
    assert pc.pair.acknowledge() == 0x74
    pc.raise_(13)
    assert not pc.intr, "lower than what the slave serves"
    pc.raise_(9)
    assert pc.intr is comes


def test_poll_is_an_acknowledge_of_each() -> None:
    pc = Pc()
    pc.raise_(9)
    pc.out(MASTER, 0x0C)
    assert pc.ports.read(MASTER, 1) == 0x82
    pc.out(SLAVE, 0x0C)
    assert pc.ports.read(SLAVE, 1) == 0x81
    assert (pc.registers(MASTER)[1], pc.registers(SLAVE)[1]) == (4, 2)
    pc.out(MASTER, 0x0C)
    assert pc.ports.read(MASTER, 1) & 0x80 == 0, "nothing asks"
    assert pc.ports.read(MASTER, 1) == 4, "one read only is a poll: this is ISR again"


def test_a_poll_waits_for_its_read() -> None:
    """ "The next RD pulse" is the acknowledge, from either port, whatever is written before."""
    pc = Pc()
    pc.raise_(3)
    for word in (0x0C, 0x0B, 0x60):
        pc.out(MASTER, word)
    assert pc.ports.read(MASTER + 1, 1) == 0x83
    assert pc.ports.read(MASTER + 1, 1) == 0


def test_level_triggered_asks_as_long_as_it_is_high() -> None:
    pc = Pc()
    pc.out(0x4D1, 0xFF)
    pc.raise_(10)
    for _ in range(2):
        assert pc.pair.acknowledge() == 0x72
        assert pc.registers(SLAVE)[0] == 4
        pc.out(SLAVE, 0x20)
        pc.out(MASTER, 0x20)
        assert pc.intr
    pc.lower(10)
    assert not pc.intr


def test_icw1_can_make_all_level_triggered() -> None:
    pc = Pc(icw1=0x19)
    pc.raise_(3)
    assert pc.pair.acknowledge() == 0x0B
    pc.out(MASTER, 0x20)
    assert pc.intr


def test_elcr_keeps_the_systems_own_as_edges() -> None:
    """IRQ 0, 1, 2, 8 and 13 cannot be level-triggered (PIIX)."""
    pc = Pc()
    pc.ports.write(0x4D0, 2, 0xFFFF)
    assert pc.ports.read(0x4D0, 2) == 0xDEF8


def test_icw1_forgets_masks_edges_and_rotation() -> None:
    pc = Pc()
    pc.out(MASTER, 0xC3)
    pc.out(MASTER + 1, 0xFF)
    pc.out(MASTER, 0x0B)
    pc.raise_(1)
    for port, word in ((0, 0x11), (1, 0x20), (1, 4), (1, 1)):
        pc.out(MASTER + port, word)
    assert pc.ports.read(MASTER, 1) == 0, "IRR is read again, and the edge is forgotten"
    assert pc.ports.read(MASTER + 1, 1) == 0
    pc.raise_(3)
    pc.lower(1)
    pc.raise_(1)
    assert pc.pair.acknowledge() == 0x21, "not 3: the priorities are the first again"


def test_without_icw4_and_icw3_the_sequence_is_shorter() -> None:
    pc = Pc()
    pc.out(MASTER, 0x12)
    pc.out(MASTER + 1, 0x40)
    pc.out(MASTER + 1, 0xFB)
    assert pc.ports.read(MASTER + 1, 1) == 0xFB


def test_a_word_to_both_ports_of_one() -> None:
    pc = Pc()
    pc.ports.write(MASTER, 2, 0xA50B)
    assert pc.ports.read(MASTER + 1, 1) == 0xA5


@pytest.mark.parametrize("irq", [-1, 2, 16])
def test_wires_that_do_not_exist(irq: int) -> None:
    with pytest.raises(ValueError, match="has no wire"):
        I8259Pair().line(irq)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.integers(0, 15).filter(lambda n: n != 2), st.booleans()),
        st.tuples(st.just("ack"), st.just(0), st.just(False)),
        st.tuples(
            st.sampled_from(["0x20", "0x21", "0xa0", "0xa1", "0x4d0", "0x4d1"]),
            st.integers(0, 255),
            st.booleans(),
        ),
    ),
    max_size=40,
)


def step(pc: Pc, what: tuple[str, int, bool]) -> int | None:
    kind, number, flag = what
    if kind == "line":
        pc.lines[number](flag)
    elif kind == "ack":
        return pc.pair.acknowledge()
    elif flag:
        return pc.ports.read(int(kind, 16), 1)
    else:
        pc.out(int(kind, 16), number)
    return None


@settings(deadline=None)
@given(before=STEPS, after=STEPS)
def test_a_loaded_pair_goes_on_as_the_saved_one(
    before: list[tuple[str, int, bool]], after: list[tuple[str, int, bool]]
) -> None:
    one, other = Pc(), Pc()
    for what in before:
        step(one, what)
    other.pair.load(one.pair.save())
    assert other.intr is one.intr
    for what in after:
        assert step(one, what) == step(other, what)
        assert one.intr is other.intr


def test_fully_nested_means_nothing_lower_even_with_a_slave_in_service() -> None:
    """Special fully nested mode opens the slave's own input, not those below it."""
    pc = Pc(icw4=0x11)
    pc.raise_(9)
    assert pc.pair.acknowledge() == 0x71
    pc.raise_(4)
    assert not pc.intr
    pc.raise_(1)
    assert pc.intr


@settings(deadline=None)
@given(steps=STEPS)
def test_an_acknowledge_is_spurious_only_while_intr_is_low(
    steps: list[tuple[str, int, bool]],
) -> None:
    pc = Pc()
    for what in steps:
        before = pc.intr, pc.pair.save()
        vector = step(pc, what)
        if what[0] == "ack" and not before[0]:
            assert vector is not None
            assert vector & 7 == 7
            assert pc.pair.save() == before[1]


def test_reset_is_power_on() -> None:
    pc = Pc()
    pc.raise_(3)
    pc.pair.acknowledge()
    pc.out(MASTER + 1, 0x55)
    pc.out(0x4D0, 0x20)
    pc.lower(3)
    pc.pair.reset()
    assert pc.pair.save() == I8259Pair().save()
