# SPDX-License-Identifier: BSD-2-Clause
"""The port bus and the devices on it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import DebugConsole, PortSpace, TestBoard, TestDevice
from nvmmconf.nvmm import PAGE_SIZE, HostMemory


class Device:
    """Remembers what it was asked and answers with one value."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.seen: list[tuple[int, ...]] = []

    def port_read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return self.value

    def port_write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))


def test_a_claimed_range_and_its_neighbours() -> None:
    ports, device = PortSpace(), Device(0x12)
    ports.claim(0x100, 4, device)
    assert ports.read(0xFF, 1) == 0xFF
    assert ports.read(0x100, 1) == 0x12
    assert ports.read(0x103, 1) == 0x12
    assert ports.read(0x104, 1) == 0xFF
    ports.write(0xFF, 1, 1)
    ports.write(0x102, 2, 0xBEEF)
    ports.write(0x104, 1, 1)
    assert device.seen == [(0, 1), (3, 1), (2, 2, 0xBEEF)]
    assert ports.unclaimed_reads == {0xFF: 1, 0x104: 1}
    assert ports.unclaimed_writes == {0xFF: 1, 0x104: 1}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_nobody_answers_with_all_ones_and_is_counted(size: int) -> None:
    ports = PortSpace()
    for _ in range(3):
        assert ports.read(0x80, size) == (1 << 8 * size) - 1
    ports.write(0x80, size, 0)
    assert (ports.unclaimed_reads[0x80], ports.unclaimed_writes[0x80]) == (3, 1)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_answer_is_as_wide_as_the_access(size: int) -> None:
    """A device that answers with more does not reach other bits of RAX."""
    ports = PortSpace()
    ports.claim(0, 1, Device(0x1234567890))
    assert ports.read(0, size) == 0x1234567890 & (1 << 8 * size) - 1


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (0xFFFF, 2), (0x10000, 1), (5, 0), (5, -1)])
def test_ports_that_do_not_exist(first: int, count: int) -> None:
    ports = PortSpace()
    with pytest.raises(ValueError, match="are not within 0 to 0xffff"):
        ports.claim(first, count, Device())


def test_the_ends_of_the_space() -> None:
    ports = PortSpace()
    ports.claim(0, 1, Device(1))
    ports.claim(0xFFFF, 1, Device(2))
    assert (ports.read(0, 1), ports.read(0xFFFF, 1)) == (1, 2)


RANGES = st.tuples(st.integers(0, 40), st.integers(1, 12))


@settings(deadline=None)
@given(claims=st.lists(RANGES, max_size=8))
def test_claims_overlap_exactly_where_they_share_a_port(claims: list[tuple[int, int]]) -> None:
    ports = PortSpace()
    owner: dict[int, int] = {}
    for number, (first, count) in enumerate(claims):
        wanted = range(first, first + count)
        if any(port in owner for port in wanted):
            with pytest.raises(ValueError, match="overlap"):
                ports.claim(first, count, Device())
        else:
            ports.claim(first, count, Device(number))
            owner |= dict.fromkeys(wanted, number)
    assert [ports.read(port, 1) for port in range(60)] == [
        owner.get(port, 0xFF) for port in range(60)
    ]


# ---- debug console ---------------------------------------------------------------


def test_the_console_prints_the_low_byte() -> None:
    console = DebugConsole()
    for size, value in ((1, 0x48), (2, 0x1169), (4, 0x22334421)):
        console.port_write(0, size, value)
    assert (console.text, bytes(console.output)) == ("Hi!", b"Hi!")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_console_can_be_found_out(size: int) -> None:
    assert DebugConsole().port_read(0, size) == 0xE9


def test_bytes_that_are_no_text_come_out_as_escapes() -> None:
    console = DebugConsole()
    for byte in b"a\xff\n":
        console.port_write(0, 1, byte)
    assert console.text == "a\\xff\n"


def test_a_guest_that_prints_for_ever_does_not_fill_the_memory() -> None:
    console = DebugConsole(limit=3)
    for byte in b"abcde":
        console.port_write(0, 1, byte)
    assert (console.text, console.dropped) == ("abc", 2)


# ---- test device -------------------------------------------------------------------


@pytest.mark.parametrize(("value", "status"), [(0, 1), (1, 3), (0x10, 0x21), (0x7F, 0xFF)])
def test_the_status_is_as_qemus(value: int, status: int) -> None:
    seen: list[int] = []
    TestDevice(seen.append).port_write(0, 1, value)
    assert seen == [status]


def test_reading_the_test_device_does_nothing() -> None:
    seen: list[int] = []
    assert TestDevice(seen.append).port_read(0, 4) == 0
    assert seen == []


# ---- the PC --------------------------------------------------------------------------


def test_the_pc_has_ram_console_and_test_device() -> None:
    seen: list[int] = []
    with HostMemory(2 * PAGE_SIZE) as ram:
        pc = TestBoard(ram, seen.append)
        pc.ports.write(0xE9, 1, ord("x"))
        for port in range(0xF4, 0xF8):
            pc.ports.write(port, 1, port - 0xF4)
        pc.ports.write(0xF3, 1, 0)
        pc.ports.write(0xF8, 1, 0)
        assert pc.console.text == "x"
        assert seen == [1, 3, 5, 7]
        assert pc.ports.unclaimed_writes == {0xF3: 1, 0xF8: 1}
        pc.memory.write(PAGE_SIZE - 1, b"ab")
        assert bytes(ram.data[PAGE_SIZE - 1 : PAGE_SIZE + 1]) == b"ab"
        assert pc.memory.read(2 * PAGE_SIZE, 1) == b"\xff"
