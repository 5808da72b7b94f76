# SPDX-License-Identifier: BSD-2-Clause
"""CPUID's feature bits against the instructions behind them: SDM 2A "CPUID", SDM 1 5.1.

What CPUID offers has to work without an exit: BH-56, BH-64 and BH-65 are guests that
believed it.  What it does not offer has to be #UD only where the hypervisor can make it so.
"""

from __future__ import annotations

import pytest
from cpuid_bench import CODE, EBX, ECX, EDX
from insn_bench import CR4_OSXSAVE, DONE, Bench

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Level,
    Mode,
    VirtualMachine,
    check,
    modes,
    requirement,
)

AREA = 0x6000

Bit = tuple[int, int, int]
"""Leaf, register, bit."""
Table = dict[str, tuple[Bit, str]]

OFFERED: Table = {
    "fpu": ((1, EDX, 0), "fninit\nfld1\nfadd st(0), st(0)\nfstp st(0)"),
    "tsc": ((1, EDX, 4), "rdtsc"),
    "cx8": ((1, EDX, 8), "cmpxchg8b [{{ bx }}]"),
    "cmov": ((1, EDX, 15), "cmovz eax, ecx"),
    "clfsh": ((1, EDX, 19), "clflush [{{ bx }}]"),
    "mmx": ((1, EDX, 23), "paddd mm0, mm1\nemms"),
    "fxsr": ((1, EDX, 24), "fxsave [{{ bx }}]\nfxrstor [{{ bx }}]"),
    "sse": ((1, EDX, 25), "xorps xmm0, xmm0\naddps xmm0, xmm1"),
    "sse2": ((1, EDX, 26), "paddq xmm0, xmm1\naddpd xmm0, xmm1"),
    "sse3": ((1, ECX, 0), "addsubps xmm0, xmm1"),
    "pclmulqdq": ((1, ECX, 1), "pclmulqdq xmm0, xmm1, 0"),
    "ssse3": ((1, ECX, 9), "pabsd xmm0, xmm1"),
    "sse4_1": ((1, ECX, 19), "pmulld xmm0, xmm1"),
    "sse4_2": ((1, ECX, 20), "crc32 eax, ecx"),
    "movbe": ((1, ECX, 22), "movbe eax, [{{ bx }}]"),
    "popcnt": ((1, ECX, 23), "popcnt eax, ecx"),
    "aes": ((1, ECX, 25), "aesenc xmm0, xmm1"),
    "rdrand": ((1, ECX, 30), "rdrand eax"),
    "bmi1": ((7, EBX, 3), "andn eax, ecx, edx\ntzcnt eax, ecx"),
    "bmi2": ((7, EBX, 8), "mulx eax, ecx, edx\nrorx eax, ecx, 3"),
    "erms": ((7, EBX, 9), "mov ecx, 0\nrep movsb"),
    "rdseed": ((7, EBX, 18), "rdseed eax"),
    "adx": ((7, EBX, 19), "adcx eax, ecx\nadox eax, ecx"),
    "clflushopt": ((7, EBX, 23), "clflushopt [{{ bx }}]"),
    "clwb": ((7, EBX, 24), "clwb [{{ bx }}]"),
    "gfni": ((7, ECX, 8), "gf2p8mulb xmm0, xmm1"),
    "movdiri": ((7, ECX, 27), "movdiri [{{ bx }}], eax"),
    "abm": ((0x80000001, ECX, 5), "lzcnt eax, ecx"),
    "sse4a": ((0x80000001, ECX, 6), "extrq xmm0, 1, 2"),
    "prefetchw": ((0x80000001, ECX, 8), "prefetchw [{{ bx }}]"),
}
OFFERED_64: Table = {
    "cx16": ((1, ECX, 13), "cmpxchg16b [{{ bx }}]"),
    "lahf64": ((0x80000001, ECX, 0), "lahf\nsahf"),
    "syscall": ((0x80000001, EDX, 11), "mov ecx, 0xC0000080\nrdmsr\nor al, 1\nwrmsr"),
    "nx": ((0x80000001, EDX, 20), "mov ecx, 0xC0000080\nrdmsr\nor ah, 8\nwrmsr"),
    "sep": ((1, EDX, 11), "mov ecx, 0x174\nrdmsr\nwrmsr"),
    "pat": ((1, EDX, 16), "mov ecx, 0x277\nrdmsr\nwrmsr"),
    "pge": ((1, EDX, 13), "mov rax, cr4\nor al, 0x80\nmov cr4, rax"),
    "pse": ((1, EDX, 3), "mov rax, cr4\nor al, 0x10\nmov cr4, rax"),
    "de": ((1, EDX, 2), "mov rax, cr4\nor al, 8\nmov cr4, rax"),
    "fsgsbase": ((7, EBX, 0), "mov rax, cr4\nbts rax, 16\nmov cr4, rax\nrdfsbase rcx"),
    "umip": ((7, ECX, 2), "mov rax, cr4\nbts rax, 11\nmov cr4, rax"),
}

WITHHELD: Table = {  # what the hypervisor itself makes #UD
    "rdtscp": ((0x80000001, EDX, 27), ".byte 0x0F, 0x01, 0xF9"),
    "vmx": ((1, ECX, 5), ".byte 0x0F, 0x01, 0xC1"),
    "smx": ((1, ECX, 6), ".byte 0x0F, 0x37"),
    "svm": ((0x80000001, ECX, 2), ".byte 0x0F, 0x01, 0xD9"),
    "skinit": ((0x80000001, ECX, 12), ".byte 0x0F, 0x01, 0xDE"),
    "monitor": ((1, ECX, 3), ".byte 0x0F, 0x01, 0xC8"),
    "avx": ((1, ECX, 28), "vpxor xmm0, xmm0, xmm0"),
    "avx512": ((7, EBX, 16), "vpxord zmm0, zmm0, zmm0"),
}


def _offered(bench: Bench, bit: Bit) -> bool:
    leaf, register, number = bit
    return bool(bench.cpuid(leaf)[register] >> number & 1)


def _works(
    vm: VirtualMachine, name: str, table: dict[str, tuple[tuple[int, int, int], str]]
) -> None:
    bit, insn = table[name]
    bench = Bench(vm, CODE | {"insn": insn})
    if not _offered(bench, bit):
        check(True, "CPUID does not offer it")
        return
    effect = bench.execute("insn", {Gpr.RBX: AREA, Gpr.RSI: AREA, Gpr.RDI: AREA})
    check.equal((effect.end, effect.exits), (DONE, ()), name)


@requirement("K-CPUID-4", "K-CPUID-5", "K-CPUID-7", "K-CPUID-17", "K-INK-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("feature", OFFERED)
def test_what_cpuid_offers_works(vm: VirtualMachine, feature: str) -> None:
    """The instruction of a feature that CPUID shows is done, without exit (BH-56)."""
    _works(vm, feature, OFFERED)


@requirement("K-CPUID-4", "K-CPUID-5", "K-CPUID-7", "K-CPUID-17", "K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("feature", OFFERED_64)
def test_what_cpuid_offers_to_64_bit_code_works(vm: VirtualMachine, feature: str) -> None:
    """So are those that are of 64-bit mode, or that an MSR or CR4 switches on (BH-56)."""
    _works(vm, feature, OFFERED_64)


@requirement("K-CPUID-4", "K-CPUID-17", "K-INK-3", "K-INK-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("feature", WITHHELD)
@pytest.mark.filterwarnings("ignore::nvmmconf.suite.UnimplementedWarning")
def test_what_nvmm_withholds_is_undefined(vm: VirtualMachine, feature: str) -> None:
    """What NVMM does not offer, and can forbid, is #UD (BH-64, BH-65)."""
    bit, insn = WITHHELD[feature]
    bench = Bench(vm, CODE | {"insn": insn})
    effect = bench.execute("insn", {Gpr.RAX: AREA, Gpr.RBX: AREA, Gpr.RCX: 0, Gpr.RDX: 0})
    if _offered(bench, bit):
        check(feature == "avx", f"{feature} is offered")
    else:
        check.equal(effect.end, "#UD", feature)
        allowed = (ExitReason.MONITOR,) if feature == "monitor" else ()
        check.equal(effect.exits, allowed, "exits")


@requirement("K-CPUID-4", "K-CPUID-11")
@modes(Mode.LONG64)
@pytest.mark.filterwarnings("ignore::nvmmconf.suite.UnimplementedWarning")
def test_avx_needs_xcr0(vm: VirtualMachine) -> None:
    """AVX, where it is offered, works once XCR0 has it, and is #UD before (BH-56)."""
    bench = Bench(vm, CODE | {"avx": "vpxor ymm0, ymm0, ymm0", "xsetbv": "xsetbv"})
    if not _offered(bench, (1, ECX, 28)):
        check.equal(bench.execute("avx").end, "#UD", "AVX, not offered")
        return
    bench.set_cr4(CR4_OSXSAVE)
    check.equal(bench.execute("avx").end, "#UD", "AVX with XCR0 1")
    bench.execute("xsetbv", {Gpr.RAX: 7, Gpr.RDX: 0, Gpr.RCX: 0})
    check.equal(bench.execute("avx").end, DONE, "AVX with XCR0 7")


@requirement("K-CPUID-4", "K-CPUID-11")
@modes(Mode.LONG64)
def test_xsave_is_offered_with_a_mask(vm: VirtualMachine) -> None:
    """XSAVE is shown where the capability's xcr0_mask is not 0, and AVX where it has AVX."""
    bench = Bench(vm, CODE)
    mask = vm.target.capability.xcr0_mask
    if not _offered(bench, (1, ECX, 26)):
        check.equal(bench.cpuid(0xD)[0], 0, "leaf 0xD")
        return
    check(mask & 1, f"xcr0_mask {mask:#x} with XSAVE")
    if _offered(bench, (1, ECX, 28)):
        check(mask & 4, f"xcr0_mask {mask:#x} with AVX")


@requirement("K-CPUID-4", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("feature", ["movbe", "popcnt", "abm", "bmi1", "adx", "cx16", "rdrand"])
@pytest.mark.filterwarnings("ignore::nvmmconf.suite.UnimplementedWarning")
def test_what_cpuid_hides(vm: VirtualMachine, feature: str) -> None:
    """An unprivileged instruction that is not offered is #UD, where the processor has it not."""
    bit, insn = (OFFERED | OFFERED_64)[feature]
    bench = Bench(vm, CODE | {"insn": insn})
    effect = bench.execute("insn", {Gpr.RBX: AREA})
    wanted = DONE if _offered(bench, bit) else "#UD"
    check.equal(effect.end, wanted, feature)
