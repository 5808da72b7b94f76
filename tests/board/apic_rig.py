# SPDX-License-Identifier: BSD-2-Clause
"""Local APICs on a bus, with a clock moved by hand and CPUs that write down what reaches them."""

from __future__ import annotations

from nvmmconf.board.apic_bus import ApicBus
from nvmmconf.board.apic_registers import Register
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.interfaces import CpuLines, DeviceMemory, InterruptController
from nvmmconf.board.local_apic import LocalApic

MASKED = 1 << 16
PERIODIC = 1 << 17
LEVEL = 1 << 15
SMI, NMI, INIT, START_UP, EXTINT = (mode << 8 for mode in (2, 4, 5, 6, 7))
ASSERT = 1 << 14


class Cpu:
    """The lines of one CPU."""

    def __init__(self) -> None:
        self.intr = False
        self.pulses: list[str] = []

    def interrupt(self, asserted: bool) -> None:
        self.intr = asserted

    def nmi(self) -> None:
        self.pulses.append("nmi")

    def smi(self) -> None:
        self.pulses.append("smi")

    def init(self) -> None:
        self.pulses.append("init")

    def start_up(self, vector: int) -> None:
        self.pulses.append(f"start-up {vector:#x}")


class Rig:
    """`count` APICs, enabled by software unless told otherwise; the first is the BSP's."""

    def __init__(self, count: int = 1, *, enabled: bool = True, max_lvt: int = 5) -> None:
        self.clock, self.bus = ManualClock(), ApicBus()
        self.ended: list[int] = []
        self.bus.on_eoi(self.ended.append)
        self.extint = [0x08]
        self.cpus = [Cpu() for _ in range(count)]
        self.apics = [
            LocalApic(number, self.bus, self.clock, self.inta, is_bsp=number == 0, max_lvt=max_lvt)
            for number in range(count)
        ]
        for apic, cpu in zip(self.apics, self.cpus, strict=True):
            apic.connect(cpu)
            if enabled:
                apic.write_register(Register.SVR, 0x1FF)
        self.apic, self.cpu = self.apics[0], self.cpus[0]

    def inta(self) -> int:
        return self.extint.pop()

    def read(self, register: int) -> int:
        return int.from_bytes(self.apic.memory_read(register, 4), "little")

    def write(self, register: int, value: int) -> None:
        self.apic.memory_write(register, value.to_bytes(4, "little"))

    def raise_fixed(self, vector: int) -> None:
        """An IPI to itself."""
        self.write(Register.ICR_LOW, 1 << 18 | ASSERT | vector)

    def errors(self) -> int:
        """10.5.3: written, then read."""
        self.write(Register.ESR, 0)
        return self.read(Register.ESR)

    def bitmap(self, first: int) -> set[int]:
        """The vectors in the ISR, TMR or IRR."""
        words = [self.read(first + 16 * number) for number in range(8)]
        return {v for v in range(256) if words[v // 32] >> v % 32 & 1}


def is_what_it_should_be(apic: LocalApic, cpu: Cpu) -> tuple[object, ...]:
    """Type-checked."""
    controller: InterruptController = apic
    device: DeviceMemory = apic
    lines: CpuLines = cpu
    return controller, device, lines
