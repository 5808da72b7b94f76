# SPDX-License-Identifier: BSD-2-Clause
"""A recorded run once more, through the accelerator's own code, without any libnvmm.

Every call of libnvmm's that the accelerator makes is held against the one
recorded, and answered with what was answered then.  What came from outside,
requests by devices and other threads, comes where the loop looked for it.
Kicks are not compared: their moments are the host's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nvmmconf.abi import EventType, Libnvmm, StateFlag, ffi
from nvmmconf.accel import Accelerator, AccelVcpu, Control, Outcome, Request
from nvmmconf.accel.smp import drive
from nvmmconf.board.interfaces import MemoryBus, MemoryListener, PortBus
from nvmmconf.nvmm import (
    Capability,
    CpuidMask,
    Exit,
    HostPages,
    IoAccess,
    Machine,
    MemAccess,
    NvmmError,
    Vcpu,
)
from nvmmconf.trace.recorder import Trace
from nvmmconf.trace.recording import Recording, Seen, Step, Transaction, VcpuRecording, parts_of


class ReplayError(Exception):
    """A recording cannot be replayed."""


@dataclass(frozen=True)
class Departure:
    """Where the accelerator, or a device, did something else than recorded."""

    vcpu: int
    step: int
    """Its number in the vCPU's recording, from 0."""
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"vCPU {self.vcpu}, step {self.step}: recorded {self.recorded}, found {self.found}"


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: steps that agreed, and where the first vCPU departed, if any did."""

    steps: int
    departure: Departure | None
    trace: Trace


class _Departed(BaseException):
    def __init__(self, departure: Departure) -> None:
        self.departure = departure


def replay(
    recording: Recording,
    ports: PortBus | None = None,
    memory: MemoryBus | None = None,
    begin: Callable[[AccelVcpu], None] | None = None,
) -> Replayed:
    """Replay each vCPU up to its first outcome, one after the other.

    Devices answer what was recorded, or, where `ports` or `memory` are given,
    are asked, and their answers compared.  `begin` gets each vCPU to set its
    registers as those of the recorded run were set; without it the first
    `setstate` is not compared.  Raises ReplayError for a recording that was cut short.
    """
    if recording.capability is None or any(v.truncated for v in recording.vcpus.values()):
        raise ReplayError("the recording is not whole")
    journal = _Player(recording)
    trace = Trace()
    control = Control()
    accelerator = _ReplayAccelerator(
        recording,
        journal,
        ports or _RecordedPorts(journal),
        memory or _RecordedMemory(journal),
        control,
        trace,
    )
    agreed = 0
    with accelerator:
        for index, recorded in recording.vcpus.items():
            control.clear()
            vcpu = accelerator.create_vcpu(
                index, _ReplayApic(journal) if recorded.has_apic else None
            )
            if begin is not None:
                begin(vcpu)
            journal.play(vcpu, control, strict_first=begin is not None)
            accelerator.running = (vcpu,)
            try:
                drive(accelerator, vcpu)
            except _Departed as departed:
                return Replayed(agreed + journal.done, departed.departure, trace)
            agreed += journal.done
    return Replayed(agreed, None, trace)


class _Player:
    """The recording of the vCPU that is being replayed, and how far it has come (Journal)."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._steps: deque[Step] = deque()
        self._vcpu: AccelVcpu | None = None
        self._control = Control()
        self._strict = True
        self.done = 0
        self.tpr = 0
        self.transaction: Transaction | None = None

    def answer(self) -> bytes:
        """What the device answered in the transaction under way."""
        assert self.transaction is not None
        return self.transaction.data

    def play(self, vcpu: AccelVcpu, control: Control, *, strict_first: bool) -> None:
        """Begin with `vcpu`'s recording."""
        self._vcpu = vcpu
        self._control = control
        self._strict = strict_first
        steps = self._recording.vcpus[vcpu.index].steps
        self._steps = deque(steps)
        self.done = 0

    @property
    def next(self) -> Step | None:
        """The step that should come now."""
        return self._steps[0] if self._steps else None

    def take(self, call: str, given: tuple[Any, ...] = ()) -> Step:
        """Hold a call against the recording and return the recorded step."""
        step = self.next
        if step is None:
            self.depart("nothing more", call)
            raise AssertionError
        if step.call != call:
            self.depart(_words(step.call, step.given), _words(call, given))
        first = call == "setstate" and not self._strict
        if step.given != given and not first:
            self.depart(_words(call, step.given), _words(call, given))
        if call == "setstate":
            self._strict = True
        self._steps.popleft()
        self.done += 1
        self._look_ahead()
        if step.error is not None:
            raise NvmmError(f"nvmm_vcpu_{call}", step.error, "as recorded")
        return step

    def _look_ahead(self) -> None:
        following = self.next
        if following is not None and following.call == "end":
            self._control.request(following.got)

    def depart(self, recorded: str, found: str) -> None:
        """The first difference: end the replay."""
        assert self._vcpu is not None
        raise _Departed(Departure(self._vcpu.index, self.done, recorded, found))

    def look(self, vcpu: AccelVcpu) -> None:
        """Journal: what the loop saw then, it sees now."""
        seen: Seen = self.take("look").got
        vcpu.requests = Request(seen.requests)
        vcpu.sipi_vector = seen.sipi_vector
        vcpu.exit_request = seen.exit_request
        vcpu.stopped = seen.stopped
        if seen.tpr is not None:
            self.tpr = seen.tpr

    def ended(self, vcpu: AccelVcpu, outcome: Outcome) -> None:
        """Journal: it has to end as it ended then."""
        recorded: Outcome = self.take("end").got
        if recorded != outcome:
            self.depart(str(recorded), str(outcome))


def _words(call: str, given: tuple[Any, ...]) -> str:
    def word(value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(part.hex() for part in value)
        return hex(value) if isinstance(value, int) else str(value)

    return f"{call}({', '.join(word(value) for value in given)})"


class _ReplayAccelerator(Accelerator):
    def __init__(
        self,
        recording: Recording,
        journal: _Player,
        ports: PortBus,
        memory: MemoryBus,
        control: Control,
        trace: Trace,
    ) -> None:
        self._recording = recording
        self._player = journal
        super().__init__(_NO_LIBRARY, ports, memory, control, trace, journal=journal)
        self.can_wake = self._more_to_come

    def _more_to_come(self) -> bool:
        # A halted vCPU was woken where the recording goes on with another look.
        following = self._player.next
        if following is None or following.call != "look":
            return False
        for vcpu in self.running:
            vcpu.bell.ring()
        return True

    def _start(self, library: Libnvmm) -> Capability:
        assert self._recording.capability is not None
        return self._recording.capability

    def _make_machine(self, library: Libnvmm) -> Machine:
        return _ReplayMachine(self._recording, self._player)

    def kick_all(self) -> None:
        """Nothing: what a kick came to was recorded."""


_NO_LIBRARY: Libnvmm = None  # type: ignore[assignment]  # nothing below opens or calls one


class _ReplayMachine(Machine):
    """A machine that is not there."""

    def __init__(self, recording: Recording, player: _Player) -> None:
        self._recording = recording
        self._player = player
        self._vcpus: dict[int, Vcpu] = {}

    @property
    def machid(self) -> int:
        return 0

    def destroy(self) -> None:
        pass

    def _make_vcpu(self, cpuid: int) -> Vcpu:
        return _ReplayVcpu(cpuid, self._recording.vcpus[cpuid], self._player)

    def hva_map(self, memory: HostPages, size: int | None = None) -> None:
        pass

    def gpa_map(self, hva: int, gpa: int, size: int, prot: Any) -> None:
        pass

    def gpa_unmap(self, hva: int, gpa: int, size: int) -> None:
        pass


class _ReplayVcpu(Vcpu):
    """A vCPU that answers what was recorded."""

    def __init__(self, cpuid: int, recorded: VcpuRecording, player: _Player) -> None:
        self.cpuid = cpuid
        self._recorded = recorded
        self._player = player
        self._here = ffi.new("struct nvmm_x64_state *")
        self._gpr_view = ffi.buffer(ffi.addressof(self._here, "gprs"))
        self._state_view = ffi.buffer(self._here)

    @property
    def has_stop(self) -> bool:
        return self._recorded.has_stop

    @property
    def state(self) -> Any:
        return self._here

    def destroy(self) -> None:
        pass

    def configure_callbacks(
        self, io: Callable[[IoAccess], None], mem: Callable[[MemAccess], None]
    ) -> None:
        self.io_callback = io
        self.mem_callback = mem

    def configure_cpuid(self, mask: CpuidMask) -> None:
        pass

    def configure_tpr(self, exit_changed: bool) -> None:
        pass

    def getstate(self, flags: StateFlag) -> None:
        self._state_view[:] = self._player.take("getstate", (int(flags),)).got

    def setstate(self, flags: StateFlag) -> None:
        self._player.take("setstate", (int(flags), parts_of(self.state_bytes(), flags)))

    def inject(self, kind: EventType | int, vector: int, error: int = 0) -> None:
        self._player.take("inject", (int(kind), vector, error))

    def run(self) -> Exit:
        taken: Exit = self._player.take("run").got
        return taken

    def stop(self) -> None:
        pass

    def assist_io(self) -> None:
        assert self.io_callback is not None
        for told in self._transactions("assist_io"):
            data = bytearray(len(told.data)) if told.is_read else bytearray(told.data)
            self._player.transaction = told
            self.io_callback(IoAccess(told.address, told.is_read, memoryview(data)))
            self._compare("port", told, data)

    def assist_mem(self) -> None:
        assert self.mem_callback is not None
        for told in self._transactions("assist_mem"):
            data = bytearray(len(told.data)) if told.is_read else bytearray(told.data)
            self._player.transaction = told
            self.mem_callback(MemAccess(told.address, not told.is_read, memoryview(data)))
            self._compare("GPA", told, data)

    def _transactions(self, call: str) -> tuple[Transaction, ...]:
        following = self._player.next
        try:
            step = self._player.take(call)
        finally:
            if following is not None and following.call == call:
                self._state_view[:] = following.got
        return step.transactions

    def _compare(self, what: str, told: Transaction, data: bytearray) -> None:
        if told.is_read and bytes(data) != told.data:
            self._player.depart(
                f"{told.data.hex()} read from {what} {told.address:#x}", bytes(data).hex()
            )


class _RecordedPorts:
    """Ports that answer what was recorded, and take everything."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    def read(self, port: int, size: int) -> int:
        return int.from_bytes(self._player.answer(), "little")

    def write(self, port: int, size: int, value: int) -> None:
        pass


class _RecordedMemory:
    """Physical memory that answers what was recorded, and takes everything."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    def read(self, gpa: int, size: int) -> bytes:
        return self._player.answer()

    def write(self, gpa: int, data: bytes) -> None:
        pass

    def add_listener(self, listener: MemoryListener) -> None:
        pass


class _ReplayApic:
    """A local APIC that answers what was recorded."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    @property
    def tpr(self) -> int:
        return self._player.tpr

    @tpr.setter
    def tpr(self, value: int) -> None:
        self._player.tpr = value

    @property
    def base(self) -> int:
        value: int = self._player.take("base").got
        return value

    @base.setter
    def base(self, value: int) -> None:
        pass

    def acknowledge(self) -> int | None:
        vector: int | None = self._player.take("acknowledge").got
        return vector

    def poll(self) -> None:
        pass

    def init(self) -> None:
        pass
