# SPDX-License-Identifier: BSD-2-Clause
"""Everything that docs/writing-cases.md promises to an author of cases, in one project."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.results import Ended, Verdict

from .conftest import Once
from .html import case_page
from .project import Finished, Project

GOOD = '''
import errno
import signal

IN_AL = """
    mov     dx, 0x1234
in_insn:
    in      al, dx
after_in:
    hlt
"""

BOTH = modes(Mode.REAL16, Mode.LONG64)


@BOTH
@requirement("K-IO-1")
def test_inline(vm: VirtualMachine) -> None:
    """A few instructions."""
    run = vm.run_code(IN_AL, ports={0x1234: 0x5A})
    assert run.registers.gpr[Gpr.RAX] & 0xFF == 0x5A
    assert run.ports == (PortAccess(0x1234, True, 1, 0x5A),)
    assert run.rip == run.symbol("after_in") + 1


@BOTH
@requirement("K-IO-1")
@pytest.mark.parametrize("width", [1, 2, 4])
def test_matrix(vm: VirtualMachine, width: int) -> None:
    """A parameter of the guest's template, and of the id."""
    register = {1: "al", 2: "ax", 4: "eax"}[width]
    answers = [0x11223344, 0x55667788]
    run = vm.run_code(
        """
        mov     dx, 0x1234
        in      {{ register }}, dx
        in      {{ register }}, dx
        in      {{ register }}, dx
        out     dx, {{ register }}
        hlt
        """,
        ports={0x1234: answers},
        register=register,
    )
    mask = (1 << 8 * width) - 1
    wanted = [0x11223344, 0x55667788, 0x55667788]
    assert [one.value for one in run.ports if one.is_in] == [one & mask for one in wanted]
    assert run.ports[-1] == PortAccess(0x1234, False, width, 0x55667788 & mask)


@BOTH
@requirement("K-IO-1")
@pytest.mark.parametrize("port", [0x10, 0x1234])
@pytest.mark.parametrize("reason", [Stop.HALTED])
@pytest.mark.parametrize("data", [b"\\x0f\\x0b"])
def test_ids(vm: VirtualMachine, port: int, reason: Stop, data: bytes) -> None:
    """A function answers, by size."""
    code = "mov dx, {{ port }}\\n in ax, dx\\n hlt"
    run = vm.run_code(code, ports={port: lambda size: size}, port=port)
    assert run.registers.gpr[Gpr.RAX] & 0xFFFF == 2
    assert run.reason is reason


@modes(Mode.LONG64)
@requirement("L-GPA-9")
def test_memory_map(vm: VirtualMachine) -> None:
    """A device in RAM and one above it, a page to read only and one that is not there."""
    guest = vm.prepare_code(
        """
        mov     al, [0x10008]
        mov     [0x300004], eax
        mov     ebx, [0x300004]
        mov     cl, [0x12000]
        mov     byte ptr [0x13000], 1
        mov     dl, [0x13000]
        hlt
        """,
        mmio=[Mmio(0x10000, 0x1000, 0x77), Mmio(0x300000)],
        unmapped=[(0x12000, 0x1000)],
        readonly=[(0x13000, 0x1000)],
    )
    guest.write(0x13000, b"\\x42")
    run = guest.run()
    gpr = run.registers.gpr
    check.equal(gpr[Gpr.RAX], 0x77, "the device in RAM")
    check.equal(gpr[Gpr.RBX], 0x77, "storage")
    check.equal(gpr[Gpr.RCX], 0xFF, "nothing there")
    check.equal(gpr[Gpr.RDX], 0x42, "a write to what is read-only is lost")
    assert run.mmio[0] == MmioAccess(0x10008, False, b"\\x77")
    assert run.mmio[1] == MmioAccess(0x300004, True, b"\\x77\\0\\0\\0")
    assert len(run.exits_of(MemoryExit)) == 5


@modes(Mode.LONG64)
@requirement("L-ST-1")
def test_set_up_and_go_on(vm: VirtualMachine) -> None:
    """Registers, memory and TPR before the first entry, and changes between stops."""
    guest = vm.prepare_code("again: mov rbx, rax\\n hlt\\n jmp again")
    guest.registers.gpr[Gpr.RAX] = 7
    guest.tpr = 3
    guest.write(0x5000, b"here")
    first = guest.run()
    assert first.registers.gpr[Gpr.RBX] == 7
    assert first.state.cr[Cr.CR8] == 3
    assert first.memory(0x5000, 4) == b"here"
    assert first.state.seg[Segment.CS].selector == 8
    assert not first.state.intr.int_shadow
    guest.registers.gpr[Gpr.RAX] = 8
    second = guest.run()
    assert second.registers.gpr[Gpr.RBX] == 8
    assert first.registers.gpr[Gpr.RBX] == 7
    assert second.reasons() == [ExitReason.HALTED] * 2


VECTORS = """
    xor     ax, ax
    mov     ds, ax
    mov     word ptr [{{ vector }} * 4], offset handler
    mov     word ptr [{{ vector }} * 4 + 2], 0x2000
    sti
    nop
ready:
    hlt
    hlt
handler:
    mov     bx, 0x1111
    hlt
"""


@modes(Mode.REAL16)
@requirement("L-EVT-1")
@pytest.mark.parametrize("vector", [2, 0x20, 0xFF])
def test_injected(vm: VirtualMachine, vector: int) -> None:
    """An event by libnvmm, after a stop."""
    guest = vm.prepare_code(VECTORS, vector=vector)
    assert guest.run().reason is Stop.HALTED
    if vector == 2:
        guest.nmi()
    else:
        guest.inject(EventType.INTR, vector)
    assert guest.run().registers.gpr[Gpr.RBX] == 0x1111


@modes(Mode.REAL16)
@requirement("A-EVT-1")
def test_accelerator_s_interrupt(vm: VirtualMachine) -> None:
    """An interrupt by the accelerator, which waits for STI."""
    guest = vm.prepare_code(VECTORS, vector=0x41)
    guest.interrupt(0x41)
    run = guest.run()
    assert run.registers.gpr[Gpr.RBX] == 0x1111
    assert ExitReason.INT_READY in run.reasons()


@BOTH
@requirement("K-IO-2")
def test_exit_by_exit(vm: VirtualMachine) -> None:
    """An exit as it comes, unhandled; then by hand; then the accelerator."""
    guest = vm.prepare_code(IN_AL, ports={0x1234: 0x5A})
    exit = guest.next_exit()
    assert isinstance(exit, IoExit)
    assert guest.state().gpr[Gpr.RIP] == guest.symbol("in_insn")
    guest.vcpu.assist_io()
    run = guest.run()
    assert run.reason is Stop.HALTED
    assert run.registers.gpr[Gpr.RAX] & 0xFF == 0x5A


@modes(Mode.REAL16)
@requirement("K-INT-1")
def test_window(vm: VirtualMachine) -> None:
    """Exits for windows."""
    guest = vm.prepare_code("sti\\n nop\\n nop\\n hlt")
    guest.set_intr(int_window_exiting=True)
    assert guest.state().intr.int_window_exiting
    assert guest.next_exit().reason is ExitReason.INT_READY


@requirement("L-VCPU-2")
def test_vcpu_exists(machine: Machine, capability: Capability) -> None:
    """No vm: once a target."""
    machine.create_vcpu(0)
    with expect_errno(errno.EBUSY):
        machine.create_vcpu(0)
    with expect_errno(errno.EINVAL, errno.ENOENT):
        machine.create_vcpu(capability.max_vcpus)


@requirement("L-ST-2")
@pytest.mark.parametrize("flags", [StateFlag.GPRS, StateFlag.FPU])
def test_raw(vcpu: Vcpu, target: Target, flags: StateFlag) -> None:
    """A vCPU by itself."""
    vcpu.getstate(flags)
    assert target.capability.state_size == 1008


def refused_map(library: Libnvmm) -> None:
    with Machine(library) as machine, HostMemory(PAGE_SIZE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva + 1, 0, PAGE_SIZE, Prot.READ)


def killed() -> None:
    print("going", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def made(library: Libnvmm) -> int:
    with Machine(library) as machine:
        assert machine.machid >= 0
        return 42


def refused(library: Libnvmm) -> None:
    with Machine(library) as machine:
        machine.create_vcpu(1 << 20)


@requirement("L-GPA-4")
def test_children(library: Libnvmm) -> None:
    """What ends the process is data."""
    end = isolated(killed)
    assert (end.signal, end.status, end.output) == (signal.SIGTERM, None, "going\\n")
    end = isolated(made, library)
    assert (end.signal, end.status, end.value) == (None, 0, 42)
    end = isolated(refused, library)
    assert (end.signal, end.errno) == (None, errno.EINVAL)
    assert isolated(os._exit, 3).status == 3
    end = isolated(refused_map, library)
    assert end.aborted or end.errno is not None


@requirement("L-VCPU-2")
def test_checks_alone(machine: Machine) -> None:
    """Checks are a verdict, too; so are assertions that are somewhere else."""
    assert_in_helper(machine)


def assert_in_helper(machine: Machine) -> None:
    for one in (1, 2):
        assert one


@BOTH
@requirement("K-HLT-1")
def test_guest_and_modes(vm: VirtualMachine) -> None:
    """@modes beside a guest's name."""
    assert vm.boot("hlt").reason is Stop.HALTED
'''

OTHERS = '''
import errno

CHECKING = """
    mov     {{ ax }}, {{ got }}
    CHECK_EQ {{ ax }}, 5, "what was counted"
{% if done %}
    DONE
{% else %}
    hlt
{% endif %}
"""


@modes(Mode.REAL16, Mode.LONG64)
@requirement("K-HLT-1")
@pytest.mark.parametrize(("got", "done"), [(5, True), (6, True), (5, False)])
def test_guest_checks(vm: VirtualMachine, got: int, done: bool) -> None:
    run = vm.run_code(CHECKING, got=got, done=done)
    check.equal(run.done, done, "what the case itself sees")
    check.equal(len(run.checks), int(got == 6), "what the case itself counts")


@modes(Mode.LONG64)
@requirement("K-HLT-1")
@pytest.mark.parametrize("entry", ["first", "second"])
def test_entries(vm: VirtualMachine, entry: str) -> None:
    run = vm.run_code("start: first: mov al, 1\\n hlt\\n second: mov al, 2\\n hlt", entry=entry)
    check.equal(run.registers.gpr[Gpr.RAX], {"first": 1, "second": 2}[entry], "AL")


@needs(VcpuConfSupport.TPR, version=2, stop=True)
@requirement("K-HLT-1")
def test_needs(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED


@requirement("K-HLT-1", level=Level.INFO)
def test_info(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.RESET


@requirement("K-HLT-1", level=Level.INFO)
def test_info_passes(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED


@requirement("K-HLT-1", level=Level.SHOULD)
def test_should(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.RESET


@requirement("K-HLT-1")
def test_checks(vm: VirtualMachine) -> None:
    run = vm.boot("hlt")
    check.equal(run.status, 17, "the status")
    check(run.reason is Stop.HALTED, "it halts")
    check.equal(run.registers.gpr[Gpr.RAX], 0xABC, "RAX")
    check.equal(1, 1, "arithmetic")


@requirement("K-HLT-1")
def test_check_and_assertion(vm: VirtualMachine) -> None:
    run = vm.boot("hlt")
    check.equal(run.status, 17, "the status")
    assert run.reason is Stop.RESET


@requirement("K-HLT-1")
def test_no_verdict(vm: VirtualMachine) -> None:
    vm.boot("hlt")


@requirement("K-HLT-1")
def test_no_verdict_in_a_loop(vm: VirtualMachine) -> None:
    run = vm.boot("hlt")
    for one in run.exits_of(IoExit):
        assert one.port == 1


@requirement("K-HLT-1")
def test_verdict_in_a_loop(vm: VirtualMachine) -> None:
    run = vm.boot("hlt")
    for one in run.all_exits():
        assert one.sequence


@requirement("L-VCPU-2")
def test_errno_of_nothing(machine: Machine) -> None:
    with expect_errno(errno.EBUSY):
        machine.create_vcpu(0)


@requirement("L-VCPU-2")
def test_errno_of_another(machine: Machine) -> None:
    with expect_errno(errno.EBUSY):
        machine.create_vcpu(1 << 20)


def wrong() -> None:
    assert 1 + 1 == 3, "sums"


def mistaken() -> None:
    raise KeyError("nothing")


@requirement("L-VCPU-2")
def test_wrong_in_child(target: Target) -> None:
    assert isolated(wrong)


@requirement("L-VCPU-2")
def test_mistaken_in_child(target: Target) -> None:
    assert isolated(mistaken)


@requirement("L-VCPU-2")
def test_hangs_without_a_guest(target: Target) -> None:
    while True:
        assert target
'''


def run(root: Path) -> Finished:
    project = Project.make(root)
    project.cases(GOOD, "test_good.py")
    project.cases(OTHERS, "test_others.py")
    return project.pytest(
        "--nvmm-timeout=2", "--nvmm-profile=v1-svm", "--nvmm-profile=v2-svm", "-k", "not compat32"
    )


@pytest.fixture(scope="module")
def finished(once: Once) -> Finished:
    return once("api", run)


def ended(finished: Finished, name: str) -> Ended:
    return finished.result(f"others/{name}").ended


def test_everything_promised_works(finished: Finished) -> None:
    good = {
        one.planned.case: one.ended for one in finished.run.results if one.planned.area == "good"
    }
    assert {
        case: end.message for case, end in good.items() if end.verdict is not Verdict.PASS
    } == {}
    ids = {case.removeprefix("good/").removesuffix("@v2-svm") for case in good if "@v2" in case}
    assert {
        "inline[real16]",
        "matrix[long64-4]",
        "ids[real16-0f0b-halted-0x1234]",
        "ids[long64-0f0b-halted-16]",
        "vcpu_exists",
        "raw[gprs]",
        "guest_and_modes[long64]",
    } <= ids


@pytest.mark.parametrize(
    ("name", "verdict", "message"),
    [
        ("info[", Verdict.OBSERVED, "assert Stop.HALTED is Stop.RESET"),
        ("info_passes[", Verdict.PASS, ""),
        ("should[", Verdict.FAIL, "assert Stop.HALTED is Stop.RESET"),
        ("checks[", Verdict.FAIL, "2 of 4 checks failed: the status: wanted 0x11, got None"),
        ("check_and_assertion[", Verdict.FAIL, "assert Stop.HALTED is Stop.RESET"),
        ("no_verdict[", Verdict.ERROR, "NoVerdictError: no verdict: it reached no assertion"),
        ("no_verdict_in_a_loop[", Verdict.ERROR, "NoVerdictError: no verdict"),
        ("verdict_in_a_loop[", Verdict.PASS, ""),
        ("guest_checks[real16-5-True]", Verdict.PASS, ""),
        ("guest_checks[long64-5-True]", Verdict.PASS, ""),
        ("guest_checks[long64-6-True]", Verdict.FAIL, "1 of 4 checks failed: others-guest_checks"),
        ("guest_checks[real16-5-False]", Verdict.FAIL, "1 of 3 checks failed: guest others-guest"),
        ("entries[", Verdict.PASS, ""),
        ("errno_of_nothing@", Verdict.FAIL, "wanted EBUSY, and the call succeeded"),
        ("errno_of_another@", Verdict.FAIL, "wanted EBUSY, got nvmm_vcpu_create(machid="),
        ("wrong_in_child@", Verdict.FAIL, "in the isolated child: sums"),
        ("mistaken_in_child@", Verdict.ERROR, "IsolatedError: in the isolated child: KeyError"),
        ("hangs_without_a_guest@", Verdict.HANG, "the case's own calls did not end within 2 s"),
    ],
)
def test_verdict(finished: Finished, name: str, verdict: Verdict, message: str) -> None:
    results = finished.run.results
    found = [one.ended for one in results if one.planned.case.startswith(f"others/{name}")]
    assert found
    for end in found:
        assert end.verdict is verdict
        assert end.message.startswith(message)
        assert (message == "") is (end.message == "")


def test_what_is_missing_is_said(finished: Finished) -> None:
    v1, v2 = ended(finished, "needs[long64]@v1"), ended(finished, "needs[long64]@v2")
    assert v1.verdict is Verdict.UNSUPPORTED
    assert v1.message.startswith("v1-svm has not: ")
    assert "NVMM version 2 (it is 1)" in v1.message
    assert "nvmm_vcpu_stop()" in v1.message
    assert v2.verdict in (Verdict.PASS, Verdict.UNSUPPORTED)


def test_all_checks_that_failed_are_shown(finished: Finished) -> None:
    one = ended(finished, "checks[long64]@v2")
    rows = [(row.expression, row.observed, row.expected) for row in one.comparisons]
    assert rows == [("the status", "None", "0x11"), ("RAX", "0", "0xabc")]
    assert "0xabc" in case_page(finished.reports, one.case)
    # A check that failed before an assertion did is not lost.
    both = ended(finished, "check_and_assertion[long64]@v2")
    assert both.comparisons[0].expression == "the status"


def test_only_what_fails_is_red(finished: Finished) -> None:
    failed = [line.split()[1] for line in finished.out.splitlines() if line.startswith("FAILED")]
    red = {nodeid.partition("::")[2].partition("[")[0] for nodeid in failed}
    assert "test_info" not in red
    assert "test_should" in red
