# SPDX-License-Identifier: BSD-2-Clause
"""errno as an exception: what it says, and which calls give which."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from nvmmconf.abi import EventType, ExitReason, Libnvmm, Prot, StateFlag, bundled_path
from nvmmconf.nvmm import (
    PAGE_SIZE,
    CpuidMask,
    HostMemory,
    Machine,
    NvmmError,
    Vcpu,
    init,
    query_capability,
)
from nvmmconf.nvmm.errors import errno_name

Boot = Callable[[str], Vcpu]


def test_str_has_call_arguments_and_errno() -> None:
    error = NvmmError("nvmm_gpa_map", errno.EINVAL, hva=0x7F00, gpa=-3, size=9, prot="READ")
    assert str(error) == (
        f"nvmm_gpa_map(hva=0x7f00, gpa=-3, size=9, prot=READ): EINVAL ({os.strerror(22)})"
    )
    assert isinstance(error, OSError)
    assert (error.errno, error.name, error.call) == (22, "EINVAL", "nvmm_gpa_map")
    assert error.arguments == {"hva": "0x7f00", "gpa": "-3", "size": "9", "prot": "READ"}


def test_str_has_the_note_and_no_arguments_where_there_are_none() -> None:
    error = NvmmError("nvmm_init", errno.ENXIO, "the driver is not loaded")
    assert str(error) == f"nvmm_init(): ENXIO ({os.strerror(6)}): the driver is not loaded"


def test_an_errno_without_a_name_here() -> None:
    assert errno_name(9999) == "errno 9999"
    assert str(NvmmError("nvmm_init", 9999)).startswith("nvmm_init(): errno 9999 (")


def test_before_init_everything_is_ebadf() -> None:
    """L-INIT-6, in a process of its own: the descriptor is never closed again."""
    script = (
        "from nvmmconf.abi import *; from nvmmconf.nvmm import *\n"
        f"library = open_library(LibraryChoice({str(bundled_path())!r}, 'test'))\n"
        "for call in (query_capability, Machine):\n"
        "    try: call(library)\n"
        "    except NvmmError as error: print(error.call, error.name)\n"
        "init(library); init(library); print(query_capability(library).max_vcpus)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NVMM")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines() == [
        "nvmm_capability EBADF",
        "nvmm_machine_create EBADF",
        "256",
    ]


@pytest.mark.parametrize("call", ["init", "capability", "create"])
def test_the_librarys_own_reason_is_told(
    library: Libnvmm, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    calls = {"init": init, "capability": query_capability, "create": Machine}
    monkeypatch.setenv("NVMM_SOFT_FAULT", "no-such-fault")
    with pytest.raises(NvmmError, match=r"EINVAL \(.*\): .*'no-such-fault'"):
        calls[call](library)


def test_machines_run_out(library: Libnvmm, profile: str) -> None:
    """L-MACH-3, and the places of the destroyed ones are free again."""
    with contextlib.ExitStack() as machines:
        numbers = [machines.enter_context(Machine(library)).machid for _ in range(128)]
        with pytest.raises(NvmmError) as raised:
            Machine(library)
    assert len(set(numbers)) == 128
    assert (raised.value.call, raised.value.name) == ("nvmm_machine_create", "ENOBUFS")
    with Machine(library):
        pass


def test_a_machine_has_no_configuration(machine: Machine) -> None:
    with pytest.raises(NvmmError, match=r"nvmm_machine_configure\(machid=\d+, op=0xc8\): EINVAL"):
        machine.configure(200)


# ---- vCPUs -------------------------------------------------------------------


def test_the_same_vcpu_twice_is_ebusy(machine: Machine) -> None:
    """L-VCPU-2; the first one lives on."""
    first = machine.create_vcpu(3)
    with pytest.raises(NvmmError, match=r"nvmm_vcpu_create\(machid=\d+, cpuid=3\): EBUSY") as e:
        machine.create_vcpu(3)
    assert e.value.errno == errno.EBUSY
    first.getstate(StateFlag.ALL)
    first.destroy()
    machine.create_vcpu(3).getstate(StateFlag.ALL)


@pytest.mark.parametrize("cpuid", [256, 0xFFFFFFFF])
def test_a_vcpu_number_too_high_is_einval(machine: Machine, cpuid: int) -> None:
    with pytest.raises(NvmmError) as raised:
        machine.create_vcpu(cpuid)
    assert raised.value.name == "EINVAL"
    machine.create_vcpu(255)


def test_what_is_gone_is_enoent(library: Libnvmm, profile: str) -> None:
    """L-MACH-3: through libnvmm again, behind the wrapper that would not call it twice."""
    with Machine(library) as machine:
        vcpu = machine.create_vcpu(0)
        vcpu.destroy()
        vcpu._alive = True
        with pytest.raises(NvmmError, match=r"nvmm_vcpu_destroy\(machid=\d+, cpuid=0\): ENOENT"):
            vcpu.destroy()
    machine._alive = True
    with pytest.raises(NvmmError, match=r"nvmm_machine_destroy\(machid=\d+\): ENOENT"):
        machine.destroy()
    with pytest.raises(NvmmError) as raised:
        machine.create_vcpu(0)
    assert raised.value.name == "ENOENT"


def test_destroying_is_idempotent(library: Libnvmm, profile: str) -> None:
    machine = Machine(library)
    vcpu = machine.create_vcpu(0)
    vcpu.destroy()
    vcpu.destroy()
    machine.destroy()
    machine.destroy()
    vcpu.destroy()


def test_a_machine_destroys_its_vcpus_before_it(library: Libnvmm, profile: str) -> None:
    """L-MACH-2: libnvmm would leak them."""
    machine = Machine(library)
    vcpus = [machine.create_vcpu(index) for index in (0, 7)]
    machine.destroy()
    assert not any(vcpu._alive for vcpu in vcpus)


def test_an_error_within_the_with_statement_destroys_the_machine(
    library: Libnvmm, profile: str
) -> None:
    with pytest.raises(ZeroDivisionError), Machine(library) as machine:
        raise ZeroDivisionError
    assert not machine._alive


# ---- configuration, events, stop -----------------------------------------------


def test_cpuid_set_and_clear_of_one_bit_is_einval(machine: Machine) -> None:
    """L-VCPU-7."""
    vcpu = machine.create_vcpu(0)
    with pytest.raises(NvmmError) as raised:
        vcpu.configure_cpuid(CpuidMask(1, (0, 0, 4, 0), (0, 0, 4, 0)))
    assert str(raised.value).startswith("nvmm_vcpu_configure(machid=")
    assert raised.value.arguments["op"] == "CPUID"
    assert raised.value.arguments["leaf"] == "1"
    assert raised.value.name == "EINVAL"


def test_cpuid_places_run_out(machine: Machine) -> None:
    """L-VCPU-7: 32 of them; the same leaf again takes no other."""
    vcpu = machine.create_vcpu(0)
    for _ in range(2):
        for leaf in range(32):
            vcpu.configure_cpuid(CpuidMask(leaf, set_bits=(1, 0, 0, 0)))
    with pytest.raises(NvmmError) as raised:
        vcpu.configure_cpuid_exit(32)
    assert raised.value.name == "ENOBUFS"


def test_tpr_without_support_is_einval(machine: Machine) -> None:
    """L-VCPU-8 on AMD."""
    with pytest.raises(NvmmError) as raised:
        machine.create_vcpu(0).configure_tpr(exit_changed=True)
    assert raised.value.name == "EINVAL"
    assert raised.value.arguments["exit_changed"] == "1"


def test_a_bad_event_fails_the_run(boot: Boot) -> None:
    """L-EVT-3: inject takes anything, the run refuses."""
    vcpu = boot("f4")
    vcpu.inject(EventType.EXCP, 2)
    with pytest.raises(NvmmError, match=r"nvmm_vcpu_run\(machid=\d+, cpuid=0\): EINVAL"):
        vcpu.run()
    assert vcpu.run().reason is ExitReason.HALTED


def test_stop_makes_the_next_run_return_at_once(boot: Boot, library: Libnvmm, profile: str) -> None:
    """L-STOP-2; version 1 has no stop word."""
    vcpu = boot("f4")
    if profile == "v1-svm":
        with pytest.raises(NvmmError) as raised:
            vcpu.stop()
        assert raised.value.name == "ENOSYS"
    else:
        vcpu.stop()
        stopped = vcpu.run()
        assert stopped.reason is ExitReason.STOPPED
        assert stopped.state.rflags == 0  # L-RUN-3: the guest was not entered
    assert vcpu.run().reason is ExitReason.HALTED


# ---- memory --------------------------------------------------------------------


def test_hva_unmap_of_what_is_not_mapped_is_enoent(machine: Machine) -> None:
    with HostMemory(PAGE_SIZE) as memory:
        with pytest.raises(NvmmError) as raised:
            machine.hva_unmap(memory)
        assert raised.value.name == "ENOENT"
        memory.data[0] = 1  # still ours
    assert set(raised.value.arguments) == {"machid", "hva", "size"}


def test_gpa_overlap_is_einval_and_says_what_was_asked(
    machine: Machine, memory: HostMemory
) -> None:
    with pytest.raises(NvmmError) as raised:
        machine.gpa_map(memory.hva, PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.EXEC)
    assert raised.value.name == "EINVAL"
    assert raised.value.arguments == {
        "machid": str(machine.machid) if machine.machid < 10 else hex(machine.machid),
        "hva": hex(memory.hva),
        "gpa": "0x1000",
        "size": "0x1000",
        "prot": repr(Prot.READ | Prot.EXEC),
    }
