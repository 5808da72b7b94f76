# SPDX-License-Identifier: BSD-2-Clause
"""The calls that map memory, without a guest: libnvmm(3) nvmm_hva_map, nvmm_hva_unmap,
nvmm_gpa_map, nvmm_gpa_unmap, nvmm_gpa_to_hva; which ranges they take, and the errno of what they
refuse.  Calls that a libnvmm may answer with abort(3) are made in a child, on the machine that it
inherits."""

from __future__ import annotations

import errno

import pytest
from memory_bench import FREE, RW, RWX, RX, Pages

from nvmmconf.abi import ffi
from nvmmconf.nvmm import machine_info
from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    HostMemory,
    Level,
    Libnvmm,
    Machine,
    NvmmError,
    Prot,
    check,
    expect_errno,
    isolated,
    requirement,
)

PAGE = PAGE_SIZE
PART = PAGE // 2
SLOTS = 32
"""Host mappings that a machine has (K-MEM-6)."""

RANGES = {
    "equal": (2, 2),
    "head": (1, 2),
    "tail": (3, 2),
    "first-page": (2, 1),
    "last-page": (3, 1),
    "encloses": (1, 4),
    "encloses-downward": (1, 3),
    "encloses-upward": (2, 3),
}
"""First page and number of pages of what overlaps pages 2 and 3."""
NESTED = ("equal", "first-page", "last-page")
BESIDE = {"before": (1, 1), "after": (4, 1), "far-before": (0, 1), "far-after": (5, 1)}


def _pages(memory: HostMemory, first: int, count: int) -> Pages:
    return Pages(memory.hva + first * PAGE, count * PAGE)


# ---- nvmm_hva_map ----


@requirement("L-HVA-1", "K-MEM-7")
@pytest.mark.parametrize("pages", [1, 3, 64])
def test_hva_map_replaces_what_was_there_by_zeroes(machine: Machine, pages: int) -> None:
    """hva_map gives the process zeroed memory that it can read and write, in place of the old."""
    with HostMemory(pages * PAGE) as memory:
        memory.data[:] = b"\xa5" * memory.size
        machine.hva_map(memory)
        check.equal(bytes(memory.data).count(0), memory.size, "zero bytes")
        memory.data[-1] = 7
        check.equal(memory.data[-1], 7, "byte written")


@requirement("L-HVA-1", "K-MEM-7")
def test_hva_map_touches_nothing_around(machine: Machine) -> None:
    """hva_map of some pages leaves the process's other pages alone."""
    with HostMemory(3 * PAGE) as memory:
        memory.data[:] = b"\xa5" * memory.size
        machine.hva_map(_pages(memory, 1, 1))
        check.equal(bytes(memory.data[:PAGE]), b"\xa5" * PAGE, "before")
        check.equal(bytes(memory.data[PAGE : 2 * PAGE]), bytes(PAGE), "mapped")
        check.equal(bytes(memory.data[2 * PAGE :]), b"\xa5" * PAGE, "after")


@requirement("L-HVA-2", "K-MEM-1", "K-MEM-2", "K-MEM-10")
@pytest.mark.parametrize(
    "fault", ["odd-hva", "half-page-hva", "odd-size", "half-page-size", "hva-0", "size-0"]
)
def test_hva_map_refuses_what_is_no_pages(machine: Machine, fault: str) -> None:
    """hva_map takes whole pages at a page's address, at least one, not at 0; else EINVAL."""
    with HostMemory(4 * PAGE) as memory:
        hva, size = {
            "odd-hva": (memory.hva + 1, PAGE),
            "half-page-hva": (memory.hva + PART, PAGE),
            "odd-size": (memory.hva, PAGE + 1),
            "half-page-size": (memory.hva, PART),
            "hva-0": (0, PAGE),
            "size-0": (memory.hva, 0),
        }[fault]
        with expect_errno(errno.EINVAL):
            machine.hva_map(Pages(hva, size))


@requirement("K-MEM-10")
@pytest.mark.parametrize("size", [2 * PAGE, 1 << 40])
def test_hva_map_refuses_what_wraps(machine: Machine, size: int) -> None:
    """hva_map of a range beyond the end of all addresses fails."""
    with expect_errno(errno.EINVAL, errno.ENOMEM, errno.EFAULT):
        machine.hva_map(Pages((1 << 64) - PAGE, size))


@requirement("L-HVA-2", "L-HVA-2a", "K-MEM-3", "K-MEM-5")
@pytest.mark.parametrize("place", RANGES)
def test_hva_map_refuses_what_overlaps(machine: Machine, place: str) -> None:
    """hva_map of a range that shares a page with one that is mapped is EEXIST (BH-46a)."""
    with HostMemory(6 * PAGE) as memory:
        machine.hva_map(_pages(memory, 2, 2))
        memory.data[2 * PAGE] = memory.data[4 * PAGE - 1] = 5
        with expect_errno(errno.EEXIST):
            machine.hva_map(_pages(memory, *RANGES[place]))
        check.equal((memory.data[2 * PAGE], memory.data[4 * PAGE - 1]), (5, 5), "contents")


@requirement("K-MEM-4")
@pytest.mark.parametrize("place", BESIDE)
def test_hva_map_takes_what_is_beside(machine: Machine, place: str) -> None:
    """hva_map of a range beside one that is mapped, touching it or not, is done."""
    with HostMemory(6 * PAGE) as memory:
        machine.hva_map(_pages(memory, 2, 2))
        memory.data[2 * PAGE] = memory.data[4 * PAGE - 1] = 5
        machine.hva_map(_pages(memory, *BESIDE[place]))
        check.equal((memory.data[2 * PAGE], memory.data[4 * PAGE - 1]), (5, 5), "contents")


@requirement("L-HVA-2", "K-MEM-6")
def test_host_mappings_run_out(machine: Machine) -> None:
    """32 host mappings a machine can be had; the one after them is ENOBUFS, and changes nothing."""
    with HostMemory((SLOTS + 1) * PAGE) as memory:
        for slot in range(SLOTS):
            machine.hva_map(_pages(memory, slot, 1))
        memory.data[SLOTS * PAGE] = 5
        with expect_errno(errno.ENOBUFS):
            machine.hva_map(_pages(memory, SLOTS, 1))
        check.equal(memory.data[SLOTS * PAGE], 5, "contents")


@requirement("L-HVA-3", "K-MEM-6", "K-MEM-8")
def test_hva_unmap_gives_the_slot_back(machine: Machine) -> None:
    """However often a range is mapped and unmapped, there is room for it."""
    with HostMemory(PAGE) as memory:
        pages = _pages(memory, 0, 1)
        for _ in range(2 * SLOTS):
            machine.hva_map(pages)
            machine.hva_unmap(pages)
        machine.hva_map(pages)
        check.equal(machine_info(machine.library, machine.machid).ram, PAGE, "RAM of the machine")


@requirement("K-MEM-6")
def test_failing_hva_map_takes_no_slot(machine: Machine) -> None:
    """An hva_map that the host cannot do, however often, leaves room for others (BH-46)."""
    with HostMemory(PAGE) as memory:
        for n in range(SLOTS + 1):
            nowhere = Pages((1 << 63) + 16 * n * PAGE, PAGE)
            with expect_errno(errno.EINVAL, errno.ENOMEM, errno.EFAULT, errno.EACCES):
                machine.hva_map(nowhere)
        machine.hva_map(memory)
        check.equal(machine_info(machine.library, machine.machid).ram, PAGE, "RAM of the machine")


@requirement("L-HVA-1", "K-MEM-3")
def test_two_machines_have_their_own_mappings(library: Libnvmm, machine: Machine) -> None:
    """What one machine has mapped is in no other's way."""
    with Machine(library) as other, HostMemory(2 * PAGE) as memory:
        machine.hva_map(_pages(memory, 0, 1))
        other.hva_map(_pages(memory, 1, 1))
        machine.gpa_map(memory.hva, FREE, PAGE, RWX)
        other.gpa_map(memory.hva + PAGE, FREE, PAGE, RX)
        check.equal(machine.gpa_to_hva(FREE), (memory.hva, RWX), "one")
        check.equal(other.gpa_to_hva(FREE), (memory.hva + PAGE, RX), "other")


# ---- nvmm_hva_unmap ----


@requirement("L-HVA-3", "K-MEM-8")
@pytest.mark.parametrize(
    "place", ["head", "tail", "first-page", "last-page", "encloses", "before", "after"]
)
def test_hva_unmap_wants_exactly_one_mapping(machine: Machine, place: str) -> None:
    """hva_unmap of anything but what one hva_map mapped is ENOENT, and takes nothing away."""
    with HostMemory(6 * PAGE) as memory:
        mapped = _pages(memory, 2, 2)
        machine.hva_map(mapped)
        memory.data[2 * PAGE] = 5
        with expect_errno(errno.ENOENT):
            machine.hva_unmap(_pages(memory, *(RANGES | BESIDE)[place]))
        check.equal(memory.data[2 * PAGE], 5, "contents")
        check.equal(machine_info(machine.library, machine.machid).ram, 2 * PAGE, "RAM")


@requirement("L-HVA-3", "K-MEM-8")
def test_hva_unmap_twice(machine: Machine) -> None:
    """hva_unmap of what was unmapped is ENOENT; of two that touch, the other one stays."""
    with HostMemory(2 * PAGE) as memory:
        machine.hva_map(_pages(memory, 0, 1))
        machine.hva_map(_pages(memory, 1, 1))
        machine.hva_unmap(_pages(memory, 0, 1))
        with expect_errno(errno.ENOENT):
            machine.hva_unmap(_pages(memory, 0, 1))
        check.equal(memory.data[PAGE], 0, "the other one's first byte")


def _unmap_and_look(machine: Machine, memory: HostMemory) -> int:
    hva = memory.hva
    machine.hva_unmap(memory)
    return int(ffi.cast("uint8_t *", hva)[0])


@requirement("L-HVA-3")
def test_unmapped_range_is_no_memory_of_the_process(machine: Machine) -> None:
    """After hva_unmap the process that touches the range gets SIGSEGV."""
    with HostMemory(PAGE) as memory:
        machine.hva_map(memory)
        end = isolated(_unmap_and_look, machine, memory)
        assert end.signal is not None
        assert end.signal.name in ("SIGSEGV", "SIGBUS")


# ---- nvmm_gpa_map ----

BAD_GPA_MAPS = (
    "odd-gpa",
    "half-page-gpa",
    "odd-hva",
    "odd-size",
    "half-page-size",
    "size-0",
    "at-max-ram",
    "beyond-max-ram",
    "across-max-ram",
    "wraps",
    "hva-0",
    "hva-not-mapped",
    "hva-across-the-end",
    "hva-across-two",
    "prot-user",
    "prot-16",
)


def _bad_map(machine: Machine, memory: HostMemory, top: int, fault: str) -> None:
    hva, gpa, size, prot = memory.hva, FREE, PAGE, int(RWX)
    match fault:
        case "odd-gpa":
            gpa += 1
        case "half-page-gpa":
            gpa += PART
        case "odd-hva":
            hva += 1
        case "odd-size":
            size += 1
        case "half-page-size":
            size = PART
        case "size-0":
            size = 0
        case "at-max-ram":
            gpa = top
        case "beyond-max-ram":
            gpa = 1 << 52
        case "across-max-ram":
            gpa, size = top - PAGE, 2 * PAGE
        case "wraps":
            gpa, size = (1 << 64) - PAGE, 2 * PAGE
        case "hva-0":
            hva = 0
        case "hva-not-mapped":
            hva += 4 * PAGE
        case "hva-across-the-end":
            hva += 3 * PAGE
            size = 2 * PAGE
        case "hva-across-two":
            hva += PAGE
            size = 2 * PAGE
        case "prot-user":
            prot |= int(Prot.USER)
        case "prot-16":
            prot |= 0x10
    machine.gpa_map(hva, gpa, size, Prot(prot))


@requirement("L-GPA-3", "L-GPA-4", "K-MEM-11", "K-MEM-12", "K-MEM-13", "K-MEM-14", "K-MEM-15")
@pytest.mark.parametrize("fault", BAD_GPA_MAPS)
def test_gpa_map_refuses_with_einval(machine: Machine, capability: Capability, fault: str) -> None:
    """gpa_map takes whole pages of one host mapping, below max_ram, with rights that there are;
    else it fails with EINVAL, and the process lives on (BH-34)."""
    with HostMemory(5 * PAGE) as memory:
        machine.hva_map(_pages(memory, 0, 2))
        machine.hva_map(_pages(memory, 2, 2))
        end = isolated(_bad_map, machine, memory, capability.max_ram, fault)
        check.equal(str(end.signal and end.signal.name), "None", "signal")
        check.equal(end.errno, errno.EINVAL, "errno")


def _bad_map_then_good(machine: Machine, memory: HostMemory) -> None:
    with expect_errno(errno.EINVAL):
        machine.gpa_map(memory.hva + PAGE, FREE, PAGE, RWX)
    with expect_errno(errno.ENOENT):
        machine.gpa_to_hva(FREE)
    machine.gpa_map(memory.hva, FREE, PAGE, RW)
    check.equal(machine.gpa_to_hva(FREE), (memory.hva, RW), "mapping")


@requirement("L-GPA-1", "L-GPA-4")
def test_refused_gpa_map_leaves_nothing_behind(machine: Machine) -> None:
    """Where a gpa_map was refused nothing is mapped, and one that is right is done (BH-34)."""
    with HostMemory(2 * PAGE) as memory:
        machine.hva_map(_pages(memory, 0, 1))
        end = isolated(_bad_map_then_good, machine, memory)
        check.equal(str(end), "exit status 0", "the process")


@requirement("L-GPA-2", "L-GPA-8")
@pytest.mark.parametrize("place", RANGES)
def test_gpa_map_refuses_what_overlaps(machine: Machine, place: str) -> None:
    """gpa_map of guest addresses of which some are mapped is EINVAL, and changes nothing."""
    first, count = RANGES[place]
    with HostMemory(8 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, FREE + 2 * PAGE, 2 * PAGE, RX)
        with expect_errno(errno.EINVAL):
            machine.gpa_map(memory.hva + 4 * PAGE, FREE + first * PAGE, count * PAGE, RWX)
        check.equal(machine.gpa_to_hva(FREE + 2 * PAGE), (memory.hva, RX), "first page")
        check.equal(machine.gpa_to_hva(FREE + 3 * PAGE), (memory.hva + PAGE, RX), "second page")
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(FREE + PAGE)
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(FREE + 4 * PAGE)


@requirement("L-GPA-2")
@pytest.mark.parametrize("place", BESIDE)
def test_gpa_map_takes_what_is_beside(machine: Machine, place: str) -> None:
    """gpa_map of guest addresses beside a mapping, touching it or not, is done (BH-32)."""
    first, count = BESIDE[place]
    with HostMemory(8 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, FREE + 2 * PAGE, 2 * PAGE, RX)
        machine.gpa_map(memory.hva + 4 * PAGE, FREE + first * PAGE, count * PAGE, RWX)
        check.equal(machine.gpa_to_hva(FREE + 2 * PAGE), (memory.hva, RX), "old")
        at = memory.hva + 4 * PAGE
        check.equal(machine.gpa_to_hva(FREE + first * PAGE), (at, RWX), "new")


@requirement("L-GPA-2", "K-MEM-17")
def test_one_host_range_at_many_guest_addresses(machine: Machine) -> None:
    """The same host memory can be mapped at any number of guest addresses, with its own rights."""
    with HostMemory(2 * PAGE) as memory:
        machine.hva_map(memory)
        for n in range(100):
            machine.gpa_map(memory.hva, FREE + 2 * n * PAGE, PAGE, RWX if n % 2 else RX)
        seen = [machine.gpa_to_hva(FREE + 2 * n * PAGE) for n in range(100)]
        check.equal(seen, [(memory.hva, RWX if n % 2 else RX) for n in range(100)], "mappings")


# ---- nvmm_gpa_unmap ----


@requirement("L-GPA-6", "K-MEM-18")
@pytest.mark.parametrize(
    "place", ["head", "tail", "first-page", "last-page", "encloses", "before", "other-hva"]
)
def test_gpa_unmap_wants_exactly_one_mapping(machine: Machine, place: str) -> None:
    """gpa_unmap of anything but what one gpa_map mapped is ENOENT (BH-33)."""
    with HostMemory(8 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva + 2 * PAGE, FREE + 2 * PAGE, 2 * PAGE, RX)
        first, count = (RANGES | BESIDE).get(place, (2, 2))
        hva = memory.hva + (first + (place == "other-hva")) * PAGE
        ffi.errno = 0
        with expect_errno(errno.ENOENT):
            machine.gpa_unmap(hva, FREE + first * PAGE, count * PAGE)


@requirement("L-GPA-6", "K-MEM-20")
@pytest.mark.parametrize("place", ["head", "first-page", "last-page", "encloses", "other-hva"])
def test_gpa_unmap_that_fails_takes_nothing_away(machine: Machine, place: str) -> None:
    """After a gpa_unmap that names no mapping exactly, all is mapped as before."""
    with HostMemory(8 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva + 2 * PAGE, FREE + 2 * PAGE, 2 * PAGE, RX)
        first, count = RANGES.get(place, (2, 2))
        hva = memory.hva + (first + (place == "other-hva")) * PAGE
        with pytest.raises(NvmmError):
            machine.gpa_unmap(hva, FREE + first * PAGE, count * PAGE)
        check.equal(machine.gpa_to_hva(FREE + 2 * PAGE), (memory.hva + 2 * PAGE, RX), "first page")
        check.equal(machine.gpa_to_hva(FREE + 3 * PAGE), (memory.hva + 3 * PAGE, RX), "second page")


@requirement("L-GPA-6", "L-GPA-2")
def test_gpa_unmap_makes_room(machine: Machine) -> None:
    """What was unmapped can be mapped again, as a whole or in parts; the others stay (BH-32)."""
    with HostMemory(4 * PAGE) as memory:
        machine.hva_map(memory)
        for n in range(4):
            machine.gpa_map(memory.hva + n * PAGE, FREE + n * PAGE, PAGE, RX)
        for n in (1, 2):
            machine.gpa_unmap(memory.hva + n * PAGE, FREE + n * PAGE, PAGE)
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(FREE + PAGE)
        machine.gpa_map(memory.hva, FREE + PAGE, 2 * PAGE, RWX)
        seen = [machine.gpa_to_hva(FREE + n * PAGE) for n in range(4)]
        at = memory.hva
        wanted = [(at, RX), (at, RWX), (at + PAGE, RWX), (at + 3 * PAGE, RX)]
        check.equal(seen, wanted, "mappings")


def _map_and_unmap(machine: Machine, memory: HostMemory, gpa: int) -> None:
    machine.gpa_map(memory.hva, gpa, memory.size, RWX)
    machine.gpa_unmap(memory.hva, gpa, memory.size)
    with expect_errno(errno.ENOENT):
        machine.gpa_to_hva(gpa)


@requirement("K-MEM-14", "K-MEM-19", "L-GPA-7")
@pytest.mark.parametrize("pages", [0, 1, 2, 512])
def test_memory_near_max_ram_can_be_unmapped(
    machine: Machine, capability: Capability, pages: int
) -> None:
    """What can be mapped can be unmapped, also at max_ram and just below it (BH-31)."""
    with HostMemory(PAGE) as memory:
        machine.hva_map(memory)
        gpa = capability.max_ram - (pages + 1) * PAGE
        end = isolated(_map_and_unmap, machine, memory, gpa)
        check.equal(str(end), "exit status 0", "the process")


# ---- nvmm_gpa_to_hva ----


@requirement("L-GPA-8")
@pytest.mark.parametrize("offset", [0, 1, 0xFFF, 0x1000, 0x1234, 0x1FFF])
def test_gpa_to_hva_of_any_byte(machine: Machine, offset: int) -> None:
    """gpa_to_hva tells host address and rights of any byte of a mapping."""
    with HostMemory(2 * PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, FREE, 2 * PAGE, RX)
        check.equal(machine.gpa_to_hva(FREE + offset), (memory.hva + offset, RX), "mapping")


@requirement("L-GPA-8")
@pytest.mark.parametrize("gpa", [0, FREE - 1, FREE + PAGE, FREE + 2 * PAGE, (1 << 64) - 1])
def test_gpa_to_hva_of_no_memory(machine: Machine, gpa: int) -> None:
    """gpa_to_hva of an address where nothing is mapped is ENOENT."""
    with HostMemory(PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, FREE, PAGE, RWX)
        with expect_errno(errno.ENOENT):
            machine.gpa_to_hva(gpa)


@requirement("L-GPA-5", "L-GPA-8")
@pytest.mark.parametrize("prot", range(8))
def test_gpa_to_hva_tells_the_rights(machine: Machine, prot: int) -> None:
    """The rights that gpa_to_hva tells are those that gpa_map was given, none of them included."""
    with HostMemory(PAGE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, FREE, PAGE, Prot(prot))
        check.equal(machine.gpa_to_hva(FREE), (memory.hva, Prot(prot)), "mapping")


@requirement("K-MEM-6", level=Level.INFO)
def test_host_mappings_are_32(machine: Machine) -> None:
    """A machine has 32 host mappings."""
    with HostMemory(256 * PAGE) as memory:
        count = 0
        while count < 128:
            try:
                machine.hva_map(_pages(memory, 2 * count, 1))
            except NvmmError:
                break
            count += 1
        assert count == SLOTS
