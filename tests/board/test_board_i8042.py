# SPDX-License-Identifier: BSD-2-Clause
"""The keyboard controller, by IBM's PS/2 Hardware Interface Technical Reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.i8042 import I8042


class Keyboard:
    """The controller on its ports."""

    def __init__(self, keyboard: bool = False) -> None:
        self.resets = 0
        self.irqs: dict[int, list[bool]] = {1: [], 12: []}
        self.a20: list[bool] = []
        self.chip = I8042(
            self._reset, self.irqs[1].append, self.irqs[12].append, self.a20.append, keyboard
        )
        self.ports = PortSpace()
        self.chip.connect(self.ports)

    def _reset(self) -> None:
        self.resets += 1

    def irq(self, number: int) -> bool:
        return self.irqs[number][-1]

    @property
    def status(self) -> int:
        return self.ports.read(0x64, 1)

    def command(self, value: int, *data: int) -> None:
        self.ports.write(0x64, 1, value)
        for byte in data:
            self.ports.write(0x60, 1, byte)

    def send(self, value: int) -> None:
        self.ports.write(0x60, 1, value)

    def data(self) -> int:
        assert self.status & 1, "nothing to read"
        return self.ports.read(0x60, 1)


def test_power_on() -> None:
    keyboard = Keyboard()
    assert keyboard.status & 0x07 == 0, "buffers empty, no self test passed yet"
    assert keyboard.status & 0x10, "not locked"
    assert not keyboard.irq(1)


def test_self_test_and_interface_tests() -> None:
    keyboard = Keyboard()
    keyboard.command(0xAA)
    assert keyboard.data() == 0x55
    assert keyboard.status & 0x05 == 0x04
    keyboard.command(0xAB)
    assert keyboard.data() == 0
    keyboard.command(0xA9)
    assert keyboard.data() != 0, "no auxiliary device"


def test_the_status_tells_command_from_data() -> None:
    keyboard = Keyboard()
    keyboard.command(0x60)
    assert keyboard.status & 8
    keyboard.send(0x45)
    assert not keyboard.status & 8
    assert not keyboard.status & 1, "data of a command answers nothing"


def test_the_command_byte_and_memory() -> None:
    keyboard = Keyboard()
    keyboard.command(0x60, 0x65)
    keyboard.command(0x20)
    assert keyboard.data() == 0x65
    keyboard.command(0x7F, 0xA5)
    keyboard.command(0x3F)
    assert keyboard.data() == 0xA5
    for command, bit, is_set in (
        (0xAE, 0x10, 0),
        (0xAD, 0x10, 1),
        (0xA8, 0x20, 0),
        (0xA7, 0x20, 1),
    ):
        keyboard.command(command)
        keyboard.command(0x20)
        assert bool(keyboard.data() & bit) is bool(is_set)


def test_without_a_keyboard_every_byte_for_it_ends_in_a_time_out() -> None:
    keyboard = Keyboard()
    keyboard.command(0x60, 0x01)
    for byte in (0xFF, 0xED, 0xF4):
        keyboard.send(byte)
        assert keyboard.status & 0x61 == 0x41
        assert keyboard.irq(1)
        assert keyboard.data() == 0xFE
        assert keyboard.status & 0x41 == 0
        assert not keyboard.irq(1)
    with pytest.raises(ValueError, match="no keyboard"):
        keyboard.chip.key(b"\x1e")


def test_an_absent_mouse_is_told_on_its_own_interrupt() -> None:
    keyboard = Keyboard()
    keyboard.command(0x60, 0x03)
    keyboard.command(0xD4, 0xFF)
    assert keyboard.status & 0x61 == 0x61
    assert (keyboard.irq(1), keyboard.irq(12)) == (False, True)
    assert keyboard.data() == 0xFE


def test_a20_by_command_and_by_output_port() -> None:
    keyboard = Keyboard()
    for command, data, level in (
        (0xDD, (), False), (0xDF, (), True), (0xD1, (0xDD,), False), (0xD1, (0xDF,), True),
    ):  # fmt: skip
        keyboard.command(command, *data)
        assert keyboard.chip.a20 is keyboard.a20[-1] is level
        keyboard.command(0xD0)
        assert bool(keyboard.data() & 2) is level
    assert keyboard.resets == 0


@pytest.mark.parametrize("commands", [(0xFE,), (0xF0,), (0xD1, 0xDE)])
def test_resets(commands: tuple[int, ...]) -> None:
    keyboard = Keyboard()
    keyboard.command(commands[0], *commands[1:])
    assert keyboard.resets == 1


@pytest.mark.parametrize("command", [0xFF, 0xFD, 0xF1])
def test_pulses_of_other_lines_reset_nothing(command: int) -> None:
    keyboard = Keyboard()
    keyboard.command(command)
    assert keyboard.resets == 0


def test_putting_bytes_in_the_output_buffer() -> None:
    keyboard = Keyboard()
    keyboard.command(0xD2, 0x12)
    assert keyboard.status & 0x21 == 0x01
    assert keyboard.data() == 0x12
    keyboard.command(0xD3, 0x34)
    assert keyboard.status & 0x21 == 0x21
    assert keyboard.data() == 0x34


def test_a_keyboard_answers() -> None:
    keyboard = Keyboard(keyboard=True)
    for sent, answer in (
        (0xFF, [0xFA, 0xAA]), (0xF2, [0xFA, 0xAB, 0x83]), (0xEE, [0xEE]), (0xED, [0xFA]),
        (0x02, [0xFA]), (0xF4, [0xFA]), (0x02, [0xFE]),
    ):  # fmt: skip
        keyboard.send(sent)
        got = []
        while keyboard.status & 1:
            got.append(keyboard.data())
        assert got == answer
        assert keyboard.status & 0x40 == 0


def test_keys_interrupt_one_by_one_and_wait_while_the_interface_is_closed() -> None:
    keyboard = Keyboard(keyboard=True)
    keyboard.command(0x60, 0x01)
    keyboard.chip.key(b"\x1e\x9e")
    assert keyboard.irq(1)
    before = len(keyboard.irqs[1])
    assert keyboard.data() == 0x1E
    assert keyboard.irqs[1][before:] == [False, True], "an edge for each byte"
    keyboard.command(0xAD)
    assert keyboard.data() == 0x9E
    keyboard.chip.key(b"\x1f")
    assert not keyboard.status & 1
    keyboard.command(0xAE)
    assert keyboard.data() == 0x1F


def test_no_interrupt_that_is_not_enabled() -> None:
    keyboard = Keyboard(keyboard=True)
    keyboard.command(0x60, 0x00)
    keyboard.chip.key(b"\x1e")
    assert keyboard.status & 1
    assert True not in keyboard.irqs[1]


STEPS = st.lists(st.tuples(st.sampled_from("rwsck"), st.integers(0, 255)), max_size=30)


def step(keyboard: Keyboard, what: tuple[str, int]) -> int | None:
    kind, value = what
    if kind == "r":
        return keyboard.ports.read(0x60, 1)
    if kind == "s":
        return keyboard.status
    if kind == "k":
        keyboard.chip.key(bytes([value]))
    else:
        keyboard.ports.write(0x60 if kind == "w" else 0x64, 1, value)
    return None


@settings(deadline=None)
@given(before=STEPS, after=STEPS)
def test_a_loaded_controller_goes_on_as_the_saved_one(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    one, other = Keyboard(keyboard=True), Keyboard(keyboard=True)
    for what in before:
        step(one, what)
    other.chip.load(one.chip.save())
    assert other.resets == 0
    one.resets = 0
    for what in after:
        assert step(one, what) == step(other, what)
        assert (one.irq(1), one.irq(12)) == (other.irq(1), other.irq(12))
    assert one.resets == other.resets
    one.chip.reset()
    assert one.chip.save() == Keyboard(keyboard=True).chip.save()
