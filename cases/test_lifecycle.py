# SPDX-License-Identifier: BSD-2-Clause
"""Machines and vCPUs come and go: libnvmm(3) nvmm_machine_create, nvmm_machine_destroy,
nvmm_vcpu_create, nvmm_vcpu_destroy; their ids and limits, what is left behind, and that no machine
or vCPU has anything to do with another."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from raw_bench import STEP, RawGuest, enter

from nvmmconf.nvmm import MachineInfo, machine_info
from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    CpuidMask,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    HostMemory,
    Level,
    Libnvmm,
    Machine,
    Msr,
    NvmmError,
    Prot,
    StateFlag,
    Vcpu,
    VcpuConfSupport,
    check,
    expect_errno,
    needs,
    requirement,
)

RWX = Prot.READ | Prot.WRITE | Prot.EXEC


def _in_use(library: Libnvmm, machid: int) -> bool:
    """True where the id is some machine's, whoever's."""
    try:
        machine_info(library, machid)
    except NvmmError as error:
        return error.errno != errno.ENOENT
    return True


# ---- machines ----


@requirement("L-MACH-1", "K-MACH-1")
def test_machines_have_ids_of_their_own(library: Libnvmm, capability: Capability) -> None:
    """Each machine has an id below max_machines that no other one has."""
    with contextlib.ExitStack() as machines:
        ids = [machines.enter_context(Machine(library)).machid for _ in range(8)]
        check.equal(len(set(ids)), 8, "different ids")
        check.equal([one for one in ids if one >= capability.max_machines], [], "ids too high")


@requirement("K-MACH-1", level=Level.SHOULD)
def test_machine_gets_the_lowest_free_id(library: Libnvmm) -> None:
    """A new machine has the lowest id that was free."""
    passed_over: set[int] = set()
    for _ in range(3):  # somebody else's machine may go away in between
        before = {n for n in range(4) if not _in_use(library, n)}
        with Machine(library) as machine:
            after = {n for n in range(4) if not _in_use(library, n)}
            passed_over = {n for n in before & after if n < machine.machid}
        if not passed_over:
            break
    assert passed_over == set()


@requirement("K-MACH-2", "K-CAP-3", "L-MACH-3", "L-MACH-1")
def test_machines_run_out(library: Libnvmm, capability: Capability) -> None:
    """There are max_machines machines in the system; one more is ENOBUFS, and when one is gone
    there is room for one."""
    with contextlib.ExitStack() as undo:
        machines: list[Machine] = []
        with expect_errno(errno.ENOBUFS):
            for _ in range(capability.max_machines + 1):
                machines.append(undo.enter_context(Machine(library)))
        with expect_errno(errno.ENOBUFS):
            undo.enter_context(Machine(library))
        machines.pop().destroy()
        check.equal(
            undo.enter_context(Machine(library)).machid in {m.machid for m in machines},
            False,
            "the new one's id is another's",
        )


@requirement("K-MACH-1", "L-MACH-2")
def test_machines_can_be_made_over_and_over(library: Libnvmm, capability: Capability) -> None:
    """Destroying gives everything back: machines can be made without end, one after the other."""
    for _ in range(capability.max_machines + 2):
        with Machine(library) as machine:
            machine.create_vcpu(0)
    check(True, "no machine was refused")


GONE = (errno.ENOENT, errno.EPERM)
"""Of a machine that was destroyed: another process may have one with its id by now."""

USES: dict[str, Callable[[Machine, Vcpu], object]] = {
    "hva_map": lambda machine, vcpu: machine.hva_map(HostMemory(PAGE_SIZE)),
    "vcpu_create": lambda machine, vcpu: Vcpu(machine, 1),
    "vcpu_configure": lambda machine, vcpu: vcpu.configure_cpuid(CpuidMask(1)),
    "vcpu_run": lambda machine, vcpu: vcpu.run(),
    "mach_info": lambda machine, vcpu: machine_info(machine.library, machine.machid),
}
"""Calls that need a machine and read nothing of libnvmm's own (L-MACH-2)."""


@contextlib.contextmanager
def _destroyed(library: Libnvmm) -> Iterator[tuple[Machine, Vcpu]]:
    """A machine that was destroyed, with a vCPU left in it."""
    with Machine(library) as machine:
        vcpu = Vcpu(machine, 0)  # which the machine's destroy does not know of
        machine.destroy()
        yield machine, vcpu


@requirement("K-MACH-4", "L-MACH-3", "K-MACH-5")
@pytest.mark.parametrize("use", USES)
def test_destroyed_machine_is_gone(library: Libnvmm, use: str) -> None:
    """Whatever is done to a machine that was destroyed is ENOENT."""
    with _destroyed(library) as (machine, vcpu), expect_errno(*GONE):
        USES[use](machine, vcpu)


@requirement("K-MACH-5", "L-MACH-2")
@pytest.mark.parametrize("count", [1, 3])
def test_machine_with_vcpus_can_be_destroyed(library: Libnvmm, count: int) -> None:
    """A machine that still has vCPUs is destroyed with them, and its id is free."""
    machine = Machine(library)
    for n in range(count):
        Vcpu(machine, n)
    check.equal(machine_info(library, machine.machid).vcpus, count, "vCPUs")
    machine.destroy()
    with expect_errno(*GONE):
        machine_info(library, machine.machid)


@requirement("K-MACH-7")
def test_host_memory_outlives_its_machine(library: Libnvmm) -> None:
    """Memory that a destroyed machine had mapped is the process's still, with its contents."""
    with HostMemory(2 * PAGE_SIZE) as memory:
        with Machine(library) as machine:
            machine.hva_map(memory)
            machine.gpa_map(memory.hva, 0, memory.size, RWX)
            memory.data[0] = memory.data[-1] = 5
        check.equal((memory.data[0], memory.data[-1]), (5, 5), "contents")
        memory.data[0] = 6
        check.equal(memory.data[0], 6, "byte written")


@requirement("K-MACH-7", "L-MACH-2")
def test_memory_of_a_destroyed_machine_can_be_mapped_again(library: Libnvmm) -> None:
    """Another machine can have the memory of one that is gone, and gets it zeroed."""
    with HostMemory(PAGE_SIZE) as memory:
        with Machine(library) as first:
            first.hva_map(memory)
            memory.data[0] = 5
        with Machine(library) as second:
            second.hva_map(memory)
            second.gpa_map(memory.hva, 0, PAGE_SIZE, RWX)
            check.equal(memory.data[0], 0, "first byte")


@requirement("K-MACH-6", "K-MACH-4", "K-RUN-2")
def test_destroying_a_machine_waits_for_its_guest(library: Libnvmm) -> None:
    """nvmm_machine_destroy while a vCPU is in its guest waits, succeeds, and the next run is
    ENOENT."""
    ends: list[object] = []
    with HostMemory(PAGE_SIZE) as memory:
        machine = Machine(library)
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, 0, PAGE_SIZE, RWX)
        memory.data[0x100:0x107] = b"\xff\x06\x00\x02\xeb\xfa\xf4"  # inc word [0x200]; jmp back
        vcpu = Vcpu(machine, 0)
        RawGuest.aim(vcpu, 0x100)

        def run_on() -> None:
            try:
                while True:
                    taken = vcpu.run()
                    if taken.reason not in (ExitReason.NONE, ExitReason.STOPPED):
                        ends.append(taken)
                        return
            except NvmmError as error:
                ends.append(error.errno)

        runner = threading.Thread(target=run_on, daemon=True)
        runner.start()
        while not any(memory.data[0x200:0x202]) and not ends:
            time.sleep(0)
        machine.destroy()
        runner.join(10)
    assert ends in ([number] for number in GONE)


@requirement("L-MACH-1", "K-SET-2", "K-MEM-17")
def test_two_machines_are_independent(library: Libnvmm) -> None:
    """Two machines with vCPUs and memory at the same numbers have nothing to do with each other."""
    with RawGuest(library, b"\x40\xa3\x00\x02\xf4") as one, RawGuest(library, STEP) as other:
        for n in range(1, 4):  # inc ax; mov [0x200], ax; hlt
            one.again(keep=Gpr.RAX)
            check.equal(enter(one.vcpu).reason, ExitReason.HALTED, "exit")
            check.equal(one.memory.data[0x200], n, "the one's memory")
            check.equal(other.memory.data[0x200], 0, "the other's memory")
            other.vcpu.getstate(StateFlag.GPRS)
            check.equal(other.vcpu.state.gprs[Gpr.RAX], 0, "the other's RAX")
        one.machine.destroy()
        check.equal(enter(other.vcpu).reason, ExitReason.HALTED, "exit when the one is gone")


# ---- vCPUs ----


@requirement("K-VCPU-1", "K-CAP-4", "L-VCPU-2")
def test_last_vcpu_id(machine: Machine, capability: Capability) -> None:
    """The vCPU max_vcpus - 1 can be created, and max_vcpus is EINVAL."""
    machine.create_vcpu(capability.max_vcpus - 1)
    with expect_errno(errno.EINVAL):
        machine.create_vcpu(capability.max_vcpus)


@requirement("K-VCPU-1", "L-VCPU-2")
@pytest.mark.parametrize("cpuid", [1 << 16, 1 << 31, (1 << 32) - 1])
def test_no_such_vcpu_id(machine: Machine, cpuid: int) -> None:
    """vCPU ids far beyond max_vcpus are EINVAL."""
    with expect_errno(errno.EINVAL):
        machine.create_vcpu(cpuid)


@requirement("K-CAP-4", "K-VCPU-1", "K-VCPU-3", "K-MACH-9")
def test_all_vcpus_at_once(machine: Machine, capability: Capability) -> None:
    """A machine can have all its max_vcpus vCPUs at a time."""
    for n in range(capability.max_vcpus):
        machine.create_vcpu(n)
    info = machine_info(machine.library, machine.machid)
    assert info.vcpus == capability.max_vcpus


@requirement("K-VCPU-2", "L-VCPU-2")
def test_vcpu_exists_once(machine: Machine) -> None:
    """Creating a vCPU that exists is EEXIST (BH-45)."""
    machine.create_vcpu(0)
    with expect_errno(errno.EEXIST):
        machine.create_vcpu(0)


@requirement("K-VCPU-2", "L-VCPU-1")
def test_refused_vcpu_changes_nothing(library: Libnvmm) -> None:
    """Where a vCPU could not be created because it exists, it goes on as it was."""
    with RawGuest(library, STEP) as guest:
        guest.vcpu.state.gprs[Gpr.RAX] = 0x1230
        guest.vcpu.setstate(StateFlag.GPRS)
        with pytest.raises(NvmmError):
            Vcpu(guest.machine, 0)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        check.equal(guest.rax(), 0x1231, "RAX")
        check.equal(machine_info(library, guest.machine.machid).vcpus, 1, "vCPUs")


@requirement("K-VCPU-3", "L-VCPU-1")
def test_vcpu_ids_in_any_order(library: Libnvmm) -> None:
    """vCPUs may have any ids in any order; each has its own state, and runs."""
    with RawGuest(library, STEP) as guest:
        vcpus = {n: guest.machine.create_vcpu(n) for n in (7, 100, 3, 1)}
        for n, vcpu in vcpus.items():
            RawGuest.aim(vcpu, 0x100)
            vcpu.state.gprs[Gpr.RAX] = 0x100 * n
            vcpu.setstate(StateFlag.GPRS)
        for n, vcpu in reversed(vcpus.items()):
            check.equal(enter(vcpu).reason, ExitReason.HALTED, f"exit of {n}")
            vcpu.getstate(StateFlag.GPRS)
            check.equal(vcpu.state.gprs[Gpr.RAX], 0x100 * n + 1, f"RAX of {n}")


@requirement("K-VCPU-5", "L-VCPU-3", "L-VCPU-4", "K-COMM-1")
def test_vcpu_made_again_is_as_new(library: Libnvmm) -> None:
    """A vCPU that is destroyed after it ran, and created again, is as any new one."""
    with RawGuest(library, STEP) as guest, Machine(library) as other:
        wanted = other.create_vcpu(0).state_bytes()
        state = guest.vcpu.state
        for index in Gpr:
            if index not in (Gpr.RIP, Gpr.RFLAGS):
                state.gprs[index] = 0x77
        state.msrs[Msr.STAR] = state.msrs[Msr.LSTAR] = 0x1234
        state.drs[Dr.DR0] = 0x5678
        guest.vcpu.setstate(StateFlag.GPRS | StateFlag.MSRS | StateFlag.DRS)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        guest.vcpu.destroy()
        again = guest.machine.create_vcpu(0)
        again.getstate(StateFlag.ALL)
        check.equal(again.state_bytes(), wanted, "state")


@requirement("K-VCPU-5", "K-COMM-1")
@pytest.mark.parametrize("left", ["state", "event", "window"])
def test_nothing_waits_in_a_vcpu_made_again(library: Libnvmm, left: str) -> None:
    """What was set or injected and never run is gone with its vCPU."""
    with RawGuest(library, STEP) as guest:
        old = guest.vcpu
        match left:
            case "state":
                old.state.gprs[Gpr.RAX] = 0x7000
                old.setstate(StateFlag.GPRS)
            case "event":
                old.inject(EventType.INTR, 0x41)
            case "window":
                old.state.gprs[Gpr.RFLAGS] = 0x202
                old.state.intr.int_window_exiting = 1
                old.setstate(StateFlag.GPRS | StateFlag.INTR)
        old.destroy()
        vcpu = guest.machine.create_vcpu(0)
        RawGuest.aim(vcpu, 0x100)
        check.equal(enter(vcpu).reason, ExitReason.HALTED, "exit")
        vcpu.getstate(StateFlag.GPRS)
        check.equal(vcpu.state.gprs[Gpr.RAX], 1, "RAX")
        check.equal(vcpu.state.gprs[Gpr.RIP], 0x102, "RIP")


@requirement("K-VCPU-5", "K-RUN-5")
@needs(version=2, stop=True)
def test_no_stop_waits_in_a_vcpu_made_again(library: Libnvmm) -> None:
    """A stop that was asked of a vCPU is gone with it."""
    with RawGuest(library, STEP) as guest:
        guest.vcpu.stop()
        guest.vcpu.destroy()
        vcpu = guest.machine.create_vcpu(0)
        RawGuest.aim(vcpu, 0x100)
        seen = []
        while not seen or seen[-1] in (ExitReason.NONE, ExitReason.STOPPED):
            seen.append(vcpu.run().reason)
        check(ExitReason.STOPPED not in seen, "not stopped")
        check.equal(seen[-1], ExitReason.HALTED, "exit")


@requirement("K-VCPU-8")
@needs(VcpuConfSupport.CPUID)
@pytest.mark.parametrize("kind", ["exit", "mask"])
def test_cpuid_configuration_dies_with_its_vcpu(library: Libnvmm, kind: str) -> None:
    """A vCPU made again has none of the CPUID configuration of the old one."""
    with RawGuest(library, b"\x0f\xa2\xf4") as guest:  # cpuid; hlt

        def leaf(vcpu: Vcpu) -> tuple[object, int]:
            RawGuest.aim(vcpu, 0x100)
            vcpu.state.gprs[Gpr.RAX] = 0x40000000
            vcpu.setstate(StateFlag.GPRS)
            reason = enter(vcpu).reason
            vcpu.getstate(StateFlag.GPRS)
            return reason, vcpu.state.gprs[Gpr.RBX]

        wanted = leaf(guest.vcpu)
        if kind == "exit":
            guest.vcpu.configure_cpuid_exit(0x40000000)
        else:
            ones = 0xFFFFFFFF
            guest.vcpu.configure_cpuid(CpuidMask(0x40000000, set_bits=(0, ones, 0, 0)))
        check(leaf(guest.vcpu) != wanted, "the configuration has an effect")
        guest.vcpu.destroy()
        check.equal(leaf(guest.machine.create_vcpu(0)), wanted, "of the new vCPU")


def _getstate(vcpu: Vcpu) -> None:
    vcpu.getstate(StateFlag.ALL)


VCPU_USES: dict[str, Callable[[Vcpu], object]] = {
    "run": lambda vcpu: vcpu.run(),
    "getstate": _getstate,
    "configure": lambda vcpu: vcpu.configure_cpuid(CpuidMask(1)),
    "destroy": lambda vcpu: vcpu.destroy(),
}


@requirement("K-VCPU-4", "L-VCPU-2")
@pytest.mark.parametrize("use", VCPU_USES)
@pytest.mark.parametrize("missing", ["never-created", "destroyed"])
def test_missing_vcpu(library: Libnvmm, use: str, missing: str) -> None:
    """Whatever is done to a vCPU that does not exist (any more) is ENOENT."""
    with RawGuest(library, STEP) as guest:
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")  # nothing is cached now
        if missing == "destroyed":
            guest.machine.create_vcpu(5).destroy()
        with guest.renamed(5), expect_errno(errno.ENOENT):
            VCPU_USES[use](guest.vcpu)


@requirement("K-VCPU-4", "L-VCPU-4")
def test_other_vcpus_outlive_a_destroyed_one(library: Libnvmm) -> None:
    """Destroying one vCPU leaves the others and the machine's memory alone."""
    with RawGuest(library, STEP) as guest:
        other = guest.machine.create_vcpu(1)
        RawGuest.aim(other, 0x100)
        guest.vcpu.destroy()
        check.equal(enter(other).reason, ExitReason.HALTED, "exit")
        check.equal(machine_info(library, guest.machine.machid).vcpus, 1, "vCPUs")


@requirement("K-VCPU-4", "K-MACH-4")
def test_vcpu_belongs_to_its_machine(library: Libnvmm) -> None:
    """A vCPU cannot be run in a machine that is not its own."""
    with RawGuest(library, STEP) as guest, Machine(library) as other:
        own = guest.machine.raw.machid
        guest.machine.raw.machid = other.machid
        with expect_errno(errno.ENOENT):
            guest.vcpu.run()
        guest.machine.raw.machid = own
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit of its own")


@requirement("K-MACH-9", "L-CTL-1")
def test_mach_info_of_a_new_machine(library: Libnvmm) -> None:
    """A new machine has no vCPUs and no memory."""
    with Machine(library) as machine:
        info = machine_info(library, machine.machid)
        assert info == MachineInfo(0, 0, info.pid, info.time)
