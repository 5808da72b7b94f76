# SPDX-License-Identifier: BSD-2-Clause
"""Recording all that an accelerator is told, and all that it does, for a replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nvmmconf.abi import EventType, Libnvmm, StateFlag
from nvmmconf.accel import Accelerator, AccelVcpu, Outcome
from nvmmconf.board.interfaces import InterruptController
from nvmmconf.nvmm import Capability, Exit, IoAccess, Machine, MemAccess, NvmmError, Vcpu

MOST_STEPS = 100_000
"""Steps of a vCPU that are kept; a recording that would be longer ends there and says so."""

PARTS = (
    (StateFlag.SEGS, slice(0, 160)),
    (StateFlag.GPRS, slice(160, 304)),
    (StateFlag.CRS, slice(304, 352)),
    (StateFlag.DRS, slice(352, 400)),
    (StateFlag.MSRS, slice(400, 488)),
    (StateFlag.INTR, slice(488, 496)),
    (StateFlag.FPU, slice(496, 1008)),
)
"""Where each part lies in `struct nvmm_x64_state` (spec libnvmm section 3)."""


@dataclass(frozen=True)
class Seen:
    """What a look at a vCPU found: requests by other threads and devices, its TPR."""

    requests: int
    sipi_vector: int
    exit_request: bool
    stopped: bool
    tpr: int | None


@dataclass(frozen=True)
class Transaction:
    """One call of an assist's callback: `data` is what was written, or what was answered."""

    address: int
    """Port or GPA."""
    is_read: bool
    data: bytes


@dataclass(frozen=True)
class Step:
    """One thing that happened: what the accelerator did, and what it got for it."""

    call: str
    given: tuple[Any, ...] = ()
    got: Any = None
    error: int | None = None
    """errno where the call failed."""
    transactions: tuple[Transaction, ...] = ()


@dataclass
class VcpuRecording:
    """One vCPU's steps, in order; `truncated` where there were more than are kept."""

    has_stop: bool
    has_apic: bool = False
    steps: list[Step] = field(default_factory=list)
    truncated: bool = False

    def add(self, step: Step) -> int:
        """Append `step` and return its place, -1 where it is not kept."""
        if len(self.steps) >= MOST_STEPS:
            self.truncated = True
            return -1
        self.steps.append(step)
        return len(self.steps) - 1

    def finish(self, place: int, step: Step) -> None:
        """Replace a step that was begun by what came of it."""
        if place >= 0:
            self.steps[place] = step


@dataclass
class Recording:
    """A machine's run: the capability, and each vCPU's steps."""

    capability: Capability | None = None
    vcpus: dict[int, VcpuRecording] = field(default_factory=dict)

    def look(self, vcpu: AccelVcpu) -> None:
        """What the loop is about to see (Journal)."""
        if vcpu.apic is not None and not isinstance(vcpu.apic, _RecordedApic):
            self.vcpus[vcpu.index].has_apic = True
            vcpu.apic = _RecordedApic(vcpu.apic, self.vcpus[vcpu.index])
        tpr = None if vcpu.apic is None else vcpu.apic.tpr
        seen = Seen(vcpu.requests.value, vcpu.sipi_vector, vcpu.exit_request, vcpu.stopped, tpr)
        self.vcpus[vcpu.index].add(Step("look", got=seen))

    def ended(self, vcpu: AccelVcpu, outcome: Outcome) -> None:
        """How it ended (Journal)."""
        self.vcpus[vcpu.index].add(Step("end", got=outcome))


class RecordingAccelerator(Accelerator):
    """An accelerator whose run is recorded: `recording` has it, up to the first outcome.

    Each call costs a copy of the vCPU's state, so this is for looking into one
    guest, not for every run.  Arguments as Accelerator's.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.recording = Recording()
        super().__init__(*arguments, journal=self.recording, **named)

    def _start(self, library: Libnvmm) -> Capability:
        self.recording.capability = super()._start(library)
        return self.recording.capability

    def _make_machine(self, library: Libnvmm) -> Machine:
        return _RecordingMachine(library, self.recording)


class _RecordingMachine(Machine):
    def __init__(self, library: Libnvmm, recording: Recording) -> None:
        self._recording = recording
        super().__init__(library)

    def _make_vcpu(self, cpuid: int) -> Vcpu:
        return _RecordingVcpu(self, cpuid, self._recording)


class _RecordingVcpu(Vcpu):
    def __init__(self, machine: Machine, cpuid: int, recording: Recording) -> None:
        super().__init__(machine, cpuid)
        self._log = recording.vcpus[cpuid] = VcpuRecording(self.has_stop)
        self._transactions: list[Transaction] = []

    def getstate(self, flags: StateFlag) -> None:
        self._tell("getstate", (int(flags),), lambda: super(_RecordingVcpu, self).getstate(flags))

    def setstate(self, flags: StateFlag) -> None:
        given = (int(flags), parts_of(self.state_bytes(), flags))
        self._tell("setstate", given, lambda: super(_RecordingVcpu, self).setstate(flags))

    def inject(self, kind: EventType | int, vector: int, error: int = 0) -> None:
        given = (int(kind), vector, error)
        self._tell("inject", given, lambda: super(_RecordingVcpu, self).inject(kind, vector, error))

    def run(self) -> Exit:
        place = self._log.add(Step("run"))
        try:
            taken = super().run()
        except NvmmError as error:
            self._log.finish(place, Step("run", error=error.errno))
            raise
        self._log.finish(place, Step("run", got=taken))
        return taken

    def assist_io(self) -> None:
        self._assist_told("assist_io", super().assist_io)

    def assist_mem(self) -> None:
        self._assist_told("assist_mem", super().assist_mem)

    def configure_callbacks(
        self, io: Callable[[IoAccess], None], mem: Callable[[MemAccess], None]
    ) -> None:
        def told_io(access: IoAccess) -> None:
            io(access)
            data = bytes(access.data)
            self._transactions.append(Transaction(access.port, access.is_in, data))

        def told_mem(access: MemAccess) -> None:
            mem(access)
            data = bytes(access.data)
            self._transactions.append(Transaction(access.gpa, not access.is_write, data))

        super().configure_callbacks(told_io, told_mem)

    def _tell(self, call: str, given: tuple[Any, ...], act: Callable[[], None]) -> None:
        try:
            act()
        except NvmmError as error:
            self._log.add(Step(call, given, error=error.errno))
            raise
        got = self.state_bytes() if call == "getstate" else None
        self._log.add(Step(call, given, got))

    def _assist_told(self, call: str, act: Callable[[], None]) -> None:
        self._transactions = []
        place = self._log.add(Step(call))
        number: int | None = None
        try:
            act()
        except NvmmError as error:
            number = error.errno
            raise
        finally:
            told = tuple(self._transactions)
            self._log.finish(
                place, Step(call, got=self.state_bytes(), error=number, transactions=told)
            )


class _RecordedApic:
    """The local APIC, its answers written down."""

    def __init__(self, apic: InterruptController, log: VcpuRecording) -> None:
        self._apic = apic
        self._log = log

    @property
    def tpr(self) -> int:
        return self._apic.tpr

    @tpr.setter
    def tpr(self, value: int) -> None:
        self._apic.tpr = value

    @property
    def base(self) -> int:
        value = self._apic.base
        self._log.add(Step("base", got=value))
        return value

    @base.setter
    def base(self, value: int) -> None:
        self._apic.base = value

    def acknowledge(self) -> int | None:
        vector = self._apic.acknowledge()
        self._log.add(Step("acknowledge", got=vector))
        return vector

    def poll(self) -> None:
        self._apic.poll()

    def init(self) -> None:
        self._apic.init()


def parts_of(state: bytes, flags: StateFlag | int) -> tuple[bytes, ...]:
    """Return the parts of a state that `flags` name."""
    return tuple(state[where] for part, where in PARTS if int(part) & int(flags))
