# SPDX-License-Identifier: BSD-2-Clause
"""Each CPU has its own local APIC at the same address; all else is shared."""

from __future__ import annotations

from apic_rig import Rig
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board import AddressSpace
from nvmmconf.board.cpu_view import CpuView
from nvmmconf.board.interfaces import MemoryBus, MemoryListener, RamBlock, Region, RegionKind

PAGE = 0xFEE00000


class Storage:
    """A device of four pages, the APIC's is the second."""

    def __init__(self) -> None:
        self.bytes = bytearray(n % 251 for n in range(0x4000))

    def memory_read(self, offset: int, size: int) -> bytes:
        return bytes(self.bytes[offset : offset + size])

    def memory_write(self, offset: int, data: bytes) -> None:
        self.bytes[offset : offset + len(data)] = data


class Views:
    def __init__(self) -> None:
        self.rig, self.space, self.storage = Rig(2), AddressSpace(), Storage()
        self.region = Region("x", RegionKind.DEVICE, PAGE - 0x1000, 0x4000, device=self.storage)
        self.space.map(self.region)
        self.views: list[MemoryBus] = [CpuView(self.space, apic) for apic in self.rig.apics]


def test_each_reaches_its_own() -> None:
    """SDM 3A 10.4.1: a CPU's accesses to the page go to its own APIC and to no bus."""
    both = Views()
    for number, view in enumerate(both.views):
        assert view.read(PAGE + 0x20, 4) == bytes([0, 0, 0, number])
        view.write(PAGE + 0x80, bytes([0x10 * (number + 1), 0, 0, 0]))
    assert [apic.tpr for apic in both.rig.apics] == [1, 2]
    assert both.space.read(PAGE + 0x80, 4) == bytes((0x1080 + n) % 251 for n in range(4))


def test_it_follows_the_base_and_the_enable_bit() -> None:
    both = Views()
    view, other = both.views
    shared = bytes((0x1020 + n) % 251 for n in range(4))
    both.rig.apics[1].base = PAGE + 0x1000 | 0x800
    assert other.read(PAGE + 0x20, 4) == shared
    assert other.read(PAGE + 0x1020, 4) == b"\0\0\0\1"
    assert view.read(PAGE + 0x20, 4) == bytes(4)
    both.rig.apics[1].base = PAGE + 0x1000
    assert other.read(PAGE + 0x1020, 4) == bytes((0x2020 + n) % 251 for n in range(4))
    both.rig.apics[1].base = PAGE | 0x800
    assert other.read(PAGE + 0x20, 4) == b"\0\0\0\1"


@given(start=st.integers(0, 0x3000), size=st.integers(0, 0x2800))
def test_a_read_across_the_borders(start: int, size: int) -> None:
    both = Views()
    size = min(size, 0x4000 - start)
    expected = bytearray(both.storage.bytes)
    expected[0x1000:0x2000] = both.rig.apic.memory_read(0, 0x1000)
    gpa = PAGE - 0x1000 + start
    assert both.views[0].read(gpa, size) == expected[start : start + size]


@given(start=st.integers(0xF00, 0x1100) | st.integers(0x1F00, 0x2100), size=st.integers(0, 0x1800))
def test_a_write_across_the_borders(start: int, size: int) -> None:
    both = Views()
    expected = bytearray(both.storage.bytes)
    data = bytes(size)
    end = start + size
    before, after = min(end, 0x1000), max(start, 0x2000)
    if start < before:
        expected[start:before] = bytes(before - start)
    if after < end:
        expected[after:end] = bytes(end - after)
    svr = both.rig.read(0xF0)
    both.views[0].write(PAGE - 0x1000 + start, data)
    assert both.storage.bytes == expected
    covers = start <= 0x10F0 and end >= 0x10F4
    assert both.rig.read(0xF0) == (0 if covers else svr)


def test_listeners_hear_of_what_is_shared() -> None:
    class Listener:
        def __init__(self) -> None:
            self.held: list[Region] = []

        def ram_block_added(self, block: RamBlock) -> None:
            pass

        def region_added(self, region: Region) -> None:
            self.held.append(region)

        def region_removed(self, region: Region) -> None:
            self.held.remove(region)

        def log_sync(self, region: Region) -> None:
            pass

    both, listener = Views(), Listener()
    checked: MemoryListener = listener
    both.views[0].add_listener(checked)
    assert listener.held == [both.region]
    both.space.unmap(both.region)
    assert listener.held == []
