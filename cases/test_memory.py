# SPDX-License-Identifier: BSD-2-Clause
"""Guest-physical memory as the guest sees it: rights, aliases, what is mapped and taken away while
it runs.  libnvmm(3) nvmm_hva_map, nvmm_gpa_map, nvmm_gpa_unmap; the exit MEMORY; SDM 3C 29.3 and
APM 2 15.25 (nested paging).  The calls themselves, without a guest, are in test_maps.py."""

from __future__ import annotations

import threading
import time

import pytest
from memory_bench import ACCESS, DONE, FREE, HLT, RWX, RX, Bench, Pages

from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    ExitReason,
    Gpr,
    HostMemory,
    MemoryExit,
    Mode,
    Prot,
    StateFlag,
    VirtualMachine,
    check,
    modes,
    requirement,
)

FLAT = (Mode.PROT32, Mode.LONG64)
KINDS = tuple(ACCESS)
RIGHTS = {"r": Prot.READ, "rw": Prot.READ | Prot.WRITE, "rx": RX, "rwx": RWX}
WORD = 0x8877_6655


@requirement("L-GPA-9", "K-MEMX-1", "K-MEMX-2", "K-MEMX-3", "K-MEMX-4", "K-MEMX-5")
@modes(*FLAT)
@pytest.mark.parametrize("offset", [0, 4, 0xFF7])
@pytest.mark.parametrize("kind", KINDS)
def test_access_where_nothing_is_mapped_exits(vm: VirtualMachine, kind: str, offset: int) -> None:
    """An access to no memory is a MEMORY exit: what it was, its exact address, RIP on it."""
    bench = Bench(vm)
    effect = bench.access(kind, FREE + offset, 1)
    check.equal(effect.end, repr(ACCESS[kind]), "access")
    check.equal(effect.gpa, FREE + offset, "GPA")
    wanted = FREE + offset if kind == "fetch" else bench.guest.symbol(kind)
    check.equal(effect.rip, wanted, "RIP")


@requirement("L-GPA-5", "L-GPA-9", "K-MEMX-2", "K-MEMX-3", "K-MEMX-4", "K-MEMX-8")
@modes(*FLAT)
@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_rights_are_kept(vm: VirtualMachine, kind: str, rights: str) -> None:
    """Memory is read, written and executed as its rights say; any other access exits (BH-47)."""
    bench = Bench(vm)
    with bench.give(FREE, prot=RIGHTS[rights]) as memory:
        memory.data[0x10:0x12] = HLT + b"\x77"
        effect = bench.access(kind, FREE + 0x10, 1)
        allowed = ACCESS[kind] in RIGHTS[rights]
        check.equal(effect.end, DONE if allowed else repr(ACCESS[kind]), "access")
        check.equal(effect.gpa, None if allowed else FREE + 0x10, "GPA of the exit")
        if not allowed:
            check.equal(bytes(memory.data[0x10:0x12]), HLT + b"\x77", "contents")


@requirement("L-GPA-9", "K-MEMX-2")
@modes(*FLAT)
def test_rom_is_read_after_a_refused_write(vm: VirtualMachine) -> None:
    """A write that was refused changes nothing, and the memory is read and executed as before."""
    bench = Bench(vm)
    with bench.give(FREE, prot=RX) as memory:
        memory.data[0:4] = WORD.to_bytes(4, "little")
        memory.data[8:9] = HLT
        check.equal(bench.access("write", FREE, 1).end, repr(Prot.WRITE), "write")
        check.equal(bench.access("read", FREE).value, WORD, "read")
        check.equal(bench.access("fetch", FREE + 8).rip, FREE + 9, "executed to")


@requirement("K-MEM-21", "L-RUN-5", "L-HVA-1")
@modes(*FLAT)
@pytest.mark.parametrize("kind", ["read", "write", "modify"])
def test_first_touch_is_no_exit(vm: VirtualMachine, kind: str) -> None:
    """The first access to new memory is done like any other, and finds zeroes."""
    bench = Bench(vm)
    with bench.give(FREE, 4 * PAGE_SIZE):
        for page in range(4):
            effect = bench.access(kind, FREE + page * PAGE_SIZE)
            check.equal((effect.end, effect.value), (DONE, 0), f"page {page}")


@requirement("K-MEM-22")
@modes(*FLAT)
@pytest.mark.parametrize("offset", [0, 1, 0xFFC, 0xFFE, 0x1FFC])
def test_host_and_guest_see_the_same_bytes(vm: VirtualMachine, offset: int) -> None:
    """What the process writes the guest reads, and the reverse, between two entries, at once."""
    bench = Bench(vm)
    with bench.give(FREE, 2 * PAGE_SIZE) as memory:
        for value in (WORD, 0, 0xFFFFFFFF, 0x01020304):
            memory.data[offset : offset + 4] = value.to_bytes(4, "little")
            check.equal(bench.access("read", FREE + offset).value, value, "guest reads")
            bench.access("write", FREE + offset, value ^ 0x5A5A5A5A)
            seen = int.from_bytes(memory.data[offset : offset + 4], "little")
            check.equal(seen, value ^ 0x5A5A5A5A, "host reads")


@requirement("K-MEM-22")
@modes(*FLAT)
def test_code_written_by_the_host_is_executed(vm: VirtualMachine) -> None:
    """Code that the process changes between two entries is executed as it is then."""
    bench = Bench(vm)
    with bench.give(FREE) as memory:
        memory.data[0:1] = HLT
        check.equal(bench.access("fetch", FREE).rip, FREE + 1, "executed to")
        memory.data[0:3] = b"\x90\x90" + HLT
        check.equal(bench.access("fetch", FREE).rip, FREE + 3, "executed to")


@requirement("K-MEM-17", "L-GPA-2")
@modes(*FLAT)
def test_two_places_of_one_memory_are_the_same_bytes(vm: VirtualMachine) -> None:
    """Memory that is mapped at two guest addresses is written through one and read through both."""
    bench = Bench(vm)
    other = FREE + 0x10_0000
    with bench.give(FREE) as memory:
        bench.place(memory, other, RX)
        bench.access("write", FREE + 0x20, WORD)
        check.equal(bench.access("read", other + 0x20).value, WORD, "at the other place")
        check.equal(bench.access("write", other + 0x20, 1).end, repr(Prot.WRITE), "its rights")
        check.equal(bench.access("read", FREE + 0x20).value, WORD, "at the first place")


@requirement("L-GPA-2", "K-MEM-15")
@modes(*FLAT)
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_part_of_a_host_mapping_can_be_shown(vm: VirtualMachine, offset: int) -> None:
    """gpa_map of some pages inside a host mapping shows those, and nothing around them."""
    bench = Bench(vm)
    with HostMemory(4 * PAGE_SIZE) as memory:
        bench.machine.hva_map(memory)
        for page in range(4):
            memory.data[page * PAGE_SIZE] = page + 1
        bench.place(memory, FREE, RWX, offset=offset * PAGE_SIZE, size=PAGE_SIZE)
        check.equal(bench.access("read", FREE).value, offset + 1, "first byte")
        after = bench.access("read", FREE + PAGE_SIZE)
        check.equal((after.end, after.gpa), (repr(Prot.READ), FREE + PAGE_SIZE), "after it")
        before = bench.access("read", FREE - 4)
        check.equal((before.end, before.gpa), (repr(Prot.READ), FREE - 4), "before it")


@requirement("K-MEM-4", "L-GPA-2")
@modes(*FLAT)
def test_access_across_two_mappings(vm: VirtualMachine) -> None:
    """An access across the border of two mappings that touch is done, half in each."""
    bench = Bench(vm)
    with bench.give(FREE) as first, bench.give(FREE + PAGE_SIZE) as second:
        bench.access("write", FREE + PAGE_SIZE - 2, WORD)
        check.equal(bytes(first.data[-2:]), b"\x55\x66", "first")
        check.equal(bytes(second.data[:2]), b"\x77\x88", "second")
        check.equal(bench.access("read", FREE + PAGE_SIZE - 2).value, WORD, "read back")


@requirement("K-MEMX-1", "K-MEMX-2")
@modes(*FLAT)
@pytest.mark.parametrize("kind", ["read", "write"])
def test_access_that_leaves_its_mapping_exits(vm: VirtualMachine, kind: str) -> None:
    """An access that begins in memory and ends where there is none exits with the first byte that
    it could not reach, and has written nothing."""
    bench = Bench(vm)
    with bench.give(FREE) as memory:
        effect = bench.access(kind, FREE + PAGE_SIZE - 2, WORD)
        check.equal(effect.end, repr(ACCESS[kind]), "access")
        check.equal(effect.gpa, FREE + PAGE_SIZE, "GPA")
        check.equal(bytes(memory.data[-2:]), b"\0\0", "contents")


@requirement("K-MEM-23", "L-GPA-6")
@modes(*FLAT)
@pytest.mark.parametrize("kind", KINDS)
def test_unmapped_memory_is_gone_at_once(vm: VirtualMachine, kind: str) -> None:
    """After gpa_unmap the next access exits, though the guest has just used the page (BH-89)."""
    bench = Bench(vm)
    with bench.give(FREE) as memory:
        memory.data[0:1] = HLT
        check.equal(bench.access(kind, FREE).end, DONE, "before")
        memory.data[0:1] = HLT
        bench.machine.gpa_unmap(memory.hva, FREE, memory.size)
        after = bench.access(kind, FREE)
        check.equal((after.end, after.gpa), (repr(ACCESS[kind]), FREE), "after")


@requirement("K-MEM-16", "K-MEM-23")
@modes(*FLAT)
def test_other_memory_at_the_same_place_is_seen(vm: VirtualMachine) -> None:
    """Where other memory is mapped in place of the old, the guest sees the new, and only that."""
    bench = Bench(vm)
    with bench.give(FREE) as old, HostMemory(PAGE_SIZE) as new:
        old.data[0] = 1
        check.equal(bench.access("read", FREE).value, 1, "old")
        bench.machine.gpa_unmap(old.hva, FREE, old.size)
        bench.machine.hva_map(new)
        new.data[0] = 2
        bench.place(new, FREE, RWX)
        check.equal(bench.access("read", FREE).value, 2, "new")
        bench.access("write", FREE, 3)
        check.equal((old.data[0], new.data[0]), (1, 3), "old and new after a write")


@requirement("K-MEM-16", "L-GPA-5")
@modes(*FLAT)
@pytest.mark.parametrize("way", ["r-rw", "rw-r", "rw-rwx", "rwx-rw"])
def test_rights_are_those_of_the_latest_mapping(vm: VirtualMachine, way: str) -> None:
    """Memory that is taken away and mapped again with other rights has those, and its contents."""
    before, after = way.split("-")
    bench = Bench(vm)
    with bench.give(FREE, prot=RIGHTS[before]) as memory:
        memory.data[0:1] = HLT
        bench.access("read", FREE)
        bench.machine.gpa_unmap(memory.hva, FREE, memory.size)
        bench.place(memory, FREE, RIGHTS[after])
        for kind in ("read", "fetch", "modify"):
            allowed = ACCESS[kind] in RIGHTS[after]
            end = bench.access(kind, FREE).end
            check.equal(end, DONE if allowed else repr(ACCESS[kind]), kind)


@requirement("K-MEM-9", "L-HVA-3")
@modes(*FLAT)
def test_guest_keeps_what_the_host_gave_up(vm: VirtualMachine) -> None:
    """After hva_unmap the guest has the memory still, with its contents."""
    bench = Bench(vm)
    memory = bench.give(FREE)
    memory.data[0x30:0x34] = WORD.to_bytes(4, "little")
    bench.machine.hva_unmap(memory)
    check.equal(bench.access("read", FREE + 0x30).value, WORD, "contents")
    check.equal(bench.access("modify", FREE + 0x30, 1).end, DONE, "write")
    check.equal(bench.access("read", FREE + 0x30).value, WORD + 1, "written")


@requirement("K-MEM-7", "K-MEM-9", "L-HVA-1")
@modes(*FLAT)
def test_host_memory_mapped_again_is_new(vm: VirtualMachine) -> None:
    """hva_unmap and hva_map of one range give new memory; the guest's old pages stay."""
    bench = Bench(vm)
    memory = bench.give(FREE)
    memory.data[0] = 7
    pages = Pages(memory.hva, memory.size)
    bench.machine.hva_unmap(memory)
    bench.machine.hva_map(pages)
    bench.machine.gpa_map(pages.hva, FREE + PAGE_SIZE, pages.size, RWX)
    check.equal(bench.access("read", FREE + PAGE_SIZE).value, 0, "new")
    check.equal(bench.access("read", FREE).value, 7, "old")
    bench.machine.gpa_unmap(pages.hva, FREE + PAGE_SIZE, pages.size)
    bench.machine.hva_unmap(pages)


@requirement("L-HVA-2a", "K-MEM-5")
@modes(Mode.LONG64)
def test_guest_and_host_are_never_parted(vm: VirtualMachine) -> None:
    """Whether hva_map of a range that is mapped already is refused or not, the process and the
    guest see the same memory afterwards (BH-46a)."""
    bench = Bench(vm)
    with bench.give(FREE) as memory:
        try:
            bench.machine.hva_map(memory)
        except OSError:
            check(True, "refused")
        memory.data[0] = 9
        check.equal(bench.access("read", FREE).value, 9, "the guest reads")


@requirement("K-MEM-20", "L-GPA-6")
@modes(*FLAT)
def test_memory_beside_what_was_unmapped_stays(vm: VirtualMachine) -> None:
    """Unmapping one of three mappings that touch takes away that one."""
    bench = Bench(vm)
    with HostMemory(3 * PAGE_SIZE) as memory:
        bench.machine.hva_map(memory)
        for page in range(3):
            memory.data[page * PAGE_SIZE] = page + 1
            bench.place(
                memory, FREE + page * PAGE_SIZE, RWX, offset=page * PAGE_SIZE, size=PAGE_SIZE
            )
        middle = FREE + PAGE_SIZE
        bench.machine.gpa_unmap(memory.hva + PAGE_SIZE, middle, PAGE_SIZE)
        check.equal(bench.access("read", FREE).value, 1, "first")
        check.equal(bench.access("read", middle).end, repr(Prot.READ), "middle")
        check.equal(bench.access("read", FREE + 2 * PAGE_SIZE).value, 3, "last")


@requirement("K-MEM-14", "K-CAP-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("kind", KINDS)
def test_last_page_below_max_ram_is_memory(
    vm: VirtualMachine, capability: Capability, kind: str
) -> None:
    """Memory may end exactly at max_ram, and the guest uses its last page."""
    bench = Bench(vm)
    top = capability.max_ram - PAGE_SIZE
    linear = bench.show_top(top)
    with bench.give(top) as memory:
        memory.data[0xFF0:0xFF1] = HLT
        effect = bench.access(kind, linear + 0xFF0, 1)
        check.equal((effect.end, effect.gpa), (DONE, None), kind)


@requirement("K-MEM-25", "K-MEMX-1", "K-MEMX-2", "K-MEMX-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("kind", KINDS)
def test_access_beyond_max_ram_exits(vm: VirtualMachine, capability: Capability, kind: str) -> None:
    """An access at max_ram or above is a MEMORY exit with that address."""
    bench = Bench(vm)
    gpa = capability.max_ram + 0x1234
    effect = bench.access(kind, bench.show_top(gpa), 1)
    check.equal((effect.end, effect.gpa), (repr(ACCESS[kind]), gpa), kind)


def _run_until_exit(bench: Bench, ends: list[object]) -> None:
    """Run the vCPU on; what ends it goes to `ends`."""
    vcpu = bench.guest.vcpu
    try:
        while True:
            taken = vcpu.run()
            if taken.reason not in (ExitReason.NONE, ExitReason.STOPPED):
                ends.append(taken)
                return
    except Exception as error:
        ends.append(error)


def _start(bench: Bench, label: str, address: int, counter: int) -> None:
    gpr = bench.guest.registers.gpr
    gpr[Gpr.RIP] = bench.guest.symbol(label)
    gpr[Gpr.RBX], gpr[Gpr.RSI] = address, counter
    bench.guest.state()  # pushes them


@requirement("K-MEM-23", "K-MEM-24")
@modes(*FLAT)
def test_memory_taken_from_a_running_guest(vm: VirtualMachine) -> None:
    """gpa_unmap returns while the vCPU is in its guest, which exits at its next access (BH-89)."""
    bench = Bench(vm)
    ends: list[object] = []
    with bench.give(FREE + 0x10_0000) as counter, bench.give(FREE) as memory:
        _start(bench, "spin", FREE, FREE + 0x10_0000)
        runner = threading.Thread(target=_run_until_exit, args=(bench, ends), daemon=True)
        runner.start()
        while not any(counter.data[0:4]) and not ends:
            time.sleep(0)
        bench.machine.gpa_unmap(memory.hva, FREE, memory.size)
        runner.join(10)
        (taken,) = ends or [None]
        assert isinstance(taken, MemoryExit), f"the guest ended with {taken!r}"
        check.equal((taken.prot, taken.gpa), (Prot.READ, FREE), "access")


@requirement("K-MEM-24", "K-MEM-22")
@modes(*FLAT)
def test_memory_given_to_a_running_guest(vm: VirtualMachine) -> None:
    """gpa_map returns while the vCPU is in its guest, which uses the memory without an exit."""
    bench = Bench(vm)
    ends: list[object] = []
    with bench.give(FREE + 0x10_0000) as flag, HostMemory(PAGE_SIZE) as memory:
        bench.machine.hva_map(memory)
        memory.data[0:4] = WORD.to_bytes(4, "little")
        _start(bench, "wait", FREE, FREE + 0x10_0000)
        runner = threading.Thread(target=_run_until_exit, args=(bench, ends), daemon=True)
        runner.start()
        bench.place(memory, FREE, RWX)
        flag.data[0] = 1
        runner.join(10)
        vcpu = bench.guest.vcpu
        vcpu.getstate(StateFlag.GPRS)
        reasons = [getattr(end, "reason", end) for end in ends]
        check.equal(reasons, [ExitReason.HALTED], "exits")
        check.equal(vcpu.state.gprs[Gpr.RAX], WORD, "EAX")
