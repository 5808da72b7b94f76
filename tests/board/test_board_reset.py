# SPDX-License-Identifier: BSD-2-Clause
"""What resets a PC besides the keyboard controller: port 0x92 and 0xCF9."""

from __future__ import annotations

import pytest

from nvmmconf.board import PortSpace
from nvmmconf.board.port92 import Port92
from nvmmconf.board.reset_control import ResetControl, ResetKind


class Machine:
    """Both ports, and what came of them."""

    def __init__(self) -> None:
        self.ports = PortSpace()
        self.resets: list[object] = []
        self.a20: list[bool] = []
        self.port92 = Port92(lambda: self.resets.append("fast"), self.a20.append)
        self.control = ResetControl(self.resets.append)
        self.port92.connect(self.ports)
        self.control.connect(self.ports)


def test_fast_reset_is_bit_0s_rise() -> None:
    machine = Machine()
    for value, resets in ((0, 0), (2, 0), (3, 1), (1, 1), (0, 1), (1, 2)):
        machine.ports.write(0x92, 1, value)
        assert len(machine.resets) == resets


def test_the_a20_bit_reads_as_written_and_is_told() -> None:
    machine = Machine()
    for value in (2, 0, 0xFE):
        machine.ports.write(0x92, 1, value)
        assert machine.ports.read(0x92, 1) == value & 2
        assert machine.port92.a20 is bool(value & 2)
        assert machine.a20[-1] is bool(value & 2)
    assert not machine.resets


@pytest.mark.parametrize(
    ("values", "resets"),
    [
        ((0x02, 0x06), [ResetKind.HARD]),
        ((0x06,), [ResetKind.HARD]),
        ((0x00, 0x04), [ResetKind.SOFT]),
        ((0x06, 0x06), [ResetKind.HARD]),
        ((0x04, 0x06), [ResetKind.SOFT]),
        ((0x06, 0x02, 0x06), [ResetKind.HARD, ResetKind.HARD]),
        ((0x0E,), [ResetKind.HARD]),
        ((0x02, 0x0A, 0xF9), []),
    ],
)
def test_a_reset_is_bit_2s_rise_and_bit_1_says_which(
    values: tuple[int, ...], resets: list[ResetKind]
) -> None:
    machine = Machine()
    for value in values:
        machine.ports.write(0xCF9, 1, value)
    assert machine.resets == resets


def test_the_register_reads_as_written() -> None:
    machine = Machine()
    machine.ports.write(0xCF9, 1, 0x0A)
    assert machine.ports.read(0xCF9, 1) == 0x0A


def test_looking_for_pci_resets_nothing() -> None:
    """CONFIG_ADDRESS for bus 0, device 0, function 6: its second byte would be a reset."""
    machine = Machine()
    machine.ports.write(0xCF8, 4, 0x80000600)
    assert machine.resets == []
    assert machine.ports.read(0xCF8, 4) == 0xFFFFFFFF
    assert machine.ports.read(0xCF9, 1) == 0


def test_saving_and_reset() -> None:
    one, other = Machine(), Machine()
    one.ports.write(0x92, 1, 3)
    one.ports.write(0xCF9, 1, 6)
    other.port92.load(one.port92.save())
    other.control.load(one.control.save())
    assert other.resets == []
    assert (other.ports.read(0x92, 1), other.ports.read(0xCF9, 1)) == (3, 6)
    other.ports.write(0xCF9, 1, 6)
    other.ports.write(0x92, 1, 3)
    assert other.resets == [], "no bit has risen"
    other.port92.reset()
    other.control.reset()
    assert (other.ports.read(0x92, 1), other.ports.read(0xCF9, 1)) == (0, 0)
    assert other.resets == []
