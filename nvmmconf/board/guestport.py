# SPDX-License-Identifier: BSD-2-Clause
"""The guest port: a guest hands over the address of a record, and has said it all in one exit.

Port 0x5F0, 32 bits wide.  A read gives SIGNATURE, by which a guest knows that the
device is there.  A write gives the guest-physical address of a record in RAM, of
little-endian fields (guests/README.md):

    0   u32 SIGNATURE           16  u32 file: address    32  u32 number of values
    4   u32 command             20  u32 file: size       36  u32 0
    8   u32 stage or status     24  u32 text: address    40  u64 values
    12  u32 line                28  u32 text: size
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass

from nvmmconf.board.interfaces import MemoryBus, RamBlock, Region, RegionKind

PORT = 0x5F0
PORT_COUNT = 4
SIGNATURE = int.from_bytes(b"NVMG", "little")

MAX_TEXT = 1024
"""Bytes of a text, and of a file's name."""
MAX_VALUES = 8

_HEAD = struct.Struct("<10I")


class GuestCommand(enum.IntEnum):
    """What a record is."""

    LOG = 1
    SYNC = 2
    FAIL = 3
    DONE = 4


@dataclass(frozen=True)
class GuestLog:
    """Something that the guest wants to be known."""

    file: str
    line: int
    text: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class GuestSync:
    """The guest has come to a stage."""

    file: str
    line: int
    stage: int


@dataclass(frozen=True)
class GuestFailure:
    """A condition of the guest's that does not hold; it goes on."""

    file: str
    line: int
    condition: str
    want: int
    got: int


@dataclass(frozen=True)
class GuestDone:
    """The guest is through; the status is what it would write to the test device."""

    file: str
    line: int
    status: int


@dataclass(frozen=True)
class GuestMalformed:
    """A write to the guest port that made no sense."""

    address: int
    reason: str


GuestEvent = GuestLog | GuestSync | GuestFailure | GuestDone | GuestMalformed


class _MalformedError(Exception):
    pass


class GuestPort:
    """Turns what a guest writes into events, for `listener` and in `events`.

    No more than `limit` events are passed on and kept, the rest is counted; but the
    first GuestDone always is, and calls `on_exit` with the status as the test device
    has it, (v << 1) | 1.
    """

    def __init__(
        self,
        memory: MemoryBus,
        on_exit: Callable[[int], None],
        listener: Callable[[GuestEvent], None] | None = None,
        limit: int = 4096,
    ) -> None:
        self.events: list[GuestEvent] = []
        self.failures = 0
        """Conditions that did not hold, those beyond the limit too."""
        self.malformed = 0
        """Writes that made no sense, those beyond the limit too."""
        self.dropped = 0
        """Events beyond the limit."""
        self._memory = memory
        self._on_exit = on_exit
        self._listener = listener
        self._limit = limit
        self._done = False
        self._ram = _Ram()
        memory.add_listener(self._ram)

    def port_read(self, offset: int, size: int) -> int:
        """The signature, at the first port; otherwise all ones."""
        return SIGNATURE if offset == 0 else 0xFFFFFFFF

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Take the record at `value`."""
        try:
            if offset != 0 or size != 4:
                raise _MalformedError(
                    f"a write of {size} byte(s) to port {PORT + offset:#x}, not of 4 to {PORT:#x}"
                )
            event = self._event(value)
        except _MalformedError as error:
            event = GuestMalformed(value, str(error))
        self._emit(event)

    def _event(self, address: int) -> GuestEvent:
        head = self._read("the record", address, _HEAD.size)
        signature, command, number, line, *texts, count, zero = _HEAD.unpack(head)
        if signature != SIGNATURE:
            raise _MalformedError(f"the record begins with {signature:#x}, not {SIGNATURE:#x}")
        if zero != 0:
            raise _MalformedError(f"the word after the number of values is {zero:#x}, not 0")
        if count > MAX_VALUES:
            raise _MalformedError(f"the record has {count} values, more than {MAX_VALUES}")
        data = self._read("the values", address + _HEAD.size, 8 * count)
        values: tuple[int, ...] = struct.unpack(f"<{count}Q", data)
        file, text = self._text("the file", *texts[:2]), self._text("the text", *texts[2:])
        match command:
            case GuestCommand.LOG:
                return GuestLog(file, line, text, values)
            case GuestCommand.SYNC:
                return GuestSync(file, line, number)
            case GuestCommand.FAIL:
                if count != 2:
                    raise _MalformedError(f"a failure with {count} values, not want and got")
                return GuestFailure(file, line, text, *values)
            case GuestCommand.DONE:
                if number > 0xFF:
                    raise _MalformedError(f"a status of {number:#x}, more than a byte")
                return GuestDone(file, line, number)
        raise _MalformedError(f"the record has command {command}, which is none")

    def _text(self, what: str, address: int, size: int) -> str:
        if size > MAX_TEXT:
            raise _MalformedError(f"{what} has {size} bytes, more than {MAX_TEXT}")
        return self._read(what, address, size).decode("ascii", errors="backslashreplace")

    def _read(self, what: str, address: int, size: int) -> bytes:
        # Never from a device: reading could change it.
        if size and not self._ram.holds(address, size):
            raise _MalformedError(f"{what} at {address:#x}, {size} byte(s), is not all in RAM")
        return self._memory.read(address, size)

    def _emit(self, event: GuestEvent) -> None:
        self.failures += isinstance(event, GuestFailure)
        self.malformed += isinstance(event, GuestMalformed)
        first_done = isinstance(event, GuestDone) and not self._done
        if len(self.events) >= self._limit and not first_done:
            self.dropped += 1
        else:
            self.events.append(event)
            if self._listener is not None:
                self._listener(event)
        if isinstance(event, GuestDone):
            self._done = True
            self._on_exit(event.status << 1 | 1)


class _Ram:
    """Knows where RAM and ROM are seen."""

    def __init__(self) -> None:
        self._regions: list[Region] = []

    def holds(self, address: int, size: int) -> bool:
        """Whether all of these bytes are in RAM or ROM."""
        end = address + size
        while address < end:
            home = next((r for r in self._regions if r.gpa <= address < r.end), None)
            if home is None:
                return False
            address = home.end
        return True

    def ram_block_added(self, block: RamBlock) -> None:
        """Blocks do not matter here."""

    def region_added(self, region: Region) -> None:
        """A region is seen."""
        if region.kind is not RegionKind.DEVICE:
            self._regions.append(region)

    def region_removed(self, region: Region) -> None:
        """It is seen no more."""
        if region in self._regions:
            self._regions.remove(region)

    def log_sync(self, region: Region) -> None:
        """Writes do not matter here."""
