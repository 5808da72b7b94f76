# SPDX-License-Identifier: BSD-2-Clause
"""What a case's machine has for each of its vCPUs: a queue of interrupts, or a local APIC."""

from __future__ import annotations

from collections import deque

from nvmmconf.accel import Accelerator, AccelVcpu
from nvmmconf.accel.msrs import APIC_BASE_RESET
from nvmmconf.board.apic_bus import ApicBus
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.cpu_view import CpuView
from nvmmconf.board.interfaces import MemoryBus
from nvmmconf.board.local_apic import LocalApic


class QueuedInterrupts:
    """An interrupt controller that gives what a case has queued, in order."""

    def __init__(self) -> None:
        self.tpr = 0
        self.base = APIC_BASE_RESET
        self.queue: deque[int] = deque()

    def acknowledge(self) -> int | None:
        """The next vector."""
        return self.queue.popleft() if self.queue else None

    def poll(self) -> None:
        """Nothing becomes due by itself."""

    def init(self) -> None:
        """INIT: nothing is pending."""
        self.queue.clear()


def create_with_apics(accelerator: Accelerator, memory: MemoryBus, count: int) -> list[AccelVcpu]:
    """Make `count` vCPUs, each with a local APIC at 0xFEE00000; its timer stands still.

    Raises AcceleratorError.
    """
    bus, clock = ApicBus(), ManualClock()
    made = []
    for index in range(count):
        apic = LocalApic(index, bus, clock, _no_8259, is_bsp=index == 0)
        vcpu = accelerator.create_vcpu(index, apic, CpuView(memory, apic))
        apic.connect(vcpu.lines)
        made.append(vcpu)
    return made


def _no_8259() -> int:
    raise AssertionError("there is no 8259, and nothing drives LINT0")
