# SPDX-License-Identifier: BSD-2-Clause
"""The I/O APIC by the 82093AA's datasheet (290566), section 3."""

from __future__ import annotations

import pytest
from apic_rig import LEVEL, MASKED, NMI, SMI, Rig

from nvmmconf.board.interfaces import DeviceMemory
from nvmmconf.board.io_apic import PINS, IoApic

VECTOR = 0x41
REMOTE_IRR = 1 << 14


class Board:
    """Two CPUs and an I/O APIC."""

    def __init__(self) -> None:
        self.rig = Rig(2)
        self.io = IoApic(self.rig.bus)
        self.device: DeviceMemory = self.io

    def read(self, index: int) -> int:
        self.device.memory_write(0, index.to_bytes(4, "little"))
        return int.from_bytes(self.device.memory_read(0x10, 4), "little")

    def write(self, index: int, value: int) -> None:
        self.device.memory_write(0, index.to_bytes(4, "little"))
        self.device.memory_write(0x10, value.to_bytes(4, "little"))

    def entry(self, pin: int, low: int, destination: int = 0) -> None:
        self.write(0x11 + 2 * pin, destination << 24)
        self.write(0x10 + 2 * pin, low)

    @property
    def asserted(self) -> list[bool]:
        return [cpu.intr for cpu in self.rig.cpus]

    def take(self, cpu: int) -> None:
        """Take the interrupt to its end."""
        assert self.rig.apics[cpu].acknowledge() == VECTOR
        self.rig.apics[cpu].write_register(0xB0, 0)


@pytest.fixture
def board() -> Board:
    return Board()


def test_after_reset(board: Board) -> None:
    """3.2: version 11H, 17H is the last entry; all entries masked."""
    assert [board.read(index) for index in (0, 1, 2)] == [0, 0x00170011, 0]
    for pin in range(PINS):
        assert board.read(0x10 + 2 * pin) == MASKED
        assert board.read(0x11 + 2 * pin) == 0
    assert board.read(0x40) == board.read(0xFF) == board.read(3) == 0


def test_what_may_be_written(board: Board) -> None:
    """3.2.1: ID is bits 27:24; 3.2.4: status and remote IRR are read-only."""
    board.write(0, 0xFFFFFFFF)
    board.write(1, 0xFFFFFFFF)
    assert [board.read(index) for index in (0, 1, 2)] == [0x0F000000, 0x00170011, 0x0F000000]
    for pin in (0, PINS - 1):
        board.entry(pin, 0xFFFFFFFF, 0xFF)
        assert board.read(0x10 + 2 * pin) == 0x1AFFF
        assert board.read(0x11 + 2 * pin) == 0xFF000000
    assert board.read(0x12) == MASKED
    board.io.reset()
    assert (board.read(0), board.read(0x10), board.read(0x11)) == (0, MASKED, 0)


@pytest.mark.parametrize(("offset", "size"), [(0x10, 1), (0x12, 2), (0x10, 8), (0x20, 4)])
def test_other_accesses_are_zero_and_lost(board: Board, offset: int, size: int) -> None:
    board.write(0, 5 << 24)
    assert board.device.memory_read(offset, size) == bytes(size)
    board.device.memory_write(offset, b"\xff" * size)
    assert board.read(0) == 5 << 24


@pytest.mark.parametrize("pin", range(PINS))
def test_an_edge(board: Board, pin: int) -> None:
    board.entry(pin, VECTOR, 1)
    board.io.set_pin(pin, True)
    assert board.asserted == [False, True]
    board.take(1)
    for level in (True, False):
        board.io.set_pin(pin, level)
        assert board.asserted == [False, False]
    board.io.set_pin(pin, True)
    assert board.asserted == [False, True]
    assert board.read(0x10 + 2 * pin) == VECTOR


def test_an_edge_while_masked_is_ignored(board: Board) -> None:
    """3.2.4, interrupt mask: neither delivered nor held pending."""
    board.entry(3, MASKED | VECTOR)
    board.io.set_pin(3, True)
    board.entry(3, VECTOR)
    assert board.asserted == [False, False]


def test_a_level_comes_again_after_its_eoi_while_it_is_asserted(board: Board) -> None:
    """3.2.4, remote IRR: set when it is accepted, reset by the EOI message."""
    board.entry(9, LEVEL | MASKED | VECTOR)
    board.io.set_pin(9, True)
    assert board.asserted == [False, False]
    board.entry(9, LEVEL | VECTOR)
    for _ in range(3):
        assert board.read(0x10 + 18) == LEVEL | VECTOR | REMOTE_IRR
        assert board.asserted == [True, False]
        board.take(0)
    board.io.set_pin(9, False)
    board.take(0)
    assert board.asserted == [False, False]
    assert board.read(0x10 + 18) == LEVEL | VECTOR


def test_a_level_in_service_is_not_sent_again_but_by_its_own_eoi(board: Board) -> None:
    board.entry(9, LEVEL | VECTOR)
    board.io.set_pin(9, True)
    assert board.rig.apic.acknowledge() == VECTOR
    board.io.set_pin(9, True)
    board.entry(9, LEVEL | VECTOR)
    assert board.rig.bitmap(0x200) == set()
    board.entry(3, LEVEL | 0x99)
    board.io.set_pin(3, True)
    assert board.rig.apic.acknowledge() == 0x99
    board.io.set_pin(3, False)
    board.rig.write(0xB0, 0)  # the other's
    assert board.rig.bitmap(0x200) == set()
    assert board.read(0x10 + 18) & REMOTE_IRR
    board.rig.write(0xB0, 0)
    assert board.rig.bitmap(0x200) == {VECTOR}


def test_two_levels_of_one_vector_both_hear_of_the_eoi(board: Board) -> None:
    for pin in (4, 5):
        board.entry(pin, LEVEL | VECTOR)
        board.io.set_pin(pin, True)
    board.io.set_pin(4, False)
    board.take(0)
    assert board.asserted == [True, False]
    board.io.set_pin(5, False)
    board.take(0)
    assert board.asserted == [False, False]


def test_a_level_that_nobody_takes_is_not_taken_for_accepted(board: Board) -> None:
    board.entry(4, LEVEL | VECTOR, 7)
    board.io.set_pin(4, True)
    assert board.read(0x18) == LEVEL | VECTOR
    board.write(0x19, 1 << 24)
    assert board.asserted == [False, True]


@pytest.mark.parametrize(("mode", "pulse"), [(NMI, "nmi"), (SMI, "smi")])
@pytest.mark.parametrize("trigger", [0, LEVEL])
def test_nmi_and_smi(board: Board, mode: int, pulse: str, trigger: int) -> None:
    board.entry(2, mode | trigger, 1)
    board.io.set_pin(2, True)
    assert [cpu.pulses for cpu in board.rig.cpus] == [[], [pulse]]


def test_logical_and_lowest_priority(board: Board) -> None:
    for number, apic in enumerate(board.rig.apics):
        apic.write_register(0xD0, 1 << 24 + number)
    board.entry(2, 1 << 11 | 1 << 8 | VECTOR, 3)
    board.rig.apic.tpr = 2
    board.io.set_pin(2, True)
    assert board.asserted == [False, True]
    board.entry(6, 1 << 11 | VECTOR, 1)
    board.io.set_pin(6, True)
    assert board.asserted == [True, True]


def test_extint_sends_nothing_and_says_so(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    board.entry(0, 7 << 8)
    board.io.set_pin(0, True)
    assert board.asserted == [False, False]
    assert "EXTINT" in caplog.text


def test_saved_and_loaded(board: Board) -> None:
    board.entry(9, LEVEL | VECTOR)
    board.io.set_pin(9, True)
    board.write(0, 3 << 24)
    state = board.io.save()
    board.io.reset()
    board.io.set_pin(9, False)
    board.io.load(state)
    assert board.io.save() == state
    board.take(0)
    assert board.asserted == [True, False]  # asserted still
