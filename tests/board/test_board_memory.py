# SPDX-License-Identifier: BSD-2-Clause
"""The guest-physical address space."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import AddressSpace
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind


class Pages:
    """Plain bytes in the role of host memory."""

    def __init__(self, content: bytes) -> None:
        self.bytes = bytearray(content)
        self.data = memoryview(self.bytes)
        self.hva = 0x1000
        self.size = len(content)


class Device:
    """Answers with the offsets."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | bytes]] = []

    def memory_read(self, offset: int, size: int) -> bytes:
        self.seen.append((offset, size))
        return bytes(0x80 + offset + n for n in range(size))

    def memory_write(self, offset: int, data: bytes) -> None:
        self.seen.append((offset, data))


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def ram_block_added(self, block: RamBlock) -> None:
        self.told.append(("block", block))

    def region_added(self, region: Region) -> None:
        self.told.append(("added", region))

    def region_removed(self, region: Region) -> None:
        self.told.append(("removed", region))

    def log_sync(self, region: Region) -> None:
        self.told.append(("log", region))


def block(content: bytes) -> RamBlock:
    pages = Pages(content)
    return RamBlock(pages, pages.size)


class Layout:
    """RAM at 0x10 (8 bytes), ROM right behind it, a gap of 4, a device of 8."""

    def __init__(self) -> None:
        self.space = AddressSpace()
        self.ram = block(b"..ABCDEFGH")
        self.rom = block(b"01234567")
        self.device = Device()
        self.regions = [
            Region("ram", RegionKind.RAM, 0x10, 8, self.ram, 2),
            Region("rom", RegionKind.ROM, 0x18, 8, self.rom),
            Region("device", RegionKind.DEVICE, 0x24, 8, device=self.device),
        ]
        for region in self.regions:
            self.space.map(region)


def test_a_read_across_everything() -> None:
    layout = Layout()
    assert layout.space.read(0x0E, 0x20) == (
        b"\xff\xff"
        + b"ABCDEFGH"
        + b"01234567"
        + b"\xff" * 4
        + bytes(range(0x80, 0x88))
        + b"\xff\xff"
    )
    assert layout.device.seen == [(0, 8)]
    assert layout.space.unclaimed_reads == {0x0E: 1, 0x20: 1, 0x2C: 1}


def test_a_write_across_everything() -> None:
    layout = Layout()
    layout.space.write(0x0E, bytes(range(0x20)))
    assert bytes(layout.ram.pages.data) == b".." + bytes(range(2, 10))
    assert bytes(layout.rom.pages.data) == b"01234567"
    assert layout.device.seen == [(0, bytes(range(22, 30)))]
    assert layout.space.unclaimed_writes == {0x0E: 1, 0x20: 1, 0x2C: 1}


def test_pieces_of_regions() -> None:
    layout = Layout()
    assert layout.space.read(0x12, 2) == b"CD"
    assert layout.space.read(0x17, 2) == b"H0"
    layout.space.write(0x26, b"x")
    assert layout.space.read(0x2A, 1) == b"\x86"
    assert layout.device.seen == [(2, b"x"), (6, 1)]


def test_nothing_is_read_and_written_for_size_0() -> None:
    layout = Layout()
    assert layout.space.read(0, 0) == b""
    layout.space.write(0, b"")
    assert not layout.space.unclaimed_reads
    assert not layout.space.unclaimed_writes


@settings(deadline=None)
@given(start=st.integers(0, 0x30), size=st.integers(0, 0x30))
def test_any_read_is_the_part_of_one_that_reads_all(start: int, size: int) -> None:
    everything = Layout().space.read(0, 0x60)
    assert Layout().space.read(start, size) == everything[start : start + size]


@settings(deadline=None)
@given(start=st.integers(0, 0x30), data=st.binary(max_size=0x30))
def test_a_write_changes_ram_and_nothing_else(start: int, data: bytes) -> None:
    layout = Layout()
    expected = bytearray(layout.space.read(0, 0x60))
    for gpa, byte in enumerate(data, start):
        if 0x10 <= gpa < 0x18:
            expected[gpa] = byte
    layout.space.write(start, data)
    assert layout.space.read(0, 0x60) == expected


@pytest.mark.parametrize(
    ("gpa", "size", "overlaps"),
    [(0x0F, 1, False), (0x0F, 2, True), (0x1F, 2, True), (0x20, 4, False), (0x0, 0x100, True)],
)
def test_overlaps_are_refused(gpa: int, size: int, overlaps: bool) -> None:
    layout = Layout()
    listener = Listener()
    layout.space.add_listener(listener)
    before = len(listener.told)
    region = Region("new", RegionKind.DEVICE, gpa, size, device=Device())
    if overlaps:
        with pytest.raises(ValueError, match=rf"new at {gpa:#x}\+{size:#x} overlaps r"):
            layout.space.map(region)
        assert len(listener.told) == before
    else:
        layout.space.map(region)
        assert listener.told[before:] == [("added", region)]


def test_unmapping_makes_room() -> None:
    layout = Layout()
    layout.space.unmap(layout.regions[0])
    assert layout.space.read(0x10, 1) == b"\xff"
    with pytest.raises(ValueError, match="not in list"):
        layout.space.unmap(layout.regions[0])
    layout.space.map(layout.regions[0])
    assert layout.space.read(0x10, 1) == b"A"


def test_listeners_are_told_of_all_there_is_blocks_first_and_of_every_change() -> None:
    space, early, late = AddressSpace(), Listener(), Listener()
    space.add_listener(early)
    one = block(b"x" * 8)
    region = Region("ram", RegionKind.RAM, 0, 8, one)
    space.add_block(one)
    space.map(region)
    space.add_listener(late)
    space.unmap(region)
    everything = [("block", one), ("added", region), ("removed", region)]
    assert early.told == everything
    assert late.told == everything


def test_two_regions_that_are_equal_in_every_figure_are_not_the_same() -> None:
    """Unmapping one must not take the other."""
    one = block(b"x" * 8)
    a, b = (Region("ram", RegionKind.RAM, 0, 8, one) for _ in range(2))
    space = AddressSpace()
    space.map(a)
    with pytest.raises(ValueError, match="not in list"):
        space.unmap(b)
