# SPDX-License-Identifier: BSD-2-Clause
"""The guest-physical address space: RAM, ROM and device memory, and who watches it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nvmmconf.board.interfaces import MemoryListener, RamBlock, Region, RegionKind


class AddressSpace:
    """What is where.  Reads that nothing claims are all ones, writes are lost; both are counted.

    Writes by devices and by the CPU through this bus do not change ROM.
    """

    def __init__(self) -> None:
        self.unclaimed_reads: Counter[int] = Counter()
        self.unclaimed_writes: Counter[int] = Counter()
        self._blocks: list[RamBlock] = []
        self._regions: list[Region] = []
        self._listeners: list[MemoryListener] = []

    def add_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` of everything there is, and of every change from now on."""
        self._listeners.append(listener)
        for block in self._blocks:
            listener.ram_block_added(block)
        for region in self._regions:
            listener.region_added(region)

    def add_block(self, block: RamBlock) -> None:
        """A RAM block exists from now on."""
        self._blocks.append(block)
        for listener in self._listeners:
            listener.ram_block_added(block)

    def map(self, region: Region) -> None:
        """Make `region` appear.  Raises ValueError where it overlaps another."""
        for other in self._regions:
            if region.gpa < other.end and other.gpa < region.end:
                raise ValueError(
                    f"{region.name} at {region.gpa:#x}+{region.size:#x} overlaps {other.name}"
                )
        self._regions.append(region)
        for listener in self._listeners:
            listener.region_added(region)

    def unmap(self, region: Region) -> None:
        """Make `region` disappear.  Raises ValueError where it is not mapped."""
        self._regions.remove(region)
        for listener in self._listeners:
            listener.region_removed(region)

    def _pieces(self, gpa: int, size: int) -> Iterator[tuple[Region | None, int, int]]:
        """Split a range into pieces that lie in one region, or in none: region, GPA, size."""
        end = gpa + size
        while gpa < end:
            region = next((r for r in self._regions if r.gpa <= gpa < r.end), None)
            if region is not None:
                stop = min(end, region.end)
            else:
                stop = min([end, *(r.gpa for r in self._regions if gpa < r.gpa < end)])
            yield region, gpa, stop - gpa
            gpa = stop

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes at `gpa`."""
        result = bytearray()
        for region, start, count in self._pieces(gpa, size):
            if region is None:
                self.unclaimed_reads[start] += 1
                result += b"\xff" * count
            elif region.block is not None:
                offset = region.offset + start - region.gpa
                result += region.block.pages.data[offset : offset + count]
            elif region.device is not None:
                result += region.device.memory_read(start - region.gpa, count)
        return bytes(result)

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` at `gpa`."""
        done = 0
        for region, start, count in self._pieces(gpa, len(data)):
            piece = data[done : done + count]
            done += count
            if region is None:
                self.unclaimed_writes[start] += 1
            elif region.kind is RegionKind.RAM and region.block is not None:
                offset = region.offset + start - region.gpa
                region.block.pages.data[offset : offset + count] = piece
            elif region.device is not None:
                region.device.memory_write(start - region.gpa, piece)
