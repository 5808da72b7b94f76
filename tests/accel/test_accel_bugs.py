# SPDX-License-Identifier: BSD-2-Clause
"""Known bugs of the field's accelerators (BH-95 to BH-108), none of which is ours.

BH-95 and BH-102 are shown in test_accel_smp.py, BH-98 in test_accel_sync.py,
BH-100 in test_accel_migration.py, BH-104 in test_accel_stress.py, BH-106 in
test_accel_msrs.py.
"""

from __future__ import annotations

import dataclasses
import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Cr, EventType, ExitReason, Gpr
from nvmmconf.accel import Outcome, Request, Stop, kick
from nvmmconf.accel.loop import exec_vcpu
from nvmmconf.board.interfaces import RamBlock
from nvmmconf.nvmm import PAGE_SIZE, HostMemory

MakeRig = Callable[..., Any]
IF = 0x200
PROFILES = ("ideal", "v1-svm", "v1-vmx", "v2-svm", "v2-vmx", "v3-svm", "v3-vmx")


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each version, not the two of most tests."""
    monkeypatch.setenv("NVMM_SOFT_PROFILE", request.param)
    return str(request.param)


def once(one: Any) -> None:
    with one.accelerator.lock:
        exec_vcpu(one.accelerator, one.vcpu)


def handler(one: Any, vector: int, code: str) -> None:
    """`vector`'s handler, at 0:0x300 + 16 * vector, and a stack."""
    at = 0x300 + 16 * vector
    one.put(vector * 4, at.to_bytes(4, "little").hex())
    one.put(at, code)
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000


def test_bh_96_version_1_never_calls_what_it_has_not(rig: MakeRig, looks: Any) -> None:
    """nvmm_vcpu_stop exists from version 2 on; the field's first did not build without it."""
    one = rig("f4", library=looks.library)
    one.vcpu.exit_request = True
    once(one)
    one.vcpu.enter_thread()
    thread = threading.Thread(target=one.vcpu.kick)
    thread.start()
    thread.join()
    one.vcpu.leave_thread()
    assert ("vcpu_stop" in looks.calls) is one.vcpu.vcpu.has_stop


@pytest.mark.parametrize("lost", [1, 5])
def test_bh_97_a_lost_signal_is_sent_again(
    rig: MakeRig, looks: Any, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Version 1 has nothing that keeps a kick which came just before the entry (BH-51).

    The first signals are swallowed, and the look-alike leaves no guest by itself.
    """
    looks.set_int("ticks", 1000)
    looks.set_int("gave_up", 0)
    one = rig("eb fe", library=looks.library)
    if one.vcpu.vcpu.has_stop:
        pytest.skip("has the stop word besides")
    real_send = kick.send
    sent: list[int] = []

    def send(thread: int) -> None:
        sent.append(thread)
        if len(sent) > lost:
            real_send(thread)

    monkeypatch.setattr(kick, "send", send)
    entered = threading.Event()
    looks.at_run(entered.set)
    asking = threading.Thread(
        target=lambda: (entered.wait(), one.control.request(Outcome(Stop.STOPPED)))
    )
    asking.start()
    assert one.run() == Outcome(Stop.STOPPED)
    asking.join()
    assert looks.get_int("gave_up") == 0
    assert len(sent) > lost


def test_bh_99_a_fatal_exit_ends_one_machine_and_tells_all(rig: MakeRig, looks: Any) -> None:
    """The field's accelerator ends the process.  Another machine does not even notice."""
    other = rig("f4 f4")
    one = rig("e6 e9 f4", library=looks.library)
    assert other.run() == Outcome(Stop.HALTED)
    looks.fail("assist_io", errno.EFAULT)
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert outcome.fault.vcpu == 0
    assert outcome.fault.exit.reason is ExitReason.IO
    assert outcome.fault.exit.port == 0xE9
    assert outcome.fault.registers.rip == 0
    assert outcome.fault.registers is not one.vcpu.registers
    assert other.accelerator.resume(other.vcpu) == Outcome(Stop.HALTED)


@pytest.mark.parametrize(
    ("capability", "given"),
    [(0xFFFF, 0xFFFF), (0x2FFFF, 0xFFFF), (0xFFBF, 0xFFBF), (0, 0xFFFF)],
)
def test_bh_101_the_mxcsr_mask_is_the_processors(rig: MakeRig, capability: int, given: int) -> None:
    """0xFFBF: no DAZ (SDM 1 11.6.6).  A mask of 0 would clear the guest's MXCSR (K-SET-15)."""
    one = rig("f4")
    accelerator = one.accelerator
    accelerator.capability = dataclasses.replace(accelerator.capability, mxcsr_mask=capability)
    vcpu = accelerator.create_vcpu(1)
    vcpu.push()
    assert vcpu.vcpu.state.fpu.fx_mxcsr_mask == given


def test_bh_103_init_ends_a_wait_for_an_interrupt_window(rig: MakeRig, apic: Any) -> None:
    """The first interrupt after INIT goes in at once; the field's waits for the old window."""
    one = rig("e6 70 f4", apic=apic)  # an exit with IF clear; then the guest is stopped
    apic.init = lambda: None

    class StopPort:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            one.control.request(Outcome(Stop.STOPPED))

    one.pc.ports.claim(0x70, 1, StopPort())
    one.vcpu.requests |= Request.HARD
    assert one.run() == Outcome(Stop.STOPPED)
    assert one.vcpu.int_window_exiting
    one.vcpu.requests |= Request.INIT
    one.vcpu.stopped = True
    once(one)
    assert not one.vcpu.int_window_exiting
    one.vcpu.synchronize()
    assert one.vcpu.vcpu.state.intr.int_window_exiting == 0
    one.put(0x400, "eb fe")
    handler(one, 0x20, "e6 f4 f4")
    one.vcpu.registers.seg = type(one.vcpu.registers)().seg | {
        segment: dataclasses.replace(register, base=0)
        for segment, register in one.vcpu.registers.seg.items()
    }
    one.vcpu.registers.gpr |= {Gpr.RIP: 0x400, Gpr.RFLAGS: 2 | IF, Gpr.RSP: 0x1000}
    one.control.clear()
    assert one.run().reason is Stop.EXITED
    assert apic.acknowledged == 1


def test_bh_103_init_ends_blocking_by_nmi(rig: MakeRig) -> None:
    """INIT within an NMI handler: the next NMI is taken (SDM 3A table 10-1: a fresh processor)."""
    # mov ax,[8]; push ax; hlt: the delivery below must find its pages there (quirk of VMX)
    one = rig("a1 08 00 50 f4 f4")
    handler(one, 2, "f4")  # never returns
    assert one.run() == Outcome(Stop.HALTED)
    one.vcpu.requests |= Request.NMI
    assert one.run() == Outcome(Stop.HALTED)
    assert one.vcpu.nmi_window_exiting
    one.vcpu.requests |= Request.INIT
    one.vcpu.stopped = True
    once(one)
    assert not one.vcpu.nmi_window_exiting


def test_init_takes_back_an_event_that_was_not_taken(rig: MakeRig, looks: Any) -> None:
    """An interrupt was given to a run that did not enter; it was of the time before INIT."""
    one = rig("43 f4", library=looks.library)  # inc bx; hlt
    handler(one, 0x20, "b3 77 f4")  # mov bl,0x77
    one.vcpu.push()
    one.vcpu.inject(EventType.INTR, 0x20)
    one.vcpu.requests |= Request.INIT
    looks.forget()
    one.vcpu.stopped = True
    once(one)
    assert not one.vcpu.event_in_flight
    one.put(0x500, "43 f4")
    one.vcpu.synchronize()
    one.vcpu.registers = dataclasses.replace(one.vcpu.registers)
    for register in one.vcpu.registers.seg.values():
        register.base = 0
    one.vcpu.registers.gpr |= {Gpr.RIP: 0x500, Gpr.RSP: 0x1000}
    assert one.run() == Outcome(Stop.HALTED)
    assert one.gpr(Gpr.RBX) == 1


def test_bh_105_more_ram_blocks_than_the_kernel_has_room_for(rig: MakeRig) -> None:
    """32 a machine: what goes beyond is reported, with address and size, and nothing aborts."""
    one = rig("f4")
    blocks = [HostMemory(PAGE_SIZE) for _ in range(40)]
    try:
        for memory in blocks:
            one.pc.memory.add_block(RamBlock(memory, memory.size))
        failures = one.accelerator.memory_map.failures
        assert len(failures) == 9  # RAM has one of the 32 already
        assert f"{blocks[-1].hva:#x}" in failures[-1]
        assert "ENOBUFS" in failures[-1]
        assert one.run() == Outcome(Stop.HALTED)
    finally:
        one.close()
        for memory in blocks:
            memory.close()


def test_bh_107_a_run_that_did_not_enter_tells_nothing(rig: MakeRig, apic: Any, looks: Any) -> None:
    """BH-50: its exitstate is all zero; the field's accelerator sets the TPR to 0 by it."""
    # mov al,1 (an exit, so that CR8 is known); hlt
    one = rig("e6 70 f4", library=looks.library, apic=apic)
    apic.tpr = 8
    handler(one, 0x20, "f4")
    assert one.run() == Outcome(Stop.HALTED)
    one.vcpu.synchronize()
    one.vcpu.registers.gpr[Gpr.RFLAGS] |= IF
    one.vcpu.halted = False
    one.put(3, "eb fe")
    looks.forget()
    one.vcpu.exit_request = True
    once(one)
    assert (apic.tpr, one.vcpu.tpr) == (8, 8)
    assert one.vcpu.registers.interrupts_enabled
    one.vcpu.vcpu.getstate(4)
    assert one.vcpu.vcpu.state.crs[Cr.CR8] == 8


@pytest.mark.parametrize("number", [errno.EINTR, getattr(errno, "ERESTART", -1), -1])
def test_bh_108_a_run_that_is_to_be_made_again(rig: MakeRig, looks: Any, number: int) -> None:
    one = rig("f4", library=looks.library)
    looks.fail("vcpu_run", number)
    passes: list[int] = []

    class Journal:
        """Called before each entry."""

        def look(self, vcpu: Any) -> None:
            passes.append(vcpu.index)
            if len(passes) == 3:
                looks.fail("", 0)

        def ended(self, vcpu: Any, outcome: Outcome) -> None:
            pass

    one.accelerator.journal = Journal()
    assert one.run() == Outcome(Stop.HALTED)
    assert len(passes) >= 3


def test_bh_80_an_event_whose_delivery_was_cut_short_is_not_replaced(
    rig: MakeRig, apic: Any, looks: Any, exit_of: Any
) -> None:
    """K-INJ-13: the kernel has room for one.  Both arrive, the interrupted one first."""
    one = rig("90 90 f4", library=looks.library, apic=apic)
    one.vcpu.registers.gpr[Gpr.RFLAGS] = 2 | IF
    handler(one, 0x20, "f4")
    looks.returns(exit_of(ExitReason.NONE, rflags=2 | IF, evt_pending=1))
    asked: list[int] = []

    def at_run() -> None:
        asked.append(1)
        if len(asked) == 1:
            one.vcpu.requests |= Request.HARD

    looks.at_run(at_run)
    looks.forget()
    assert one.run() == Outcome(Stop.HALTED)
    runs = [call for call in looks.calls if call.startswith(("vcpu_run", "vcpu_inject"))]
    assert runs[:3] != ["vcpu_run", "vcpu_inject 1 32", "vcpu_run"]
    assert apic.acknowledged == 1
    assert one.vcpu.registers.rip == 0x301 + 16 * 0x20


def test_failures_are_reported_once(
    rig: MakeRig, looks: Any, exit_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with call, arguments and errno, however often the loop meets it."""
    one = rig("f4", library=looks.library)
    looks.returns(exit_of(ExitReason.NONE), times=20)
    one.vcpu.tpr_changed = True
    looks.fail("vcpu_getstate 0x4", errno.EIO)
    assert one.run() == Outcome(Stop.HALTED)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "nvmm_vcpu_getstate(" in line]) == 1
    assert all("EIO" in line for line in lines)
    assert list(one.accelerator.reports.counts.values()) == [21]
