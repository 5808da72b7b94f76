# SPDX-License-Identifier: BSD-2-Clause
"""What a loader makes of an image: bytes to put into memory, and the registers to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nvmmconf.accel import Registers
from nvmmconf.boot.errors import BootError

PAGE = 4096
LOW_TOP = 0x9F000
"""Structures of the loaders go below this, out of the way of an EBDA and of most guests."""


@dataclass(frozen=True)
class MemoryWrite:
    """Bytes to put at a guest-physical address."""

    gpa: int
    data: bytes = field(repr=False)

    @property
    def end(self) -> int:
        """First GPA after them."""
        return self.gpa + len(self.data)


@dataclass(frozen=True)
class Ram:
    """A range of RAM that a guest may use as it likes."""

    gpa: int
    size: int

    @property
    def end(self) -> int:
        """First GPA after it."""
        return self.gpa + self.size


@dataclass(frozen=True)
class BootPlan:
    """How to start a guest: RAM is zero but for `writes`, and the CPU has `registers`."""

    what: str
    """The image, in words."""
    writes: tuple[MemoryWrite, ...]
    registers: Registers
    info_gpa: int | None = None
    """Where the loader's information structure is (Multiboot info, zero page)."""


class Placer:
    """Gives out RAM, so that nothing of an image overlaps anything else.

    `ram` are the ranges that may be used, ascending and apart.
    """

    def __init__(self, ram: Sequence[Ram]) -> None:
        self._ram = tuple(ram)
        self._taken: list[tuple[int, int, str]] = []

    @property
    def end(self) -> int:
        """First GPA after everything that was claimed below 4 GiB."""
        return max((end for _, end, _ in self._taken), default=0)

    def claim(self, what: str, gpa: int, size: int) -> None:
        """Take `size` bytes at `gpa`.  Raises BootError where they are not free RAM."""
        end = gpa + size
        if not any(one.gpa <= gpa and end <= one.end for one in self._ram):
            there = ", ".join(f"{one.gpa:#x} to {one.end - 1:#x}" for one in self._ram)
            raise BootError(
                f"{what} goes to {gpa:#x} to {end - 1:#x}, where there is no RAM"
                f" (RAM is at {there}; --memory changes that)"
            )
        for first, after, other in self._taken:
            if gpa < after and first < end:
                raise BootError(f"{what} at {gpa:#x} to {end - 1:#x} overlaps {other}")
        if size:
            self._taken.append((gpa, end, what))

    def low(self, what: str, size: int, align: int = 16) -> int:
        """Take `size` bytes as high as possible below LOW_TOP, page 0 excepted.

        Raises BootError where there is no room.
        """
        candidates = [LOW_TOP - size, *(first - size for first, _, _ in self._taken)]
        fits = [
            gpa
            for gpa in (one // align * align for one in candidates)
            if gpa >= PAGE and gpa + size <= LOW_TOP and self._is_free(gpa, size)
        ]
        if not fits:
            raise BootError(f"no room below {LOW_TOP:#x} for {what} ({size} bytes)")
        self.claim(what, max(fits), size)
        return max(fits)

    def high(self, what: str, size: int, align: int = PAGE) -> int:
        """Take `size` bytes as low as possible above all of the image and 1 MiB.

        Raises BootError where there is no room.
        """
        gpa = -(-max(self.end, 0x100000) // align) * align
        if not self._is_free(gpa, max(size, 1)):
            raise BootError(
                f"no room for {what} ({size} bytes) above the image: more --memory is needed"
            )
        self.claim(what, gpa, size)
        return gpa

    def _is_free(self, gpa: int, size: int) -> bool:
        inside = any(one.gpa <= gpa and gpa + size <= one.end for one in self._ram)
        return inside and not any(
            gpa < after and first < gpa + size for first, after, _ in self._taken
        )


def sorted_writes(writes: Iterable[MemoryWrite]) -> tuple[MemoryWrite, ...]:
    """Return those that write anything, by address."""
    return tuple(sorted((one for one in writes if one.data), key=lambda one: one.gpa))


def text_bytes(text: str, what: str) -> bytes:
    """Return `text` as the zero-ended bytes that a guest gets.  Raises BootError for a NUL."""
    if "\0" in text:
        raise BootError(f"{what} has a zero character in it, which would end it")
    return text.encode("utf-8", errors="surrogateescape") + b"\0"
