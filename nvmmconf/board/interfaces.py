# SPDX-License-Identifier: BSD-2-Clause
"""What an accelerator may know of a board: these interfaces, and nothing else."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class BusError(Exception):
    """A transaction that a bus could not carry out (A-CB-1)."""


class PortBus(Protocol):
    """The I/O port space."""

    def read(self, port: int, size: int) -> int:
        """Return what IN of `size` bytes (1, 2, 4) at `port` reads.  Raises BusError."""

    def write(self, port: int, size: int, value: int) -> None:
        """Carry out OUT of `size` bytes.  Raises BusError."""


class MemoryBus(Protocol):
    """The guest-physical address space, as devices and the CPU see it."""

    def read(self, gpa: int, size: int) -> bytes:
        """Return `size` bytes at `gpa`; any size."""

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` at `gpa`."""

    def add_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` of everything there is, and of every change from now on."""


class InterruptController(Protocol):
    """The local APIC and what stands behind it."""

    tpr: int
    """Task priority, 0 to 15, as CR8 shows it."""
    base: int
    """IA32_APIC_BASE."""

    def acknowledge(self) -> int | None:
        """Return the vector of the interrupt to deliver, and take it off the request line.

        None where there is none any more.  Where another waits, the line is driven
        again before this returns: the CPU takes it for low from the call on.
        """

    def poll(self) -> None:
        """Look whether an interrupt has become due."""

    def init(self) -> None:
        """INIT has reached the CPU: the state that INIT gives (SDM 3A 11.4.7.3)."""


class CpuLines(Protocol):
    """What a local APIC asks of its CPU; from any thread that holds the board's lock."""

    def interrupt(self, asserted: bool) -> None:
        """The interrupt request line: whether `acknowledge` would give a vector."""

    def nmi(self) -> None:
        """A non-maskable interrupt."""

    def smi(self) -> None:
        """A system management interrupt."""

    def init(self) -> None:
        """INIT (SDM 3A 10.4.7.3)."""

    def start_up(self, vector: int) -> None:
        """SIPI: start at `vector` * 4 KiB, if the CPU waits for one."""


class Alarm(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Never make it.  Idempotent, also after it was made."""


class Clock(Protocol):
    """Time as the devices know it."""

    def now(self) -> int:
        """Nanoseconds since the machine was made; never goes back."""

    def call_at(self, when: int, callback: Callable[[], None]) -> Alarm:
        """Call `callback` once at or after `when`, holding the board's lock."""


class Pages(Protocol):
    """Whole pages of this process's memory."""

    @property
    def hva(self) -> int:
        """Host address."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def data(self) -> memoryview:
        """Their bytes, writable."""


class DeviceMemory(Protocol):
    """A device in memory space; `offset` counts from the start of its whole region."""

    def memory_read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes."""

    def memory_write(self, offset: int, data: bytes) -> None:
        """Take `data`."""


class RegionKind(enum.Enum):
    """What a region of guest-physical space is."""

    RAM = "ram"
    ROM = "rom"
    DEVICE = "device"


@dataclass(frozen=True, eq=False)
class RamBlock:
    """Host memory that RAM and ROM regions are made of; it may grow to `max_size` bytes."""

    pages: Pages
    max_size: int


@dataclass(frozen=True, eq=False)
class Region:
    """`size` bytes at `gpa`: RAM and ROM lie `offset` bytes into `block`, a device has `device`.

    A device's accesses count from `offset`, too: it is not 0 in what is seen of
    a device whose first bytes another region covers.
    """

    name: str
    kind: RegionKind
    gpa: int
    size: int
    block: RamBlock | None = None
    offset: int = 0
    device: DeviceMemory | None = None

    @property
    def end(self) -> int:
        """First GPA after it."""
        return self.gpa + self.size


class MemoryListener(Protocol):
    """Who wants to know of changes to the guest-physical space."""

    def ram_block_added(self, block: RamBlock) -> None:
        """A RAM block exists."""

    def region_added(self, region: Region) -> None:
        """A region has appeared."""

    def region_removed(self, region: Region) -> None:
        """A region has gone."""

    def log_sync(self, region: Region) -> None:
        """Somebody wants to know what the guest has written in `region`."""
