# SPDX-License-Identifier: BSD-2-Clause
"""A guest that is stopped, saved, destroyed and restored at every exit goes on as if nothing
had happened (A-SYNC-3)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Cr, EventType, Gpr, Msr, StateFlag
from nvmmconf.accel import MigrationError, Outcome, Request, Stop
from nvmmconf.accel.snapshot import Snapshot, SnapshotError, restore, save

MakeRig = Callable[..., Any]
PROFILES = ("ideal", "v1-svm", "v1-vmx", "v2-svm", "v2-vmx", "v3-svm", "v3-vmx")

# Everything that an accelerator has a hand in: port and string I/O, a device in
# memory, MSRs, x87 state, interrupts that find IF clear, a shadow, and a halt.
GUEST = (
    "bc 00 10 "  # mov sp,0x1000
    "db e3 d9 e8 d9 eb "  # fninit; fld1; fldpi
    "66 b8 78 56 34 12 0f 22 d0 "  # mov eax,..; mov cr2,eax
    "b0 41 e6 e9 "  # 'A' to the console
    "e6 70 "  # the device asks for an interrupt; IF is clear
    "b0 42 e6 e9 "  # 'B'
    "fb e6 e9 "  # sti; and an exit within its shadow: 'B'
    "90 fa "  # the interrupt comes here at the latest; cli
    "be 00 05 b9 04 00 ba e9 00 f3 6e "  # rep outsb: "text"
    "a0 00 80 88 c3 c6 06 01 80 55 "  # mov al,[0x8000]; mov bl,al; mov [0x8001],0x55
    "66 b9 1b 00 00 00 0f 32 66 89 c7 "  # rdmsr of the APIC's base; mov edi,eax
    "66 b9 79 01 00 00 0f 30 "  # wrmsr of MCG_CAP: ignored
    "e6 70 fb f4 "  # an interrupt that is pending ends the halt
    "fa b0 43 e6 e9 "  # cli; 'C'
    "d9 1e 00 06 df 3e 08 06 "  # fstp, fistp: 3.14 and 1 to memory
    "b0 09 e6 f4"  # the end
)
HANDLER = "50 b0 69 e6 e9 58 ff 06 20 05 cf"  # push ax; 'i'; pop ax; inc word [0x520]; iret


class Apic:
    """Vector 0x20, each time it is asked for."""

    tpr = 0
    base = 0xFEE00900

    def acknowledge(self) -> int:
        return 0x20


class InterruptPort:
    """OUT raises the interrupt line."""

    def __init__(self, one: Any) -> None:
        self.one = one

    def port_read(self, offset: int, size: int) -> int:
        return 0

    def port_write(self, offset: int, size: int, value: int) -> None:
        self.one.vcpu.lines.interrupt(True)


class StopAtPass:
    """Asks for the end at the given pass of the loop: between two exits."""

    def __init__(self, one: Any, wanted: int) -> None:
        self.one = one
        self.left = wanted

    def look(self, vcpu: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.one.control.request(Outcome(Stop.STOPPED))

    def ended(self, vcpu: Any, outcome: Outcome) -> None:
        pass


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NVMM_SOFT_PROFILE", request.param)
    return str(request.param)


def machine(rig: MakeRig, *, empty: bool = False) -> Any:
    """One with the guest in it, or one to restore to."""
    one = rig("", apic=Apic())
    one.pc.ports.claim(0x70, 1, InterruptPort(one))
    if not empty:
        one.put(0, GUEST)
        one.put(0x20 * 4, "00 03 00 00")  # where the guest's own code has not come to
        one.put(0x300, HANDLER)
        one.put(0x500, b"text".hex())
    return one


def result(one: Any, outcome: Outcome, console: str) -> tuple[Any, ...]:
    registers = dataclasses.replace(one.vcpu.registers)
    registers.msr = registers.msr | {Msr.TSC: 0}
    return outcome, console, registers, bytes(one.ram.data)


def test_the_guest_does_what_it_is_here_for(rig: MakeRig) -> None:
    one = machine(rig)
    assert one.run() == Outcome(Stop.EXITED, 9 << 1 | 1)
    assert one.pc.console.text == "ABBi" + "texti" + "C"
    assert {"IO", "MEMORY", "INT_READY"} <= set(one.reasons)
    assert int.from_bytes(one.ram.data[0x520:0x522], "little") == 2


def test_stopped_saved_and_restored_at_every_exit(rig: MakeRig) -> None:
    plain = machine(rig)
    expected = result(plain, plain.run(), plain.pc.console.text)
    stops = 0
    while True:
        one = machine(rig)
        one.accelerator.journal = StopAtPass(one, stops + 1)
        outcome = one.run()
        if outcome.reason is not Stop.STOPPED:
            break
        stops += 1
        snapshot = save(one.accelerator)
        said = one.pc.console.text
        one.close()
        other = machine(rig, empty=True)
        restore(other.accelerator, snapshot)
        assert save(other.accelerator) == snapshot
        outcome = other.run()
        assert result(other, outcome, said + other.pc.console.text) == expected, stops
        other.close()
    assert stops > 15


def test_a_snapshot_is_not_changed_by_what_comes_after(rig: MakeRig) -> None:
    """And may be restored again and again, also to the machine that it came from."""
    one = machine(rig)
    one.accelerator.journal = StopAtPass(one, 6)
    one.run()
    one.accelerator.journal = None
    snapshot = save(one.accelerator)
    seen = []
    for _ in range(3):
        before = one.pc.console.text
        outcome = one.accelerator.resume(one.vcpu)
        seen.append(result(one, outcome, one.pc.console.text[len(before) :]))
        restore(one.accelerator, snapshot)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0].reason is Stop.EXITED


def test_all_that_a_vcpu_is(rig: MakeRig) -> None:
    one = rig("f4", apic=Apic())
    ap = one.accelerator.create_vcpu(1)
    ap.lines.start_up(7)
    one.vcpu.requests |= Request.NMI
    one.vcpu.registers.fpu.xmm[3] = 0x1234 << 100
    one.vcpu.registers.cr[Cr.CR2] = 0x5555
    one.vcpu.tpr = 4
    one.vcpu.inject(EventType.INTR, 0x33)
    one.ram.data[0x3FFF] = 0x77
    intr = one.vcpu.vcpu.state.intr
    intr.int_shadow = intr.int_window_exiting = intr.nmi_window_exiting = 1
    one.vcpu.vcpu.setstate(StateFlag.INTR)
    snapshot = save(one.accelerator)
    one.close()
    other = rig("ff", apic=Apic())
    other.accelerator.create_vcpu(1)
    restore(other.accelerator, snapshot)
    first, second = other.accelerator.vcpus
    assert (first.requests, first.tpr, first.dirty) == (Request.NMI, 4, True)
    assert first.registers.fpu.xmm[3] == 0x1234 << 100
    assert first.registers.cr[Cr.CR2] == 0x5555
    assert (first.int_shadow, first.int_window_exiting, first.nmi_window_exiting) == (True,) * 3
    assert first.event_in_flight
    assert (first.vcpu._raw.event.type, first.vcpu._raw.event.vector) == (EventType.INTR, 0x33)
    assert (second.requests, second.sipi_vector) == (Request.SIPI, 7)
    assert second.waiting_for_sipi
    assert bytes(other.ram.data[:2]) == b"\xf4\0"
    assert other.ram.data[0x3FFF] == 0x77
    assert save(other.accelerator) == snapshot


def test_a_halted_vcpu_is_restored_halted(rig: MakeRig) -> None:
    one = rig("f4 43 f4")
    assert one.run() == Outcome(Stop.HALTED)
    snapshot = save(one.accelerator)
    one.close()
    other = rig()
    restore(other.accelerator, snapshot)
    assert other.run() == Outcome(Stop.HALTED)
    assert other.vcpu.registers.rip == 1
    assert other.accelerator.resume(other.vcpu) == Outcome(Stop.HALTED)
    assert other.gpr(Gpr.RBX) == 1


def test_an_event_that_waited_does_not_outlive_a_restore(rig: MakeRig) -> None:
    one = rig("43 f4")
    snapshot = save(one.accelerator)
    one.vcpu.inject(EventType.INTR, 0x20)
    restore(one.accelerator, snapshot)
    assert one.run() == Outcome(Stop.HALTED)
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (2, 1)


def test_a_running_machine_is_not_saved(rig: MakeRig) -> None:
    """A-VCPU-2: NVMM tells nobody what the guest writes meanwhile."""
    one = rig("eb fe")
    errors: list[Exception] = []

    def other() -> None:
        while not one.vcpu.is_running:
            pass
        try:
            save(one.accelerator)
        except Exception as error:
            errors.append(error)
        one.control.request(Outcome(Stop.STOPPED))

    thread = threading.Thread(target=other)
    thread.start()
    one.run()
    thread.join()
    assert isinstance(errors[0], MigrationError)
    assert "no log of the pages" in str(errors[0])


def test_what_does_not_fit_changes_nothing(rig: MakeRig) -> None:
    one = rig("f4")
    empty = Snapshot((), save(one.accelerator).ram)
    with pytest.raises(SnapshotError, match=r"has the vCPUs \[0\], the snapshot \[\]"):
        restore(one.accelerator, empty)
    small = Snapshot(save(one.accelerator).vcpus, ())
    with pytest.raises(SnapshotError, match="RAM blocks"):
        restore(one.accelerator, small)
    assert one.run() == Outcome(Stop.HALTED)
