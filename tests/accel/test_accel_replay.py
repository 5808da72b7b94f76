# SPDX-License-Identifier: BSD-2-Clause
"""The accelerator's trace of a run, and a recorded run once more without any libnvmm."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nvmmconf.abi import EventType, ExitReason, Gpr, Libnvmm
from nvmmconf.accel import Accelerator, Control, Outcome, Request, Stop, events
from nvmmconf.board.testboard import TestBoard
from nvmmconf.nvmm import PAGE_SIZE, HostMemory
from nvmmconf.trace import Trace, first_difference
from nvmmconf.trace.recording import RecordingAccelerator, Step
from nvmmconf.trace.replay import ReplayError, replay

MakeRig = Callable[..., Any]
IF = 0x200

GUEST = (
    "bc 00 10 b0 41 e6 e9 "  # mov sp,0x1000; 'A' to the console
    "e6 70 b0 42 e6 e9 fb 90 fa "  # an interrupt is asked for; 'B'; sti; nop; cli
    "e4 71 88 c3 a0 00 80 88 c7 "  # in al,0x71; mov bl,al; mov al,[0x8000]; mov bh,al
    "66 b9 1b 00 00 00 0f 32 "  # rdmsr of the APIC's base
    "e6 70 fb f4 "  # an interrupt ends the halt
    "fa b0 09 e6 f4"  # the end
)
HANDLER = "50 b0 69 e6 e9 58 cf"  # 'i'


class Apic:
    tpr = 0
    base = 0xFEE00900

    def acknowledge(self) -> int:
        return 0x20

    def poll(self) -> None:
        pass

    def init(self) -> None:
        pass


class Device:
    """Port 0: OUT raises the interrupt line; port 1: IN gives a number, each time another."""

    def __init__(self) -> None:
        self.vcpu: Any = None
        self.value = 0x30

    def port_read(self, offset: int, size: int) -> int:
        self.value += 1
        return self.value

    def port_write(self, offset: int, size: int, value: int) -> None:
        if self.vcpu is not None:
            self.vcpu.lines.interrupt(True)


@dataclasses.dataclass
class Recorded:
    accelerator: RecordingAccelerator
    board: TestBoard
    control: Control
    trace: Trace
    vcpu: Any
    begun: Any


@pytest.fixture
def recorded(rig: MakeRig, bundled: Libnvmm) -> Iterator[Recorded]:
    """A machine about to run GUEST, being recorded."""
    plain = rig("f4").vcpu.registers
    with ExitStack() as made:
        control, trace, device = Control(), Trace(), Device()
        ram = made.enter_context(HostMemory(4 * PAGE_SIZE))
        board = TestBoard(ram, control.request_exit)
        board.ports.claim(0x70, 2, device)
        accelerator = made.enter_context(
            RecordingAccelerator(bundled, board.ports, board.memory, control, trace)
        )
        vcpu = device.vcpu = accelerator.create_vcpu(0, Apic())
        vcpu.registers = copy.deepcopy(plain)
        for at, code in ((0, GUEST), (0x80, "00 03 00 00"), (0x300, HANDLER)):
            data = bytes.fromhex(code)
            ram.data[at : at + len(data)] = data
        yield Recorded(accelerator, board, control, trace, vcpu, plain)


def run(one: Recorded) -> Any:
    assert one.accelerator.run(one.vcpu) == Outcome(Stop.EXITED, 9 << 1 | 1)
    assert one.board.console.text == "ABii"
    return one.accelerator.recording


# ---- what the trace of a run tells -----------------------------------------------------


def test_the_exit_after_an_entry_tells_what_was_injected(rig: MakeRig, apic: Any) -> None:
    """The handler's first exit ended the entry with the event; no other exit has one."""
    one = rig("e6 70 e6 70 f4", apic=apic)
    one.put(0x20 * 4, "00 03 00 00")
    one.put(0x300, "e6 71 cf")
    one.vcpu.registers.gpr |= {Gpr.RSP: 0x1000, Gpr.RFLAGS: 2 | IF}
    one.vcpu.requests |= Request.HARD
    one.run()
    told = [(t.exit.port, t.event and str(t.event)) for t in one.trace.exits[:-1]]
    assert told == [(0x71, "INTR 0x20"), (0x70, None), (0x70, None)]


def test_the_registers_that_an_exit_tells(rig: MakeRig) -> None:
    """OUT comes with the general registers; what the guest changed is what is told."""
    one = rig("e6 70 b0 05 e6 70 bb 34 12 e6 70 f4")
    one.run()
    first, second, third, _ = one.trace.exits
    assert first.changed["RAX"] == 0
    assert second.changed == {"RAX": 5, "RIP": 4}
    assert third.changed == {"RBX": 0x1234, "RIP": 9}
    times = [traced.time for traced in one.trace.exits]
    assert times == sorted(times)
    assert times[0] > 0


def test_a_full_trace_tells_every_register_at_every_exit(rig: MakeRig) -> None:
    # mov ecx,0x1B; rdmsr; mov eax,5; mov cr2,eax; hlt
    one = rig("66 b9 1b 00 00 00 0f 32 66 b8 05 00 00 00 0f 22 d0 f4")
    one.accelerator.trace = trace = Trace(full=True)
    one.run()
    msr, halt = trace.exits
    assert msr.changed["CS.base"] == 0
    assert halt.changed["CR2"] == 5
    assert halt.rip == 18
    assert "RBX" not in halt.changed


def test_without_a_trace_the_guest_does_the_same(rig: MakeRig) -> None:
    one = rig("b0 4b e6 e9 f4")
    one.accelerator.trace = None
    assert one.run() == Outcome(Stop.HALTED)
    assert (one.pc.console.text, one.vcpu.registers.rip) == ("K", 5)


# ---- replay --------------------------------------------------------------------------------


def test_a_replay_does_what_was_recorded(recorded: Recorded) -> None:
    """All steps agree, the traces are the same, and no libnvmm was there."""
    recording = run(recorded)
    steps = recording.vcpus[0].steps
    calls = {step.call for step in steps}
    assert {"look", "setstate", "run", "assist_io", "assist_mem", "inject", "acknowledge"} <= calls
    recorded.accelerator.close()

    def begin(vcpu: Any) -> None:
        vcpu.registers = copy.deepcopy(recorded.begun)

    done = replay(recording, begin=begin)
    assert done.departure is None
    assert done.steps == len(steps)
    assert first_difference(recorded.trace.exits, done.trace.exits) is None
    assert len(done.trace.exits) == len(recorded.trace.exits)
    again = replay(recording)
    assert (again.departure, again.steps) == (None, len(steps))


def test_a_replay_with_the_devices_there(recorded: Recorded) -> None:
    recording = run(recorded)
    with HostMemory(PAGE_SIZE) as ram:
        board = TestBoard(ram, lambda status: None)
        board.ports.claim(0x70, 2, Device())
        assert replay(recording, ports=board.ports).departure is None
        assert board.console.text == "ABii"


def test_a_device_that_answers_something_else_is_found(recorded: Recorded) -> None:
    recording = run(recorded)
    with HostMemory(PAGE_SIZE) as ram:
        board = TestBoard(ram, lambda status: None)
        other = Device()
        other.value = 0x55
        board.ports.claim(0x70, 2, other)
        departure = replay(recording, ports=board.ports).departure
    assert departure is not None
    assert "31 read from port 0x71" in departure.recorded
    assert departure.found == "56"


def test_an_accelerator_that_does_something_else_is_found(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: one that injects although the guest is not ready (A-EVT-2)."""
    recording = run(recorded)
    monkeypatch.setattr(events, "can_take_int", lambda vcpu: True)
    departure = replay(recording).departure
    assert departure is not None
    assert departure.recorded.startswith("getstate(0x20)")
    assert departure.found == "acknowledge()"
    assert "vCPU 0, step" in str(departure)


def test_other_registers_at_the_begin_are_found(recorded: Recorded) -> None:
    recording = run(recorded)

    def begin(vcpu: Any) -> None:
        vcpu.registers = copy.deepcopy(recorded.begun)
        vcpu.registers.gpr[Gpr.RBX] = 1

    departure = replay(recording, begin=begin).departure
    assert departure is not None
    assert departure.recorded.startswith("setstate(0x5f")


def test_an_exit_that_was_another_is_handled_as_that(recorded: Recorded) -> None:
    """The recording changed by hand: a SHUTDOWN for the first exit ends the run early."""
    recording = run(recorded)
    steps = recording.vcpus[0].steps
    place = next(i for i, step in enumerate(steps) if step.call == "run")
    steps[place] = Step("run", got=dataclasses.replace(
        next(t.exit for t in recorded.trace.exits if t.exit.reason is ExitReason.HALTED),
        reason=ExitReason.SHUTDOWN,
    ))  # fmt: skip
    departure = replay(recording).departure
    assert departure is not None
    assert departure.recorded.startswith("assist_io")


def test_interrupts_from_another_thread_are_replayed(recorded: Recorded) -> None:
    """A guest that halts until interrupts came; their moments are in the recording."""
    ram = recorded.board.memory
    ram.write(0, bytes.fromhex("bc 00 10 b9 05 00 fb f4 e2 fd fa b0 09 e6 f4"))
    ram.write(0x300, bytes.fromhex("e6 e9 cf"))
    halted = threading.Semaphore(0)

    def can_wake() -> bool:
        halted.release()
        return True

    recorded.accelerator.can_wake = can_wake

    def interrupts() -> None:
        while recorded.control.outcome is None:
            halted.acquire()
            recorded.vcpu.lines.interrupt(True)

    thread = threading.Thread(target=interrupts, daemon=True)
    thread.start()
    outcome = recorded.accelerator.run(recorded.vcpu)
    halted.release()
    thread.join()
    assert outcome.reason is Stop.EXITED
    done = replay(recorded.accelerator.recording)
    assert done.departure is None
    assert first_difference(recorded.trace.exits, done.trace.exits) is None


def test_a_recording_that_was_cut_short_is_refused(recorded: Recorded) -> None:
    recording = run(recorded)
    recording.vcpus[0].truncated = True
    with pytest.raises(ReplayError, match="not whole"):
        replay(recording)


def test_a_recorded_run_is_the_run(recorded: Recorded, rig: MakeRig) -> None:
    """Recording changes nothing that the guest or the trace shows."""
    run(recorded)
    plain = rig(GUEST, apic=Apic())
    device = Device()
    device.vcpu = plain.vcpu
    plain.pc.ports.claim(0x70, 2, device)
    plain.put(0x80, "00 03 00 00")
    plain.put(0x300, HANDLER)
    plain.run()
    assert first_difference(plain.trace.exits, recorded.trace.exits) is None
    assert type(plain.accelerator) is Accelerator
    assert EventType.INTR == 1
