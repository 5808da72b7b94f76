# SPDX-License-Identifier: BSD-2-Clause
"""Overlays: what lies over what, against a model that knows each byte."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from nvmmconf.abi import LibraryChoice, Prot, bundled_path, open_library
from nvmmconf.accel.memory import MemoryMap
from nvmmconf.board import AddressSpace
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind
from nvmmconf.nvmm import PAGE_SIZE, HostMemory, Machine, NvmmError, init

TOP = 64
"""Bytes of the space that the model looks at."""
BYTES = 32
"""Of each block and device."""


class Pages:
    def __init__(self) -> None:
        self.data = memoryview(bytearray(BYTES))
        self.hva = 0x1000
        self.size = BYTES


class Device:
    """Plain storage."""

    def __init__(self) -> None:
        self.bytes = bytearray(BYTES)

    def memory_read(self, offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= BYTES
        return bytes(self.bytes[offset : offset + size])

    def memory_write(self, offset: int, data: bytes) -> None:
        assert 0 <= offset <= offset + len(data) <= BYTES
        self.bytes[offset : offset + len(data)] = data


class Holder:
    """What a listener holds; each is to be removed as it was added, nothing overlaps."""

    def __init__(self) -> None:
        self.held: list[Region] = []
        self.told: list[tuple[str, Region]] = []

    def ram_block_added(self, block: RamBlock) -> None:
        pass

    def region_added(self, region: Region) -> None:
        assert region.size > 0
        assert all(region.end <= r.gpa or r.end <= region.gpa for r in self.held)
        self.held.append(region)
        self.told.append(("added", region))

    def region_removed(self, region: Region) -> None:
        (place,) = [n for n, held in enumerate(self.held) if held is region]
        del self.held[place]
        self.told.append(("removed", region))

    def log_sync(self, region: Region) -> None:
        pass


def storage(region: Region) -> bytearray | memoryview:
    if region.block is not None:
        return region.block.pages.data
    assert isinstance(region.device, Device)
    return region.device.bytes


def make(kind: RegionKind, gpa: int, size: int, offset: int) -> Region:
    if kind is RegionKind.DEVICE:
        return Region("device", kind, gpa, size, device=Device(), offset=offset)
    return Region(kind.value, kind, gpa, size, RamBlock(Pages(), BYTES), offset)


REGIONS = st.builds(
    make,
    st.sampled_from(RegionKind),
    st.integers(0, TOP - 1),
    st.integers(1, BYTES // 2),
    st.integers(0, BYTES // 2),
)


class Space(RuleBasedStateMachine):
    """Any sequence of changes and accesses, beside a list of who owns each byte."""

    mapped: Bundle[Region] = Bundle("mapped")
    overlaid: Bundle[Region] = Bundle("overlaid")

    def __init__(self) -> None:
        super().__init__()
        self.space, self.early = AddressSpace(), Holder()
        self.space.add_listener(self.early)
        self.below: list[Region] = []
        self.above: list[Region] = []

    def owner(self, gpa: int) -> Region | None:
        """The top overlay with that byte, else the mapped one."""
        for region in [*reversed(self.above), *self.below]:
            if region.gpa <= gpa < region.end:
                return region
        return None

    @rule(target=mapped, region=REGIONS)
    def map(self, region: Region) -> object:
        taken = {byte for r in self.below for byte in range(r.gpa, r.end)}
        if taken & set(range(region.gpa, region.end)):
            before = len(self.early.told)
            with pytest.raises(ValueError, match="overlaps"):
                self.space.map(region)
            assert len(self.early.told) == before
            return multiple()
        self.space.map(region)
        self.below.append(region)
        return region

    @rule(region=consumes(mapped))
    def unmap(self, region: Region) -> None:
        self.space.unmap(region)
        self.below.remove(region)

    @rule(target=overlaid, region=REGIONS)
    def overlay(self, region: Region) -> Region:
        self.space.overlay(region)
        self.above.append(region)
        return region

    @rule(region=consumes(overlaid))
    def remove(self, region: Region) -> None:
        self.space.remove(region)
        self.above.remove(region)

    @rule(gpa=st.integers(0, TOP), data=st.binary(max_size=TOP))
    def write(self, gpa: int, data: bytes) -> None:
        everything = [*self.below, *self.above]
        expected = {id(r): bytearray(storage(r)) for r in everything}
        for place, byte in enumerate(data, gpa):
            owner = self.owner(place)
            if owner is not None and owner.kind is not RegionKind.ROM:
                expected[id(owner)][owner.offset + place - owner.gpa] = byte
        self.space.write(gpa, data)
        assert {id(r): bytearray(storage(r)) for r in everything} == expected

    @rule(gpa=st.integers(0, TOP), size=st.integers(0, TOP))
    def read(self, gpa: int, size: int) -> None:
        expected = bytearray()
        for place in range(gpa, gpa + size):
            owner = self.owner(place)
            expected.append(0xFF if owner is None else storage(owner)[_offset(owner, place)])
        assert self.space.read(gpa, size) == expected

    @invariant()
    def listeners_hold_what_is_seen(self) -> None:
        late = Holder()
        self.space.add_listener(late)
        self.space._listeners.remove(late)
        for holder in (self.early, late):
            seen = {
                gpa: (region.block, region.device, region.kind, _offset(region, gpa))
                for region in holder.held
                for gpa in range(region.gpa, region.end)
            }
            truth = {
                gpa: (owner.block, owner.device, owner.kind, _offset(owner, gpa))
                for gpa in range(2 * TOP)
                if (owner := self.owner(gpa)) is not None
            }
            assert seen == truth
        assert sorted(self.early.held, key=lambda r: r.gpa) == list(self.space.flattened)


def _offset(region: Region, gpa: int) -> int:
    return region.offset + gpa - region.gpa


TestSpace = Space.TestCase
TestSpace.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)


@given(st.lists(REGIONS, min_size=1, max_size=5), st.data())
def test_only_what_changes_is_mentioned(regions: list[Region], data: st.DataObject) -> None:
    """Each part that is added or removed touches the region that came or went."""
    space, holder = AddressSpace(), Holder()
    space.add_listener(holder)
    for region in regions:
        space.overlay(region)
    one = data.draw(st.sampled_from(regions))
    for change in (space.remove, space.overlay):
        del holder.told[:]
        change(one)
        for _, region in holder.told:
            assert region.gpa <= one.end
            assert one.gpa <= region.end


def test_a_region_that_is_split_and_healed() -> None:
    ram = make(RegionKind.RAM, 0, 16, 4)
    rom = make(RegionKind.ROM, 6, 4, 0)
    far = make(RegionKind.RAM, 32, 4, 0)
    space, holder = AddressSpace(), Holder()
    space.map(ram)
    space.map(far)
    space.add_listener(holder)
    del holder.told[:]
    space.overlay(rom)
    (_, whole), *added = holder.told
    assert whole is ram
    assert [(r.name, r.gpa, r.size, r.offset) for _, r in added] == [
        ("ram", 0, 6, 4),
        ("rom", 6, 4, 0),
        ("ram", 10, 6, 14),
    ]
    del holder.told[:]
    space.remove(rom)
    assert holder.told == [("removed", r) for _, r in added] + [("added", ram)]


def test_an_overlay_stays_over_what_is_mapped_later() -> None:
    over, under = make(RegionKind.DEVICE, 4, 4, 0), make(RegionKind.RAM, 0, 16, 0)
    space = AddressSpace()
    space.overlay(over)
    space.map(under)
    space.write(0, bytes(range(1, 17)))
    assert storage(over)[:4] == bytes([5, 6, 7, 8])
    assert bytes(storage(under)[:16]) == bytes([1, 2, 3, 4, 0, 0, 0, 0, *range(9, 17)])


@pytest.mark.parametrize(("gpa", "size"), [(0, 0), (0, -1), (-1, 2)])
def test_a_region_without_bytes_is_refused(gpa: int, size: int) -> None:
    space = AddressSpace()
    for put in (space.map, space.overlay):
        with pytest.raises(ValueError, match="has no bytes"):
            put(make(RegionKind.RAM, gpa, size, 0))


def test_nothing_is_there_twice_nor_taken_away_by_the_other_call() -> None:
    space, one, two = AddressSpace(), make(RegionKind.RAM, 0, 4, 0), make(RegionKind.RAM, 8, 4, 0)
    space.map(one)
    space.overlay(two)
    for put in (space.map, space.overlay):
        for region in (one, two):
            with pytest.raises(ValueError, match="is there already"):
                put(region)
    with pytest.raises(ValueError, match="not in list"):
        space.remove(one)
    with pytest.raises(ValueError, match="not in list"):
        space.unmap(two)
    assert space.flattened == (one, two)


def test_a_device_may_change_the_map_while_it_is_written() -> None:
    """The rest of that write goes where the change has put it."""
    space = AddressSpace()
    under, over = make(RegionKind.RAM, 4, 4, 0), make(RegionKind.RAM, 4, 4, 0)

    class Switch:
        def memory_read(self, offset: int, size: int) -> bytes:
            return bytes(size)

        def memory_write(self, offset: int, data: bytes) -> None:
            space.overlay(over)

    space.map(under)
    space.map(Region("switch", RegionKind.DEVICE, 0, 4, device=Switch()))
    space.write(3, b"abc")
    assert (bytes(storage(under)[:2]), bytes(storage(over)[:2])) == (bytes(2), b"bc")


# ---- as a machine's memory map has it -------------------------------------------------


class Machinery:
    """A machine whose memory map listens to `space`, and memory for 16 pages."""

    def __enter__(self) -> Machinery:
        with ExitStack() as made:
            library = open_library(LibraryChoice(str(bundled_path()), "the tests'"))
            init(library)
            ram = made.enter_context(HostMemory(16 * PAGE_SIZE))
            self.machine = made.enter_context(Machine(library))
            self.block = RamBlock(ram, ram.size)
            self.space, self.map = AddressSpace(), MemoryMap(self.machine, 1 << 30)
            self.space.add_listener(self.map)
            self.space.add_block(self.block)
            self._made = made.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._made.close()

    def look(self, page: int) -> tuple[int, bool] | None:
        """Where a page is mapped to, and whether it may be written."""
        try:
            hva, prot = self.machine.gpa_to_hva(page)
        except NvmmError:
            return None
        return hva, Prot.WRITE in prot


def _owner(regions: list[Region], gpa: int) -> Region | None:
    """The last one that has that byte."""
    return next((r for r in reversed(regions) if r.gpa <= gpa < r.end), None)


@settings(deadline=None, max_examples=100)
@given(
    overlays=st.lists(
        st.tuples(
            st.integers(0, 9) | st.integers(0, 9 * PAGE_SIZE),
            st.integers(1, 3) | st.integers(1, 4 * PAGE_SIZE),
            st.integers(0, 1),
            st.booleans(),
        ),
        max_size=4,
    ),
    away=st.sets(st.integers(0, 3)),
)
def test_a_mem_3_5_and_6_a_machine_maps_the_whole_pages_that_are_seen(
    overlays: list[tuple[int, int, int, bool]], away: set[int]
) -> None:
    """A-MEM-3, A-MEM-5, A-MEM-6: a page is mapped where all of it is one region's memory."""
    with Machinery() as one:
        ram = Region("ram", RegionKind.RAM, 0, 8 * PAGE_SIZE, one.block)
        one.space.map(ram)
        regions = []
        for gpa, size, unit, is_rom in overlays:
            if gpa < 10:
                gpa *= PAGE_SIZE  # often whole pages
            if size < 4:
                size *= PAGE_SIZE
            if is_rom:  # the offset is such that host and guest pages agree
                offset = (8 + unit) * PAGE_SIZE + gpa % PAGE_SIZE
                region = Region("rom", RegionKind.ROM, gpa, size, one.block, offset)
            else:
                region = Region("device", RegionKind.DEVICE, gpa, size, device=Device())
            regions.append(region)
            one.space.overlay(region)
        for number, region in enumerate(regions):
            if number in away:
                one.space.remove(region)
        left = [ram, *(r for n, r in enumerate(regions) if n not in away)]
        assert one.map.failures == []
        edges = {edge for r in left for edge in (r.gpa - 1, r.gpa, r.end - 1, r.end)}
        for page in range(0, 14 * PAGE_SIZE, PAGE_SIZE):
            last = page + PAGE_SIZE - 1
            looked_at = {page, last} | {edge for edge in edges if page <= edge <= last}
            owner, *others = {_owner(left, gpa) for gpa in looked_at}
            expected = None
            if not others and owner is not None and owner.block is not None:
                hva = one.block.pages.hva + _offset(owner, page)
                expected = (hva, owner.kind is RegionKind.RAM)
            assert one.look(page) == expected
        for region in left[1:]:
            one.space.remove(region)
        one.space.unmap(ram)
        assert [one.look(page * PAGE_SIZE) for page in range(14)] == [None] * 14
        assert one.map.failures == []
