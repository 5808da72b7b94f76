# SPDX-License-Identifier: BSD-2-Clause
"""Whose a machine is: that of whoever opened NVMM, not of a process id.  What a child of the
process does at its end is no concern of the machines; what another opener does is refused; and what
nobody owns any more is gone.  libnvmm(3); nvmm(4)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_bench import STEP, RawGuest, enter

from nvmmconf.abi import LibraryChoice, open_library
from nvmmconf.nvmm import init, machine_info
from nvmmconf.suite import (
    PAGE_SIZE,
    ExitReason,
    HostMemory,
    Level,
    Libnvmm,
    Machine,
    NvmmError,
    Vcpu,
    check,
    isolated,
    requirement,
)


def _end(how: str) -> None:
    """End this process."""
    match how:
        case "exit":
            os._exit(0)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


@requirement("L-MACH-5", "K-DEV-5", "K-DEV-4")
@pytest.mark.parametrize("how", ["return", "exit", "abort", "kill"])
def test_machines_outlive_a_child(library: Libnvmm, how: str) -> None:
    """However a child of the process ends, the process's machines go on as they were (BH-48)."""
    with RawGuest(library, STEP) as guest:
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit before")
        isolated(_end, how)
        guest.again()
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit after")
        check.equal(guest.rax(), 1, "RAX")
        check.equal(machine_info(library, guest.machine.machid).vcpus, 1, "vCPUs")


def _make_machines(library: Libnvmm) -> None:
    for _ in range(3):
        Machine(library).create_vcpu(0)


@requirement("L-MACH-5", "K-DEV-4", "K-MACH-1")
def test_machines_of_a_child_are_no_other_machines(library: Libnvmm) -> None:
    """Machines that a child makes and leaves behind have ids of their own: the process's are as
    they were, and more can be made."""
    with RawGuest(library, STEP) as guest:
        end = isolated(_make_machines, library)
        check.equal(str(end), "exit status 0", "the child")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        with Machine(library) as other:
            check(other.machid != guest.machine.machid, "a new machine has another id")


def _use(guest: RawGuest) -> str:
    return enter(guest.vcpu).reason_name


@requirement("K-DEV-4", level=Level.INFO)
def test_child_can_use_the_machines(library: Libnvmm) -> None:
    """A child inherits the descriptor, and can run the process's vCPUs."""
    with RawGuest(library, STEP) as guest:
        end = isolated(_use, guest)
        assert end.value == "HALTED"


def _own_library(library: Libnvmm) -> Libnvmm:
    """The same libnvmm once more: it opens NVMM for itself, and is another owner."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "libnvmm.so"
        shutil.copyfile(library.path, copy)
        own = open_library(LibraryChoice(str(copy), "a copy"))
    init(own)
    return own


def _own_machine(library: Libnvmm) -> int:
    machine = Machine(_own_library(library))
    machine.create_vcpu(0)
    machine.hva_map(HostMemory(PAGE_SIZE))
    return machine.machid


@requirement("K-DEV-5", "L-MACH-5")
@pytest.mark.parametrize("times", [1, 3])
def test_machines_end_with_their_owner(library: Libnvmm, times: int) -> None:
    """When the process that opened NVMM has ended, the machines that it left are gone."""
    for _ in range(times):
        machid = isolated(_own_machine, library).value
        for _ in range(3):  # somebody else may have made one with that id by now
            try:
                machine_info(library, machid)
            except NvmmError as error:
                if error.errno == errno.ENOENT:
                    break
        else:
            machid = None
        check(isinstance(machid, int), "the machine is gone")


STRANGE: dict[str, Callable[[Machine], object]] = {
    "hva_map": lambda machine: machine.hva_map(HostMemory(PAGE_SIZE)),
    "vcpu_create": lambda machine: Vcpu(machine, 1),
    "mach_info": lambda machine: machine_info(machine.library, machine.machid),
    "destroy": lambda machine: machine._destroy(),
}


def _use_as_stranger(library: Libnvmm, machid: int, use: str) -> None:
    own = Machine(_own_library(library))
    own.raw.machid = machid
    STRANGE[use](own)


@requirement("K-DEV-2", "L-MACH-3")
@pytest.mark.parametrize("use", STRANGE)
def test_another_owner_is_refused(library: Libnvmm, use: str) -> None:
    """Whoever has opened NVMM for himself can do nothing to the machines of another: EPERM (or
    ENOENT, where each process has machines of its own)."""
    with Machine(library), RawGuest(library, STEP) as guest:  # whose id is not 0
        end = isolated(_use_as_stranger, library, guest.machine.machid, use)
        check(end.errno in (errno.EPERM, errno.ENOENT), f"refused: {end}")
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
