# SPDX-License-Identifier: BSD-2-Clause
"""Section 11: what the assists call (A-CB)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Gpr
from nvmmconf.accel import Stop, callbacks
from nvmmconf.board.interfaces import BusError, Region, RegionKind
from nvmmconf.nvmm import MemAccess

MakeRig = Callable[..., Any]


class Port:
    """Remembers writes, answers reads; `fails` makes it refuse."""

    def __init__(self, value: int = 0, fails: bool = False) -> None:
        self.value = value
        self.fails = fails
        self.seen: list[tuple[int, int, int | None]] = []

    def port_read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size, None))
        if self.fails:
            raise BusError("the device is asleep")
        return self.value

    def port_write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size, value))
        if self.fails:
            raise BusError("the device is asleep")


# mov eax,0x44332211, then OUT 0x72 of a byte, a word, a doubleword; hlt
OUTS = "66 b8 11 22 33 44 e6 72 e7 72 66 e7 72 f4"
# mov eax,-1; in of 1, 2 or 4 bytes from 0x72; hlt
INS = {1: "e4 72 f4", 2: "e5 72 f4", 4: "66 e5 72 f4"}


def test_a_cb_1_out_of_each_size(rig: MakeRig) -> None:
    one = rig(OUTS)
    port = Port()
    one.pc.ports.claim(0x70, 4, port)
    assert one.run().reason is Stop.HALTED
    assert port.seen == [(2, 1, 0x11), (2, 2, 0x2211), (2, 4, 0x44332211)]


@pytest.mark.parametrize(("size", "value"), [(1, 0x85), (2, 0x8586), (4, 0x85868788)])
def test_a_cb_1_in_of_each_size(rig: MakeRig, size: int, value: int) -> None:
    """Little-endian, as wide as the access; above it RAX is the architecture's business."""
    one = rig("66 b8 ff ff ff ff" + INS[size])
    port = Port(value)
    one.pc.ports.claim(0x72, 1, port)
    assert one.run().reason is Stop.HALTED
    assert port.seen == [(0, size, None)]
    mask = (1 << 8 * size) - 1
    assert one.gpr(Gpr.RAX) == 0xFFFFFFFF & ~mask | value


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_cb_1_a_failed_in_reads_all_ones_and_is_reported(
    rig: MakeRig, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    one = rig("66 31 c0" + INS[size])  # xor eax,eax
    one.pc.ports.claim(0x72, 1, Port(fails=True))
    assert one.run().reason is Stop.HALTED
    assert one.gpr(Gpr.RAX) == (1 << 8 * size) - 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        f"NVMM: in from port 0x72 of {size} bytes failed: the device is asleep"
    )


def test_a_cb_1_a_failed_out_is_reported_and_the_guest_goes_on(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig("e6 72 f4")
    one.pc.ports.claim(0x72, 1, Port(fails=True))
    assert one.run().reason is Stop.HALTED
    assert one.vcpu.registers.rip == 3
    (record,) = caplog.records
    assert record.getMessage() == ("NVMM: out to port 0x72 of 1 bytes failed: the device is asleep")


def test_a_cb_1_rep_ins_and_outs_come_item_by_item(rig: MakeRig) -> None:
    """cld; di=0x200, cx=3: rep insb; si=0x200, cx=3: rep outsb; hlt."""
    one = rig("fc bf 00 02 b9 03 00 ba 72 00 f3 6c be 00 02 b9 03 00 f3 6e f4")
    port = Port(0x41)
    one.pc.ports.claim(0x72, 1, port)
    assert one.run().reason is Stop.HALTED
    assert port.seen == [(0, 1, None)] * 3 + [(0, 1, 0x41)] * 3
    assert bytes(one.ram.data[0x1FF:0x204]) == b"\0AAA\0"


def test_devices_are_touched_with_the_big_lock_held(rig: MakeRig) -> None:
    one = rig("e6 72 e4 72 f4")
    free: list[bool] = []

    class Locked(Port):
        def port_read(self, offset: int, size: int) -> int:
            self.look()
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            self.look()

        def look(self) -> None:
            def take() -> None:
                free.append(one.accelerator.lock.acquire(blocking=False))
                if free[-1]:
                    one.accelerator.lock.release()

            other = threading.Thread(target=take)
            other.start()
            other.join()

    one.pc.ports.claim(0x72, 1, Locked())
    one.run()
    assert free == [False, False]


class Memory:
    """A device in memory space."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | bytes]] = []

    def memory_read(self, offset: int, size: int) -> bytes:
        self.seen.append((offset, size))
        return bytes(range(offset, offset + size))

    def memory_write(self, offset: int, data: bytes) -> None:
        self.seen.append((offset, data))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 16, 32])
def test_a_cb_2_both_directions_any_size(rig: MakeRig, size: int) -> None:
    """Straight to the callback: the bundled library's memory assist decodes nothing yet."""
    one = rig()
    device = Memory()
    one.pc.memory.map(Region("mmio", RegionKind.DEVICE, 0xFEE00000, 4096, device=device))
    data = bytearray(size)
    callbacks.mem(one.vcpu, MemAccess(0xFEE00010, False, memoryview(data)))
    assert bytes(data) == bytes(range(16, 16 + size))
    callbacks.mem(one.vcpu, MemAccess(0xFEE00020, True, memoryview(data)))
    assert device.seen == [(16, size), (32, bytes(data))]
    callbacks.mem(one.vcpu, MemAccess(0x300, True, memoryview(data)))
    assert bytes(one.ram.data[0x300 : 0x300 + size]) == bytes(data)
