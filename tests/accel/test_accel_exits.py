# SPDX-License-Identifier: BSD-2-Clause
"""Section 9: a handler an exit (A-EXIT)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from lookalike import LookAlike

from nvmmconf.abi import ExitReason, Gpr, ffi
from nvmmconf.accel import Outcome, Request, Stop
from nvmmconf.accel.loop import LoopExit, exec_vcpu

MakeRig = Callable[..., Any]
ExitOf = Callable[..., Any]


def test_a_exit_1_none_goes_on(rig: MakeRig, looks: LookAlike, exit_of: ExitOf) -> None:
    one = rig("f4", library=looks.library)
    looks.returns(exit_of(ExitReason.NONE), times=5)
    assert one.run() == Outcome(Stop.HALTED)
    assert one.reasons == ["NONE"] * 5 + ["HALTED"]
    assert one.vcpu.registers.rip == 1


def test_a_exit_2_stopped_leaves_at_the_next_pass(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf
) -> None:
    """It does not run again before it left with an interrupt: pushes, if dirty, come first."""
    one = rig("f4", library=looks.library)
    looks.returns(exit_of(ExitReason.STOPPED))
    polled_at: list[int] = []
    one.vcpu.requests |= Request.POLL

    class Apic:
        tpr = 0
        base = 0

        def poll(self) -> None:
            polled_at.append(looks.calls.count("vcpu_run"))
            if len(polled_at) == 1:
                one.vcpu.requests |= Request.POLL

    one.vcpu.apic = Apic()
    assert one.run() == Outcome(Stop.HALTED)
    assert polled_at == [0, 1]  # outside the inner loop, once before and once between
    assert one.reasons == ["STOPPED", "HALTED"]
    assert not one.vcpu.stopped


def test_a_exit_3_a_failing_memory_assist_is_fatal(
    rig: MakeRig, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig("a0 00 80 f4", library=looks.library)  # mov al,[0x8000], where nothing is
    looks.fail("assist_mem", errno.ENODEV)
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert "read at GPA 0x8000" in outcome.message
    assert "nvmm_assist_mem(" in outcome.message
    assert "ENODEV" in outcome.message
    assert "\n" not in outcome.message
    assert outcome.message in caplog.text
    assert one.reasons == ["MEMORY"]
    assert one.vcpu.registers.rip == 0


def test_a_exit_3_what_the_library_cannot_assist_is_fatal(rig: MakeRig) -> None:
    """Nothing can fetch instructions from a device."""
    one = rig("ea 00 80 00 00")  # jmp 0:0x8000
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert "fetch at GPA 0x8000" in outcome.message


def test_a_exit_4_io_is_assisted(rig: MakeRig) -> None:
    one = rig("b0 4b e6 e9 f4")  # mov al,'K'; out 0xe9,al; hlt
    assert one.run() == Outcome(Stop.HALTED)
    assert one.pc.console.text == "K"
    assert one.reasons == ["IO", "HALTED"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EFAULT])
def test_a_exit_4_a_failing_io_assist_is_fatal(
    rig: MakeRig, looks: LookAlike, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig("e6 e9 f4", library=looks.library)
    looks.fail("assist_io", number)
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert "port 0xe9" in outcome.message
    assert errno.errorcode[number] in outcome.message
    assert outcome.message in caplog.text
    assert one.reasons == ["IO"]


@pytest.mark.parametrize(
    "reason", [ExitReason.INT_READY, ExitReason.NMI_READY, ExitReason.TPR_CHANGED]
)
def test_a_exit_5_nothing_more(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, reason: ExitReason
) -> None:
    one = rig("f4", library=looks.library)
    looks.returns(exit_of(reason, cr8=3))
    assert one.run() == Outcome(Stop.HALTED)
    assert one.reasons == [reason.name, "HALTED"]


IF = 0x200


@pytest.mark.parametrize(
    ("rflags", "requests", "halts"),
    [
        (2, Request(0), True),
        (2 | IF, Request(0), True),
        (2, Request.HARD, True),
        (2 | IF, Request.HARD, False),
        (2, Request.NMI, False),
        (2 | IF, Request.NMI, False),
        (2 | IF, Request.SMI, True),
    ],
)
def test_a_exit_6_halted(
    rig: MakeRig,
    looks: LookAlike,
    exit_of: ExitOf,
    rflags: int,
    requests: Request,
    halts: bool,
) -> None:
    """The requests come while the guest runs; a vCPU that goes on meets a SHUTDOWN here."""
    one = rig(library=looks.library)
    looks.returns(exit_of(ExitReason.HALTED, rflags=rflags))
    runs: list[int] = []

    def at_run() -> None:
        runs.append(1)
        if len(runs) == 1:
            one.vcpu.requests |= requests
        else:
            looks.returns(exit_of(ExitReason.SHUTDOWN))

    looks.at_run(at_run)
    outcome = one.run()
    if halts:
        assert outcome == Outcome(Stop.HALTED)
        assert one.vcpu.halted
    else:
        assert outcome == Outcome(Stop.RESET)
        assert not one.vcpu.halted


@pytest.mark.parametrize(
    ("rflags", "request_"), [(2 | IF, Request.HARD), (2, Request.NMI), (2 | IF, Request.NMI)]
)
def test_a_exit_6_with_something_pending_the_loop_is_not_left(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, rflags: int, request_: Request
) -> None:
    one = rig(library=looks.library)
    looks.returns(exit_of(ExitReason.HALTED, rflags=rflags))
    runs: list[int] = []

    def at_run() -> None:
        runs.append(1)
        one.vcpu.requests = request_
        if len(runs) == 2:
            looks.returns(exit_of(ExitReason.SHUTDOWN))

    looks.at_run(at_run)
    with one.accelerator.lock:
        assert exec_vcpu(one.accelerator, one.vcpu) is LoopExit.INTERRUPT
    assert len(runs) == 2


def test_a_exit_6_a_halted_vcpu_stays_halted_and_resume_goes_on(rig: MakeRig) -> None:
    one = rig("f4 43 f4")  # hlt; inc bx; hlt
    assert one.run() == Outcome(Stop.HALTED)
    assert one.run() == Outcome(Stop.HALTED)
    assert one.vcpu.registers.rip == 1
    assert len(one.trace.exits) == 1
    assert one.accelerator.resume(one.vcpu) == Outcome(Stop.HALTED)
    assert (one.vcpu.registers.rip, one.gpr(Gpr.RBX)) == (3, 1)


def test_a_exit_7_shutdown_asks_for_a_reset(rig: MakeRig) -> None:
    one = rig("0f 01 1e 10 00 cc")  # lidt [0x10] of limit 0; int3: triple fault
    with one.accelerator.lock:
        assert exec_vcpu(one.accelerator, one.vcpu) is LoopExit.INTERRUPT
    assert one.control.outcome == Outcome(Stop.RESET)
    assert one.run() == Outcome(Stop.RESET)
    assert one.reasons == ["SHUTDOWN"]
    assert not one.vcpu.halted


@pytest.mark.parametrize("reason", [ExitReason.MONITOR, ExitReason.MWAIT])
def test_a_exit_10_undefined_opcode_is_injected(
    rig: MakeRig, looks: LookAlike, exit_of: ExitOf, reason: ExitReason
) -> None:
    """Type EXCP, vector 6, before the next entry; the guest's handler at 0:0x300 halts."""
    one = rig("90 90", library=looks.library)
    one.vcpu.registers.gpr[Gpr.RSP] = 0x1000
    one.put(6 * 4, "00 03 00 00")
    one.put(0x300, "f4")
    looks.returns(exit_of(reason))
    assert one.run() == Outcome(Stop.HALTED)
    assert "vcpu_inject 0 6" in looks.calls
    assert one.vcpu.registers.rip == 0x301


def unexpected(reason: int, hwcode: int = 0) -> Any:
    record = ffi.new("struct nvmm_x86_exit *")
    record.reason = reason
    record.u.inv.hwcode = hwcode
    record.exitstate.rflags = 2
    return record


@pytest.mark.parametrize(
    ("reason", "hwcode", "said"),
    [
        (ExitReason.INVALID, 0x8000_0021, "exit INVALID (hardware code 0x80000021) at RIP 0x123"),
        (ExitReason.CPUID, 0x55, "exit CPUID (npc 0x55) at RIP 0x123"),
        (0x3333, 0, "exit 0x3333 at RIP 0x123"),
    ],
)
def test_a_exit_11_anything_else_is_a_panic(
    rig: MakeRig,
    looks: LookAlike,
    caplog: pytest.LogCaptureFixture,
    reason: int,
    hwcode: int,
    said: str,
) -> None:
    """Reason and hardware code are told, and the registers are the kernel's."""
    one = rig(library=looks.library)
    one.vcpu.registers.gpr[Gpr.RIP] = 0x100
    looks.returns(unexpected(reason, hwcode))

    def move() -> None:
        one.vcpu.vcpu.state.gprs[Gpr.RIP] = 0x123

    looks.at_run(move)
    outcome = one.run()
    assert outcome == Outcome(Stop.PANIC, message=f"unexpected {said}")
    assert outcome.message in caplog.text
    assert "vcpu_getstate 0x5f" in looks.calls
    assert one.vcpu.registers.rip == 0x123


def test_a_exit_12_a_failing_run_is_fatal(
    rig: MakeRig, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(library=looks.library)
    looks.fail("vcpu_run", errno.EIO)
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert "failed to execute a virtual CPU: nvmm_vcpu_run(" in outcome.message
    assert "EIO" in outcome.message
    assert outcome.message in caplog.text
    assert looks.calls.count("vcpu_run") == 1


def test_an_exit_that_is_fatal_does_not_hide_an_earlier_request(
    rig: MakeRig, looks: LookAlike
) -> None:
    """The first request wins."""
    one = rig(library=looks.library)
    looks.returns(unexpected(0x3333))
    looks.at_run(lambda: one.control.request_exit(3))
    assert one.run() == Outcome(Stop.EXITED, 3)
