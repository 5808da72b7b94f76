# SPDX-License-Identifier: BSD-2-Clause
"""The port bus: who answers which I/O port."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

PORTS = 0x10000


class PortDevice(Protocol):
    """A device on the port bus; `offset` counts from the first port of its range."""

    def port_read(self, offset: int, size: int) -> int:
        """Return what a read of `size` bytes gives."""

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Carry out a write of `size` bytes."""


@dataclass(frozen=True)
class _Range:
    first: int
    count: int
    device: PortDevice


@dataclass
class PortSpace:
    """64 Ki ports.  A read that no device claims is all ones, a write is lost; both are counted.

    `unclaimed_reads` and `unclaimed_writes` count by port.
    """

    unclaimed_reads: Counter[int] = field(default_factory=Counter)
    unclaimed_writes: Counter[int] = field(default_factory=Counter)
    _ranges: list[_Range] = field(default_factory=list)

    def claim(self, first: int, count: int, device: PortDevice) -> None:
        """Give the ports `first` to `first + count - 1` to `device`.

        Raises ValueError where they are out of range or another device has one.
        """
        if count <= 0 or first < 0 or first + count > PORTS:
            raise ValueError(f"ports {first:#x}+{count:#x} are not within 0 to {PORTS - 1:#x}")
        for taken in self._ranges:
            if first < taken.first + taken.count and taken.first < first + count:
                raise ValueError(
                    f"ports {first:#x}+{count:#x} overlap {taken.first:#x}+{taken.count:#x}"
                )
        self._ranges.append(_Range(first, count, device))

    def _find(self, port: int) -> _Range | None:
        for claimed in self._ranges:
            if claimed.first <= port < claimed.first + claimed.count:
                return claimed
        return None

    def read(self, port: int, size: int) -> int:
        """Return what IN of `size` bytes at `port` reads."""
        claimed = self._find(port)
        ones = (1 << 8 * size) - 1
        if claimed is None:
            self.unclaimed_reads[port] += 1
            return ones
        return claimed.device.port_read(port - claimed.first, size) & ones

    def write(self, port: int, size: int, value: int) -> None:
        """Carry out OUT of `size` bytes at `port`."""
        claimed = self._find(port)
        if claimed is None:
            self.unclaimed_writes[port] += 1
            return
        claimed.device.port_write(port - claimed.first, size, value)
