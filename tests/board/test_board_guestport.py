# SPDX-License-Identifier: BSD-2-Clause
"""The guest port: records in RAM become events; what makes no sense is recorded as such."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvmmconf.board import AddressSpace, PortSpace
from nvmmconf.board.guestport import (
    MAX_TEXT,
    MAX_VALUES,
    PORT,
    PORT_COUNT,
    GuestDone,
    GuestEvent,
    GuestFailure,
    GuestLog,
    GuestMalformed,
    GuestPort,
    GuestSync,
)
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind
from nvmmconf.nvmm import HostMemory

RAM = 0x10000
AT = 0x1000
FILE = 0x2000
TEXT = 0x3000


class Fragile:
    """A device that must not be touched."""

    def memory_read(self, offset: int, size: int) -> bytes:
        raise AssertionError("a device was read")

    def memory_write(self, offset: int, data: bytes) -> None:
        raise AssertionError("a device was written")


class Board:
    def __init__(self, pages: HostMemory, limit: int = 16) -> None:
        self.heard: list[GuestEvent] = []
        self.statuses: list[int] = []
        self.memory = AddressSpace()
        block = RamBlock(pages, pages.size)
        self.memory.add_block(block)
        self.memory.map(Region("ram", RegionKind.RAM, 0, pages.size, block))
        self.memory.map(Region("device", RegionKind.DEVICE, RAM, 0x1000, device=Fragile()))
        self.port = GuestPort(self.memory, self.statuses.append, self.heard.append, limit)
        self.ports = PortSpace()
        self.ports.claim(PORT, PORT_COUNT, self.port)
        self.memory.write(FILE, b"a.S")
        self.memory.write(TEXT, b"RAX is right")

    def hand_over(self, record: bytes, address: int = AT) -> GuestEvent:
        """What comes of a record."""
        self.memory.write(address, record)
        self.ports.write(PORT, 4, address)
        return self.port.events[-1]


@pytest.fixture
def board() -> Iterator[Board]:
    with HostMemory(RAM) as pages:
        yield Board(pages)


def record(
    command: int,
    number: int = 0,
    values: tuple[int, ...] = (),
    *,
    signature: bytes = b"NVMG",
    file: tuple[int, int] = (FILE, 3),
    text: tuple[int, int] = (TEXT, 12),
    count: int | None = None,
    zero: int = 0,
) -> bytes:
    """A record, by the table in guests/README.md."""
    count = len(values) if count is None else count
    head = struct.pack("<3I4I2I", command, number, 7, *file, *text, count, zero)
    return signature + head + struct.pack(f"<{len(values)}Q", *values)


def test_a_guest_finds_the_port_by_its_signature(board: Board) -> None:
    """0x474D564E; nobody there reads as all ones."""
    assert board.ports.read(PORT, 4) == 0x474D564E
    assert PortSpace().read(PORT, 4) == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("given_record", "event"),
    [
        (record(1), GuestLog("a.S", 7, "RAX is right")),
        (record(1, 0, (5, 1 << 63)), GuestLog("a.S", 7, "RAX is right", (5, 1 << 63))),
        (record(1, file=(0, 0), text=(0xFFFFFFFF, 0)), GuestLog("", 7, "")),
        (record(2, 42), GuestSync("a.S", 7, 42)),
        (record(3, 0, (1, 2)), GuestFailure("a.S", 7, "RAX is right", 1, 2)),
        (record(4, 1), GuestDone("a.S", 7, 1)),
    ],
)
def test_events(board: Board, given_record: bytes, event: GuestEvent) -> None:
    assert board.hand_over(given_record) == event
    assert board.heard == [event]
    assert board.port.failures == isinstance(event, GuestFailure)
    assert board.statuses == ([3] if isinstance(event, GuestDone) else [])


@pytest.mark.parametrize(
    ("given_record", "reason"),
    [
        (record(1, signature=b"NVMX"), "begins with"),
        (record(0), "command 0"),
        (record(5), "command 5"),
        (record(1, count=MAX_VALUES + 1), f"{MAX_VALUES + 1} values, more than"),
        (record(1, zero=1), "not 0"),
        (record(3, 0, (1,)), "want and got"),
        (record(4, 256), "status of 0x100"),
        (record(1, text=(TEXT, MAX_TEXT + 1)), f"the text has {MAX_TEXT + 1} bytes"),
        (record(1, text=(RAM - 1, 2)), "the text at 0xffff, 2 byte"),
        (record(1, file=(RAM, 1)), "the file at 0x10000"),
        (record(1, file=(0xFFFFFFFF, 8)), "the file at 0xffffffff"),
    ],
)
def test_malformed_records(board: Board, given_record: bytes, reason: str) -> None:
    event = board.hand_over(given_record)
    assert isinstance(event, GuestMalformed)
    assert event.address == AT
    assert reason in event.reason
    assert board.port.malformed == 1
    assert board.statuses == []


@pytest.mark.parametrize("address", [RAM, RAM - 8, 0x20000, 0xFFFFFFFF, 0xFFFFFFE0])
def test_addresses_out_of_ram_touch_nothing(board: Board, address: int) -> None:
    board.ports.write(PORT, 4, address)
    (event,) = board.heard
    assert isinstance(event, GuestMalformed)
    assert event.address == address
    assert "not all in RAM" in event.reason
    assert not board.memory.unclaimed_reads


def test_values_that_run_out_of_ram(board: Board) -> None:
    event = board.hand_over(record(1, count=2), RAM - 40)
    assert isinstance(event, GuestMalformed)
    assert "the values" in event.reason


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, 2), (1, 4), (3, 1)])
def test_writes_of_another_shape(board: Board, offset: int, size: int) -> None:
    board.memory.write(0x10, record(1))
    board.ports.write(PORT + offset, size, 0x10)
    assert board.port.malformed >= 1
    assert all(isinstance(event, GuestMalformed) for event in board.heard)


def test_ram_that_goes_away_is_no_ram(board: Board) -> None:
    pages = Region("cover", RegionKind.DEVICE, 0, 0x4000, device=Fragile())
    board.memory.overlay(pages)
    board.ports.write(PORT, 4, AT)
    assert isinstance(board.port.events[-1], GuestMalformed)
    board.memory.remove(pages)
    assert isinstance(board.hand_over(record(1)), GuestLog)


def test_a_flood_is_counted_and_done_gets_through(board: Board) -> None:
    for _ in range(20):
        board.hand_over(record(3, 0, (1, 2)))
    assert board.hand_over(record(4, 1)) == GuestDone("a.S", 7, 1)
    board.hand_over(record(4, 1))
    assert len(board.port.events) == len(board.heard) == 17
    assert board.port.failures == 20
    assert board.port.dropped == 5
    assert board.statuses == [3, 3]


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(st.integers(0, 0xFFFFFFFF), max_size=30), address=st.integers(0, RAM - 200))
def test_any_bytes_give_exactly_one_event(board: Board, words: list[int], address: int) -> None:
    board.heard.clear()
    board.port.events.clear()
    board.memory.write(address, b"NVMG" + struct.pack(f"<{len(words)}I", *words))
    board.ports.write(PORT, 4, address)
    assert len(board.heard) == 1
