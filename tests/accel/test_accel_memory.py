# SPDX-License-Identifier: BSD-2-Clause
"""Section 13: the memory map (A-MEM)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lookalike import LookAlike

from nvmmconf.abi import Gpr, Libnvmm, Prot
from nvmmconf.accel import Stop
from nvmmconf.accel.memory import MemoryMap, whole_pages
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind
from nvmmconf.nvmm import PAGE_SIZE, HostMemory, Machine, NvmmError, init

MakeRig = Callable[..., Any]
HIGH = 0x40000000
MAX_RAM = 128 << 30  # NetBSD's (nvmm_capability)


@dataclass
class Map:
    """A machine and the map under test, with a block of eight pages that it knows."""

    machine: Machine
    map: MemoryMap
    ram: HostMemory
    block: RamBlock
    looks: LookAlike

    def region(self, gpa: int, size: int, offset: int = 0, kind: str = "ram") -> Region:
        return Region(f"test {kind}", RegionKind(kind), gpa, size, self.block, offset)

    def area(self, gpa: int) -> tuple[int, Prot] | None:
        try:
            return self.machine.gpa_to_hva(gpa)
        except NvmmError:
            return None


@pytest.fixture
def mapped(looks: LookAlike, profile: str) -> Iterator[Map]:
    init(looks.library)
    with HostMemory(8 * PAGE_SIZE) as ram, Machine(looks.library) as machine:
        block = RamBlock(ram, ram.size)
        one = Map(machine, MemoryMap(machine, MAX_RAM), ram, block, looks)
        one.map.ram_block_added(block)
        looks.forget()
        yield one


RWX = Prot.READ | Prot.WRITE | Prot.EXEC


def test_a_mem_1_a_block_over_its_maximum_size(
    looks: LookAlike, bundled: Libnvmm, profile: str
) -> None:
    """Not over what it has now."""
    init(bundled)
    with HostMemory(4 * PAGE_SIZE) as ram, Machine(looks.library) as machine:

        class Grown:
            hva = ram.hva
            size = PAGE_SIZE
            data = ram.data

        looks.forget()
        MemoryMap(machine, MAX_RAM).ram_block_added(RamBlock(Grown(), ram.size))
        assert looks.calls == [f"hva_map {ram.hva:#x} {4 * PAGE_SIZE:#x}"]


def test_a_mem_1_a_failure_is_reported_with_address_and_size(
    looks: LookAlike, profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    init(looks.library)
    with HostMemory(2 * PAGE_SIZE) as ram, Machine(looks.library) as machine:
        looks.fail("hva_map", errno.ENOBUFS)
        memory_map = MemoryMap(machine, MAX_RAM)
        memory_map.ram_block_added(RamBlock(ram, ram.size))
        (message,) = memory_map.failures
        assert f"{ram.hva:#x}" in message
        assert "0x2000" in message
        assert "ENOBUFS" in message
        assert message in caplog.text


@pytest.mark.parametrize(("kind", "prot"), [("ram", RWX), ("rom", Prot.READ | Prot.EXEC)])
def test_a_mem_2_ram_may_be_written_rom_not(mapped: Map, kind: str, prot: Prot) -> None:
    mapped.map.region_added(mapped.region(HIGH, 2 * PAGE_SIZE, PAGE_SIZE, kind))
    assert mapped.area(HIGH) == (mapped.ram.hva + PAGE_SIZE, prot)
    assert mapped.area(HIGH + 2 * PAGE_SIZE - 1) == (mapped.ram.hva + 3 * PAGE_SIZE - 1, prot)
    assert mapped.area(HIGH - 1) is mapped.area(HIGH + 2 * PAGE_SIZE) is None


def test_a_mem_3_unmapped_over_the_same_range(mapped: Map) -> None:
    region = mapped.region(HIGH + 1, 3 * PAGE_SIZE, PAGE_SIZE + 1)
    mapped.map.region_added(region)
    mapped.map.region_removed(region)
    add, remove = (call.split() for call in mapped.looks.calls)
    assert (add[0], remove[0]) == ("gpa_map", "gpa_unmap")
    assert remove[1:4] == add[1:4]
    assert mapped.area(HIGH + PAGE_SIZE) is None
    assert mapped.map.failures == []


def test_a_mem_4_what_is_not_ram_stays_unmapped(mapped: Map) -> None:
    class Device:
        def memory_read(self, offset: int, size: int) -> bytes:
            return bytes(size)

        def memory_write(self, offset: int, data: bytes) -> None:
            pass

    region = Region("device", RegionKind.DEVICE, HIGH, PAGE_SIZE, device=Device())
    mapped.map.region_added(region)
    mapped.map.region_removed(region)
    assert mapped.looks.calls == []


def test_a_mem_4_the_guest_gets_memory_exits_there(rig: MakeRig) -> None:
    one = rig("a0 00 80 f4")  # mov al,[0x8000]
    one.run()
    assert one.reasons[0] == "MEMORY"


def pages_of(gpa: int, size: int) -> list[int]:
    """Independent arithmetic: the pages that lie in the range as a whole."""
    first, last = gpa // PAGE_SIZE - 1, (gpa + size) // PAGE_SIZE + 1
    return [
        page * PAGE_SIZE
        for page in range(first, last + 1)
        if page * PAGE_SIZE >= gpa and (page + 1) * PAGE_SIZE <= gpa + size
    ]


class Pages:
    """Host memory by its figures only."""

    def __init__(self, hva: int, size: int) -> None:
        self.hva = hva
        self.size = size
        self.data = memoryview(b"")


@settings(deadline=None)
@given(
    gpa=st.integers(0, 5 * PAGE_SIZE),
    size=st.integers(0, 5 * PAGE_SIZE),
    offset=st.integers(0, 3 * PAGE_SIZE),
)
@example(gpa=0, size=PAGE_SIZE, offset=0)
@example(gpa=1, size=PAGE_SIZE, offset=1)
@example(gpa=1, size=2 * PAGE_SIZE - 1, offset=1)
@example(gpa=1, size=2 * PAGE_SIZE - 2, offset=1)
@example(gpa=PAGE_SIZE - 1, size=PAGE_SIZE + 1, offset=0)
@example(gpa=PAGE_SIZE - 1, size=1, offset=0)
def test_a_mem_5_and_6_whole_pages(gpa: int, size: int, offset: int) -> None:
    base = 0x7F0000000000
    block = RamBlock(Pages(base, 8 * PAGE_SIZE), 8 * PAGE_SIZE)
    found = whole_pages(Region("r", RegionKind.RAM, gpa, size, block, offset))
    pages = pages_of(gpa, size)
    assert found[2] == len(pages) * PAGE_SIZE
    if pages:
        # The byte at GPA pages[0] lies pages[0] - gpa bytes into the region.
        assert found[:2] == (pages[0], base + offset + (pages[0] - gpa))


@pytest.mark.parametrize(
    ("gpa", "size", "first", "pages"),
    [
        (HIGH, 3 * PAGE_SIZE, HIGH, 3),
        (HIGH + 1, 3 * PAGE_SIZE, HIGH + PAGE_SIZE, 2),
        (HIGH + 4095, 3 * PAGE_SIZE, HIGH + PAGE_SIZE, 2),
        (HIGH + 4095, PAGE_SIZE + 1, HIGH + PAGE_SIZE, 1),
        (HIGH, 3 * PAGE_SIZE - 1, HIGH, 2),
    ],
)
def test_a_mem_5_and_6_as_the_machine_sees_it(
    mapped: Map, gpa: int, size: int, first: int, pages: int
) -> None:
    """The offset is chosen so that host and guest addresses have the same low bits."""
    offset = PAGE_SIZE + gpa % PAGE_SIZE
    mapped.map.region_added(mapped.region(gpa, size, offset))
    hva = mapped.ram.hva + offset + (first - gpa)
    assert mapped.area(first) == (hva, RWX)
    last = first + pages * PAGE_SIZE
    assert mapped.area(last - 1) == (hva + pages * PAGE_SIZE - 1, RWX)
    assert mapped.area(first - 1) is mapped.area(last) is None


@pytest.mark.parametrize(
    ("gpa", "size"), [(HIGH, 0), (HIGH, 4095), (HIGH + 1, 4096), (HIGH + 1, 8190), (HIGH + 7, 3)]
)
def test_a_mem_5_no_whole_page_is_passed_over(mapped: Map, gpa: int, size: int) -> None:
    region = mapped.region(gpa, size, gpa % PAGE_SIZE)
    mapped.map.region_added(region)
    mapped.map.region_removed(region)
    assert mapped.looks.calls == []
    assert mapped.map.failures == []


@pytest.mark.parametrize("verb", ["map", "unmap"])
def test_a_mem_7_a_failure_is_reported_in_full(
    mapped: Map, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    region = mapped.region(HIGH, 2 * PAGE_SIZE, PAGE_SIZE)
    if verb == "unmap":
        mapped.map.region_added(region)
        mapped.looks.fail("gpa_unmap", errno.EIO)
        mapped.map.region_removed(region)
    else:
        mapped.looks.fail("gpa_map", errno.EIO)
        mapped.map.region_added(region)
    (message,) = mapped.map.failures
    for part in (f"cannot {verb} test ram", "0x40000000", "0x2000", f"{mapped.ram.hva + 4096:#x}"):
        assert part in message
    assert f"nvmm_gpa_{verb}(" in message
    assert "EIO" in message
    assert message in caplog.text


def test_a_mem_7_an_overlap_is_a_failure_and_the_machine_goes_on(mapped: Map) -> None:
    """The real EINVAL of the library; the next region is mapped."""
    mapped.map.region_added(mapped.region(HIGH, 2 * PAGE_SIZE))
    mapped.map.region_added(mapped.region(HIGH + PAGE_SIZE, PAGE_SIZE))
    mapped.map.region_added(mapped.region(HIGH + 2 * PAGE_SIZE, PAGE_SIZE, 4 * PAGE_SIZE))
    (message,) = mapped.map.failures
    assert "EINVAL" in message
    assert mapped.area(HIGH + 2 * PAGE_SIZE) == (mapped.ram.hva + 4 * PAGE_SIZE, RWX)


@pytest.mark.parametrize(
    ("gpa", "offset", "size", "why"),
    [
        (HIGH, 8, 2 * PAGE_SIZE, "its host address is no page's"),
        (HIGH, 7 * PAGE_SIZE, 2 * PAGE_SIZE, "it goes on beyond its host memory"),
        (MAX_RAM, 0, PAGE_SIZE, "it ends above 0x2000000000, the machine's limit"),
        (MAX_RAM - PAGE_SIZE, 0, 2 * PAGE_SIZE, "it ends above 0x2000000000, the machine's limit"),
    ],
)
def test_a_mem_7_what_the_kernel_would_refuse_is_a_failure(
    mapped: Map, gpa: int, offset: int, size: int, why: str
) -> None:
    """L-GPA-4: libnvmm aborts the process there, so it must not be asked."""
    mapped.map.region_added(mapped.region(gpa, size, offset))
    (message,) = mapped.map.failures
    assert "cannot map test ram" in message
    assert "EINVAL" in message
    assert message.endswith(why)
    assert mapped.looks.calls == []


def test_a_mem_7_a_block_that_was_refused_is_not_mapped(mapped: Map) -> None:
    with HostMemory(PAGE_SIZE) as other:
        block = RamBlock(other, other.size)
        mapped.looks.fail("hva_map", errno.ENOBUFS)
        mapped.map.ram_block_added(block)
        mapped.looks.fail("", 0)
        mapped.map.region_added(Region("orphan", RegionKind.RAM, 2 * HIGH, PAGE_SIZE, block))
    refused, orphan = mapped.map.failures
    assert "ENOBUFS" in refused
    assert "cannot map orphan" in orphan
    assert "could not be declared" in orphan
    assert not [call for call in mapped.looks.calls if call.startswith("gpa_map")]


@pytest.mark.parametrize(("offset", "gpa"), [(7 * PAGE_SIZE, HIGH), (0, MAX_RAM - PAGE_SIZE)])
def test_the_last_page_of_either_is_mapped(mapped: Map, offset: int, gpa: int) -> None:
    mapped.map.region_added(mapped.region(gpa, PAGE_SIZE, offset))
    assert mapped.area(gpa) == (mapped.ram.hva + offset, RWX)


def test_a_mem_7_more_blocks_than_the_kernel_has_places_for(rig: MakeRig) -> None:
    """The 33rd is refused by the library itself (L-HVA-2); the guest runs on."""
    one = rig("f4")
    with ExitStack() as made:
        for number in range(40):
            pages = made.enter_context(HostMemory(PAGE_SIZE))
            block = RamBlock(pages, PAGE_SIZE)
            gpa = HIGH + number * PAGE_SIZE
            one.pc.memory.add_block(block)
            one.pc.memory.map(Region(f"r{number}", RegionKind.RAM, gpa, PAGE_SIZE, block))
        assert len(one.accelerator.memory_map.failures) == 2 * (40 - 31)
        assert one.run().reason is Stop.HALTED


def test_a_mem_8_a_dirty_log_request_marks_the_whole_ram_region(mapped: Map) -> None:
    ram, rom = mapped.region(HIGH, PAGE_SIZE), mapped.region(0, PAGE_SIZE, 0, "rom")
    for region in (ram, rom):
        mapped.map.log_sync(region)
    assert mapped.map.dirty == [ram]


def test_a_mem_2_what_guest_and_board_see_is_the_same(rig: MakeRig) -> None:
    """Both directions, and ROM: the guest's write becomes an exit, which changes nothing."""
    one = rig("a0 00 30 a2 01 30 f4")  # mov al,[0x3000]; mov [0x3001],al; hlt
    one.pc.memory.write(0x3000, b"\x5a")
    one.run()
    assert one.pc.memory.read(0x3000, 2) == b"\x5a\x5a"


def test_rom_is_not_written_by_the_guest(rig: MakeRig) -> None:
    one = rig("b0 77 a2 00 80 f4")  # mov al,0x77; mov [0x8000],al; hlt
    with HostMemory(PAGE_SIZE) as pages:
        block = RamBlock(pages, pages.size)
        one.pc.memory.add_block(block)
        pages.data[0] = 0x11
        region = Region("rom", RegionKind.ROM, 0x8000, PAGE_SIZE, block)
        one.pc.memory.map(region)
        one.run()
        assert one.reasons[0] == "MEMORY"
        assert pages.data[0] == 0x11
        one.pc.memory.unmap(region)


def test_a_mem_6_the_guest_sees_the_right_host_bytes(rig: MakeRig) -> None:
    """A region that begins within a page: at the next boundary the guest reads the host byte
    that lies as many bytes after the region's first as the boundary after its start."""
    one = rig("a0 00 90 f4")  # mov al,[0x9000]
    with HostMemory(4 * PAGE_SIZE) as memory:
        block = RamBlock(memory, memory.size)
        one.pc.memory.add_block(block)
        # GPA 0x8200 is at offset 0x1200 of the block, so GPA 0x9000 is at 0x2000.
        one.pc.memory.map(Region("odd", RegionKind.RAM, 0x8200, 0x1E00, block, 0x1200))
        memory.data[0x1000], memory.data[0x2000], memory.data[0x2200] = 0x11, 0x22, 0x33
        assert one.accelerator.memory_map.failures == []
        assert one.run().reason is Stop.HALTED
        assert one.gpr(Gpr.RAX) & 0xFF == 0x22
        assert one.reasons == ["HALTED"]
        one.close()
