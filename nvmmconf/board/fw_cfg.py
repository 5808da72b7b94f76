# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's firmware configuration device (QEMU, docs/specs/fw_cfg).

Left out: the DMA interface, as item ID says, and writing items.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from nvmmconf.board.ports import PortSpace

PORT = 0x510
PORT_COUNT = 2
SELECTOR, DATA = 0, 1

FILE_FIRST = 0x20
FILE_LAST = 0x3FFF
NAME_SIZE = 56
"""Bytes of a file's name with its NUL."""
WRITE_CHANNEL = 1 << 14
ID_TRADITIONAL = 1 << 0


class Item(enum.IntEnum):
    """Selector values of what is not a file."""

    SIGNATURE = 0x00
    ID = 0x01
    UUID = 0x02
    RAM_SIZE = 0x03
    NOGRAPHIC = 0x04
    NB_CPUS = 0x05
    MACHINE_ID = 0x06
    KERNEL_ADDR = 0x07
    KERNEL_SIZE = 0x08
    KERNEL_CMDLINE = 0x09
    INITRD_ADDR = 0x0A
    INITRD_SIZE = 0x0B
    BOOT_DEVICE = 0x0C
    NUMA = 0x0D
    BOOT_MENU = 0x0E
    MAX_CPUS = 0x0F
    KERNEL_ENTRY = 0x10
    KERNEL_DATA = 0x11
    INITRD_DATA = 0x12
    CMDLINE_ADDR = 0x13
    CMDLINE_SIZE = 0x14
    CMDLINE_DATA = 0x15
    SETUP_ADDR = 0x16
    SETUP_SIZE = 0x17
    SETUP_DATA = 0x18
    FILE_DIR = 0x19
    ACPI_TABLES = 0x8000
    SMBIOS_ENTRIES = 0x8001
    IRQ0_OVERRIDE = 0x8002
    E820_TABLE = 0x8003
    HPET = 0x8004


@dataclass(frozen=True)
class FwCfgState:
    """Where the guest is reading; the items are configuration."""

    selector: int = 0
    offset: int = 0


def machine_items(ram_size: int, cpus: int, max_cpus: int) -> dict[int, bytes]:
    """Return the items that every machine has; `ram_size` in bytes.

    IRQ0_OVERRIDE says that ISA IRQ 0 is input 2 of the I/O APIC.
    """
    return {
        Item.RAM_SIZE: struct.pack("<Q", ram_size),
        Item.NOGRAPHIC: struct.pack("<H", 1),
        Item.NB_CPUS: struct.pack("<H", cpus),
        Item.MAX_CPUS: struct.pack("<H", max_cpus),
        Item.BOOT_MENU: struct.pack("<H", 0),
        Item.NUMA: struct.pack("<Q", 0),
        Item.IRQ0_OVERRIDE: struct.pack("<I", 1),
    }


def kernel_items(
    kernel: bytes, kernel_addr: int, entry: int, cmdline: str, cmdline_addr: int
) -> dict[int, bytes]:
    """Return the items of a kernel that firmware puts at `kernel_addr`; addresses are GPAs."""
    line = cmdline.encode() + b"\0"
    return {
        Item.KERNEL_ADDR: struct.pack("<I", kernel_addr),
        Item.KERNEL_SIZE: struct.pack("<I", len(kernel)),
        Item.KERNEL_DATA: kernel,
        Item.KERNEL_ENTRY: struct.pack("<I", entry),
        Item.KERNEL_CMDLINE: line,
        Item.CMDLINE_ADDR: struct.pack("<I", cmdline_addr),
        Item.CMDLINE_SIZE: struct.pack("<I", len(line)),
        Item.CMDLINE_DATA: line,
    }


class FwCfg:
    """Items by selector, and files, which the directory lists by name.

    The selector is 16 bits wide at 0x510, data is a byte at 0x511.  Signature, ID and
    directory are the device's own.  Raises ValueError for a name or a number of files that
    the directory cannot hold, and for an item that is not a 16-bit selector or the device's.
    """

    max_size = 2

    def __init__(self, items: Mapping[int, bytes], files: Mapping[str, bytes]) -> None:
        own = (Item.SIGNATURE, Item.ID, Item.FILE_DIR)
        for selector in items:
            free = selector not in own and not FILE_FIRST <= selector <= FILE_LAST
            if not 0 <= selector <= 0xFFFF or selector & WRITE_CHANNEL or not free:
                raise ValueError(f"fw_cfg item {selector:#x} is not free: choose another selector")
        if len(files) > FILE_LAST - FILE_FIRST + 1:
            raise ValueError(f"fw_cfg cannot hold {len(files)} files")
        self._items: dict[int, bytes] = dict(items)
        self._items[Item.SIGNATURE] = b"QEMU"
        self._items[Item.ID] = struct.pack("<I", ID_TRADITIONAL)
        directory = [struct.pack(">I", len(files))]
        for selector, (name, content) in enumerate(sorted(files.items()), FILE_FIRST):
            encoded = name.encode("ascii", errors="strict") if name.isascii() else b""
            if not 0 < len(encoded) < NAME_SIZE or b"\0" in encoded:
                raise ValueError(
                    f"fw_cfg file name {name!r} is not 1 to {NAME_SIZE - 1} ASCII characters"
                )
            directory.append(struct.pack(">IHH56s", len(content), selector, 0, encoded))
            self._items[selector] = content
        self._items[Item.FILE_DIR] = b"".join(directory)
        self._selector = self._offset = 0

    def connect(self, ports: PortSpace) -> None:
        """Claim both ports."""
        ports.claim(PORT, PORT_COUNT, self)

    def reset(self) -> None:
        """The signature is selected."""
        self.load(FwCfgState())

    def save(self) -> FwCfgState:
        """Where the guest is reading."""
        return FwCfgState(self._selector, self._offset)

    def load(self, state: FwCfgState) -> None:
        """Go on from there."""
        self._selector, self._offset = state.selector, state.offset

    def port_read(self, offset: int, size: int) -> int:
        """The next byte of the selected item, 0 beyond its end; the selector cannot be read."""
        if offset != DATA:
            return 0
        item = self._items.get(self._selector & ~WRITE_CHANNEL, b"")
        if self._offset >= len(item):
            return 0
        self._offset += 1
        return item[self._offset - 1]

    def port_write(self, offset: int, size: int, value: int) -> None:
        """Select an item and start at its first byte; data that is written is lost."""
        if (offset, size) == (SELECTOR, 2):
            self._selector, self._offset = value, 0
