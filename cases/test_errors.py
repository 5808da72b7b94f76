# SPDX-License-Identifier: BSD-2-Clause
"""Calls that name what is not there or ask for what cannot be: libnvmm(3), "RETURN VALUES".  Each
call with each wrong number, and which of two mistakes is told."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from raw_bench import STEP, RawGuest, enter

from nvmmconf.nvmm import MACH_INFO, MACH_INFO_SIZE, control, machine_info
from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    CpuidMask,
    ExitReason,
    HostMemory,
    Libnvmm,
    Machine,
    StateFlag,
    Vcpu,
    check,
    expect_errno,
    isolated,
    requirement,
)


def _hva_map(guest: RawGuest) -> None:
    with HostMemory(PAGE_SIZE) as memory:
        guest.machine.hva_map(memory)


GONE = (errno.ENOENT, errno.EPERM)
"""Of a machine that was destroyed: another process may have one with its id by now."""

OF_MACHINES: dict[str, Callable[[RawGuest], object]] = {
    "hva_map": _hva_map,
    "hva_unmap": lambda guest: guest.machine.hva_unmap(guest.memory),
    "vcpu_create": lambda guest: Vcpu(guest.machine, 1),
    "vcpu_configure": lambda guest: guest.vcpu.configure_cpuid(CpuidMask(1)),
    "vcpu_run": lambda guest: guest.vcpu.run(),
    "getstate": lambda guest: guest.vcpu.getstate(StateFlag.ALL),
    "mach_info": lambda guest: machine_info(guest.machine.library, guest.machine.machid),
}
"""Calls that take a machine; what follows takes a vCPU."""
OF_VCPUS = {
    name: OF_MACHINES[name] for name in ("vcpu_create", "vcpu_configure", "vcpu_run", "getstate")
}


def _create(guest: RawGuest) -> None:
    Vcpu(guest.machine, guest.vcpu.raw.cpuid)


OF_VCPUS["vcpu_create"] = _create


@requirement("K-MACH-3", "L-MACH-3")
@pytest.mark.parametrize("machid", [128, 255, (1 << 32) - 1])
@pytest.mark.parametrize("call", OF_MACHINES)
def test_machine_id_out_of_range(
    library: Libnvmm, capability: Capability, call: str, machid: int
) -> None:
    """Any call about a machine whose id is not below max_machines is EINVAL."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)  # so that getstate has to ask the kernel
        with guest.elsewhere(max(machid, capability.max_machines)), expect_errno(errno.EINVAL):
            OF_MACHINES[call](guest)


@requirement("K-MACH-4", "L-MACH-3")
@pytest.mark.parametrize("call", OF_MACHINES)
def test_machine_that_does_not_exist(library: Libnvmm, call: str) -> None:
    """Any call about a machine that does not exist is ENOENT."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        with Machine(library) as gone:
            machid = gone.machid
        with guest.elsewhere(machid), expect_errno(*GONE):
            OF_MACHINES[call](guest)


@requirement("K-VCPU-1", "K-VCPU-4", "L-VCPU-2")
@pytest.mark.parametrize("above", [0, 1, 0xFFFFFE00])
@pytest.mark.parametrize("call", OF_VCPUS)
def test_vcpu_id_out_of_range(
    library: Libnvmm, capability: Capability, call: str, above: int
) -> None:
    """Any call about a vCPU whose id is not below max_vcpus is EINVAL."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        with guest.renamed(capability.max_vcpus + above), expect_errno(errno.EINVAL):
            OF_VCPUS[call](guest)


@requirement("K-MACH-4", "K-VCPU-1")
@pytest.mark.parametrize("call", OF_VCPUS)
def test_machine_is_looked_up_before_the_vcpu(library: Libnvmm, call: str) -> None:
    """Where neither machine nor vCPU can be, the machine is told: ENOENT, not the vCPU's EINVAL."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        with Machine(library) as gone:
            machid = gone.machid
        with guest.elsewhere(machid), guest.renamed(1 << 20), expect_errno(*GONE):
            OF_VCPUS[call](guest)


@requirement("K-MACH-4", "L-HVA-2")
@pytest.mark.parametrize("size", [1, PAGE_SIZE // 2])
def test_machine_is_looked_up_before_the_range(library: Libnvmm, size: int) -> None:
    """hva_map of no pages in no machine: the machine is told, ENOENT."""
    with RawGuest(library, STEP) as guest, HostMemory(PAGE_SIZE) as memory:
        with Machine(library) as gone:
            machid = gone.machid
        with guest.elsewhere(machid), expect_errno(*GONE):
            guest.machine.hva_map(memory, size)


def _gpa_map(guest: RawGuest, machid: int) -> None:
    with guest.elsewhere(machid):
        guest.machine.gpa_map(guest.memory.hva, 1 << 20, PAGE_SIZE, guest.machine.gpa_to_hva(0)[1])


def _gpa_unmap(guest: RawGuest, machid: int) -> None:
    with guest.elsewhere(machid):
        guest.machine.gpa_unmap(guest.memory.hva, 0, PAGE_SIZE)


@requirement("L-GPA-4", "L-GPA-7", "K-MACH-3", "K-MACH-4")
@pytest.mark.parametrize("call", ["map", "unmap"])
@pytest.mark.parametrize("fault", ["out-of-range", "missing"])
def test_gpa_calls_on_no_machine(library: Libnvmm, call: str, fault: str) -> None:
    """gpa_map and gpa_unmap on a machine that does not exist fail like all others (BH-34)."""
    with RawGuest(library, STEP) as guest:
        with Machine(library) as gone:
            machid = gone.machid
        if fault == "out-of-range":
            machid = 1 << 20
        end = isolated(_gpa_map if call == "map" else _gpa_unmap, guest, machid)
        check.equal(str(end.signal and end.signal.name), "None", "signal")
        wanted = (errno.EINVAL,) if fault == "out-of-range" else GONE
        check(end.errno in wanted, f"errno, which is {end.errno}")


@requirement("K-MACH-4", "K-MACH-5")
def test_machine_is_destroyed_once(library: Libnvmm) -> None:
    """Destroying a machine that is not there is ENOENT, and one out of range EINVAL."""
    with RawGuest(library, STEP) as guest, Machine(library) as other:
        own = other.machid
        gone = Machine(library)
        gone.raw.machid, machid = 1 << 20, gone.machid
        with expect_errno(errno.EINVAL):
            gone._destroy()
        gone.raw.machid = machid
        gone.destroy()
        other.raw.machid = machid
        with expect_errno(*GONE):
            other._destroy()
        other.raw.machid = own
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit of another one")


# ---- nvmm_vcpu_configure ----


@requirement("K-CONF-1", "L-VCPU-6")
@pytest.mark.parametrize("op", [100, 101, 199, 202, 203, 1000, 1 << 32, 1 << 63])
def test_no_such_vcpu_configuration(vcpu: Vcpu, op: int) -> None:
    """nvmm_vcpu_configure of an operation that there is not is EINVAL."""
    with expect_errno(errno.EINVAL):
        vcpu.configure(op, bytes(64))


@requirement("K-CONF-1", "K-CONF-10", "L-VCPU-6")
@pytest.mark.parametrize("mistake", ["machine", "vcpu", "record"])
def test_operation_is_looked_at_first(library: Libnvmm, mistake: str) -> None:
    """Where the operation and something else are wrong, the operation is told: EINVAL."""
    with RawGuest(library, STEP) as guest:
        with Machine(library) as gone:
            machid = gone.machid
        record = None if mistake == "record" else bytes(64)
        own = guest.machine.machid
        with (
            guest.elsewhere(machid if mistake == "machine" else own),
            guest.renamed(9 if mistake == "vcpu" else 0),
            expect_errno(errno.EINVAL),
        ):
            guest.vcpu.configure(300, record)


@requirement("K-CONF-10", "L-VCPU-6")
def test_configuration_without_a_record(vcpu: Vcpu) -> None:
    """nvmm_vcpu_configure with a NULL pointer is EFAULT."""
    with expect_errno(errno.EFAULT):
        vcpu.configure(200, None)


@requirement("K-CONF-10", "K-VCPU-4")
def test_vcpu_is_looked_up_before_the_record(library: Libnvmm) -> None:
    """nvmm_vcpu_configure of no vCPU with a NULL pointer: the vCPU is told, ENOENT."""
    with RawGuest(library, STEP) as guest, guest.renamed(9), expect_errno(errno.ENOENT):
        guest.vcpu.configure(200, None)


# ---- assists ----

CODE = {"hlt": "f4", "io": "e640", "mem": "a00020", "rdmsr": "66b9030100c00f32"}
"""What makes an exit, in real mode."""


@requirement("L-IO-1", "L-MEM-1", "L-VCPU-5")
@pytest.mark.parametrize(
    ("assist", "code"),
    [(assist, code) for assist in ("io", "mem") for code in CODE if code != assist],
)
def test_assist_of_another_exit(library: Libnvmm, assist: str, code: str) -> None:
    """An assist after an exit that is not its own is EINVAL, and changes nothing."""
    with RawGuest(library, bytes.fromhex(CODE[code])) as guest:
        guest.vcpu.configure_callbacks(lambda access: None, lambda access: None)
        enter(guest.vcpu)
        guest.vcpu.getstate(StateFlag.ALL)
        before = guest.vcpu.state_bytes()
        with expect_errno(errno.EINVAL):
            guest.vcpu.assist_io() if assist == "io" else guest.vcpu.assist_mem()
        check.equal(guest.vcpu.state_bytes(), before, "state")


@requirement("L-IO-1", "L-MEM-1")
@pytest.mark.parametrize("assist", ["io", "mem"])
def test_assist_before_any_run(vcpu: Vcpu, assist: str) -> None:
    """An assist that follows no run is EINVAL."""
    vcpu.configure_callbacks(lambda access: None, lambda access: None)
    if vcpu.last_exit.reason in (ExitReason.IO, ExitReason.MEMORY):
        check(True, "the exit structure is not cleared, and holds anything")
        return
    with expect_errno(errno.EINVAL):
        vcpu.assist_io() if assist == "io" else vcpu.assist_mem()


# ---- nvmm_ctl ----


@requirement("K-MACH-10", "L-CTL-1")
@pytest.mark.parametrize("op", [1, 2, 0x7FFFFFFF, -1])
def test_no_such_control(library: Libnvmm, machine: Machine, op: int) -> None:
    """nvmm_ctl of an operation that there is not is EINVAL."""
    record = bytearray(machine.machid.to_bytes(4, "little") + bytes(28))
    with expect_errno(errno.EINVAL):
        control(library, op, record, MACH_INFO_SIZE)


@requirement("K-MACH-10", "L-CTL-1")
@pytest.mark.parametrize("size", [0, 4, 31, 33, 64])
def test_control_record_has_one_size(library: Libnvmm, machine: Machine, size: int) -> None:
    """nvmm_ctl with a record of another size is EINVAL, and writes nothing."""
    record = bytearray(machine.machid.to_bytes(4, "little") + b"\xa5" * 60)
    before = bytes(record)
    with expect_errno(errno.EINVAL):
        control(library, MACH_INFO, record, size)
    check.equal(bytes(record), before, "record")


@requirement("K-MACH-10", "L-CTL-1")
def test_control_without_a_record(library: Libnvmm, machine: Machine) -> None:
    """nvmm_ctl with a NULL pointer is EFAULT; with a wrong size besides it is EINVAL."""
    with expect_errno(errno.EFAULT):
        control(library, MACH_INFO, None, MACH_INFO_SIZE)
    with expect_errno(errno.EINVAL):
        control(library, MACH_INFO, None, MACH_INFO_SIZE + 1)
    with expect_errno(errno.EINVAL):
        control(library, MACH_INFO + 1, None, MACH_INFO_SIZE)
