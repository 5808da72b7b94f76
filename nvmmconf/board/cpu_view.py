# SPDX-License-Identifier: BSD-2-Clause
"""Guest-physical memory as one CPU sees it: its own local APIC, and what all share."""

from __future__ import annotations

from collections.abc import Iterator

from nvmmconf.board.apic_registers import PAGE_SIZE
from nvmmconf.board.interfaces import MemoryBus, MemoryListener
from nvmmconf.board.local_apic import LocalApic


class CpuView:
    """A MemoryBus for one CPU.

    What lies in the page of its APIC, where that is now and while it is enabled,
    goes to the APIC and to nothing else (SDM 3A 10.4.1); the rest goes to
    `shared`.  A page that is RAM for the listeners is not one that reaches
    this bus: an APIC that is moved onto RAM is not seen there.
    """

    def __init__(self, shared: MemoryBus, apic: LocalApic) -> None:
        self._shared = shared
        self._apic = apic

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes at `gpa`."""
        return b"".join(
            self._apic.memory_read(start - page, count)
            if page is not None
            else self._shared.read(start, count)
            for page, start, count in self._split(gpa, size)
        )

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` at `gpa`."""
        for page, start, count in self._split(gpa, len(data)):
            piece = data[start - gpa : start - gpa + count]
            if page is not None:
                self._apic.memory_write(start - page, piece)
            else:
                self._shared.write(start, piece)

    def add_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` of what all CPUs share."""
        self._shared.add_listener(listener)

    def _split(self, gpa: int, size: int) -> Iterator[tuple[int | None, int, int]]:
        """Pieces of a range in and around the APIC's page: that page or None, GPA, size."""
        page = self._apic.page
        end = gpa + size
        if page is None or end <= page or page + PAGE_SIZE <= gpa:
            yield None, gpa, size
            return
        if gpa < page:
            yield None, gpa, page - gpa
        first, last = max(gpa, page), min(end, page + PAGE_SIZE)
        yield page, first, last - first
        if last < end:
            yield None, last, end - last
