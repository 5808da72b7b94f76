# SPDX-License-Identifier: BSD-2-Clause
"""nvmm_init and nvmm_capability: libnvmm(3).  Each field says something that can be tried: what is
offered works, what is not offered is refused, and limits are neither less nor more than it says."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

import pytest
from raw_bench import STEP, RawGuest, enter

from nvmmconf.abi import LibraryChoice, VcpuConf, open_library
from nvmmconf.nvmm import STATE_SIZE, init, query_capability
from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    Cr,
    ExitReason,
    HostMemory,
    Level,
    Libnvmm,
    Machine,
    Mode,
    Prot,
    StateFlag,
    Target,
    Vcpu,
    VcpuConfSupport,
    VirtualMachine,
    check,
    expect_errno,
    isolated,
    modes,
    requirement,
)


@requirement("K-CAP-1", "A-INIT-3", "L-VER-1", "L-VER-2")
def test_version_is_one_that_there_is(capability: Capability) -> None:
    """The version is that of a known NVMM: 1, 2 or 3."""
    assert capability.version in (1, 2, 3)


@requirement("K-CAP-1", "L-VER-2", "L-VER-1")
def test_version_tells_of_stop(capability: Capability, target: Target) -> None:
    """Version 1 has no nvmm_vcpu_stop, version 2 has it."""
    wanted = {1: (False,), 2: (True,)}.get(capability.version, (False, True))
    assert target.has_stop in wanted


@requirement("K-CAP-2", "A-INIT-4")
def test_state_size_is_that_of_the_structure(capability: Capability) -> None:
    """state_size is the size of the structure that <nvmm.h> declares."""
    assert capability.state_size == STATE_SIZE


@requirement("K-CAP-3")
def test_there_is_room_for_machines(capability: Capability) -> None:
    """max_machines is 128."""
    assert capability.max_machines == 128


@requirement("K-CAP-4", level=Level.INFO)
def test_vcpus_a_machine(capability: Capability) -> None:
    """max_vcpus is 256 (128 in the DragonFly line)."""
    assert capability.max_vcpus == 256


@requirement("K-CAP-4")
def test_vcpu_ids_fit_an_apic_id(capability: Capability) -> None:
    """max_vcpus is at least 1, and each vCPU's id fits the eight bits of an APIC id."""
    assert 1 <= capability.max_vcpus <= 256


@requirement("K-CAP-5")
def test_max_ram_is_pages(capability: Capability) -> None:
    """max_ram is whole pages, more than 4 GiB, and within what a processor can address."""
    check.equal(capability.max_ram % PAGE_SIZE, 0, "rest of a page")
    check(4 << 30 < capability.max_ram <= 1 << 52, "size")


@requirement("K-CAP-5", "K-MEM-14")
@pytest.mark.parametrize("pages", [1, 2, 512])
def test_memory_can_reach_max_ram(machine: Machine, capability: Capability, pages: int) -> None:
    """Guest memory can be mapped up to max_ram."""
    with HostMemory(pages * PAGE_SIZE) as memory:
        machine.hva_map(memory)
        gpa = capability.max_ram - memory.size
        machine.gpa_map(memory.hva, gpa, memory.size, Prot.READ)
        check.equal(machine.gpa_to_hva(gpa)[0], memory.hva, "mapping")


@requirement("K-CAP-6", "K-MACH-8", "L-MACH-4")
@pytest.mark.parametrize("op", [0, 1, 100, 101, 200, 201, 1 << 63])
def test_machines_cannot_be_configured(machine: Machine, capability: Capability, op: int) -> None:
    """mach_conf_support is 0, and any operation of nvmm_machine_configure is EINVAL."""
    check.equal(capability.mach_conf_support, 0, "mach_conf_support")
    with expect_errno(errno.EINVAL):
        machine.configure(op)


SUPPORT = {"cpuid": (VcpuConfSupport.CPUID, VcpuConf.CPUID, 40)}
SUPPORT["tpr"] = (VcpuConfSupport.TPR, VcpuConf.TPR, 4)


@requirement("K-CAP-7", "L-VCPU-8", "K-CONF-8", "K-CONF-9")
@pytest.mark.parametrize("name", SUPPORT)
def test_what_is_offered_can_be_configured(vcpu: Vcpu, capability: Capability, name: str) -> None:
    """A bit of vcpu_conf_support says whether that configuration works or is EINVAL."""
    bit, op, size = SUPPORT[name]
    if bit in capability.vcpu_conf_support:
        vcpu.configure(op, bytes(size))
        check(True, "configured")
    else:
        with expect_errno(errno.EINVAL):
            vcpu.configure(op, bytes(size))


@requirement("K-CAP-7")
def test_cpuid_can_be_configured_everywhere(capability: Capability) -> None:
    """vcpu_conf_support has CPUID, and no bits that nobody knows."""
    check(VcpuConfSupport.CPUID in capability.vcpu_conf_support, "CPUID")
    known = VcpuConfSupport.CPUID | VcpuConfSupport.TPR
    check.equal(int(capability.vcpu_conf_support) & ~int(known), 0, "unknown bits")


@requirement("K-CAP-8")
def test_xcr0_mask_is_a_value_of_xcr0(capability: Capability) -> None:
    """xcr0_mask is 0 or has x87, and AVX only with SSE (SDM 1 13.3)."""
    mask = capability.xcr0_mask
    check(mask == 0 or mask & 1, "x87")
    check(not mask & 4 or mask & 2, "AVX without SSE")


@requirement("K-CAP-8", "K-SET-7")
@pytest.mark.parametrize("value", [0, 1, 3, 7, (1 << 64) - 1])
def test_xcr0_keeps_to_its_mask(library: Libnvmm, capability: Capability, value: int) -> None:
    """XCR0 that is set is the mask's bits of it, and always x87."""
    with RawGuest(library, STEP) as guest:
        guest.vcpu.getstate(StateFlag.CRS)
        guest.vcpu.state.crs[Cr.XCR0] = value
        guest.vcpu.setstate(StateFlag.CRS)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        guest.vcpu.getstate(StateFlag.CRS)
        if capability.xcr0_mask:
            wanted = value & capability.xcr0_mask | 1
            check.equal(guest.vcpu.state.crs[Cr.XCR0], wanted, "XCR0")


@requirement("K-CAP-9", "K-RST-10")
def test_mxcsr_mask_is_what_the_guest_saves(library: Libnvmm, capability: Capability) -> None:
    """mxcsr_mask is the MXCSR_MASK of the FPU image after a run; 0 there stands for 0xFFBF."""
    with RawGuest(library, STEP) as guest:
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        guest.vcpu.getstate(StateFlag.FPU)
        told = guest.vcpu.state.fpu.fx_mxcsr_mask
        check.equal(told or 0xFFBF, capability.mxcsr_mask, "MXCSR_MASK")


@requirement("K-CAP-9")
@modes(Mode.PROT32, Mode.LONG64)
def test_mxcsr_mask_is_the_guests_own(vm: VirtualMachine, capability: Capability) -> None:
    """mxcsr_mask is what the guest's FXSAVE stores."""
    run = vm.run_code("    mov ebx, 0x8000\n    fxsave [{{ bx }}]\n    hlt\n")
    stored = int.from_bytes(run.memory(0x8000 + 28, 4), "little")
    assert (stored or 0xFFBF) == capability.mxcsr_mask


@requirement("K-CAP-10", "K-CONF-5", "L-VCPU-7")
def test_cpuid_leaves_are_as_many_as_it_says(vcpu: Vcpu, capability: Capability) -> None:
    """conf_cpuid_maxops CPUID leaves can be configured, and one more is ENOBUFS."""
    check.equal(capability.conf_cpuid_maxops, 32, "conf_cpuid_maxops")
    for n in range(capability.conf_cpuid_maxops):
        vcpu.configure_cpuid_exit(0x1000 + n)
    with expect_errno(errno.ENOBUFS):
        vcpu.configure_cpuid_exit(0x2000)


@requirement("K-CAP-1", "L-INIT-4")
def test_capability_does_not_change(library: Libnvmm, capability: Capability) -> None:
    """nvmm_capability tells the same whatever is there."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        check.equal(query_capability(library), capability, "with a machine")
    check.equal(query_capability(library), capability, "without")


@requirement("L-INIT-1", "L-INIT-3")
@pytest.mark.parametrize("root", [False, True])
def test_second_init_does_nothing(library: Libnvmm, machine: Machine, root: bool) -> None:
    """nvmm_init and nvmm_root_init, where NVMM is open already, succeed and change nothing."""
    end = isolated(_init_again, library, machine, root)
    assert str(end) == "exit status 0"


def _init_again(library: Libnvmm, machine: Machine, root: bool) -> None:
    init(library, root=root)
    machine.create_vcpu(0)


def _without_init(library: Libnvmm, what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a library that nobody has opened
        copy = Path(folder) / "libnvmm.so"
        shutil.copyfile(library.path, copy)
        own = open_library(LibraryChoice(str(copy), "a copy"))
        if what == "capability":
            query_capability(own)
        else:
            Machine(own)


@requirement("L-INIT-6")
@pytest.mark.parametrize("what", ["capability", "machine"])
def test_nothing_works_before_init(library: Libnvmm, what: str) -> None:
    """Before nvmm_init every call is EBADF."""
    end = isolated(_without_init, library, what)
    assert end.errno == errno.EBADF
