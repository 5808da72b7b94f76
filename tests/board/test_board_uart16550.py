# SPDX-License-Identifier: BSD-2-Clause
"""The serial port, by its datasheet (National Semiconductor PC16550D)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.uart16550 import COM1, Uart16550

THR, IER, IIR, LCR, MCR, LSR, MSR, SCR = 0, 1, 2, 3, 4, 5, 6, 7
OUT2, LOOP = 0x08, 0x10


class Com:
    """COM1 on its ports."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self.uart = Uart16550(self.levels.append)
        self.ports = PortSpace()
        self.uart.connect(self.ports)

    @property
    def irq(self) -> bool:
        return self.levels[-1]

    def out(self, register: int, value: int) -> None:
        self.ports.write(COM1 + register, 1, value)

    def read(self, register: int) -> int:
        return self.ports.read(COM1 + register, 1)


def test_after_a_master_reset() -> None:
    com = Com()
    values = [com.read(register) for register in range(8)]
    assert values[1:6] == [0, 1, 0, 0, 0x60]
    assert not com.irq


def test_what_is_written_is_sent_in_order_and_bounded() -> None:
    uart = Uart16550(limit=3)
    for byte in b"abcde":
        uart.port_write(0, 1, byte)
    assert (uart.text, uart.dropped) == ("abc", 2)
    seen: list[int] = []
    uart = Uart16550(send=seen.append)
    for byte in b"xyz":
        uart.port_write(0, 1, byte)
    assert bytes(seen) == b"xyz"
    assert uart.text == ""


def test_the_divisor_is_behind_dlab_and_sends_nothing() -> None:
    com = Com()
    com.out(LCR, 0x83)
    com.out(0, 0x34)
    com.out(1, 0x12)
    assert (com.read(0), com.read(1)) == (0x34, 0x12)
    com.out(LCR, 0x03)
    assert com.uart.text == ""
    assert com.read(IER) == 0
    com.out(LCR, 0x83)
    assert com.ports.read(COM1, 2) == 0x1234


def test_scratch_and_the_bits_that_do_not_exist() -> None:
    com = Com()
    com.out(SCR, 0xA5)
    com.out(IER, 0xFF)
    com.out(MCR, 0xFF)
    assert (com.read(SCR), com.read(IER), com.read(MCR)) == (0xA5, 0x0F, 0x1F)


def test_without_fifos_one_character_is_there_at_a_time_and_none_is_lost() -> None:
    com = Com()
    com.uart.receive(b"hello")
    got = bytearray()
    while com.read(LSR) & 1:
        got.append(com.read(0))
    assert got == b"hello"


def test_fifos_are_told_in_iir() -> None:
    com = Com()
    com.out(2, 0x01)
    assert com.read(IIR) & 0xC0 == 0xC0
    com.out(2, 0x00)
    assert com.read(IIR) & 0xC0 == 0


@pytest.mark.parametrize(("bits", "level"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_the_trigger_level_tells_data_from_a_timeout(bits: int, level: int) -> None:
    com = Com()
    com.out(2, bits << 6 | 1)
    com.out(IER, 1)
    com.out(MCR, OUT2)
    com.uart.receive(b"x" * level)
    assert com.read(IIR) == 0xC4
    com.read(0)
    if level == 1:
        assert com.read(IIR) == 0xC1
        assert not com.irq
    else:
        assert com.read(IIR) == 0xCC
        assert com.irq


def test_clearing_the_receivers_fifo() -> None:
    com = Com()
    com.out(2, 0x01)
    com.uart.receive(b"abc")
    com.out(2, 0x03)
    assert com.read(LSR) & 1 == 0


def test_the_order_of_interrupts() -> None:
    """Line status, data, THR empty, modem status; each ends in its own way."""
    com = Com()
    com.out(MCR, LOOP)
    com.out(0, 1)
    com.out(0, 2)
    com.out(MCR, LOOP | 1)
    com.out(IER, 0x0F)
    assert com.read(IIR) == 0x06
    assert com.read(LSR) & 0x03 == 0x03
    assert com.read(LSR) & 0x02 == 0
    assert com.read(IIR) == 0x04
    assert com.read(0) == 2, "an RBR that is overrun has the last character"
    assert com.read(IIR) == 0x02
    assert com.read(IIR) == 0x00, "reading IIR has ended the one before"
    assert com.read(MSR) & 0x0F
    assert com.read(MSR) & 0x0F == 0
    assert com.read(IIR) == 0x01


def test_a_full_fifo_keeps_the_first_16() -> None:
    com = Com()
    com.out(2, 0x01)
    com.out(MCR, LOOP)
    for byte in range(18):
        com.out(0, byte)
    assert com.read(LSR) & 0x02
    assert [com.read(0) for _ in range(16)] == list(range(16))
    assert com.read(LSR) & 0x03 == 0
    assert com.uart.text == "", "nothing leaves in loopback"


def test_thr_empty_comes_when_it_is_enabled_and_after_each_character() -> None:
    com = Com()
    com.out(MCR, OUT2)
    com.out(IER, 2)
    assert com.irq
    assert com.read(IIR) == 2
    assert not com.irq
    com.out(0, 0x41)
    assert com.irq


def test_reading_iir_ends_thr_empty_only_where_that_was_told() -> None:
    com = Com()
    com.out(IER, 3)
    com.uart.receive(b"x")
    assert com.read(IIR) == 4
    com.read(0)
    assert com.read(IIR) == 2


def test_the_interrupt_passes_the_gate_of_out2_only() -> None:
    com = Com()
    com.out(IER, 1)
    com.uart.receive(b"x")
    assert not com.irq
    com.out(MCR, OUT2)
    assert com.irq
    com.read(0)
    assert not com.irq


def test_loopback_connects_the_modem_lines() -> None:
    """DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD."""
    com = Com()
    for output, line in ((1, 0x20), (2, 0x10), (4, 0x40), (8, 0x80)):
        com.out(MCR, LOOP | output)
        assert com.read(MSR) & 0xF0 == line


def test_ri_counts_at_its_end_only() -> None:
    com = Com()
    com.out(MCR, LOOP)
    com.read(MSR)
    com.out(MCR, LOOP | 4)
    assert com.read(MSR) & 0x0F == 0
    com.out(MCR, LOOP)
    assert com.read(MSR) & 0x0F == 4


def test_the_other_side_is_connected_and_waits_for_loopback_to_end() -> None:
    com = Com()
    assert com.read(MSR) & 0xB0 == 0xB0
    com.out(MCR, LOOP)
    com.uart.receive(b"x")
    assert com.read(LSR) & 1 == 0
    com.out(MCR, 0)
    assert com.read(0) == ord("x")


STEPS = st.lists(
    st.tuples(st.sampled_from(["in", "out", "get"]), st.integers(0, 7), st.integers(0, 255)),
    max_size=40,
)


def step(com: Com, what: tuple[str, int, int]) -> int | None:
    kind, register, value = what
    if kind == "in":
        return com.read(register)
    if kind == "out":
        com.out(register, value)
    else:
        com.uart.receive(bytes([value]) * (register + 1))
    return None


@settings(deadline=None)
@given(before=STEPS, after=STEPS)
def test_a_loaded_uart_goes_on_as_the_saved_one(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    one, other = Com(), Com()
    for what in before:
        step(one, what)
    other.uart.load(one.uart.save())
    for what in after:
        assert step(one, what) == step(other, what)
        assert one.irq is other.irq


@settings(deadline=None)
@given(data=st.binary(max_size=60), fifo=st.booleans())
def test_nothing_that_the_other_side_sends_is_lost(data: bytes, fifo: bool) -> None:
    com = Com()
    com.out(2, int(fifo))
    com.uart.receive(data)
    got = bytearray()
    while com.read(LSR) & 1:
        got.append(com.read(0))
    assert got == data
