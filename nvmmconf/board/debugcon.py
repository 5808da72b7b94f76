# SPDX-License-Identifier: BSD-2-Clause
"""The debug console: a port whose every byte is console output, as Bochs and QEMU have it."""

from __future__ import annotations

PORT = 0xE9
SEABIOS_PORT = 0x402
"""Where SeaBIOS prints, which looks for the same `READBACK` there."""
READBACK = 0xE9
"""What a read gives, by which a guest finds out that the console is there."""


class DebugConsole:
    """Collects what the guest prints; at most `limit` bytes, the rest is counted."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self.output = bytearray()
        self.dropped = 0
        """Bytes printed beyond the limit."""

    @property
    def text(self) -> str:
        """The output as text; bytes that are not ASCII come out as escapes."""
        return self.output.decode("ascii", errors="backslashreplace")

    def port_read(self, offset: int, size: int) -> int:
        """0xE9, whatever the width."""
        return READBACK

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Print the low byte."""
        if len(self.output) < self._limit:
            self.output.append(value & 0xFF)
        else:
            self.dropped += 1
