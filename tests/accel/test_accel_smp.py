# SPDX-License-Identifier: BSD-2-Clause
"""Many vCPUs, a thread each; INIT and SIPI; waiting for what wakes a halted vCPU."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Cr, Gpr, Segment
from nvmmconf.accel import Outcome, Request, Stop
from nvmmconf.board.interfaces import CpuLines, RamBlock, Region, RegionKind
from nvmmconf.nvmm import PAGE_SIZE, HostMemory

MakeRig = Callable[..., Any]
SPIN = "eb fe"  # jmp to itself
IF = 0x200


def flat(one: Any, vcpu: Any) -> None:
    """Have `vcpu` in real mode at 0:0, as the rig's first one is."""
    vcpu.registers = copy.deepcopy(one.vcpu.registers)
    vcpu.after_reset()


def with_aps(one: Any, count: int) -> list[Any]:
    return [one.accelerator.create_vcpu(index) for index in range(1, count + 1)]


class SipiPort:
    """A port whose OUT sends INIT, SIPI, SIPI to every application processor."""

    def __init__(self, vcpus: list[Any], vector: int) -> None:
        self.vcpus = vcpus
        self.vector = vector

    def port_read(self, offset: int, size: int) -> int:
        return 0

    def port_write(self, offset: int, size: int, value: int) -> None:
        for vcpu in self.vcpus:
            lines: CpuLines = vcpu.lines
            lines.init()
            lines.start_up(self.vector)
            lines.start_up(self.vector)


# ---- INIT and SIPI -------------------------------------------------------------------


def test_application_processors_wait_for_a_sipi(rig: MakeRig) -> None:
    """SDM 3A 9.4.1: nothing else wakes them, neither interrupts nor NMIs."""
    one = rig("f4")
    (ap,) = with_aps(one, 1)
    ap.registers.gpr[Gpr.RFLAGS] = 2 | IF
    ap.requests |= Request.NMI | Request.HARD
    assert one.accelerator.run_all() == Outcome(Stop.HALTED)
    assert one.trace.exits[-1].vcpu == 0
    assert {traced.vcpu for traced in one.trace.exits} == {0}
    assert ap.waiting_for_sipi


def test_a_sipi_is_dropped_by_a_cpu_that_does_not_wait(rig: MakeRig) -> None:
    """BH-95: a SIPI left pending restarts the processor again and again."""
    one = rig("f4")
    one.vcpu.lines.start_up(3)
    assert one.vcpu.requests == Request(0)


def test_the_first_sipi_counts(rig: MakeRig) -> None:
    one = rig("f4")
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)
    ap.lines.start_up(3)
    assert ap.sipi_vector == 2


def test_init_takes_back_a_sipi_that_was_not_taken(rig: MakeRig) -> None:
    one = rig("f4")
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)
    ap.lines.init()
    assert Request.SIPI not in ap.requests
    ap.lines.start_up(3)  # INIT is not taken yet, but its processor is going to wait
    assert (Request.SIPI in ap.requests, ap.sipi_vector) == (True, 3)


def test_init_sipi_sipi_starts_every_processor_once(rig: MakeRig) -> None:
    """Each adds one to a counter; the first waits until it has all of them (BH-95)."""
    # out 0x70,al; again: cmp byte [0x3000],3; jne again; mov al,[0x3000]; out 0xf4,al
    one = rig("e6 70 80 3e 00 30 03 75 f9 a0 00 30 e6 f4 f4")
    # lock inc byte [0x3000]; hlt  (at 0x2000, CS 0x200, DS 0)
    one.put(0x2000, "f0 fe 06 00 30 f4")
    aps = with_aps(one, 3)
    one.pc.ports.claim(0x70, 1, SipiPort(aps, 2))
    outcome = one.accelerator.run_all()
    assert outcome == Outcome(Stop.EXITED, 3 << 1 | 1)
    assert one.ram.data[0x3000] == 3
    assert [ap.registers.seg[Segment.CS].selector for ap in aps] == [0x200] * 3
    assert [ap.registers.gpr[Gpr.RDX] for ap in aps] == [0x600] * 3


def test_init_on_the_bootstrap_processor_restarts_at_the_reset_vector(rig: MakeRig) -> None:
    one = rig("f4")
    assert one.run() == Outcome(Stop.HALTED)
    one.vcpu.lines.init()
    assert not one.vcpu.is_idle
    with one.accelerator.lock:
        from nvmmconf.accel.loop import _take_requests

        _take_requests(one.vcpu)
    assert not one.vcpu.waiting_for_sipi
    assert one.vcpu.registers.rip == 0xFFF0
    assert one.vcpu.registers.seg[Segment.CS].base == 0xFFFF0000


def test_init_reaches_the_local_apic_and_the_tpr(rig: MakeRig, apic: Any) -> None:
    one = rig("f4", apic=apic)
    apic.tpr = 9
    one.run()
    assert one.vcpu.tpr == 9
    called: list[int] = []

    def init() -> None:
        called.append(1)
        apic.tpr = 0

    apic.init = init
    one.vcpu.lines.init()
    one.vcpu.stopped = True
    from nvmmconf.accel.loop import exec_vcpu

    with one.accelerator.lock:
        exec_vcpu(one.accelerator, one.vcpu)
    assert called == [1]
    assert one.vcpu.tpr == 0
    assert one.vcpu.vcpu.state.crs[Cr.CR8] == 0


# ---- lines ---------------------------------------------------------------------------


def test_the_interrupt_line_is_a_level(rig: MakeRig) -> None:
    one = rig("f4")
    one.vcpu.lines.interrupt(True)
    assert one.vcpu.requests == Request.HARD
    assert one.vcpu.exit_request
    one.vcpu.lines.interrupt(False)
    assert one.vcpu.requests == Request(0)


def test_an_smi_is_ignored_without_a_hang(rig: MakeRig) -> None:
    """BH-102."""
    one = rig("f4")
    one.vcpu.lines.smi()
    assert one.run() == Outcome(Stop.HALTED)


def test_an_nmi_from_another_thread_wakes_a_halted_vcpu(rig: MakeRig) -> None:
    one = rig("f4")
    one.put(2 * 4, "00 03 00 00")
    one.put(0x300, "e6 f4 f4")  # out 0xf4,al: the end
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000
    hope = threading.Event()

    def can_wake() -> bool:
        hope.set()
        return True

    one.accelerator.can_wake = can_wake

    def other() -> None:
        hope.wait()
        one.vcpu.lines.nmi()

    thread = threading.Thread(target=other)
    thread.start()
    assert one.run().reason is Stop.EXITED
    thread.join()


# ---- running and waiting ------------------------------------------------------------------


def test_halted_vcpus_wait_for_each_other(rig: MakeRig) -> None:
    """One halts; the other interrupts it by NMI, halts, and is woken in turn."""
    one = rig("f4 eb fd")  # hlt in a loop
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000
    (ap,) = with_aps(one, 1)
    one.put(2 * 4, "00 03 00 00")
    # inc byte [0x3000]; out 0x70,al; iret   (NMI handler of both, DS 0)
    one.put(0x300, "fe 06 00 30 e6 70 cf")
    flat(one, ap)
    ap.registers.gpr[Gpr.RSP] = 0x0F00
    ap.waiting_for_sipi = ap.halted = False
    log: list[int] = []

    class Port:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            mine = next(v for v in (one.vcpu, ap) if v.on_own_thread)
            log.append(mine.index)
            if len(log) == 40:
                one.control.request_exit(0)
            else:
                (ap if mine is one.vcpu else one.vcpu).lines.nmi()

    one.pc.ports.claim(0x70, 1, Port())
    one.vcpu.lines.nmi()
    one.accelerator.can_wake = lambda: False
    assert one.accelerator.run_all() == Outcome(Stop.EXITED, 0)
    assert log == [0, 1] * 20
    assert one.ram.data[0x3000] == 40


def test_all_halted_is_an_outcome_and_running_on_finds_them_halted(rig: MakeRig) -> None:
    one = rig("f4 43 f4")  # hlt; inc bx; hlt
    (ap,) = with_aps(one, 1)
    flat(one, ap)
    ap.waiting_for_sipi = ap.halted = False
    assert one.accelerator.run_all() == Outcome(Stop.HALTED)
    assert one.accelerator.run_all() == Outcome(Stop.HALTED)
    assert [v.registers.rip for v in (one.vcpu, ap)] == [1, 1]
    assert one.accelerator.resume_all() == Outcome(Stop.HALTED)
    assert [v.registers.gpr[Gpr.RBX] for v in (one.vcpu, ap)] == [1, 1]


def test_hope_that_goes_ends_in_halted(rig: MakeRig) -> None:
    """Nobody tells when the last alarm was in vain: `can_wake` is asked again."""
    one = rig("f4")
    answers = [False, True, True]
    one.accelerator.can_wake = answers.pop
    assert one.run() == Outcome(Stop.HALTED)
    assert answers == []


@pytest.mark.parametrize("many", [False, True])
def test_a_signal_handler_may_stop_a_machine_that_waits(rig: MakeRig, many: bool) -> None:
    """As a watchdog's alarm or Ctrl-C: the main thread waits interruptibly."""
    one = rig("f4")
    if many:
        with_aps(one, 2)
    waiting = threading.Event()

    def can_wake() -> bool:
        waiting.set()
        return True

    one.accelerator.can_wake = can_wake

    def handler(number: int, frame: object) -> None:
        one.control.request(Outcome(Stop.HANG))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        main = threading.main_thread().ident
        assert main is not None
        thread = threading.Thread(
            target=lambda: (waiting.wait(), signal.pthread_kill(main, signal.SIGALRM))
        )
        thread.start()
        outcome = one.accelerator.run_all() if many else one.run()
        thread.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert outcome == Outcome(Stop.HANG)


def test_ctrl_c_stops_every_vcpu_and_is_raised(rig: MakeRig) -> None:
    one = rig(SPIN)
    one.put(0x2000, SPIN)
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        while not (one.vcpu._thread and ap._thread):
            pass
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        one.accelerator.run_all()
    thread.join()
    assert one.control.outcome == Outcome(Stop.STOPPED)
    assert (one.vcpu._thread, ap._thread) == (None, None)


def test_a_second_ctrl_c_leaves_no_vcpu_running(rig: MakeRig) -> None:
    """It comes while a vCPU is still in a device; what is owned may be destroyed after run_all."""
    one = rig("e6 70 eb fe")
    inside, go = threading.Event(), threading.Event()
    left: list[str] = []

    class Slow:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            inside.set()
            go.wait()
            sum(range(3_000_000))
            left.append("device")

    one.pc.ports.claim(0x70, 1, Slow())
    presses: list[int] = []

    def handler(number: int, frame: object) -> None:
        presses.append(number)
        if len(presses) == 2:
            go.set()
        raise KeyboardInterrupt

    def press() -> None:
        main = threading.main_thread().ident
        assert main is not None
        inside.wait()
        signal.pthread_kill(main, signal.SIGINT)
        while one.control.outcome is None:
            pass
        signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=press)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            one.accelerator.run_all()
        assert left == ["device"]
        assert one.vcpu._thread is None
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert len(presses) == 2
    assert one.control.outcome == Outcome(Stop.STOPPED)


def test_spinning_vcpus_all_leave_when_one_ends_the_run(rig: MakeRig) -> None:
    one = rig("e6 f4 f4")
    one.put(0x2000, SPIN)
    aps = with_aps(one, 3)
    for ap in aps:
        ap.lines.start_up(2)
    assert one.accelerator.run_all() == Outcome(Stop.EXITED, 1)
    for ap in aps:
        # Fetched: a processor that was started is where its loop is.
        assert ap.registers.seg[Segment.CS].base == 0x2000 or ap.waiting_for_sipi
    assert all(v._thread is None for v in one.accelerator.vcpus)


def test_an_exception_on_a_vcpu_thread_is_a_panic(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig("f4")
    one.put(0x2000, "e6 70 f4")
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)

    class Broken:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            raise ZeroDivisionError("a device's mistake")

    one.pc.ports.claim(0x70, 1, Broken())
    outcome = one.accelerator.run_all()
    assert outcome.reason is Stop.PANIC
    assert "vCPU 1: ZeroDivisionError: a device's mistake" in outcome.message
    assert outcome.message in caplog.text
    assert outcome.fault is not None
    assert outcome.fault.vcpu == 1


def test_a_fatal_exit_of_one_ends_the_run_of_all(rig: MakeRig) -> None:
    one = rig(SPIN)
    one.put(0x2000, "ea 00 80 00 00")  # jmp 0:0x8000, where no memory is
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)
    outcome = one.accelerator.run_all()
    assert outcome.reason is Stop.PANIC
    assert outcome.fault.vcpu == 1
    assert outcome.fault.exit.reason_name == "MEMORY"
    assert outcome.fault.registers.seg[Segment.CS].base == 0
    assert outcome.fault.registers.rip == 0x8000


def test_each_vcpu_sees_memory_of_its_own(rig: MakeRig) -> None:
    """What a local APIC's page needs: one GPA, a device a CPU."""
    one = rig("f4")
    # mov al,[0x8000]; mov [bx+0x3000],al; hlt
    for gpa in (0x2000,):
        one.put(gpa, "a0 00 80 88 87 00 30 f4")

    class View:
        def __init__(self, value: int) -> None:
            self.value = value

        def read(self, gpa: int, size: int) -> bytes:
            return bytes([self.value]) * size

        def write(self, gpa: int, data: bytes) -> None:
            raise AssertionError

    aps = [one.accelerator.create_vcpu(n, memory=View(0x40 + n)) for n in (1, 2)]
    for ap in aps:
        ap.registers.gpr[Gpr.RBX] = ap.index
        ap.lines.start_up(2)
    assert one.accelerator.run_all() == Outcome(Stop.HALTED)
    assert bytes(one.ram.data[0x3000:0x3003]) == b"\x00\x41\x42"


def test_the_boards_lock_is_the_accelerators(rig: MakeRig, bundled: Any) -> None:
    from nvmmconf.accel import Accelerator

    one = rig()
    lock = threading.RLock()
    with Accelerator(bundled, one.pc.ports, one.pc.memory, one.control, lock=lock) as accelerator:
        assert accelerator.lock is lock


def test_reset_gives_the_state_after_power_up(rig: MakeRig, apic: Any) -> None:
    """SDM 3A table 10-1, the columns of power-up; the machine then goes on from there."""
    apic.init = lambda: None
    one = rig("0f 01 1e 10 00 cc", apic=apic)  # lidt [0x10] of limit 0; int3: triple fault
    (ap,) = with_aps(one, 1)
    ap.lines.start_up(2)
    one.put(0x2000, SPIN)
    one.vcpu.registers.fpu.mxcsr = 0x1FBF
    one.vcpu.requests |= Request.SMI
    assert one.accelerator.run_all() == Outcome(Stop.RESET)
    one.vcpu.requests |= Request.NMI
    one.accelerator.reset()
    assert one.control.outcome is None
    registers = one.vcpu.registers
    assert (registers.rip, registers.gpr[Gpr.RDX]) == (0xFFF0, 0x600)
    assert registers.seg[Segment.CS].base == 0xFFFF0000
    assert (registers.fpu.mxcsr, registers.fpu.control) == (0x1F80, 0x40)
    assert (one.vcpu.requests, one.vcpu.is_idle, ap.is_idle) == (Request(0), False, True)
    assert ap.waiting_for_sipi
    with HostMemory(PAGE_SIZE) as rom:
        block = RamBlock(rom, rom.size)
        one.pc.memory.add_block(block)
        one.pc.memory.map(Region("rom", RegionKind.ROM, 0xFFFFF000, PAGE_SIZE, block))
        rom.data[0xFF0:0xFF4] = bytes.fromhex("b0 05 e6 f4")  # mov al,5; out 0xf4,al
        assert one.accelerator.run_all() == Outcome(Stop.EXITED, 11)
        one.close()


def test_switching_the_machine_off_is_an_outcome(rig: MakeRig) -> None:
    one = rig("e6 70 f4")

    class PowerButton:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            one.control.request_power_off()

    one.pc.ports.claim(0x70, 1, PowerButton())
    assert one.run() == Outcome(Stop.POWER_OFF)
    assert str(one.control.outcome) == "POWER_OFF"


def test_an_interrupt_that_waits_behind_another_is_not_lost(rig: MakeRig) -> None:
    """The controller drives its line again within the acknowledge, as it stays asserted."""
    one = rig("fb f4 f4 f4")
    for vector in (0x20, 0x21):
        one.put(vector * 4, "00 03 00 00")
    one.put(0x300, "ff 06 00 30 cf")  # inc word [0x3000]; iret
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000

    class Controller:
        tpr = 0
        base = 0
        pending = [0x21, 0x20]  # noqa: RUF012

        def acknowledge(self) -> int | None:
            vector = self.pending.pop() if self.pending else None
            one.vcpu.lines.interrupt(bool(self.pending))
            return vector

    one.vcpu.apic = Controller()
    one.vcpu.lines.interrupt(True)
    assert one.run() == Outcome(Stop.HALTED)
    assert one.vcpu.apic.pending == []
    assert int.from_bytes(one.ram.data[0x3000:0x3002], "little") == 2
