# SPDX-License-Identifier: BSD-2-Clause
"""The PC and the accelerator, put together: carries a loader's plan out."""

from __future__ import annotations

import contextlib
import copy
import datetime
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nvmmconf.abi import StateFlag
from nvmmconf.accel import Accelerator, AcceleratorError, AccelVcpu, Control, Outcome, Stop
from nvmmconf.board.apic_registers import BROADCAST
from nvmmconf.board.clock import HostClock
from nvmmconf.board.layout import ABOVE_4G, CONVENTIONAL_END, EXTENDED, SMALLEST, usable_ram
from nvmmconf.board.pc import Firmware, Pc, PcEvents, Source
from nvmmconf.boot.bios import BiosPlan
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.multiboot import MapEntry, MapType
from nvmmconf.boot.plan import PAGE, BootPlan, Ram
from nvmmconf.boot.where import describe
from nvmmconf.nvmm import HostMemory, NvmmError, Owned
from nvmmconf.suite.target import Target
from nvmmconf.trace import Trace


@dataclass(frozen=True)
class MachineSize:
    """How large a machine is; raises BootError for what no PC has."""

    memory: int = 128 << 20
    """Bytes."""
    cpus: int = 1

    def __post_init__(self) -> None:
        if self.memory % PAGE:
            raise BootError(f"memory of {self.memory} bytes is not a multiple of {PAGE}")
        if self.memory < 2 * SMALLEST:
            raise BootError(f"memory of {self.memory >> 10} KiB: at least 2 MiB are needed")
        if self.cpus < 1:
            raise BootError(f"{self.cpus} CPUs: at least 1 is needed")
        if self.cpus > BROADCAST:
            raise BootError(f"{self.cpus} CPUs: an xAPIC's ID tells at most {BROADCAST} apart")

    def check(self, target: Target) -> None:
        """Raise BootError where `target` cannot have it."""
        limits = target.capability
        if self.cpus > limits.max_vcpus:
            raise BootError(f"{self.cpus} CPUs: {target.name} has at most {limits.max_vcpus}")
        if max(ABOVE_4G, self.ram[-1].end) > limits.max_ram:
            raise BootError(
                f"memory of {self.memory >> 20} MiB: {target.name} has at most"
                f" {limits.max_ram >> 20} MiB with what lies below 4 GiB"
            )

    @property
    def ram(self) -> tuple[Ram, ...]:
        """What a loader may use."""
        return tuple(Ram(part.gpa, part.size) for part in usable_ram(self.memory))

    @property
    def memory_map(self) -> tuple[MapEntry, ...]:
        """What a loader tells its kernel of."""
        hole = MapEntry(CONVENTIONAL_END, EXTENDED - CONVENTIONAL_END, MapType.RESERVED)
        entries = [MapEntry(one.gpa, one.size, MapType.AVAILABLE) for one in self.ram]
        return tuple(sorted([*entries, hole], key=lambda entry: entry.gpa))


class BootMachine(Owned):
    """A PC with `plan` loaded, on one target.

    `output` is given each byte that the guest prints, from a vCPU's thread.
    Raises AcceleratorError, BootError where the target cannot have it, MemoryError.
    """

    def __init__(
        self,
        target: Target,
        size: MachineSize,
        plan: BootPlan | BiosPlan,
        output: Callable[[Source, int], None],
        trace: Trace | None = None,
    ) -> None:
        size.check(target)
        self._plan = plan
        self._control = Control()
        lock = threading.RLock()
        with contextlib.ExitStack() as undo:
            self._ram = undo.enter_context(HostMemory(size.memory))
            self._firmware: Firmware | None = None
            if isinstance(plan, BiosPlan):
                pages = undo.enter_context(HostMemory(len(plan.rom)))
                self._firmware = Firmware(pages, plan.low_size)
            clock = HostClock(lock, self._clock_failed)
            self.pc = Pc(
                self._ram,
                clock,
                datetime.datetime.now(datetime.UTC).replace(tzinfo=None),
                PcEvents(self._control.request_exit, self._control.request_reset, output),
                size.cpus,
                self._firmware,
            )
            with target.chosen():
                self._accelerator = undo.enter_context(
                    Accelerator(
                        target.library,
                        self.pc.ports,
                        self.pc.memory,
                        self._control,
                        trace,
                        lock=lock,
                    )
                )
                for index, cpu in enumerate(self.pc.cpus):
                    vcpu = self._accelerator.create_vcpu(index, cpu.apic, cpu.memory)
                    cpu.apic.connect(vcpu.lines)
            undo.callback(clock.close)  # before the vCPUs go that its alarms would interrupt
            if self._accelerator.memory_map.failures:
                raise AcceleratorError(self._accelerator.memory_map.failures[0], 0)
            self._accelerator.can_wake = lambda: clock.armed and self._interruptible()
            self._load()
            self._resources = undo.pop_all()

    def close(self) -> None:
        """Destroy the machine.  Idempotent."""
        self._resources.close()

    @property
    def vcpus(self) -> Sequence[AccelVcpu]:
        """Its vCPUs."""
        return self._accelerator.vcpus

    def run(self, timeout: float | None = None) -> Outcome:
        """Run the guest until it ends; HANG after `timeout` seconds.

        Raises KeyboardInterrupt, the guest having stopped, where the user asks for it.
        """
        if timeout is None:
            return self._accelerator.run_all()
        timer = threading.Timer(timeout, lambda: self._control.request(Outcome(Stop.HANG)))
        timer.daemon = True
        timer.start()
        try:
            return self._accelerator.run_all()
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Have the run end; from any thread."""
        self._control.request(Outcome(Stop.STOPPED))

    def reboot(self) -> None:
        """Start anew, as after power-up, memory included; for going on after a RESET."""
        with self._accelerator.lock:
            self.pc.reset()
            _clear(self._ram.data)
        self._accelerator.reset()
        self._load()

    def where(self) -> str:
        """Where each CPU is: registers and the next instructions."""
        lines = []
        for index, vcpu in enumerate(self.vcpus):
            if vcpu.waiting_for_sipi:
                lines.append(f"cpu {index}: waits for a start-up IPI")
            elif vcpu.fetch():
                lines.append(describe(index, vcpu.registers, _Reader(vcpu)))
        return "\n".join(lines)

    def unimplemented(self) -> str:
        """What the libnvmm in software could not execute for the guest, or ''."""
        for index, vcpu in enumerate(self.vcpus):
            found = vcpu.vcpu.soft_diagnostic()
            if found is not None and found.unimplemented:
                return (
                    f"cpu {index}: {found.unimplemented} instruction(s) that the interpreter lacks"
                    f" became #UD, the last one {found.last_bytes.hex(' ')}"
                )
        return ""

    def _load(self) -> None:
        """After hva_map, which zeroes (L-HVA-1)."""
        if isinstance(self._plan, BiosPlan):
            assert self._firmware is not None
            self._firmware.pages.data[:] = self._plan.rom
        else:
            for write in self._plan.writes:
                self.pc.memory.write(write.gpa, write.data)
            with self._accelerator.lock:
                self.pc.cpus[0].apic.virtual_wire()  # no firmware has been here
        bootstrap = self.vcpus[0]
        bootstrap.registers = copy.deepcopy(self._plan.registers)
        bootstrap.after_reset()

    def _interruptible(self) -> bool:
        """Whether an interrupt would wake any CPU: one that halts with IF clear halts for good."""
        return any(
            vcpu.registers.interrupts_enabled for vcpu in self.vcpus if not vcpu.waiting_for_sipi
        )

    def _clock_failed(self, error: BaseException) -> None:
        self._control.panic(f"a device's alarm: {type(error).__name__}: {error}")


class _Reader:
    """Reads a stopped vCPU's memory at linear addresses."""

    def __init__(self, vcpu: AccelVcpu) -> None:
        self._vcpu = vcpu
        with contextlib.suppress(NvmmError):
            vcpu.vcpu.getstate(StateFlag.ALL)

    def __call__(self, address: int, size: int) -> bytes:
        """Up to `size` bytes, those before the first page that is not mapped."""
        result = b""
        while size:
            try:
                gpa, _ = self._vcpu.vcpu.gva_to_gpa(address & ~(PAGE - 1))
            except NvmmError:
                break
            within = address & PAGE - 1
            count = min(size, PAGE - within)
            result += self._vcpu.memory.read(gpa + within, count)
            address, size = address + count, size - count
        return result


def _clear(memory: memoryview) -> None:
    """Make it zero, and touch only what is not: the rest need not even exist."""
    zeroes = bytes(1 << 20)
    for at in range(0, len(memory), len(zeroes)):
        piece = memory[at : at + len(zeroes)]
        if piece != zeroes[: len(piece)]:
            piece[:] = zeroes[: len(piece)]
