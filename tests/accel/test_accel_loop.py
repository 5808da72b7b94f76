# SPDX-License-Identifier: BSD-2-Clause
"""Section 12: the loop (A-LOOP), as far as one thread shows it."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from lookalike import LookAlike

from nvmmconf.abi import Cr, EventType, ExitReason, Gpr, Segment
from nvmmconf.accel import Outcome, Registers, Request, SegmentRegister, Stop, kick
from nvmmconf.accel.loop import LoopExit, exec_vcpu, reset_to_init, start_at_sipi_vector

MakeRig = Callable[..., Any]
ExitOf = Callable[..., Any]


def once(one: Any) -> LoopExit:
    """One outer call, with the big lock held as its caller must."""
    with one.accelerator.lock:
        return exec_vcpu(one.accelerator, one.vcpu)


# ---- A-LOOP-1 and A-LOOP-2 -----------------------------------------------------


def test_a_loop_1_init_resets_the_cpu(rig: MakeRig, looks: LookAlike) -> None:
    """Fetched first: a vCPU that is clean has its x87, SSE and MSR state in the kernel."""
    one = rig(library=looks.library)
    one.vcpu.push()
    one.vcpu.vcpu.state.fpu.fx_cw = 0x37F
    one.vcpu.vcpu.state.gprs[Gpr.RBX] = 7
    one.vcpu.requests |= Request.INIT
    one.vcpu.halted = one.vcpu.stopped = True
    looks.forget()
    once(one)
    windows = "vcpu_setstate 0x20"  # BH-103
    assert looks.calls[:3] == ["vcpu_getstate 0x5f", windows, "vcpu_setstate 0x5f"]
    registers = one.vcpu.registers
    assert (registers.rip, registers.gpr[Gpr.RBX]) == (0xFFF0, 0)
    assert registers.seg[Segment.CS] == SegmentRegister(0xF000, 0xFFFF0000, 0xFFFF, 0x9B00)
    assert registers.fpu.control == 0x37F
    assert Request.INIT not in one.vcpu.requests
    assert not one.vcpu.halted


def test_init_state_is_the_manuals() -> None:
    """SDM 3A table 10-1, the columns of INIT."""
    registers = Registers()
    registers.gpr = dict.fromkeys(Gpr, 0x55)
    registers.cr = dict.fromkeys(Cr, 0x55)
    registers.fpu.mxcsr = 0x1234
    reset_to_init(registers)
    gpr = dict.fromkeys(Gpr, 0) | {Gpr.RFLAGS: 2, Gpr.RIP: 0xFFF0, Gpr.RDX: 0x600}
    assert registers.gpr == gpr
    assert registers.cr[Cr.CR0] == 0x60000010
    assert [registers.cr[cr] for cr in (Cr.CR2, Cr.CR3, Cr.CR4)] == [0, 0, 0]
    for segment in (Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS):
        assert registers.seg[segment] == SegmentRegister(0, 0, 0xFFFF, 0x9300)
    assert registers.fpu.mxcsr == 0x1234


def test_a_loop_1_poll_is_cleared_and_the_apic_polled_once(rig: MakeRig, apic: Any) -> None:
    one = rig("f4", apic=apic)
    one.vcpu.requests |= Request.POLL
    assert one.run() == Outcome(Stop.HALTED)
    assert one.run() == Outcome(Stop.HALTED)
    assert apic.polled == 1
    assert Request.POLL not in one.vcpu.requests


@pytest.mark.parametrize(
    ("rflags", "requests", "wakes"),
    [
        (2, Request.HARD, False),
        (0x202, Request.HARD, True),
        (2, Request.NMI, True),
        (0x202, Request(0), False),
        (0x202, Request.SMI, False),
    ],
)
def test_a_loop_1_what_wakes_a_halted_vcpu(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, rflags: int, requests: Request, wakes: bool
) -> None:
    one = rig(library=looks.library)
    one.vcpu.registers.gpr[Gpr.RFLAGS] = rflags
    one.vcpu.halted = True
    one.vcpu.requests |= requests
    looks.returns(exit_of(ExitReason.SHUTDOWN))
    assert once(one) is (LoopExit.INTERRUPT if wakes else LoopExit.HALTED)
    assert one.run().reason is (Stop.RESET if wakes else Stop.HALTED)


def test_a_loop_1_the_poll_goes_before_the_look_at_what_wakes(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, apic: Any
) -> None:
    """A local APIC that finds something when it is polled wakes its CPU at once."""
    one = rig(library=looks.library, apic=apic)
    one.vcpu.halted = True
    one.vcpu.registers.gpr[Gpr.RFLAGS] = 0x202
    one.vcpu.requests |= Request.POLL
    apic.poll = lambda: setattr(one.vcpu, "requests", one.vcpu.requests | Request.HARD)
    looks.returns(exit_of(ExitReason.SHUTDOWN))
    looks.forget()
    assert once(one) is LoopExit.INTERRUPT
    assert "vcpu_run" in looks.calls
    assert Request.POLL not in one.vcpu.requests


def test_a_loop_1_sipi_starts_at_its_vector(rig: MakeRig) -> None:
    """Real mode at vector * 4 KiB; the other registers stay, and a wait for it ends."""
    one = rig("f4")
    one.put(0x2000, "43 f4")  # inc bx; hlt
    one.vcpu.halted = True
    one.vcpu.registers.gpr[Gpr.RIP] = 0x77
    one.vcpu.registers.gpr[Gpr.RBX] = 4
    one.vcpu.sipi_vector = 2
    one.vcpu.requests |= Request.SIPI
    assert once(one) is LoopExit.HALTED
    assert Request.SIPI not in one.vcpu.requests
    assert one.run() == Outcome(Stop.HALTED)
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (2, 5)
    assert one.vcpu.registers.seg[Segment.CS].base == 0x2000


def test_sipi_vector_by_the_manual() -> None:
    """SDM 3A 9.4.4.1: CS selector VV00, base 000VV000."""
    registers = Registers()
    start_at_sipi_vector(registers, 0x9A)
    cs = registers.seg[Segment.CS]
    assert (cs.selector, cs.base, registers.rip) == (0x9A00, 0x9A000, 0)


def test_a_loop_1_tpr_is_cleared_and_synchronised(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.push()
    one.vcpu.requests |= Request.TPR
    one.vcpu.stopped = True
    looks.forget()
    once(one)
    assert looks.calls[0] == "vcpu_getstate 0x5f"
    assert Request.TPR not in one.vcpu.requests


def test_a_loop_1_init_goes_before_sipi(rig: MakeRig) -> None:
    one = rig("f4")
    one.put(0x3000, "f4")
    one.vcpu.sipi_vector = 3
    one.vcpu.requests |= Request.SIPI | Request.INIT
    assert one.run() == Outcome(Stop.HALTED)
    assert one.vcpu.registers.rip == 1
    assert one.vcpu.registers.seg[Segment.CS].base == 0x3000


def test_a_loop_2_halted_leaves_at_once(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.halted = one.vcpu.exit_request = True
    looks.forget()
    assert once(one) is LoopExit.HALTED
    assert looks.calls == []
    assert not one.vcpu.exit_request
    assert one.vcpu.dirty


# ---- A-LOOP-3 to A-LOOP-6 ---------------------------------------------------------


def test_a_loop_3_the_order_of_a_pass(
    rig: MakeRig, looks: LookAlike, apic: Any, exit_of: ExitOf, profile: str
) -> None:
    """Push, event, TPR, stop word, run."""
    one = rig("f4", library=looks.library, apic=apic)
    one.put(2 * 4, "00 03 00 00")
    one.put(0x300, "f4")
    apic.tpr = 2
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000
    one.vcpu.requests |= Request.NMI
    looks.forget()
    if profile == "v2-svm":
        one.vcpu.exit_request = True
    once(one)
    stop = ["vcpu_stop"] if profile == "v2-svm" else []
    expected = ["vcpu_setstate 0x5f", "vcpu_inject 1 2", "vcpu_getstate 0x4", "vcpu_setstate 0x4"]
    assert looks.calls[: len(expected) + len(stop) + 1] == [*expected, *stop, "vcpu_run"]


def test_a_loop_3_the_stopped_flag_leaves_before_the_run(rig: MakeRig, looks: LookAlike) -> None:
    """Cleared, and the registers pushed already."""
    one = rig(library=looks.library)
    one.vcpu.stopped = True
    looks.forget()
    assert once(one) is LoopExit.INTERRUPT
    assert looks.calls == ["vcpu_setstate 0x5f"]
    assert not one.vcpu.stopped
    assert not one.vcpu.dirty


def test_a_loop_3_an_exit_request_executes_no_instruction(
    rig: MakeRig, looks: LookAlike, profile: str
) -> None:
    """Version 2 runs with the stop word set; version 1 has nothing that would be kept."""
    one = rig("43 f4", library=looks.library)  # inc bx; hlt
    one.vcpu.exit_request = True
    looks.forget()
    assert once(one) is LoopExit.INTERRUPT
    assert [call for call in looks.calls if call in ("vcpu_stop", "vcpu_run")] == (
        ["vcpu_stop", "vcpu_run"] if profile == "v2-svm" else []
    )
    one.vcpu.synchronize()
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (0, 0)


def test_a_loop_3_what_pre_run_asks_for_counts_in_the_same_pass(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf
) -> None:
    """A request that nobody kicked for, found before an entry: the guest is not entered."""
    one = rig("43 f4", library=looks.library)  # inc bx; hlt
    looks.returns(exit_of(ExitReason.NONE))
    looks.at_run(lambda: setattr(one.vcpu, "requests", Request.TPR))
    assert once(one) is LoopExit.INTERRUPT
    one.vcpu.synchronize()
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (0, 0)


def test_a_loop_3_at_entry_the_big_lock_is_free(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    free: list[bool] = []

    def take() -> None:
        taken = one.accelerator.lock.acquire(blocking=False)
        free.append(taken)
        if taken:
            one.accelerator.lock.release()

    def at_run() -> None:
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()

    looks.at_run(at_run)
    assert once(one) is LoopExit.HALTED
    assert free == [True]


def test_a_loop_3_the_guest_runs_without_the_big_lock(rig: MakeRig, looks: LookAlike) -> None:
    """Another thread takes it once the run has begun, and ends the run from within."""
    one = rig("eb fe", library=looks.library)  # jmp $
    begun = threading.Event()
    looks.at_run(begun.set)

    def other() -> None:
        begun.wait()
        with one.accelerator.lock:
            one.control.request_exit(1)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    assert one.run() == Outcome(Stop.EXITED, 1)
    thread.join()


def test_a_loop_4_a_request_made_at_the_last_moment(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf
) -> None:
    """Between the look at exit_request and the entry: the next pass must see it."""
    one = rig("f4", library=looks.library)
    made = []

    def at_run() -> None:
        if not made:
            made.append(1)
            one.vcpu.exit_request = True

    looks.at_run(at_run)
    looks.returns(exit_of(ExitReason.NONE))
    assert once(one) is LoopExit.INTERRUPT
    one.vcpu.synchronize()
    assert one.vcpu.registers.rip == 0


def test_a_loop_4_a_stop_that_came_too_late_is_made_again(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, profile: str
) -> None:
    """A run may clear the stop word and return for another reason (BH-51a): until the loop is
    left, each entry is preceded by a stop; version 1 is not entered at all."""
    one = rig(library=looks.library)
    one.vcpu.exit_request = True
    looks.returns(exit_of(ExitReason.NONE, rflags=0), times=2)
    looks.forget()
    assert once(one) is LoopExit.INTERRUPT
    order = [call for call in looks.calls if call in ("vcpu_stop", "vcpu_run")]
    assert order == (["vcpu_stop", "vcpu_run"] * 3 if profile == "v2-svm" else [])


def test_a_loop_4_a_kick_during_the_run_of_a_spinning_guest(rig: MakeRig, looks: LookAlike) -> None:
    """From the vCPU's own thread, in the moment of entry, so that it cannot come too early."""
    one = rig("eb fe", library=looks.library)

    def at_run() -> None:
        one.control.request_exit(5)
        signal.raise_signal(kick.KICK_SIGNAL)

    looks.at_run(at_run)
    assert one.run() == Outcome(Stop.EXITED, 5)


def test_a_loop_5_exit_request_is_cleared_on_leaving(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf
) -> None:
    one = rig(library=looks.library)
    for reason in (ExitReason.SHUTDOWN, ExitReason.HALTED, ExitReason.INVALID):
        looks.returns(exit_of(reason))
        one.vcpu.halted = False
        looks.at_run(lambda: setattr(one.vcpu, "exit_request", True))
        once(one)
        assert not one.vcpu.exit_request, reason


def test_a_loop_6_why_the_outer_call_returns(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(library=looks.library)
    looks.returns(exit_of(ExitReason.HALTED))
    assert once(one) is LoopExit.HALTED
    one.vcpu.halted = False
    looks.returns(exit_of(ExitReason.SHUTDOWN))
    assert once(one) is LoopExit.INTERRUPT
    looks.fail("vcpu_run", errno.EIO)
    one.control.clear()
    assert once(one) is LoopExit.FATAL
    assert "failed to execute a virtual CPU" in caplog.text
    assert one.control.outcome.reason is Stop.PANIC


def test_a_loop_6_the_lock_is_held_again_and_the_thread_forgotten(
    rig: MakeRig, looks: LookAlike
) -> None:
    """Also where a device raises something that is no bus error."""
    one = rig("e6 70 f4")

    class Broken:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            raise ZeroDivisionError

    one.pc.ports.claim(0x70, 1, Broken())
    with one.accelerator.lock:
        with pytest.raises(ZeroDivisionError):
            exec_vcpu(one.accelerator, one.vcpu)
        taken = []
        other = threading.Thread(
            target=lambda: taken.append(one.accelerator.lock.acquire(blocking=False))
        )
        other.start()
        other.join()
        assert taken == [False]
    assert not one.vcpu.on_own_thread
    assert one.accelerator.lock.acquire(blocking=False)
    one.accelerator.lock.release()


# ---- A-LOOP-7 and requests ----------------------------------------------------------


def test_a_loop_7_the_kick_handler(rig: MakeRig, looks: LookAlike, profile: str) -> None:
    """Version 2: the stop word; version 1: the stopped flag.  Only of who was asked to leave."""
    one = rig(library=looks.library)
    other = one.accelerator.create_vcpu(1)
    one.vcpu.exit_request = True
    looks.forget()
    signal.raise_signal(kick.KICK_SIGNAL)
    assert looks.calls == (["vcpu_stop"] if profile == "v2-svm" else [])
    assert one.vcpu.stopped is (profile == "v1-svm")
    assert not other.stopped


def test_the_first_request_wins_until_it_is_cleared(rig: MakeRig) -> None:
    one = rig("f4")
    one.control.request_exit(3)
    one.control.request_reset()
    assert one.run() == Outcome(Stop.EXITED, 3)
    assert one.run() == Outcome(Stop.EXITED, 3)
    assert one.accelerator.resume(one.vcpu) == Outcome(Stop.HALTED)
    assert one.vcpu.registers.rip == 1


def test_a_loop_4_a_request_made_before_the_vcpu_existed(rig: MakeRig) -> None:
    """It could kick nobody; a guest that does not stop by itself would run for ever."""
    one = rig("f4")
    one.vcpu.destroy()
    one.accelerator.vcpus.clear()
    one.control.request_exit(3)
    one.vcpu = one.accelerator.create_vcpu(0)
    assert one.run() == Outcome(Stop.EXITED, 3)
    assert one.trace.exits == ()


def test_a_loop_4_requests_are_raised_under_the_big_lock(rig: MakeRig) -> None:
    """The loop clears bits under it; either could undo the other's change otherwise."""
    one = rig()
    held: list[bool] = []

    class Watched:
        def __or__(self, other: Request) -> Request:
            def take() -> None:
                free = one.accelerator.lock.acquire(blocking=False)
                held.append(not free)
                if free:
                    one.accelerator.lock.release()

            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
            return other

    one.vcpu.requests = Watched()
    one.vcpu.request(Request.POLL)
    assert (held, one.vcpu.requests) == ([True], Request.POLL)
    assert one.vcpu.exit_request


def test_an_event_reaches_the_guest(rig: MakeRig, apic: Any) -> None:
    """HARD with IF set: the vector that the controller gives, 0x20, whose handler halts."""
    one = rig("90 f4", apic=apic)
    one.put(0x20 * 4, "00 03 00 00")
    one.put(0x300, "f4")
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000
    one.vcpu.registers.gpr[Gpr.RFLAGS] = 0x202
    one.vcpu.requests |= Request.HARD
    assert one.run() == Outcome(Stop.HALTED)
    assert (one.vcpu.registers.rip, apic.acknowledged) == (0x301, 1)
    assert EventType.INTR == 1


def test_the_trace_has_every_exit_with_its_rip(rig: MakeRig) -> None:
    one = rig("e6 e9 e6 e9 f4")
    one.run()
    traced = [(t.sequence, t.vcpu, t.rip, t.exit.reason) for t in one.trace.exits]
    assert traced == [
        (1, 0, 0, ExitReason.IO),
        (2, 0, 2, ExitReason.IO),
        (3, 0, 5, ExitReason.HALTED),
    ]
