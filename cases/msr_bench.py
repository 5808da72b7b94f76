# SPDX-License-Identifier: BSD-2-Clause
"""RDMSR and WRMSR in a guest: what the cases of them share."""

from __future__ import annotations

from insn_bench import DONE, Bench

from nvmmconf.suite import (
    Gpr,
    Msr,
    Segment,
    check,
)

CODE = {"rdmsr": "rdmsr", "wrmsr": "wrmsr", "rdtsc": "rdtsc", "cpuid": "cpuid"}

TSC = 0x10
APIC_BASE = 0x1B
MICROCODE = 0x8B
PAT = 0x277
EFER = 0xC0000080
STAR = 0xC0000081
LSTAR = 0xC0000082
CSTAR = 0xC0000083
SFMASK = 0xC0000084
FS_BASE = 0xC0000100
GS_BASE = 0xC0000101
KERNEL_GS_BASE = 0xC0000102

KEPT = {
    "sysenter_cs": (0x174, Msr.SYSENTER_CS, (0x8, 0xFFF8)),
    "sysenter_esp": (0x175, Msr.SYSENTER_ESP, (0x1000, 0x87654321)),
    "sysenter_eip": (0x176, Msr.SYSENTER_EIP, (0x2000, 0xFEDCBA98)),
    "pat": (PAT, Msr.PAT, (0x0007040600070406, 0x0001040506070000)),
    "star": (STAR, Msr.STAR, (0x0023001000000000, 0xFEDCBA9800000000)),
    "lstar": (LSTAR, Msr.LSTAR, (0x00007FFF12345678, 0xFFFF800012345678)),
    "cstar": (CSTAR, Msr.CSTAR, (0x00007ABC12345678, 0xFFFFFFFF87654321)),
    "sfmask": (SFMASK, Msr.SFMASK, (0x00047700, 0x00257FD5)),
    "kernelgsbase": (KERNEL_GS_BASE, Msr.KERNELGSBASE, (0x00007FFFFFFFF000, 0xFFFF888012340000)),
}
"""Number, place in the state, and values that both vendors take."""
BASES = {"fsbase": (FS_BASE, Segment.FS), "gsbase": (GS_BASE, Segment.GS)}
NUMBERS = {name: row[0] for name, row in KEPT.items()} | {n: row[0] for n, row in BASES.items()}

DIRTY = 0xDEADBEEF_00000000
NON_CANONICAL = (0x0000800000000000, 0x8000000000000000, 0xFFFF7FFFFFFFFFFF)


def read_msr(bench: Bench, msr: int, *, upper: int = 0) -> int:
    """RDMSR, which the processor or the kernel has to answer."""
    effect = bench.execute("rdmsr", {Gpr.RCX: upper | msr, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY})
    check.equal(effect.end, DONE, f"RDMSR {msr:#x}")
    check.equal(effect.exits, (), f"exits of RDMSR {msr:#x}")
    check.equal(effect.edx_eax >> 64, 0, "bits 63:32 of RDX")
    check.equal(effect.gpr[Gpr.RAX] >> 32, 0, "bits 63:32 of RAX")
    return effect.edx_eax


def value_registers(value: int, upper: int = 0) -> dict[Gpr, int]:
    """`value` in EDX:EAX, with `upper` in the halves above."""
    return {Gpr.RAX: upper | value & 0xFFFFFFFF, Gpr.RDX: upper | value >> 32}


def write_msr(bench: Bench, msr: int, value: int, *, upper: int = 0) -> None:
    """WRMSR, which the processor or the kernel has to take."""
    effect = bench.execute("wrmsr", {Gpr.RCX: upper | msr} | value_registers(value, upper))
    check.equal(effect.end, DONE, f"WRMSR {msr:#x} := {value:#x}")
    check.equal(effect.exits, (), f"exits of WRMSR {msr:#x}")
