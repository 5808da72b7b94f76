# SPDX-License-Identifier: BSD-2-Clause
"""The board of a case: RAM with holes, the test devices, and devices that a case makes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nvmmconf.board import debugcon, guestport, testdev
from nvmmconf.board.debugcon import DebugConsole
from nvmmconf.board.guestport import GuestPort
from nvmmconf.board.interfaces import Pages, RamBlock, Region, RegionKind
from nvmmconf.board.memory import AddressSpace
from nvmmconf.board.ports import PortSpace
from nvmmconf.board.testdev import TestDevice
from nvmmconf.nvmm import PAGE_SIZE

PortAnswer = int | Sequence[int] | Callable[[int], int]
"""A number, numbers one after the other (the last for ever), or a function of the size."""

MmioAnswer = int | bytes | Callable[[int, int], bytes] | None
"""Every byte, the bytes there, a function of offset and size, or storage (None)."""

_KEPT = 100_000
"""Accesses of one kind that a run keeps."""


@dataclass(frozen=True, slots=True)
class PortAccess:
    """A guest's access to a port of the case's: `value` was read or written, `size` bytes."""

    port: int
    is_in: bool
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class MmioAccess:
    """A guest's access to a device of the case's in memory; `data` was read or written."""

    gpa: int
    is_write: bool
    data: bytes


@dataclass(frozen=True)
class Mmio:
    """A device at `gpa`, `size` bytes: what reads of it get."""

    gpa: int
    size: int = PAGE_SIZE
    answer: MmioAnswer = None


@dataclass(frozen=True)
class Layout:
    """What a case asks of its board; ranges are (gpa, size)."""

    ports: Mapping[int, PortAnswer] = field(default_factory=dict)
    mmio: Sequence[Mmio] = ()
    readonly: Sequence[tuple[int, int]] = ()
    unmapped: Sequence[tuple[int, int]] = ()
    vcpus: int = 1


class _Port:
    """One port; notes every access."""

    def __init__(self, port: int, answer: PortAnswer, log: list[PortAccess]) -> None:
        self._port = port
        self._answer = answer
        self._left = list(answer) if isinstance(answer, Sequence) else []
        self._log = log

    def port_read(self, offset: int, size: int) -> int:
        """The answer."""
        value = self._next(size) & (1 << 8 * size) - 1
        self._note(PortAccess(self._port, True, size, value))
        return value

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Noted, no more."""
        self._note(PortAccess(self._port, False, size, value))

    def _next(self, size: int) -> int:
        if callable(self._answer):
            return self._answer(size)
        if isinstance(self._answer, int):
            return self._answer
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def _note(self, access: PortAccess) -> None:
        if len(self._log) < _KEPT:
            self._log.append(access)


class _Device:
    """One device in memory; notes every access."""

    def take_over(self, other: _Device) -> None:
        """Hold what `other` holds."""
        self._bytes[:] = other._bytes

    def __init__(self, mmio: Mmio, log: list[MmioAccess]) -> None:
        self._mmio = mmio
        self._log = log
        self._bytes = bytearray(mmio.size)
        match mmio.answer:
            case int():
                self._bytes = bytearray([mmio.answer & 0xFF]) * mmio.size
            case bytes():
                self._bytes[: len(mmio.answer)] = mmio.answer

    def memory_read(self, offset: int, size: int) -> bytes:
        """The answer."""
        answer = self._mmio.answer
        data = bytes(self._bytes[offset : offset + size])
        if callable(answer):
            data = answer(offset, size)
            if len(data) != size:
                raise ValueError(f"the case answered {len(data)} bytes where {size} were read")
        self._note(MmioAccess(self._mmio.gpa + offset, False, data))
        return data

    def memory_write(self, offset: int, data: bytes) -> None:
        """Kept where it is storage, and noted."""
        if self._mmio.answer is None:
            self._bytes[offset : offset + len(data)] = data
        self._note(MmioAccess(self._mmio.gpa + offset, True, bytes(data)))

    def _note(self, access: MmioAccess) -> None:
        if len(self._log) < _KEPT:
            self._log.append(access)


class _Nothing:
    """No memory: all ones, and writes are lost."""

    def memory_read(self, offset: int, size: int) -> bytes:
        """All ones."""
        return b"\xff" * size

    def memory_write(self, offset: int, data: bytes) -> None:
        """Lost."""


class CaseBoard:
    """RAM from GPA 0 in `ram`, console, test device, guest port, and what `layout` says.

    Raises ValueError for a range that is not whole pages, or a port that is taken.
    """

    def __init__(self, ram: Pages, on_exit: Callable[[int], None], layout: Layout) -> None:
        self.ports = PortSpace()
        self.memory = AddressSpace()
        self.console = DebugConsole()
        self.port_log: list[PortAccess] = []
        self.mmio_log: list[MmioAccess] = []
        self._devices: list[_Device] = []
        self.ports.claim(debugcon.PORT, 1, self.console)
        self.ports.claim(testdev.PORT, testdev.PORT_COUNT, TestDevice(on_exit))
        self.guest_port = GuestPort(self.memory, on_exit)
        self.ports.claim(guestport.PORT, guestport.PORT_COUNT, self.guest_port)
        for port, answer in layout.ports.items():
            self.ports.claim(port, 1, _Port(port, answer, self.port_log))
        self._map(ram, layout)

    def take_over(self, other: CaseBoard) -> None:
        """Hold what the devices of `other` hold, a board of the same layout."""
        for mine, others in zip(self._devices, other._devices, strict=True):
            mine.take_over(others)

    def _map(self, ram: Pages, layout: Layout) -> None:
        block = RamBlock(ram, ram.size)
        self.memory.add_block(block)
        self.memory.map(Region("ram", RegionKind.RAM, 0, ram.size, block))
        for gpa, size in layout.readonly:
            _check(gpa, size)
            self.memory.overlay(Region("rom", RegionKind.ROM, gpa, size, block, gpa))
        for gpa, size in layout.unmapped:
            _check(gpa, size)
            self.memory.overlay(Region("hole", RegionKind.DEVICE, gpa, size, device=_Nothing()))
        for mmio in layout.mmio:
            _check(mmio.gpa, mmio.size)
            device = _Device(mmio, self.mmio_log)
            self._devices.append(device)
            region = Region("device", RegionKind.DEVICE, mmio.gpa, mmio.size, device=device)
            self.memory.overlay(region)


def _check(gpa: int, size: int) -> None:
    if gpa % PAGE_SIZE or size % PAGE_SIZE or size <= 0:
        raise ValueError(f"{gpa:#x}+{size:#x} is not whole pages of {PAGE_SIZE:#x} bytes")
