# SPDX-License-Identifier: BSD-2-Clause
"""A machine with a guest in it: set up, run, changed, run on."""

from __future__ import annotations

import contextlib
import copy
import warnings

from nvmmconf.abi import EventType, ExitReason, Gpr, StateFlag
from nvmmconf.accel import (
    Accelerator,
    AcceleratorError,
    AccelVcpu,
    Control,
    Outcome,
    Registers,
    Request,
    Stop,
)
from nvmmconf.accel.events import NMI_VECTOR, post_run
from nvmmconf.accel.snapshot import restore, save
from nvmmconf.guest import Image
from nvmmconf.nvmm import Exit, HostMemory, Machine, Vcpu
from nvmmconf.suite.board import CaseBoard, Layout
from nvmmconf.suite.entry import entry_registers
from nvmmconf.suite.errors import GuestHangError, UnimplementedWarning
from nvmmconf.suite.processors import QueuedInterrupts, create_with_apics
from nvmmconf.suite.run import VmRun
from nvmmconf.suite.state import KernelState, kernel_state
from nvmmconf.suite.target import Target
from nvmmconf.suite.watchdog import Watchdog
from nvmmconf.trace import Trace

RAM_SIZE = 2 << 20
"""Bytes of RAM from GPA 0: what guests/README.md promises them."""


class _StopAt:
    """A journal that writes nothing down: it ends the run at one pass of the loop."""

    def __init__(self, passes: int, control: Control) -> None:
        self._left = passes
        self._control = control

    def look(self, vcpu: AccelVcpu) -> None:
        """A pass begins."""
        self._left -= 1
        if self._left == 0:
            self._control.request(Outcome(Stop.STOPPED))

    def ended(self, vcpu: AccelVcpu, outcome: Outcome) -> None:
        """Nothing to write down."""


class PreparedGuest:
    """A guest in a machine of its own; `run` starts it, or goes on.

    Raises GuestError and AcceleratorError where there is no such machine.
    """

    def __init__(self, target: Target, image: Image, timeout: float, layout: Layout) -> None:
        self.image = image
        self.layout = layout
        self.latest: VmRun | None = None
        """The run that ended last."""
        self._timeout = timeout
        self._trace = Trace()
        self._control = Control()
        self._interrupts = QueuedInterrupts()
        self._started = False
        with contextlib.ExitStack() as undo:
            self._ram = undo.enter_context(HostMemory(RAM_SIZE))
            self._board = CaseBoard(self._ram, self._control.request_exit, layout)
            with target.chosen():
                self._accelerator = undo.enter_context(
                    Accelerator(
                        target.library,
                        self._board.ports,
                        self._board.memory,
                        self._control,
                        self._trace,
                    )
                )
                if layout.vcpus == 1:
                    self._vcpus = [self._accelerator.create_vcpu(0, self._interrupts)]
                else:
                    memory = self._board.memory
                    self._vcpus = create_with_apics(self._accelerator, memory, layout.vcpus)
                self._vcpu: AccelVcpu = self._vcpus[0]
            if self._accelerator.memory_map.failures:
                raise AcceleratorError(self._accelerator.memory_map.failures[0], 0)
            for segment in image.segments:  # after hva_map, which zeroes (L-HVA-1)
                self.write(segment.gpa, segment.data)
            self._vcpu.registers = entry_registers(image.entry_state)
            self._vcpu.after_reset()
            self._resources = undo.pop_all()

    def close(self) -> None:
        """Destroy the machine."""
        self._resources.close()

    # ---- what may be looked at and changed while it does not run ----

    @property
    def registers(self) -> Registers:
        """The registers; whatever is changed here is there at the next entry."""
        self._vcpu.synchronize()
        return self._vcpu.registers

    @property
    def vcpu(self) -> Vcpu:
        """libnvmm's vCPU, the first of them."""
        return self._vcpu.vcpu

    @property
    def vcpus(self) -> tuple[Vcpu, ...]:
        """All of them."""
        return tuple(one.vcpu for one in self._vcpus)

    @property
    def cpus(self) -> tuple[Registers, ...]:
        """The registers of every vCPU; as `registers`."""
        for one in self._vcpus:
            one.synchronize()
        return tuple(one.registers for one in self._vcpus)

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator, for what it does besides running: snapshots, journals."""
        return self._accelerator

    def start(self, index: int, label: str) -> None:
        """Have vCPU `index` begin at `label`, as the first does at `start`, and wait for no SIPI.

        The stack is the first one's too.  Raises GuestError for an unknown label.
        """
        one = self._vcpus[index]
        one.registers = entry_registers(self.image.entry_state)
        one.registers.gpr[Gpr.RIP] = self.symbol(label)
        one.after_reset()
        one.waiting_for_sipi = one.halted = False

    @property
    def machine(self) -> Machine:
        """libnvmm's machine."""
        return self._accelerator.machine

    @property
    def tpr(self) -> int:
        """The task priority, 0 to 15 (CR8)."""
        return self._interrupts.tpr

    @tpr.setter
    def tpr(self, value: int) -> None:
        self._interrupts.tpr = value

    def symbol(self, name: str) -> int:
        """The value of RIP at a label of the guest's.  Raises GuestError for an unknown one."""
        return self.image.symbol(name)

    def state(self) -> KernelState:
        """The kernel's whole state.  Raises NvmmError."""
        self._push()
        return kernel_state(self.vcpu)

    def memory(self, gpa: int, size: int) -> bytes:
        """`size` bytes of RAM at `gpa`; ValueError beyond it."""
        self._check(gpa, size)
        return bytes(self._ram.data[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        """Put `data` into RAM at `gpa`, read-only for the guest or not; ValueError beyond it."""
        self._check(gpa, len(data))
        self._ram.data[gpa : gpa + len(data)] = data

    def _check(self, gpa: int, size: int) -> None:
        if gpa < 0 or gpa + size > self._ram.size:
            raise ValueError(f"{gpa:#x}+{size:#x} is not within RAM, {self._ram.size:#x} bytes")

    def set_intr(
        self,
        *,
        int_shadow: bool | None = None,
        int_window_exiting: bool | None = None,
        nmi_window_exiting: bool | None = None,
    ) -> None:
        """Set some of the kernel's interruptibility state.  Raises NvmmError."""
        self._push()
        self.vcpu.getstate(StateFlag.INTR)
        intr = self.vcpu.state.intr
        if int_shadow is not None:
            intr.int_shadow = int_shadow
            self._vcpu.int_shadow = int_shadow
        if int_window_exiting is not None:
            intr.int_window_exiting = int_window_exiting
            self._vcpu.int_window_exiting = int_window_exiting
        if nmi_window_exiting is not None:
            intr.nmi_window_exiting = nmi_window_exiting
            self._vcpu.nmi_window_exiting = nmi_window_exiting
        self.vcpu.setstate(StateFlag.INTR)

    # ---- events ----

    def inject(self, kind: EventType | int, vector: int, error: int = 0) -> None:
        """nvmm_vcpu_inject: an event for the next entry.  Raises NvmmError."""
        self._push()
        self.vcpu.inject(kind, vector, error)
        self._vcpu.event_in_flight = True

    def nmi(self) -> None:
        """Inject an NMI, which NVMM takes as interrupt 2 (K-EVT).  Raises NvmmError."""
        self.inject(EventType.INTR, NMI_VECTOR)

    def interrupt(self, vector: int) -> None:
        """Have the accelerator deliver an interrupt as soon as the guest can take it.

        From the guest's thread (a case's port, say) or before a run.
        """
        self._interrupts.queue.append(vector)
        self._vcpu.request(Request.HARD)

    def request_nmi(self) -> None:
        """Have the accelerator deliver an NMI as soon as none is being handled; as `interrupt`."""
        self._vcpu.request(Request.NMI)

    def request_smi(self) -> None:
        """Have an SMI arrive at the accelerator; as `interrupt`."""
        self._vcpu.request(Request.SMI)

    # ---- running ----

    def _push(self) -> None:
        if self._vcpu.dirty:
            self._vcpu.push()

    def next_exit(self) -> Exit:
        """Enter the guest until it exits, and return the exit unhandled.

        NONE and STOPPED are passed over.  Raises NvmmError where the entry fails,
        GuestHangError where there is no exit in time.
        """
        if self._vcpu.tpr != self.tpr:  # as A-PRE-1 has it
            self._vcpu.synchronize()
            self._vcpu.tpr = self.tpr
        self._push()
        with Watchdog(self._timeout, self._hang, self._stop_raw):
            while True:
                taken = self.vcpu.run()
                post_run(self._vcpu, taken)  # what the accelerator, too, goes on from
                if taken.reason not in (ExitReason.NONE, ExitReason.STOPPED):
                    self._trace.record(0, taken, None)
                    return taken
                if self._control.outcome is not None:
                    raise GuestHangError(f"{self._name} had no exit for {self._timeout:g} s")

    def run(self, passes: int | None = None) -> VmRun:
        """Run the guest, or run it on, until it stops by itself.

        With `passes` it is STOPPED when the accelerator's loop begins that pass, from 1
        on, between two exits; such a run counts for nothing, least of all its checks.
        Raises GuestHangError where the watchdog had to stop it.
        """
        resume, self._started = self._started, True
        self._accelerator.journal = None if passes is None else _StopAt(passes, self._control)
        if resume:
            # The registers so far belong to the run that was returned.
            for one in self._vcpus:
                one.registers = copy.deepcopy(one.registers)
        with Watchdog(self._timeout, self._hang, self._accelerator.kick_all):
            outcome = self._go(resume)
        run = VmRun(
            image=self.image,
            outcome=outcome,
            registers=self._vcpu.registers,
            console=self._board.console.text,
            exits=self._trace.exits,
            dropped=self._trace.dropped,
            note=self._note(),
            ports=tuple(self._board.port_log),
            mmio=tuple(self._board.mmio_log),
            events=tuple(self._board.guest_port.events),
            cpus=tuple(one.registers for one in self._vcpus),
            guest=self,
        )
        if passes is None or outcome.reason is not Stop.STOPPED:
            self.latest = run
        if run.note:
            warnings.warn(run.note, UnimplementedWarning, stacklevel=3)
        if outcome.reason is Stop.HANG:
            raise GuestHangError(
                f"{self._name} ran for {self._timeout:g} s and was stopped at RIP {run.rip!r}"
            )
        return run

    def take_over(self, other: PreparedGuest) -> None:
        """Be where `other` has stopped: machine, devices; not what they have noted.

        `other` is to have the same layout.  Raises SnapshotError.
        """
        restore(self._accelerator, save(other._accelerator))
        self._interrupts.queue = other._interrupts.queue.copy()
        self._board.take_over(other._board)

    def _go(self, resume: bool) -> Outcome:
        if len(self._vcpus) > 1:
            return self._accelerator.resume_all() if resume else self._accelerator.run_all()
        if resume:
            return self._accelerator.resume(self._vcpu)
        return self._accelerator.run(self._vcpu)

    @property
    def _name(self) -> str:
        return f"{self.image.name} ({self.image.mode.value})"

    def _hang(self) -> None:
        self._control.request(Outcome(Stop.HANG))
        self._stop_raw()

    def _stop_raw(self) -> None:
        # Outside the accelerator's loop no thread is known to it.
        for vcpu in self.vcpus:
            if vcpu.has_stop:
                vcpu.stop()

    def _note(self) -> str:
        diagnostic = self.vcpu.soft_diagnostic()
        if diagnostic is None or not diagnostic.unimplemented:
            return ""
        return (
            f"guest {self._name}: {diagnostic.unimplemented}"
            f" instruction(s) that the interpreter lacks became #UD, the last one"
            f" {diagnostic.last_bytes.hex(' ')}"
        )
