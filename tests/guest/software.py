# SPDX-License-Identifier: BSD-2-Clause
"""Images on the bundled libnvmm, with a guest port, to be held against QEMU."""

from __future__ import annotations

from dataclasses import dataclass

from nvmmconf.abi import Libnvmm
from nvmmconf.accel import Accelerator, Control, Outcome
from nvmmconf.board import GuestEvent, GuestPort, TestBoard
from nvmmconf.board.guestport import PORT, PORT_COUNT
from nvmmconf.guest import Image
from nvmmconf.nvmm import HostMemory, IoExit
from nvmmconf.suite.entry import entry_registers
from nvmmconf.trace import Trace

RAM_SIZE = 2 << 20


@dataclass(frozen=True)
class Ended:
    """What became of a guest."""

    outcome: Outcome
    events: tuple[GuestEvent, ...]
    console: str
    port_accesses: list[tuple[int, int]]
    """Port and size of each IO exit."""
    ram: bytes


def run(image: Image, library: Libnvmm, *, port: bool = True) -> Ended:
    """Run the image from its entry state, with a guest port or without."""
    control, trace = Control(), Trace()
    with HostMemory(RAM_SIZE) as ram:
        board = TestBoard(ram, control.request_exit)
        device = GuestPort(board.memory, control.request_exit)
        if port:
            board.ports.claim(PORT, PORT_COUNT, device)
        with Accelerator(library, board.ports, board.memory, control, trace) as accelerator:
            vcpu = accelerator.create_vcpu(0)
            for segment in image.segments:
                ram.data[segment.gpa : segment.end] = segment.data
            vcpu.registers = entry_registers(image.entry_state)
            vcpu.after_reset()
            outcome = accelerator.run(vcpu)
            return Ended(
                outcome=outcome,
                events=tuple(device.events),
                console=board.console.text,
                port_accesses=[
                    (one.exit.port, one.exit.operand_size)
                    for one in trace.exits
                    if isinstance(one.exit, IoExit)
                ],
                ram=bytes(ram.data),
            )
