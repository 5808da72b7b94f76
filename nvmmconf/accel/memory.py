# SPDX-License-Identifier: BSD-2-Clause
"""Section 13: the memory map, from the board's regions to NVMM's areas."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from nvmmconf.abi import Prot
from nvmmconf.board.interfaces import RamBlock, Region, RegionKind
from nvmmconf.nvmm import PAGE_SIZE, Machine, NvmmError

log = logging.getLogger(__name__)


def whole_pages(region: Region) -> tuple[int, int, int]:
    """Shrink `region` to whole host pages: GPA, HVA and size, size 0 where none is left.

    The start goes up, the size down, and the host address moves with the
    start (A-MEM-5, A-MEM-6).
    """
    assert region.block is not None
    gpa = -(-region.gpa // PAGE_SIZE) * PAGE_SIZE
    delta = gpa - region.gpa
    hva = region.block.pages.hva + region.offset + delta
    size = max(region.size - delta, 0) // PAGE_SIZE * PAGE_SIZE
    return gpa, hva, size


class MemoryMap:
    """A MemoryListener that keeps a machine's areas equal to the board's RAM and ROM.

    Failures are reported with everything that was asked for and do not stop
    the machine (A-MEM-7).  `dirty` collects the regions that a dirty-log
    request marked, whole (A-MEM-8).
    """

    def __init__(self, machine: Machine, max_ram: int) -> None:
        self._machine = machine
        self._max_ram = max_ram
        self._declared: list[RamBlock] = []
        self.dirty: list[Region] = []
        self.failures: list[str] = []

    @property
    def blocks(self) -> tuple[RamBlock, ...]:
        """The RAM blocks that the guest's memory is made of, in the order of their adding."""
        return tuple(self._declared)

    def ram_block_added(self, block: RamBlock) -> None:
        """A-MEM-1: declare the block's host memory, over its maximum size."""
        try:
            self._machine.hva_map(block.pages, block.max_size)
            self._declared.append(block)
        except NvmmError as error:
            self._report(f"RAM block at {block.pages.hva:#x}, size {block.max_size:#x}: {error}")

    def region_added(self, region: Region) -> None:
        """A-MEM-2, A-MEM-4: map RAM and ROM, leave the rest to MEMORY exits."""
        prot = Prot.READ | Prot.EXEC
        if region.kind is RegionKind.RAM:
            prot |= Prot.WRITE

        def gpa_map(hva: int, gpa: int, size: int) -> None:
            # libnvmm ends the process where the kernel refuses (L-GPA-4, BH-105).
            refusal = self._refusal(region, hva, gpa, size)
            if refusal:
                raise NvmmError(
                    "nvmm_gpa_map", errno.EINVAL, f"not called, since {refusal}", hva=hva, gpa=gpa
                )
            self._machine.gpa_map(hva, gpa, size, prot)

        self._change(region, "map", gpa_map)

    def region_removed(self, region: Region) -> None:
        """A-MEM-3: unmap the same range."""
        self._change(region, "unmap", self._machine.gpa_unmap)

    def log_sync(self, region: Region) -> None:
        """A-MEM-8: NVMM keeps no dirty log, so all of it counts as written."""
        if region.kind is RegionKind.RAM:
            self.dirty.append(region)

    def _refusal(self, region: Region, hva: int, gpa: int, size: int) -> str:
        """Why the kernel would not map this, or ''."""
        block = region.block
        if block not in self._declared:
            return "its host memory could not be declared"
        if hva % PAGE_SIZE:
            return "its host address is no page's"
        if block is not None and hva + size > block.pages.hva + block.max_size:
            return "it goes on beyond its host memory"
        if gpa + size > self._max_ram:
            return f"it ends above {self._max_ram:#x}, the machine's limit"
        return ""

    def _change(self, region: Region, verb: str, call: Callable[[int, int, int], None]) -> None:
        if region.block is None:
            return
        gpa, hva, size = whole_pages(region)
        if size == 0:
            return
        try:
            call(hva, gpa, size)
        except NvmmError as error:
            self._report(
                f"cannot {verb} {region.name}: GPA {gpa:#x}, size {size:#x}, HVA {hva:#x}: {error}"
            )

    def _report(self, message: str) -> None:
        self.failures.append(message)
        log.error("NVMM: %s", message)
