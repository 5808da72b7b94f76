# SPDX-License-Identifier: BSD-2-Clause
"""A whole PC without PCI: what firmware and kernels of others expect to find."""

from __future__ import annotations

import datetime
import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from nvmmconf.board import debugcon, testdev
from nvmmconf.board.apic_bus import ApicBus
from nvmmconf.board.cmos import BootDevice, cmos_contents
from nvmmconf.board.cpu_view import CpuView
from nvmmconf.board.fw_cfg import FwCfg, machine_items
from nvmmconf.board.i8042 import I8042
from nvmmconf.board.i8254 import I8254
from nvmmconf.board.i8259 import I8259Pair
from nvmmconf.board.interfaces import Clock, Pages, RamBlock, Region, RegionKind
from nvmmconf.board.layout import ABOVE_4G, EXTENDED, usable_ram
from nvmmconf.board.local_apic import LocalApic
from nvmmconf.board.mc146818 import Mc146818
from nvmmconf.board.memory import AddressSpace
from nvmmconf.board.port92 import Port92
from nvmmconf.board.ports import PortSpace
from nvmmconf.board.reset_control import ResetControl
from nvmmconf.board.testdev import TestDevice
from nvmmconf.board.uart16550 import Uart16550

TIMER_IRQ, KEYBOARD_IRQ, COM1_IRQ, RTC_IRQ, MOUSE_IRQ = 0, 1, 4, 8, 12

TEXT_GPA, TEXT_COLUMNS, TEXT_ROWS = 0xB8000, 80, 25
"""The VGA text screen: there is no VGA, but RAM where a guest draws."""

_E820_RAM = 1
_FOR_EVER = -1
_BOOT_ORDER = (BootDevice.DISK, BootDevice.FLOPPY, BootDevice.CDROM)
"""QEMU's."""


class Source(enum.Enum):
    """Where a guest prints."""

    DEBUGCON = "port 0xE9"
    FIRMWARE = "port 0x402"
    COM1 = "COM1"


@dataclass(frozen=True)
class Firmware:
    """A BIOS in `pages`: it ends at 4 GiB, and its last `low_size` bytes at 1 MiB also.

    Both are RAM and the same, as on a PC whose shadow RAM is unlocked: this one
    has no chipset that a BIOS could unlock it by.
    """

    pages: Pages
    low_size: int


@dataclass(frozen=True)
class PcEvents:
    """Whom the PC tells; called holding the board's lock."""

    exited: Callable[[int], None]
    """The guest ended the run with this status."""
    reset: Callable[[], None]
    """The guest asked for a reset."""
    output: Callable[[Source, int], None]
    """The guest printed this byte."""


@dataclass(frozen=True)
class PcCpu:
    """What the PC has for one CPU."""

    apic: LocalApic
    """To be connected to the CPU's lines once it exists."""
    memory: CpuView
    """Physical memory as this CPU sees it."""


class _Printer:
    """A debug port: every byte written is output."""

    max_size = 1

    def __init__(self, output: Callable[[int], None]) -> None:
        self._output = output

    def port_read(self, offset: int, size: int) -> int:
        return debugcon.READBACK

    def port_write(self, offset: int, size: int, value: int) -> None:
        self._output(value)


class Pc:
    """Memory, APICs, 8259 pair, timers, clock, keyboard controller, COM1, firmware's ports.

    `ram` is the machine's memory, `now` what its clock shows at first.  INTR of the
    8259 pair is LINT0 of the bootstrap processor.  Address line 20 is always
    open.  No PCI, no disk, no VGA.
    """

    def __init__(
        self,
        ram: Pages,
        clock: Clock,
        now: datetime.datetime,
        events: PcEvents,
        cpus: int = 1,
        firmware: Firmware | None = None,
    ) -> None:
        self.ports = PortSpace()
        self.memory = AddressSpace()
        _map_memory(self.memory, ram, firmware)

        self.pic = I8259Pair(lambda level: self.cpus[0].apic.set_lint(0, level))
        bus = ApicBus()
        apics = [
            LocalApic(index, bus, clock, self.pic.acknowledge, is_bsp=index == 0)
            for index in range(cpus)
        ]
        self.cpus = tuple(PcCpu(apic, CpuView(self.memory, apic)) for apic in apics)

        below = max(part.end for part in usable_ram(ram.size) if part.gpa < ABOVE_4G)
        line = self.pic.line
        self.pit = I8254(clock, line(TIMER_IRQ))
        self.rtc = Mc146818(
            clock, now, line(RTC_IRQ), cmos_contents(below, ram.size - below, cpus, _BOOT_ORDER)
        )
        self.uart = Uart16550(line(COM1_IRQ), partial(events.output, Source.COM1))
        self.keyboard = I8042(events.reset, line(KEYBOARD_IRQ), line(MOUSE_IRQ), keyboard=True)
        self.port92 = Port92(events.reset)
        self.reset_control = ResetControl(lambda kind: events.reset())
        self.fw_cfg = FwCfg(machine_items(below, cpus, cpus), _files(below, ram.size - below))
        self._devices = (
            self.pic,
            self.pit,
            self.rtc,
            self.uart,
            self.keyboard,
            self.port92,
            self.reset_control,
            self.fw_cfg,
        )
        for device in self._devices:
            device.connect(self.ports)
        for port, source in (
            (debugcon.PORT, Source.DEBUGCON),
            (debugcon.SEABIOS_PORT, Source.FIRMWARE),
        ):
            self.ports.claim(port, 1, _Printer(partial(events.output, source)))
        self.ports.claim(testdev.PORT, testdev.PORT_COUNT, TestDevice(events.exited))

    def reset(self) -> None:
        """Reset every device; memory keeps what it has."""
        for cpu in self.cpus:
            cpu.apic.reset()
        for device in self._devices:
            device.reset()

    def screen(self) -> str:
        """The text screen as text, without the empty lines at its end."""
        cells = self.memory.read(TEXT_GPA, TEXT_COLUMNS * TEXT_ROWS * 2)[::2]
        text = cells.replace(b"\0", b" ").decode("cp437")
        rows = (text[at : at + TEXT_COLUMNS] for at in range(0, len(text), TEXT_COLUMNS))
        return "\n".join(row.rstrip() for row in rows).rstrip("\n")


def _files(below_4g: int, above_4g: int) -> dict[str, bytes]:
    """fw_cfg's files, by QEMU's names: where RAM is, and how long to wait with nothing to boot."""
    ram = [(0, below_4g), (ABOVE_4G, above_4g)]
    e820 = b"".join(struct.pack("<QQI", gpa, size, _E820_RAM) for gpa, size in ram if size)
    return {"etc/e820": e820, "etc/boot-fail-wait": struct.pack("<i", _FOR_EVER)}


def _map_memory(memory: AddressSpace, ram: Pages, firmware: Firmware | None) -> None:
    """RAM from 0, the BIOS over its end below 1 MiB and at 4 GiB.

    What lies between 640 KiB and 1 MiB is RAM too: nobody decodes it here, and
    guests draw there (0xB8000) and expect shadow RAM (from 0xC0000 on).
    """
    block = RamBlock(ram, ram.size)
    memory.add_block(block)
    for part in usable_ram(ram.size):
        if part.gpa == 0:
            part = replace(part, size=EXTENDED)
        memory.map(
            Region(f"ram at {part.gpa:#x}", RegionKind.RAM, part.gpa, part.size, block, part.offset)
        )
    if firmware is None:
        return
    size, low = firmware.pages.size, firmware.low_size
    bios = RamBlock(firmware.pages, size)
    memory.add_block(bios)
    memory.map(Region("bios", RegionKind.RAM, ABOVE_4G - size, size, bios))
    shadow = Region("bios below 1 MiB", RegionKind.RAM, EXTENDED - low, low, bios, size - low)
    memory.overlay(shadow)
