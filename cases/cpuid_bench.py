# SPDX-License-Identifier: BSD-2-Clause
"""CPUID in a guest: what the cases of it share."""

from __future__ import annotations

import struct

from insn_bench import Bench

from nvmmconf.suite import VcpuConf, VirtualMachine

CODE = {"cpuid": "cpuid", "prefixed": ".byte 0x66, 0x0F, 0xA2"}
EAX, EBX, ECX, EDX = range(4)
NAMES = ("eax", "ebx", "ecx", "edx")
MASK = (1 << 32) - 1
ZERO = (0, 0, 0, 0)


def cpuid_entry(
    leaf: int,
    *,
    mask: bool = False,
    exits: bool = False,
    set_bits: tuple[int, int, int, int] = ZERO,
    clear_bits: tuple[int, int, int, int] = ZERO,
) -> bytes:
    """`struct nvmm_vcpu_conf_cpuid`; with neither mask nor exit it removes the leaf's entry."""
    return struct.pack("<II8I", mask | exits << 1, leaf, *set_bits, *clear_bits)


def remove_entry(bench: Bench, leaf: int) -> None:
    """Take the entry of `leaf` away."""
    bench.guest.vcpu.configure(VcpuConf.CPUID, cpuid_entry(leaf))


def cpuid_bench(vm: VirtualMachine) -> Bench:
    """A bench with CPUID, without the accelerator's mask of leaf 1."""
    bench = Bench(vm, CODE)
    remove_entry(bench, 1)
    return bench
