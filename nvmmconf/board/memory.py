# SPDX-License-Identifier: BSD-2-Clause
"""The guest-physical address space: RAM, ROM and device memory, and who watches it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nvmmconf.board.interfaces import MemoryListener, RamBlock, Region, RegionKind


@dataclass(frozen=True)
class _Piece:
    """The part of `source` that is seen; `region` is what listeners are told of it."""

    source: Region
    region: Region

    @property
    def key(self) -> tuple[int, int, int]:
        return id(self.source), self.region.gpa, self.region.size


def _part(source: Region, start: int, end: int) -> Region:
    """The bytes of `source` from `start` to `end`, as a region; `source` itself where all."""
    if (start, end) == (source.gpa, source.end):
        return source
    offset = source.offset + start - source.gpa
    return replace(source, gpa=start, size=end - start, offset=offset)


def _cover(spans: list[tuple[int, int, Region]], top: Region) -> list[tuple[int, int, Region]]:
    """Put `top` over `spans`."""
    result = [(top.gpa, top.end, top)]
    for start, end, source in spans:
        if start < min(end, top.gpa):
            result.append((start, min(end, top.gpa), source))
        if max(start, top.end) < end:
            result.append((max(start, top.end), end, source))
    return result


class AddressSpace:
    """What is where.  Reads that nothing claims are all ones, writes are lost; both are counted.

    Mapped regions lie side by side.  Overlays lie over them, and over earlier
    overlays.  Listeners know what is seen from above: where a region is
    partly covered, they are told of the uncovered parts, each a region with the
    offset where it starts.  What one is told to remove is the very object that
    it was told to add; parts that a change does not touch are not mentioned.

    Writes by devices and by the CPU through this bus do not change ROM.
    """

    def __init__(self) -> None:
        self.unclaimed_reads: Counter[int] = Counter()
        self.unclaimed_writes: Counter[int] = Counter()
        self._blocks: list[RamBlock] = []
        self._mapped: list[Region] = []
        self._overlays: list[Region] = []
        self._pieces: list[_Piece] = []
        self._starts: list[int] = []
        self._listeners: list[MemoryListener] = []

    @property
    def flattened(self) -> tuple[Region, ...]:
        """What is seen, by address: what listeners hold."""
        return tuple(piece.region for piece in self._pieces)

    def add_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` of everything there is, and of every change from now on."""
        self._listeners.append(listener)
        for block in self._blocks:
            listener.ram_block_added(block)
        for region in self.flattened:
            listener.region_added(region)

    def add_block(self, block: RamBlock) -> None:
        """A RAM block exists from now on."""
        self._blocks.append(block)
        for listener in self._listeners:
            listener.ram_block_added(block)

    def map(self, region: Region) -> None:
        """Make `region` appear, below all overlays.

        Raises ValueError where it overlaps another mapped one, or has no bytes.
        """
        self._check(region)
        for other in self._mapped:
            if region.gpa < other.end and other.gpa < region.end:
                raise ValueError(
                    f"{region.name} at {region.gpa:#x}+{region.size:#x} overlaps {other.name}"
                )
        self._mapped.append(region)
        self._update()

    def unmap(self, region: Region) -> None:
        """Make `region` disappear.  Raises ValueError where it is not mapped."""
        self._mapped.remove(region)
        self._update()

    def overlay(self, region: Region) -> None:
        """Put `region` over all there is.  Raises ValueError where it is there already or empty."""
        self._check(region)
        self._overlays.append(region)
        self._update()

    def remove(self, region: Region) -> None:
        """Uncover what is below the overlay `region`.  Raises ValueError where it is none."""
        self._overlays.remove(region)
        self._update()

    def _check(self, region: Region) -> None:
        if region.gpa < 0 or region.size <= 0:
            raise ValueError(f"{region.name} at {region.gpa:#x}+{region.size:#x} has no bytes")
        if region in self._mapped or region in self._overlays:
            raise ValueError(f"{region.name} at {region.gpa:#x}+{region.size:#x} is there already")

    def _update(self) -> None:
        """Look at it from above again, and tell the listeners what differs."""
        spans = [(region.gpa, region.end, region) for region in self._mapped]
        for region in self._overlays:
            spans = _cover(spans, region)
        spans.sort(key=lambda span: span[0])
        old = {piece.key: piece for piece in self._pieces}
        new = []
        for start, end, source in spans:
            known = old.get((id(source), start, end - start))
            new.append(known or _Piece(source, _part(source, start, end)))
        kept = {piece.key for piece in new} & old.keys()
        gone = [piece.region for piece in self._pieces if piece.key not in kept]
        come = [piece.region for piece in new if piece.key not in kept]
        self._pieces = new
        self._starts = [piece.region.gpa for piece in new]
        for listener in self._listeners:
            for region in gone:  # first, as what comes may lie in its place
                listener.region_removed(region)
            for region in come:
                listener.region_added(region)

    def _split(self, gpa: int, size: int) -> Iterator[tuple[Region | None, int, int]]:
        """Split a range where regions meet: region or None, offset in it or GPA, size.

        Looks anew for each, since a device that is asked may change the map.
        """
        end = gpa + size
        while gpa < end:
            place = bisect_right(self._starts, gpa)
            region = self._pieces[place - 1].region if place else None
            if region is not None and gpa < region.end:
                count = min(end, region.end) - gpa
                yield region, region.offset + gpa - region.gpa, count
            else:
                stop = min(end, self._starts[place]) if place < len(self._starts) else end
                count = stop - gpa
                yield None, gpa, count
            gpa += count

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes at `gpa`."""
        result = bytearray()
        for region, offset, count in self._split(gpa, size):
            if region is None:
                self.unclaimed_reads[offset] += 1
                result += b"\xff" * count
            elif region.block is not None:
                result += region.block.pages.data[offset : offset + count]
            elif region.device is not None:
                result += region.device.memory_read(offset, count)
        return bytes(result)

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` at `gpa`."""
        done = 0
        for region, offset, count in self._split(gpa, len(data)):
            piece = data[done : done + count]
            done += count
            if region is None:
                self.unclaimed_writes[offset] += 1
            elif region.kind is RegionKind.RAM and region.block is not None:
                region.block.pages.data[offset : offset + count] = piece
            elif region.device is not None:
                region.device.memory_write(offset, piece)
