# SPDX-License-Identifier: BSD-2-Clause
"""The whole PC: where its RAM is, what its CMOS says of it, its ports and its reset."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board.clock import ManualClock
from nvmmconf.board.layout import usable_ram
from nvmmconf.board.pc import Firmware, Pc, PcEvents, Source
from nvmmconf.nvmm import HostMemory

GIB, MIB = 1 << 30, 1 << 20
NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)


class Rig:
    """A PC of 32 MiB, and what it told."""

    def __init__(self, ram: HostMemory, firmware: HostMemory) -> None:
        self.exits: list[int] = []
        self.resets = 0
        self.output: list[tuple[Source, int]] = []
        events = PcEvents(
            self.exits.append, self._reset, lambda source, byte: self.output.append((source, byte))
        )
        self.pc = Pc(ram, ManualClock(), NOW, events, 2, Firmware(firmware, 0x10000))

    def _reset(self) -> None:
        self.resets += 1

    def cmos(self, index: int) -> int:
        self.pc.ports.write(0x70, 1, index)
        return self.pc.ports.read(0x71, 1)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with HostMemory(32 * MIB) as ram, HostMemory(0x20000) as firmware:
        yield Rig(ram, firmware)


@given(st.integers(1, 1 << 24))
def test_no_ram_is_lost_or_there_twice(pages: int) -> None:
    """All but the 384 KiB below 1 MiB is the guest's, none of it from 3 GiB to 4 GiB."""
    size = max(pages * 4096, MIB)
    parts = usable_ram(size)
    assert sum(part.size for part in parts) == size - 384 * 1024
    gpa = offset = 0
    for part in parts:
        assert part.gpa >= gpa
        assert part.offset >= offset
        gpa, offset = part.end, part.offset + part.size
        assert part.end <= 3 * GIB or part.gpa >= 4 * GIB
        assert part.end <= 640 * 1024 or part.gpa >= MIB
    assert offset == max(size, 640 * 1024) or size == MIB


def test_less_than_1_mib_is_no_pc() -> None:
    with pytest.raises(ValueError, match="1024 KiB"):
        usable_ram(MIB - 4096)


def test_cmos_says_how_much_ram_there_is(rig: Rig) -> None:
    """0x15: base memory in KiB; 0x17, 0x30: above 1 MiB in KiB; 0x34: above 16 MiB in 64 KiB."""
    assert rig.cmos(0x15) | rig.cmos(0x16) << 8 == 640
    for index in (0x17, 0x30):
        assert rig.cmos(index) | rig.cmos(index + 1) << 8 == 31 * 1024
    assert rig.cmos(0x34) | rig.cmos(0x35) << 8 == 16 * MIB // 65536
    assert rig.cmos(0x5F) == 1, "CPUs but the first"


def test_the_bios_is_below_4_gib_and_its_end_below_1_mib(rig: Rig) -> None:
    memory = rig.pc.memory
    memory.write(0xFFFE0000, b"low half")
    memory.write(0xFFFF0000, b"high half")
    assert memory.read(0xF0000, 9) == b"high half"
    assert memory.read(0xE0000, 8) == bytes(8), "RAM: only 64 KiB are seen there"
    memory.write(0xF0000, b"shadow RAM")
    assert memory.read(0xFFFF0000, 10) == b"shadow RAM"


def test_what_is_printed_is_told_with_where(rig: Rig) -> None:
    for port, byte in ((0xE9, 1), (0x402, 2), (0x3F8, 3)):
        rig.pc.ports.write(port, 1, byte)
    assert rig.output == [(Source.DEBUGCON, 1), (Source.FIRMWARE, 2), (Source.COM1, 3)]
    assert rig.pc.ports.read(0xE9, 1) == rig.pc.ports.read(0x402, 1) == 0xE9


def test_each_cpu_has_its_own_apic_at_one_address(rig: Rig) -> None:
    ids = [cpu.memory.read(0xFEE00020, 4)[3] for cpu in rig.pc.cpus]
    assert ids == [0, 1]


def test_a_reset_resets_the_devices_and_leaves_memory(rig: Rig) -> None:
    pc = rig.pc
    pc.memory.write(0x1000, b"kept")
    pc.ports.write(0x3F8 + 7, 1, 0x55)  # the scratch register
    pc.ports.write(0x3F8 + 3, 1, 0x1B)
    pc.cpus[0].memory.write(0xFEE00080, bytes([0x20, 0, 0, 0]))  # TPR
    pc.reset()
    assert pc.memory.read(0x1000, 4) == b"kept"
    assert pc.ports.read(0x3F8 + 3, 1) == 0, "LCR (PC16550D, table III)"
    assert pc.cpus[0].memory.read(0xFEE00080, 4) == bytes(4)


def test_the_text_screen_as_text(rig: Rig) -> None:
    rig.pc.memory.write(0xB8000 + 160, b"H\x07i\x07\xdb\x07")
    assert rig.pc.screen() == "\nHi\u2588"


@pytest.mark.parametrize(
    "writes", [[(0x64, 0xFE)], [(0x92, 1)], [(0xCF9, 2), (0xCF9, 6)], [(0xCF9, 4)]]
)
def test_each_port_that_resets(rig: Rig, writes: list[tuple[int, int]]) -> None:
    for port, value in writes:
        assert rig.resets == 0
        rig.pc.ports.write(port, 1, value)
    assert rig.resets == 1
