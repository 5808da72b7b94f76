# SPDX-License-Identifier: BSD-2-Clause
"""An I/O APIC, Intel 82093AA (datasheet 290566): 24 pins, each with a redirection entry.

A pin is asserted or not: polarities are kept and mean nothing.  Delivery status
is always idle, as messages arrive at once.  There is no EOI register (version 11H has none).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from nvmmconf.board.apic_bus import ApicBus
from nvmmconf.board.apic_registers import DeliveryMode, Message

log = logging.getLogger(__name__)

BASE: Final = 0xFEC00000
SIZE: Final = 0x1000
PINS: Final = 24
VERSION: Final = 0x11

_SELECT, _WINDOW = 0x00, 0x10
_ID, _VERSION, _ARBITRATION, _TABLE = 0, 1, 2, 0x10
_REMOTE_IRR, _LEVEL, _MASKED = 1 << 14, 1 << 15, 1 << 16
_LOW_WRITABLE, _HIGH_WRITABLE = 0x1AFFF, 0xFF000000
_BY_VECTOR = (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)
_UNKNOWN = (DeliveryMode.RESERVED, DeliveryMode.START_UP, DeliveryMode.EXTINT)


@dataclass(frozen=True)
class IoApicState:
    """All that an I/O APIC remembers."""

    io_id: int
    select: int
    table: tuple[int, ...]
    pins: tuple[bool, ...]


class IoApic:
    """A DeviceMemory for the page at 0xFEC00000; to be called with the board's lock held.

    ExtINT and the reserved delivery modes send nothing, which is logged.  A
    level that no local APIC takes is offered again when its pin or its entry
    is touched.
    """

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        self._pins = [False] * PINS
        self.reset()
        bus.on_eoi(self._end_of_interrupt)

    def reset(self) -> None:
        """All masked; the pins stay as others drive them."""
        self._id = 0
        self._select = 0
        self._table = [_MASKED] * PINS

    def save(self) -> IoApicState:
        """All it remembers."""
        return IoApicState(self._id, self._select, tuple(self._table), tuple(self._pins))

    def load(self, state: IoApicState) -> None:
        """Be as it was when `state` was saved; nothing is sent for it."""
        self._id, self._select = state.io_id, state.select
        self._table, self._pins = list(state.table), list(state.pins)

    def set_pin(self, pin: int, asserted: bool) -> None:
        """Drive pin INTIN`pin`.  Idempotent."""
        is_edge = asserted and not self._pins[pin]
        self._pins[pin] = asserted
        entry = self._table[pin]
        if entry & _LEVEL:
            self._sense(pin)
        elif is_edge and not entry & _MASKED:
            self._send(entry)

    def _sense(self, pin: int) -> None:
        """Send a level that is asserted and has not been accepted already."""
        entry = self._table[pin]
        if not self._pins[pin] or entry & (_MASKED | _REMOTE_IRR) or not entry & _LEVEL:
            return
        if self._send(entry) and DeliveryMode(entry >> 8 & 7) in _BY_VECTOR:
            self._table[pin] |= _REMOTE_IRR

    def _send(self, entry: int) -> bool:
        mode = DeliveryMode(entry >> 8 & 7)
        if mode in _UNKNOWN:
            log.warning("I/O APIC: delivery mode %s of entry %#x sends nothing", mode.name, entry)
            return False
        is_level = bool(entry & _LEVEL) and mode in _BY_VECTOR
        logical = bool(entry & 1 << 11)
        return self._bus.send(
            Message(mode, entry & 0xFF, entry >> 56, logical, level_triggered=is_level)
        )

    def _end_of_interrupt(self, vector: int) -> None:
        """Level-triggered entries with `vector` may be sent again."""
        for pin, entry in enumerate(self._table):
            if entry & _REMOTE_IRR and entry & 0xFF == vector:
                self._table[pin] &= ~_REMOTE_IRR
                self._sense(pin)

    # ---- registers ----

    def memory_read(self, offset: int, size: int) -> bytes:
        """Read one of the two registers, all 32 bits of it; all else is zero."""
        if size != 4 or offset not in (_SELECT, _WINDOW):
            return bytes(size)
        value = self._select if offset == _SELECT else self._read(self._select)
        return value.to_bytes(4, "little")

    def memory_write(self, offset: int, data: bytes) -> None:
        """Write one of the two registers, all 32 bits of it; all else is lost."""
        if len(data) != 4:
            return
        value = int.from_bytes(data, "little")
        if offset == _SELECT:
            self._select = value & 0xFF
        elif offset == _WINDOW:
            self._write(self._select, value)

    def _read(self, index: int) -> int:
        if index in (_ID, _ARBITRATION):
            return self._id << 24
        if index == _VERSION:
            return PINS - 1 << 16 | VERSION
        pin, high = divmod(index - _TABLE, 2)
        if not 0 <= pin < PINS:
            return 0
        return self._table[pin] >> 32 * high & 0xFFFFFFFF

    def _write(self, index: int, value: int) -> None:
        pin, high = divmod(index - _TABLE, 2)
        if index == _ID:
            self._id = value >> 24 & 0xF
        elif 0 <= pin < PINS:
            shift = 32 * high
            writable = (_HIGH_WRITABLE if high else _LOW_WRITABLE) << shift
            self._table[pin] = self._table[pin] & ~writable | value << shift & writable
            if not self._table[pin] & _LEVEL:
                self._table[pin] &= ~_REMOTE_IRR
            self._sense(pin)
