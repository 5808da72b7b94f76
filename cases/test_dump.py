# SPDX-License-Identifier: BSD-2-Clause
"""What is told about a machine to people: nvmm_vcpu_dump, whose format promises nothing but has to
show the registers, and nvmm_ctl's machine information (libnvmm(3), nvmmctl(8))."""

from __future__ import annotations

import ctypes
import errno
import os
import time

import pytest
from raw_bench import STEP, RawGuest, enter

from nvmmconf.nvmm import machine_info
from nvmmconf.suite import (
    PAGE_SIZE,
    Cr,
    ExitReason,
    Gpr,
    HostMemory,
    Libnvmm,
    Machine,
    Msr,
    Prot,
    Segment,
    StateFlag,
    Vcpu,
    check,
    expect_errno,
    isolated,
    requirement,
)

VALUES = {
    "rax": 0x1A01_2B02_3C03_4D01,
    "rcx": 0x1A01_2B02_3C03_4D02,
    "rdx": 0x1A01_2B02_3C03_4D03,
    "rbx": 0x1A01_2B02_3C03_4D04,
    "rsp": 0x1A01_2B02_3C03_4D05,
    "rbp": 0x1A01_2B02_3C03_4D06,
    "rsi": 0x1A01_2B02_3C03_4D07,
    "rdi": 0x1A01_2B02_3C03_4D08,
    "rip": 0x1A01_2B02_3C03_4D09,
    "rflags": 0x0024_0AD7,
}
"""General registers, no two alike."""


def _dump(vcpu: Vcpu) -> None:
    vcpu.dump()
    ctypes.CDLL(None).fflush(None)  # what printf(3) keeps


def _dumped(vcpu: Vcpu) -> str:
    end = isolated(_dump, vcpu)
    assert str(end) == "exit status 0"
    return end.output.lower()


@requirement("L-VER-6", "L-ST-2")
@pytest.mark.parametrize("register", VALUES)
def test_dump_shows_general_registers(vcpu: Vcpu, register: str) -> None:
    """nvmm_vcpu_dump prints the general registers, RIP and RFLAGS on standard output, in hex."""
    vcpu.state.gprs[Gpr[register.upper()]] = VALUES[register]
    vcpu.setstate(StateFlag.GPRS)
    assert f"{VALUES[register]:x}" in _dumped(vcpu)


@requirement("L-VER-6", "L-ST-2")
@pytest.mark.parametrize("segment", [one.name.lower() for one in Segment])
def test_dump_shows_segments(vcpu: Vcpu, segment: str) -> None:
    """nvmm_vcpu_dump prints each segment's selector, base and limit."""
    record = vcpu.state.segs[Segment[segment.upper()]]
    record.selector, record.base, record.limit = 0xA1B8, 0x7BCDE123, 0x54321
    vcpu.setstate(StateFlag.SEGS)
    printed = _dumped(vcpu)
    check("7bcde123" in printed, "base")
    check("a1b8" in printed or segment in ("gdt", "idt"), "selector")
    check("54321" in printed, "limit")


@requirement("L-VER-6", "L-ST-2")
def test_dump_shows_control_registers(vcpu: Vcpu) -> None:
    """nvmm_vcpu_dump prints CR0, CR3, CR4, CR8 and EFER."""
    wanted = {Cr.CR0: 0x60050033, Cr.CR3: 0x71234000, Cr.CR4: 0x306F8, Cr.CR8: 0xB}
    for index, value in wanted.items():
        vcpu.state.crs[index] = value
    vcpu.state.msrs[Msr.EFER] = 0xD01
    vcpu.setstate(StateFlag.CRS | StateFlag.MSRS)
    printed = _dumped(vcpu)
    for index, value in wanted.items():
        check(f"{value:x}" in printed, index.name)
    check("d01" in printed, "EFER")


@requirement("L-VER-6", "L-ST-2")
def test_dump_shows_what_the_guest_did(library: Libnvmm) -> None:
    """nvmm_vcpu_dump fetches what it prints: the state after the run."""
    with RawGuest(library, b"\xb8\x5a\xa5\xf4") as guest:  # mov ax, 0xA55A; hlt
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        check("a55a" in _dumped(guest.vcpu), "RAX")


@requirement("K-VCPU-4", "L-VCPU-2")
def test_dump_of_no_vcpu(library: Libnvmm) -> None:
    """nvmm_vcpu_dump of a vCPU that does not exist fails as nvmm_vcpu_getstate does."""
    with RawGuest(library, STEP) as guest:
        enter(guest.vcpu)
        with guest.renamed(9), expect_errno(errno.ENOENT):
            guest.vcpu.dump()


# ---- nvmm_ctl ----


@requirement("K-MACH-9", "L-CTL-1", "L-CTL-3")
@pytest.mark.parametrize("vcpus", [0, 1, 2, 7])
def test_vcpus_of_a_machine(library: Libnvmm, machine: Machine, vcpus: int) -> None:
    """Machine information tells how many vCPUs there are, whatever their ids."""
    made = [machine.create_vcpu(3 * n) for n in range(vcpus)]
    check.equal(machine_info(library, machine.machid).vcpus, vcpus, "vCPUs")
    if made:
        made[0].destroy()
        check.equal(machine_info(library, machine.machid).vcpus, vcpus - 1, "after one is gone")


@requirement("K-MACH-9", "L-CTL-1")
def test_ram_of_a_machine(library: Libnvmm, machine: Machine) -> None:
    """Machine information tells the bytes of host memory, shown to the guest or not."""
    with HostMemory(3 * PAGE_SIZE) as first, HostMemory(PAGE_SIZE) as second:
        check.equal(machine_info(library, machine.machid).ram, 0, "nothing")
        machine.hva_map(first)
        check.equal(machine_info(library, machine.machid).ram, 3 * PAGE_SIZE, "one mapping")
        machine.hva_map(second)
        check.equal(machine_info(library, machine.machid).ram, 4 * PAGE_SIZE, "two mappings")
        machine.gpa_map(first.hva, 0, PAGE_SIZE, Prot.READ)
        check.equal(machine_info(library, machine.machid).ram, 4 * PAGE_SIZE, "shown")
        machine.hva_unmap(second)
        check.equal(machine_info(library, machine.machid).ram, 3 * PAGE_SIZE, "one unmapped")


@requirement("K-MACH-9", "L-CTL-1")
def test_owner_and_time_of_a_machine(library: Libnvmm) -> None:
    """Machine information tells the process that opened NVMM, and when the machine was made."""
    before = int(time.time())
    with Machine(library) as machine:
        after = int(time.time())
        info = machine_info(library, machine.machid)
    check.equal(info.pid, os.getpid(), "pid")
    check(before - 1 <= info.time <= after + 1, "time of creation")


@requirement("L-CTL-1", "K-MACH-9")
def test_information_is_of_the_machine_that_is_named(library: Libnvmm) -> None:
    """Machine information is about the machine whose id is given."""
    with Machine(library) as one, Machine(library) as other, HostMemory(PAGE_SIZE) as memory:
        one.hva_map(memory)
        other.create_vcpu(0)
        of_one, of_other = (machine_info(library, m.machid) for m in (one, other))
        check.equal((of_one.vcpus, of_one.ram), (0, PAGE_SIZE), "the one")
        check.equal((of_other.vcpus, of_other.ram), (1, 0), "the other")
