# SPDX-License-Identifier: BSD-2-Clause
"""Runs that end because the host wants it: libnvmm(3) nvmm_vcpu_stop, the exits STOPPED and NONE,
signals.  Whoever asks gets the vCPU back soon, once, and the guest has lost nothing by it."""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from raw_bench import PASSING, START, STEP, RawGuest, enter

from nvmmconf.suite import (
    Cr,
    EventType,
    ExitReason,
    Gpr,
    IoExit,
    Level,
    Libnvmm,
    StateFlag,
    check,
    expect_errno,
    needs,
    requirement,
)

SPIN = b"\xff\x06\x00\x02\xeb\xfa"
"""inc word [0x200]; jmp back"""
COUNTER = 0x200
RUNS = 100_000
"""That a guest of a few thousand instructions may take, with stops coming all the time."""
stop = needs(version=2, stop=True)


@contextlib.contextmanager
def _meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Within it another thread calls `work` over and over."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            work()
            time.sleep(0)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---- a stop before the run ----


@requirement("K-RUN-3", "L-STOP-1", "L-STOP-2")
@stop
@pytest.mark.parametrize("before", [0, 1, 3])
def test_stop_before_run_enters_nothing(library: Libnvmm, before: int) -> None:
    """A stop that is made while the vCPU does not run ends its next run before any instruction,
    whether it ran before or not (BH-51)."""
    with RawGuest(library, STEP) as guest:
        for _ in range(before):
            enter(guest.vcpu)
            guest.again()
        guest.vcpu.stop()
        check(guest.vcpu.run().reason in PASSING, "the run was ended")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit of the next")
        check.equal(guest.rax(), 1, "instructions executed")


@requirement("K-RUN-3", "L-STOP-3")
@stop
def test_stop_is_told_as_stopped(library: Libnvmm) -> None:
    """The exit of a run that was stopped is STOPPED, but where the host has reasons of its own."""
    with RawGuest(library, STEP) as guest:
        seen = set()
        for _ in range(200):
            guest.vcpu.stop()
            seen.add(guest.vcpu.run().reason)
            if ExitReason.STOPPED in seen:
                break
        check(ExitReason.STOPPED in seen, "STOPPED was seen")
        check.equal(seen - set(PASSING), set(), "other exits")


@requirement("K-RUN-5", "L-STOP-4")
@stop
@pytest.mark.parametrize("stops", [1, 2, 5])
def test_one_stop_ends_one_run(library: Libnvmm, stops: int) -> None:
    """However often a vCPU is stopped between two runs, one run is ended by it."""
    with RawGuest(library, STEP) as guest:
        for _ in range(stops):
            guest.vcpu.stop()
        seen = [guest.vcpu.run().reason]
        while seen[-1] in PASSING and len(seen) < 1000:
            seen.append(guest.vcpu.run().reason)
        check.equal(seen[-1], ExitReason.HALTED, "last exit")
        check(seen.count(ExitReason.STOPPED) <= 1, "stopped once")
        check.equal(guest.rax(), 1, "instructions executed")


@requirement("K-RUN-3", "L-STOP-1")
@stop
def test_stop_is_for_one_vcpu(library: Libnvmm) -> None:
    """Stopping a vCPU stops no other one of its machine."""
    with RawGuest(library, STEP) as guest:
        other = guest.machine.create_vcpu(1)
        RawGuest.aim(other, START)
        guest.vcpu.stop()
        seen = [other.run().reason]
        while seen[-1] is ExitReason.NONE:
            seen.append(other.run().reason)
        check.equal(seen[-1], ExitReason.HALTED, "exit of the other")
        check(guest.vcpu.run().reason in PASSING, "the one was stopped")


@requirement("K-RUN-6", "L-STOP-2", "K-COMM-3")
@stop
def test_stopped_run_keeps_the_commit_waiting(library: Libnvmm) -> None:
    """State that was set for a run that is stopped before it enters is still to be committed: what
    the record holds at the next run."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        guest.again()
        guest.vcpu.state.gprs[Gpr.RAX] = 0x10
        guest.vcpu.setstate(StateFlag.GPRS)
        guest.vcpu.stop()
        check(guest.vcpu.run().reason in PASSING, "the run was ended")
        check.equal(guest.vcpu.state.gprs[Gpr.RAX], 0x10, "RAX in the record")
        guest.vcpu.state.gprs[Gpr.RAX] = 0x20
        enter(guest.vcpu)
        check.equal(guest.rax(), 0x21, "RAX after the run")


@requirement("K-RUN-6", "L-STOP-2", "K-COMM-4")
@stop
def test_stopped_run_keeps_the_event_waiting(library: Libnvmm) -> None:
    """An event that was injected for a run that is stopped before it enters comes with the next."""
    with RawGuest(library, STEP) as guest:
        guest.memory.data[0x20 * 4 : 0x20 * 4 + 4] = b"\x80\x01\x00\x00"
        guest.memory.data[0x180] = 0xF4
        guest.vcpu.state.gprs[Gpr.RFLAGS] = 0x202
        guest.vcpu.setstate(StateFlag.GPRS)
        guest.vcpu.inject(EventType.INTR, 0x20)
        guest.vcpu.stop()
        check(guest.vcpu.run().reason in PASSING, "the run was ended")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        check.equal(guest.gpr(Gpr.RIP), 0x181, "RIP, in the handler")
        check.equal(guest.rax(), 0, "instructions of the guest before it")


@requirement("K-RUN-6", "L-EVT-3")
@stop
def test_stop_comes_before_a_bad_event(library: Libnvmm) -> None:
    """A stopped run does not look at the event; the next one refuses it, and the one after that
    runs."""
    with RawGuest(library, STEP) as guest:
        guest.vcpu.inject(EventType.EXCP, 40)
        guest.vcpu.stop()
        check(guest.vcpu.run().reason in PASSING, "the run was ended")
        with expect_errno(errno.EINVAL):
            enter(guest.vcpu)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")


@requirement("K-RUN-7", "L-RUN-3")
@stop
@pytest.mark.parametrize("first", [True, False])
def test_stopped_run_tells_the_state(library: Libnvmm, first: bool) -> None:
    """exitstate of a run that was stopped before it entered tells RFLAGS and CR8 as they are
    (BH-50)."""
    with RawGuest(library, STEP) as guest:
        guest.vcpu.getstate(StateFlag.CRS)
        guest.vcpu.state.crs[Cr.CR8] = 8
        guest.vcpu.state.gprs[Gpr.RFLAGS] = 3
        guest.vcpu.setstate(StateFlag.CRS | StateFlag.GPRS)
        if not first:
            enter(guest.vcpu)
        guest.vcpu.stop()
        taken = guest.vcpu.run()
        check(taken.reason in PASSING, "the run was ended")
        check.equal(taken.state.rflags & 3, 3 if first else 2 | guest.gpr(Gpr.RFLAGS) & 1, "RFLAGS")
        check.equal(taken.state.cr8, 8, "CR8")


# ---- a stop during the run ----


@requirement("K-RUN-4", "L-STOP-1")
@stop
def test_stop_from_another_thread(library: Libnvmm) -> None:
    """A guest that never exits is ended by another thread's stop."""
    with RawGuest(library, SPIN) as guest:
        reasons = set()
        with _meanwhile(guest.vcpu.stop):
            while ExitReason.STOPPED not in reasons:
                reasons.add(guest.vcpu.run().reason)
        check.equal(reasons - set(PASSING), set(), "other exits")
        rip = guest.gpr(Gpr.RIP)
        check(rip in (START, START + 4), "RIP is in the loop")


@requirement("K-RUN-4", "L-STOP-3")
@stop
def test_stop_of_a_running_guest_is_told_as_stopped(library: Libnvmm) -> None:
    """A stop that comes while the guest executes ends that run with STOPPED, not with NONE as if
    nobody had asked; but where the host has reasons of its own."""
    # back: cpuid; inc word [0x200]; jmp back: exits that the kernel carries out, so that it looks
    with RawGuest(library, bytes.fromhex("0fa2 ff060002 ebf8")) as guest:

        def counted() -> bytes:
            return bytes(guest.memory.data[COUNTER : COUNTER + 2])

        seen_at, stops = counted(), 0

        def stop_once_it_moves() -> None:
            nonlocal seen_at, stops
            if counted() != seen_at:
                guest.vcpu.stop()
                seen_at, stops = counted(), stops + 1

        inside: set[ExitReason] = set()
        with _meanwhile(stop_once_it_moves):
            for _ in range(RUNS):
                before = counted()
                reason = guest.vcpu.run().reason
                if counted() != before:
                    inside.add(reason)
                if ExitReason.STOPPED in inside or stops >= 200:
                    break
        check(ExitReason.STOPPED in inside, "a run that had executed something was STOPPED")
        check.equal(inside - set(PASSING), set(), "other exits")


@requirement("K-RUN-4", "K-RUN-13", "K-RUN-5")
@stop
def test_stopped_guest_goes_on_where_it_was(library: Libnvmm) -> None:
    """However often a guest is stopped, it computes what it would without."""
    # xor ax,ax; xor dx,dx; mov cx,3000; back: add ax,cx; adc dx,0; loop back; hlt
    code = bytes.fromhex("31c0 31d2 b9b80b 01c8 83d200 e2f9 f4")
    with RawGuest(library, code) as guest:
        for _ in range(3):
            guest.again()
            with _meanwhile(guest.vcpu.stop):
                check.equal(guest_end(guest), "HALTED", "end")
            total = 3000 * 3001 // 2
            check.equal(guest.rax() | guest.gpr(Gpr.RDX) << 16, total, "sum")


def guest_end(guest: RawGuest) -> str:
    """Run until HLT, or until RIP is past it: what HLT's exit may have become (BH-49)."""
    for _ in range(RUNS):
        taken = guest.vcpu.run()
        if taken.reason not in PASSING:
            return taken.reason_name
        if guest.gpr(Gpr.RIP) == START + 15:
            return "HALTED"
    return f"{RUNS} runs, and no end"


@requirement("L-RUN-2", "K-RUN-4", "K-RUN-13")
@stop
def test_stops_lose_no_io(library: Libnvmm) -> None:
    """With stops coming all the time, each OUT of the guest is one exit, in order."""
    code = bytes.fromhex("b000 e640 fec0 3c18 75f8 f4")  # al = 0..23: out 0x40, al; hlt
    with RawGuest(library, code) as guest, _meanwhile(guest.vcpu.stop):
        seen: list[int] = []
        for _ in range(RUNS):
            if len(seen) == 24:
                break
            taken = guest.vcpu.run()
            if isinstance(taken, IoExit):
                seen.append(guest.rax() & 0xFF)
                guest.vcpu.state.gprs[Gpr.RIP] = taken.npc
                guest.vcpu.setstate(StateFlag.GPRS)
            elif taken.reason not in PASSING:
                break
        check.equal(seen, list(range(24)), "values")


@requirement("K-HLT-1", "K-RUN-13", "K-RUN-3")
@stop
def test_stop_after_hlt(library: Libnvmm) -> None:
    """A HALTED that was told is told once: a stop after it ends the next run with RIP after HLT,
    and the guest goes on there."""
    with RawGuest(library, STEP + STEP) as guest:
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        guest.vcpu.stop()
        check(guest.vcpu.run().reason in PASSING, "the run was ended")
        check.equal((guest.gpr(Gpr.RIP), guest.rax()), (START + 2, 1), "RIP and RAX")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit of the next")
        check.equal((guest.gpr(Gpr.RIP), guest.rax()), (START + 4, 2), "RIP and RAX then")


@requirement("L-RUN-1", "K-RUN-8", "L-RUN-2", level=Level.INFO)
@stop
def test_stop_takes_no_hlt_away(library: Libnvmm) -> None:
    """A stop that is pending when HLT exits does not take the place of HALTED (BH-49)."""
    # back: inc word [0x200]; cmp byte [0x202],0; je back; hlt; marker: hlt
    code = bytes.fromhex("ff060002 803e020200 74f5 f4 f4")
    lost = 0
    for _ in range(5):
        with RawGuest(library, code) as guest:

            def stop_and_release(guest: RawGuest = guest) -> None:
                while not any(guest.memory.data[COUNTER : COUNTER + 2]):
                    time.sleep(0)
                guest.vcpu.stop()
                guest.memory.data[0x202] = 1

            thread = threading.Thread(target=stop_and_release, daemon=True)
            thread.start()
            for _ in range(RUNS):
                taken = guest.vcpu.run()
                if taken.reason not in PASSING:
                    break
                if guest.gpr(Gpr.RIP) >= START + 12:
                    lost += 1
                    break
            thread.join()
    assert lost == 0


@requirement("L-STOP-4", "K-RUN-5", level=Level.INFO)
@stop
def test_no_stop_is_lost(library: Libnvmm) -> None:
    """A stop made at whatever moment ends that run or a later one (BH-51a)."""
    lost = 0
    for _ in range(3):
        with RawGuest(library, b"\xf4\xeb\xfd") as guest:  # hlt; jmp back
            made = threading.Event()

            def once(guest: RawGuest = guest, made: threading.Event = made) -> None:
                guest.vcpu.stop()
                made.set()

            thread = threading.Thread(target=once, daemon=True)
            thread.start()
            left, told = 100, False
            while left and not told:
                left -= made.is_set()
                told = guest.vcpu.run().reason in PASSING
            thread.join()
            lost += not told
    assert lost == 0


# ---- signals, and the host's own reasons ----


@contextlib.contextmanager
def _handler(action: Callable[[], object]) -> Iterator[None]:
    """Within it SIGUSR1 comes to this thread over and over, and `action` is its handler."""

    def handle(number: int, frame: FrameType | None) -> None:
        action()

    before = signal.signal(signal.SIGUSR1, handle)
    me = threading.get_ident()
    try:
        with _meanwhile(lambda: signal.pthread_kill(me, signal.SIGUSR1)):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@requirement("K-RUN-1", "L-STOP-5")
def test_signal_ends_a_run_with_none(library: Libnvmm) -> None:
    """A signal ends the run of a guest that never exits: NONE, never an error; its handler has run
    by then."""
    handled: list[bool] = []
    with RawGuest(library, SPIN) as guest, _handler(lambda: handled.append(True)):
        reasons = set()
        while not handled or not any(guest.memory.data[COUNTER : COUNTER + 2]):
            reasons.add(guest.vcpu.run().reason)
    assert reasons == {ExitReason.NONE}


@requirement("L-STOP-1", "K-RUN-4", "K-RUN-1")
@stop
def test_stop_from_a_signal_handler(library: Libnvmm) -> None:
    """nvmm_vcpu_stop in a signal handler ends the run that the signal came to, or the next one."""
    with RawGuest(library, SPIN) as guest:
        reasons = set()
        with _handler(guest.vcpu.stop):
            while ExitReason.STOPPED not in reasons:
                reasons.add(guest.vcpu.run().reason)
        assert reasons <= set(PASSING)


@requirement("K-RUN-1", "K-RUN-13")
def test_signals_lose_nothing(library: Libnvmm) -> None:
    """With signals coming all the time, each OUT of the guest is one exit, in order."""
    code = bytes.fromhex("b000 e640 fec0 3c08 75f8 f4")
    with RawGuest(library, code) as guest, _handler(lambda: None):
        seen = []
        while len(seen) < 8:
            taken = guest.vcpu.run()
            if isinstance(taken, IoExit):
                seen.append(guest.rax() & 0xFF)
                guest.vcpu.state.gprs[Gpr.RIP] = taken.npc
                guest.vcpu.setstate(StateFlag.GPRS)
            elif taken.reason not in PASSING:
                break
        check.equal(seen, list(range(8)), "values")


@requirement("K-RUN-2")
def test_guest_that_spins_returns(library: Libnvmm) -> None:
    """A guest that never exits does not keep the thread for ever: NONE comes by itself."""
    with RawGuest(library, SPIN) as guest:
        assert guest.vcpu.run().reason is ExitReason.NONE


@requirement("K-RUN-9", "L-VER-2")
def test_nothing_is_stopped_by_itself(library: Libnvmm) -> None:
    """Without a stop there is no STOPPED."""
    with RawGuest(library, STEP) as guest:
        seen = set()
        for _ in range(20):
            guest.again()
            while (reason := guest.vcpu.run().reason) in PASSING:
                seen.add(reason)
        assert ExitReason.STOPPED not in seen
