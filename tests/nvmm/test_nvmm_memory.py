# SPDX-License-Identifier: BSD-2-Clause
"""Host memory, and what lies where for host and guest."""

from __future__ import annotations

import pytest

from nvmmconf.abi import Cr, Libnvmm, Msr, Prot, StateFlag
from nvmmconf.nvmm import PAGE_SIZE, HostMemory, Machine, NvmmError

RWX = Prot.READ | Prot.WRITE | Prot.EXEC


@pytest.mark.parametrize("size", [0, -4096, 1, 4095, 4097])
def test_sizes_that_are_no_pages(size: int) -> None:
    with pytest.raises(ValueError, match="is not a positive multiple of 0x1000"):
        HostMemory(size)


def test_no_room() -> None:
    with pytest.raises(MemoryError, match="no room for 0x1000000000000000 bytes"):
        HostMemory(1 << 60)


def test_fresh_memory_is_zero_aligned_and_writable() -> None:
    with HostMemory(3 * PAGE_SIZE) as memory:
        assert memory.hva % PAGE_SIZE == 0
        assert len(memory.data) == memory.size == 3 * PAGE_SIZE
        assert bytes(memory.data) == bytes(memory.size)
        memory.data[memory.size - 1] = 7
        assert memory.data[-1] == 7


def test_release_closes_the_view_and_is_idempotent() -> None:
    memory = HostMemory(PAGE_SIZE)
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match="released"):
        memory.data[0]


def test_hva_map_makes_it_zero(machine: Machine) -> None:
    """L-HVA-1; the view then shows the new pages."""
    with HostMemory(2 * PAGE_SIZE) as memory:
        memory.data[:] = b"\xa5" * memory.size
        machine.hva_map(memory)
        assert bytes(memory.data) == bytes(memory.size)
        memory.data[5] = 1
        assert memory.data[5] == 1


def test_hva_map_of_a_part(machine: Machine) -> None:
    with HostMemory(2 * PAGE_SIZE) as memory:
        memory.data[:] = b"\xa5" * memory.size
        machine.hva_map(memory, PAGE_SIZE)
        assert bytes(memory.data) == bytes(PAGE_SIZE) + b"\xa5" * PAGE_SIZE


def test_hva_unmap_closes_the_view(machine: Machine) -> None:
    """L-HVA-3: touching the pages would be a SIGSEGV; unmapping them again, a stranger's end."""
    memory = HostMemory(PAGE_SIZE)
    machine.hva_map(memory)
    machine.hva_unmap(memory)
    with pytest.raises(ValueError, match="released"):
        memory.data[0]
    with HostMemory(PAGE_SIZE) as other:
        # Often the same address: releasing the first must leave it alone.
        memory.close()
        other.data[0] = 1


def test_gpa_to_hva(machine: Machine, memory: HostMemory) -> None:
    """L-GPA-8: the offset is added, whatever the alignment."""
    machine.gpa_map(memory.hva + PAGE_SIZE, 0x8000, PAGE_SIZE, Prot.READ | Prot.EXEC)
    assert machine.gpa_to_hva(0) == (memory.hva, RWX)
    assert machine.gpa_to_hva(0x1FFF) == (memory.hva + 0x1FFF, RWX)
    assert machine.gpa_to_hva(0x8123) == (memory.hva + 0x1123, Prot.READ | Prot.EXEC)
    for gpa in (0x2000, 0x7FFF, 0x9000):
        with pytest.raises(NvmmError, match=rf"nvmm_gpa_to_hva\(.*, gpa={gpa:#x}\): ENOENT"):
            machine.gpa_to_hva(gpa)


def test_gpa_unmap_takes_exactly_one_area(machine: Machine, memory: HostMemory) -> None:
    """L-GPA-6."""
    with pytest.raises(NvmmError):
        machine.gpa_unmap(memory.hva, 0, PAGE_SIZE)
    assert machine.gpa_to_hva(0)[0] == memory.hva
    machine.gpa_unmap(memory.hva, 0, memory.size)
    with pytest.raises(NvmmError):
        machine.gpa_to_hva(0)


def test_gva_to_gpa_without_paging(machine: Machine, memory: HostMemory) -> None:
    vcpu = machine.create_vcpu(0)
    assert vcpu.gva_to_gpa(0x1ABC) == (0x1ABC, Prot.READ | Prot.WRITE | Prot.EXEC | Prot.USER)


def test_gva_to_gpa_with_paging(machine: Machine, memory: HostMemory) -> None:
    """A 32-bit page directory at 0 and a table at 0x1000: one page, read-only, supervisor's."""

    def put(gpa: int, entry: int) -> None:
        memory.data[gpa : gpa + 4] = entry.to_bytes(4, "little")

    put(4 * (0xC0400000 >> 22), 0x1000 | 3)
    put(0x1000 + 4 * 5, 0x5A000 | 1)
    vcpu = machine.create_vcpu(0)
    vcpu.getstate(StateFlag.ALL)
    vcpu.state.crs[Cr.CR0] = 0x80000011
    vcpu.state.crs[Cr.CR3] = 0
    vcpu.state.msrs[Msr.EFER] = 0
    vcpu.setstate(StateFlag.CRS | StateFlag.MSRS)
    gpa, prot = vcpu.gva_to_gpa(0xC0405678 & ~0xFFF | 0x678)
    assert gpa == 0x5A678
    assert prot & (Prot.READ | Prot.WRITE | Prot.USER) == Prot.READ
    with pytest.raises(NvmmError, match=r"nvmm_gva_to_gpa\(.*, gva=0xc0406000\): EFAULT"):
        vcpu.gva_to_gpa(0xC0406000)


def test_two_machines_share_nothing(library: Libnvmm, profile: str) -> None:
    with Machine(library) as one, Machine(library) as two, HostMemory(PAGE_SIZE) as memory:
        one.hva_map(memory)
        one.gpa_map(memory.hva, 0, PAGE_SIZE, RWX)
        with pytest.raises(NvmmError):
            two.gpa_to_hva(0)
