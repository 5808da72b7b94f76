# SPDX-License-Identifier: BSD-2-Clause
"""The port bus: who answers which I/O port."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

PORTS = 0x10000
WIDEST = 4
"""Bytes that one IN or OUT moves at most."""


class PortDevice(Protocol):
    """A device on the port bus; `offset` counts from the first port of its range.

    It is given accesses of any size that begin in its range, unless it is a `Narrow` one.
    """

    def port_read(self, offset: int, size: int) -> int:
        """Return what a read of `size` bytes gives."""

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Carry out a write of `size` bytes."""


@runtime_checkable
class Narrow(Protocol):
    """A device that takes no access wider than `max_size` (1 or 2), nor one beyond its range.

    The bus cuts such an access into pieces, the lowest port first, as the ISA bus does
    for a device of 8 bits (Intel PIIX datasheet, ISA data bus steering).
    """

    max_size: int


@dataclass(frozen=True)
class _Range:
    first: int
    count: int
    device: PortDevice


_Place = tuple[PortDevice, int, int]
"""What is at a port: the device, the offset there, the most bytes that it takes at once."""


@dataclass
class PortSpace:
    """64 Ki ports.  A read that no device claims is all ones, a write is lost; both are counted.

    `unclaimed_reads` and `unclaimed_writes` count bytes, by port.
    """

    unclaimed_reads: Counter[int] = field(default_factory=Counter)
    unclaimed_writes: Counter[int] = field(default_factory=Counter)
    _ranges: dict[int, _Range] = field(default_factory=dict)
    _places: dict[int, _Place] = field(default_factory=dict)

    def claim(self, first: int, count: int, device: PortDevice) -> None:
        """Give the ports `first` to `first + count - 1` to `device`.

        Raises ValueError where they are out of range or another device has one.
        """
        if count <= 0 or first < 0 or first + count > PORTS:
            raise ValueError(f"ports {first:#x}+{count:#x} are not within 0 to {PORTS - 1:#x}")
        for taken in self._ranges.values():
            if first < taken.first + taken.count and taken.first < first + count:
                raise ValueError(
                    f"ports {first:#x}+{count:#x} overlap {taken.first:#x}+{taken.count:#x}"
                )
        self._ranges[first] = _Range(first, count, device)
        narrow = device.max_size if isinstance(device, Narrow) else None
        for offset in range(count):
            limit = WIDEST if narrow is None else min(narrow, count - offset)
            self._places[first + offset] = (device, offset, limit)

    def release(self, first: int) -> None:
        """Take the range that was claimed at `first` away from its device.

        Raises ValueError where none was claimed there.
        """
        taken = self._ranges.pop(first, None)
        if taken is None:
            raise ValueError(f"no range of ports was claimed at {first:#x}, none can be released")
        for port in range(taken.first, taken.first + taken.count):
            del self._places[port]

    def read(self, port: int, size: int) -> int:
        """Return what IN of `size` bytes at `port` reads."""
        place = self._places.get(port)
        if place is not None and size <= place[2]:
            return place[0].port_read(place[1], size) & (1 << 8 * size) - 1
        value = 0
        for offset, piece, owner in self._pieces(port, size):
            if owner is None:
                self.unclaimed_reads[port + offset] += 1
                part = 0xFF
            else:
                part = owner[0].port_read(owner[1], piece) & (1 << 8 * piece) - 1
            value |= part << 8 * offset
        return value

    def write(self, port: int, size: int, value: int) -> None:
        """Carry out OUT of `size` bytes at `port`."""
        place = self._places.get(port)
        if place is not None and size <= place[2]:
            place[0].port_write(place[1], size, value)
            return
        for offset, piece, owner in self._pieces(port, size):
            if owner is None:
                self.unclaimed_writes[port + offset] += 1
            else:
                part = value >> 8 * offset & (1 << 8 * piece) - 1
                owner[0].port_write(owner[1], piece, part)

    def _pieces(self, port: int, size: int) -> Iterator[tuple[int, int, _Place | None]]:
        """Cut an access: offset in it, bytes, who takes them.

        A piece of 2 bytes is aligned and lies in one range; where nobody
        answers, it is one byte.
        """
        offset = 0
        while offset < size:
            # Looked up only now: the piece before may have moved a device.
            place = self._places.get(port + offset)
            fits = place is not None and place[2] >= 2 and size - offset >= 2
            piece = 2 if fits and not (port + offset) & 1 else 1
            yield offset, piece, place
            offset += piece
