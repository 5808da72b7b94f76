# SPDX-License-Identifier: BSD-2-Clause
"""MSRs: those that the processor and the kernel keep, and those that come to the caller.

SDM 2 "RDMSR", "WRMSR", SDM 4 and APM 2 appendix A for what each holds and refuses; the
exits RDMSR and WRMSR of libnvmm(3), and what an accelerator answers to them.
"""

from __future__ import annotations

import pytest
from insn_bench import AMD, DONE, INTEL, Bench

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Mode,
    Msr,
    RdmsrExit,
    Segment,
    Stubs,
    VirtualMachine,
    WrmsrExit,
    check,
    modes,
    requirement,
)
from nvmmconf.suite.stubs import INNER_STACK

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


def _read(bench: Bench, msr: int, *, upper: int = 0) -> int:
    effect = bench.execute("rdmsr", {Gpr.RCX: upper | msr, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY})
    check.equal(effect.end, DONE, f"RDMSR {msr:#x}")
    check.equal(effect.exits, (), f"exits of RDMSR {msr:#x}")
    check.equal(effect.edx_eax >> 64, 0, "bits 63:32 of RDX")
    check.equal(effect.gpr[Gpr.RAX] >> 32, 0, "bits 63:32 of RAX")
    return effect.edx_eax


def _value(value: int, upper: int = 0) -> dict[Gpr, int]:
    return {Gpr.RAX: upper | value & 0xFFFFFFFF, Gpr.RDX: upper | value >> 32}


def _write(bench: Bench, msr: int, value: int, *, upper: int = 0) -> None:
    effect = bench.execute("wrmsr", {Gpr.RCX: upper | msr} | _value(value, upper))
    check.equal(effect.end, DONE, f"WRMSR {msr:#x} := {value:#x}")
    check.equal(effect.exits, (), f"exits of WRMSR {msr:#x}")


def _refused(bench: Bench, msr: int, value: int) -> None:
    """WRMSR of `value` is #GP(0) on the WRMSR, no exit, and the MSR is as before."""
    before = _read(bench, msr)
    effect = bench.execute("wrmsr", {Gpr.RCX: msr} | _value(value))
    check.equal(effect.end, "#GP(0)", f"WRMSR {msr:#x} := {value:#x}")
    check.equal(effect.exits, (), f"exits of WRMSR {msr:#x}")
    check.equal(_read(bench, msr), before, f"MSR {msr:#x} after a refused WRMSR")


# ---- what the processor keeps ----


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("name", "index"), [(name, i) for name in KEPT for i in (0, 1)])
def test_a_written_msr_reads_back(vm: VirtualMachine, name: str, index: int) -> None:
    """The MSRs of system calls, PAT and the swapped GS base read back whole, without exit."""
    msr, place, values = KEPT[name]
    bench = Bench(vm, CODE)
    _write(bench, msr, values[index])
    check.equal(_read(bench, msr), values[index], "RDMSR")
    check.equal(bench.guest.state().msr[place], values[index], "getstate")


@requirement("K-MSR-6")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("name", [*KEPT, *BASES])
def test_msrs_are_whole_outside_64_bit_mode(vm: VirtualMachine, name: str) -> None:
    """WRMSR and RDMSR move 64 bits in every mode."""
    bench = Bench(vm, CODE)
    if name in BASES:
        value, msr = 0xFFFF800012345678, BASES[name][0]
    else:
        msr, _, (_, value) = KEPT[name]
    _write(bench, msr, value)
    check.equal(_read(bench, msr), value, "RDMSR")


@requirement("K-MSR-6", "K-SET-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", KEPT)
def test_guest_reads_what_the_caller_has_set(vm: VirtualMachine, name: str) -> None:
    """RDMSR gives what the caller's setstate gave, and no other MSR has changed."""
    bench = Bench(vm, CODE)
    before = {other: _read(bench, NUMBERS[other]) for other in NUMBERS}
    msr, place, (_, value) = KEPT[name]
    bench.stubs.registers.msr[place] = value
    check.equal(_read(bench, msr), value, "RDMSR")
    for other in NUMBERS:
        if other != name:
            check.equal(_read(bench, NUMBERS[other]), before[other], other)


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", NUMBERS)
def test_upper_half_of_rcx_is_ignored(vm: VirtualMachine, name: str) -> None:
    """ECX alone selects the MSR, EDX:EAX alone are its value, whatever is above (SDM 2)."""
    bench = Bench(vm, CODE)
    value = KEPT[name][2][0] if name in KEPT else 0x7FFF00001000
    _write(bench, NUMBERS[name], value, upper=DIRTY)
    check.equal(_read(bench, NUMBERS[name], upper=DIRTY), value, "RDMSR")


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", NON_CANONICAL)
@pytest.mark.parametrize("name", ["lstar", "cstar", "kernelgsbase", "fsbase", "gsbase"])
def test_non_canonical_addresses_are_refused(vm: VirtualMachine, name: str, value: int) -> None:
    """WRMSR of a non-canonical address is #GP(0) and changes nothing (SDM 2 "WRMSR")."""
    _refused(Bench(vm, CODE), NUMBERS[name], value)


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", BASES)
def test_base_msrs_are_the_segments_bases(vm: VirtualMachine, name: str) -> None:
    """FSBASE and GSBASE are the bases of FS and GS: for accesses, RDMSR and getstate."""
    msr, segment = BASES[name]
    register = segment.name.lower()
    bench = Bench(vm, CODE | {"load": f"mov rax, {register}:[0x10]"})
    bench.guest.write(0x4010, bytes(range(0x11, 0x19)))
    _write(bench, msr, 0x4000)
    check.equal(bench.guest.state().seg[segment].base, 0x4000, "base in getstate")
    check.equal(bench.execute("load").gpr[Gpr.RAX], 0x1817161514131211, "what is there")
    bench.stubs.registers.seg[segment].base = 0xFFFF800000004000
    check.equal(_read(bench, msr), 0xFFFF800000004000, "RDMSR of a base that was set")


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["sysenter_esp", "sysenter_eip"])
def test_sysenter_addresses_of_64_bits(vm: VirtualMachine, name: str) -> None:
    """SYSENTER_ESP and _EIP hold 64 bits on Intel; AMD may keep the lower 32 (APM 2 6.1.2)."""
    bench = Bench(vm, CODE)
    value = 0xFFFF800012345678
    _write(bench, NUMBERS[name], value)
    allowed = {value, value & 0xFFFFFFFF} if bench.vendor() in AMD else {value}
    check(_read(bench, NUMBERS[name]) in allowed, "the address, or its lower half on AMD")


@requirement("K-MSR-1", "K-MSR-2", "K-MSR-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("msr", [MICROCODE, LSTAR, EFER, 0x12345678])
@pytest.mark.parametrize("insn", ["rdmsr", "wrmsr"])
def test_msrs_are_for_cpl_0(vm: VirtualMachine, insn: str, msr: int) -> None:
    """RDMSR and WRMSR above CPL 0 are #GP(0), and no exit, whatever the MSR."""
    effect = Bench(vm, CODE, user=True).execute(insn, {Gpr.RCX: msr})
    assert effect.end == "#GP(0)"
    assert effect.exits == ()


# ---- PAT ----

PAT_TYPES = (0, 1, 4, 5, 6, 7)
RESET_PAT = 0x0007040600070406


@requirement("K-MSR-9", "K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("kind", [*PAT_TYPES, 2, 3, 8, 0xFF])
def test_pat_takes_memory_types_only(vm: VirtualMachine, kind: int) -> None:
    """Each entry of PAT is a memory type, 0, 1, 4 to 7; another is #GP(0) (SDM 3A 12.12.2)."""
    bench = Bench(vm, CODE)
    for entry in range(8):
        value = RESET_PAT & ~(0xFF << 8 * entry) | kind << 8 * entry
        if kind in PAT_TYPES:
            _write(bench, PAT, value)
            check.equal(_read(bench, PAT), value, "PAT")
        else:
            _refused(bench, PAT, value)


# ---- EFER ----

EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1, 1 << 8, 1 << 10, 1 << 11
HIDDEN_EFER = {  # bit: leaf, register, bit of CPUID that offers it
    12: (0x80000001, 2, 2),  # SVME
    13: (0x80000001, 2, 2),  # LMSLE, no bit of its own in CPUID before Zen 3
    14: (0x80000001, 3, 25),  # FFXSR
    15: (0x80000001, 2, 17),  # TCE
}


@requirement("K-MSR-8")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("bits", [0, EFER_SCE, EFER_NXE, EFER_SCE | EFER_NXE])
def test_efer_reads_back(vm: VirtualMachine, bits: int) -> None:
    """EFER.SCE and NXE read back as written, without exit, and getstate has the same."""
    bench = Bench(vm, CODE)
    kept = _read(bench, EFER) & (EFER_LME | EFER_LMA)
    _write(bench, EFER, kept | bits)
    check.equal(_read(bench, EFER), kept | bits, "EFER")
    check.equal(bench.guest.state().msr[Msr.EFER], kept | bits, "EFER in getstate")


@requirement("K-MSR-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", [1, 2, 3, 4, 5, 6, 7, 9, 16, 19, 31, 32, 48, 63])
def test_reserved_bits_of_efer(vm: VirtualMachine, bit: int) -> None:
    """WRMSR EFER with a reserved bit is #GP(0), RIP on the WRMSR, and changes nothing."""
    bench = Bench(vm, CODE)
    _refused(bench, EFER, _read(bench, EFER) | 1 << bit)


@requirement("K-MSR-7", "K-SET-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", HIDDEN_EFER)
def test_efer_bits_that_cpuid_does_not_offer(vm: VirtualMachine, bit: int) -> None:
    """A bit of EFER whose feature CPUID hides (SVME, LMSLE, FFXSR, TCE) is reserved: #GP(0)."""
    bench = Bench(vm, CODE)
    leaf, register, feature = HIDDEN_EFER[bit]
    value = _read(bench, EFER) | 1 << bit
    if bench.cpuid(leaf)[register] >> feature & 1:
        _write(bench, EFER, value)
        check.equal(_read(bench, EFER), value, "EFER")
    else:
        _refused(bench, EFER, value)


@requirement("K-SET-8")
@modes(Mode.REAL16, Mode.LONG64)
def test_svme_is_never_seen(vm: VirtualMachine) -> None:
    """EFER.SVME, which the host needs, is neither the guest's nor the caller's to see (BH-68)."""
    bench = Bench(vm, CODE)
    check.equal(_read(bench, EFER) >> 12 & 1, 0, "SVME, RDMSR")
    check.equal(bench.guest.state().msr[Msr.EFER] >> 12 & 1, 0, "SVME, getstate")


@requirement("K-MSR-8")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_lme_is_fixed_while_paging_is_on(vm: VirtualMachine) -> None:
    """WRMSR that changes EFER.LME while CR0.PG is set is #GP(0) (SDM 3A 10.8.5)."""
    bench = Bench(vm, CODE)
    _refused(bench, EFER, EFER_LMA)


@requirement("K-MSR-8")
@modes(Mode.REAL16, Mode.PROT32)
def test_lma_is_the_processors(vm: VirtualMachine) -> None:
    """Without paging EFER.LMA stays 0 whatever is written, or the write is #GP(0)."""
    bench = Bench(vm, CODE)
    effect = bench.execute("wrmsr", {Gpr.RCX: EFER} | _value(EFER_LMA | EFER_LME))
    check(effect.end in (DONE, "#GP(0)"), f"WRMSR: {effect.end}")
    check.equal(_read(bench, EFER) & EFER_LMA, 0, "LMA")


@requirement("K-MSR-8", "K-INK-8")
@modes(Mode.COMPAT32)
def test_clearing_pg_clears_lma(vm: VirtualMachine) -> None:
    """Leaving long mode by clearing CR0.PG clears EFER.LMA and leaves LME (SDM 3A 10.8.5.4)."""
    run = vm.run_code("""
        mov     eax, cr0
        and     eax, 0x7FFFFFFF
        mov     cr0, eax
        mov     ecx, 0xC0000080
        rdmsr
    after:
        hlt
    """)
    assert run.rip == run.symbol("after") + 1
    assert run.registers.gpr[Gpr.RAX] & (EFER_LMA | EFER_LME) == EFER_LME
    assert run.state.msr[Msr.EFER] & EFER_LMA == 0
    assert run.reasons() == [ExitReason.HALTED]


@requirement("K-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("nxe", "error"), [(True, 0x11), (False, 0x9)])
def test_nxe_makes_bit_63_mean_no_execute(vm: VirtualMachine, nxe: bool, error: int) -> None:
    """With EFER.NXE an entry's bit 63 forbids fetches; without, it is reserved (SDM 3A 4.5)."""
    stubs = Stubs(
        vm,
        """
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, {{ nxe }}
        wrmsr
        mov     rax, cr3
        mov     cr3, rax
        jmp     rbx
        """,
        nxe=EFER_NXE if nxe else 0,
    )
    # Another 2 MiB page, at 0x200000, for the first 2 MiB: present, large, not executable.
    entry = 1 << 63 | 0x83
    directory = stubs.guest.image.linear("page_directory")
    stubs.guest.write(directory + 8, entry.to_bytes(8, "little"))
    stubs.registers.gpr |= {Gpr.RBX: 0x206000}
    frame = stubs.take()
    check.equal(frame.vector, 14, "the fetch's exception")
    check.equal(frame.error, error, "error code")
    check.equal(frame.ip, 0x206000, "RIP")


# ---- system calls ----

KERNEL_CS, KERNEL_SS = 0x10, 0x18
USER_BASE = 0x23


def _system_call(vm: VirtualMachine, insn: str, **msrs: int) -> tuple[Stubs, dict[Gpr, int]]:
    stubs = Stubs(vm, f"insn: {insn}\nreturn_here: hlt\ntarget: hlt\n")
    registers = stubs.registers
    for name, value in msrs.items():
        registers.msr[KEPT[name][1]] = value
    registers.msr[Msr.EFER] |= EFER_SCE
    return stubs, registers.gpr


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("mask", [0, 0x1, 0x200, 0x400, 0x40000, 0x3F7FD5])
def test_syscall_uses_star_lstar_and_sfmask(vm: VirtualMachine, mask: int) -> None:
    """SYSCALL: RIP of LSTAR, CS and SS of STAR, RFLAGS without SFMASK's, RCX and R11 (SDM 2)."""
    stubs, gpr = _system_call(vm, "syscall", star=KERNEL_CS << 32, sfmask=mask)
    stubs.registers.msr[Msr.LSTAR] = stubs.symbol("target")
    flags = 0x40000 | 0x400 | 0x200 | 0x1 | 0x2
    gpr |= {Gpr.RIP: stubs.symbol("insn"), Gpr.RFLAGS: flags}
    run = stubs.run()
    after = run.registers
    check.equal(run.rip, run.symbol("target") + 1, "RIP")
    check.equal(after.gpr[Gpr.RCX], stubs.symbol("return_here"), "RCX")
    check.equal(after.gpr[Gpr.R11] & ~0x10000, flags, "R11")
    check.equal(after.gpr[Gpr.RFLAGS], flags & ~mask | 2, "RFLAGS")
    check.equal(after.seg[Segment.CS].selector, KERNEL_CS, "CS")
    check.equal(after.seg[Segment.SS].selector, KERNEL_CS + 8, "SS")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-MSR-6")
@modes(Mode.COMPAT32)
def test_syscall_from_compatibility_mode(vm: VirtualMachine) -> None:
    """SYSCALL from compatibility mode goes to CSTAR on AMD, and is #UD on Intel (SDM 2)."""
    vendor = Bench(vm, CODE).vendor()
    stubs, gpr = _system_call(vm, "syscall", star=0x18 << 32)
    stubs.registers.msr[Msr.CSTAR] = stubs.symbol("target")
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    if vendor in AMD:
        run = stubs.run()
        check.equal(run.rip, run.symbol("target") + 1, "RIP")
        check.equal(run.registers.gpr[Gpr.RCX], stubs.symbol("return_here"), "RCX")
    else:
        check.equal(stubs.take().vector, 6, "exception")


@requirement("K-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["syscall", "sysretq"])
def test_syscall_without_sce_is_undefined(vm: VirtualMachine, insn: str) -> None:
    """SYSCALL and SYSRET with EFER.SCE clear are #UD."""
    stubs = Stubs(vm, f"insn: {insn}\nhlt\n")
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("insn")}
    frame = stubs.take()
    assert (frame.vector, frame.error, frame.ip) == (6, None, stubs.symbol("insn"))


@requirement("K-MSR-6")
@modes(Mode.LONG64)
def test_sysret_uses_star(vm: VirtualMachine) -> None:
    """SYSRET with REX.W: CPL 3, CS and SS of STAR's upper half plus 16 and 8, RIP, RFLAGS."""
    stubs, gpr = _system_call(vm, "sysretq", star=USER_BASE << 48)
    gpr |= {Gpr.RIP: stubs.symbol("insn"), Gpr.RCX: stubs.symbol("target"), Gpr.R11: 0x402}
    stubs.run()
    frame = stubs.frame(INNER_STACK)
    check.equal(frame.vector, 13, "HLT at CPL 3")
    check.equal(frame.ip, stubs.symbol("target"), "RIP")
    check.equal(frame.cs, USER_BASE + 16 | 3, "CS")
    check.equal(frame.ss, USER_BASE + 8 | 3, "SS")
    check.equal(frame.flags & ~0x10000, 0x402, "RFLAGS")


@requirement("K-MSR-6")
@modes(Mode.LONG64)
def test_swapgs_exchanges_two_msrs(vm: VirtualMachine) -> None:
    """SWAPGS exchanges GSBASE and KERNELGSBASE, all 64 bits, without exit."""
    bench = Bench(vm, CODE | {"swapgs": "swapgs"})
    _write(bench, GS_BASE, 0x00007FFF00001000)
    _write(bench, KERNEL_GS_BASE, 0xFFFF888012340000)
    stubs = bench.stubs
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("swapgs")}
    run = stubs.run()
    check.equal(run.rip, run.symbol("swapgs_after") + 1, "RIP")
    check.equal(run.state.seg[Segment.GS].base, 0xFFFF888012340000, "GS's base")
    check.equal(run.state.msr[Msr.KERNELGSBASE], 0x00007FFF00001000, "KERNELGSBASE")


@requirement("K-MSR-6")
@modes(Mode.PROT32, Mode.LONG64)
def test_sysenter_uses_its_three_msrs(vm: VirtualMachine) -> None:
    """SYSENTER: CS, SS, RSP, RIP of its MSRs; in long mode on AMD it is #UD (APM 3)."""
    vendor = Bench(vm, CODE).vendor()
    stubs, gpr = _system_call(vm, "sysenter", sysenter_cs=0x10, sysenter_esp=0x6800)
    stubs.registers.msr[Msr.SYSENTER_EIP] = stubs.symbol("target")
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    if vm.mode is Mode.LONG64 and vendor != INTEL:
        check.equal(stubs.take().vector, 6, "exception")
        return
    run = stubs.run()
    check.equal(run.rip, run.symbol("target") + 1, "RIP")
    check.equal(run.registers.gpr[Gpr.RSP], 0x6800, "RSP")
    check.equal(run.registers.seg[Segment.CS].selector, 0x10, "CS")
    check.equal(run.registers.seg[Segment.SS].selector, 0x18, "SS")


@requirement("K-MSR-6")
@modes(Mode.PROT32)
@pytest.mark.parametrize("selector", [0, 3])
def test_sysenter_without_cs(vm: VirtualMachine, selector: int) -> None:
    """SYSENTER with a null selector in SYSENTER_CS is #GP(0)."""
    stubs, gpr = _system_call(vm, "sysenter", sysenter_cs=selector)
    gpr |= {Gpr.RIP: stubs.symbol("insn")}
    frame = stubs.take()
    assert (frame.vector, frame.error, frame.ip) == (13, 0, stubs.symbol("insn"))


# ---- what the kernel answers ----


@requirement("K-MSR-3")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_microcode_msr(vm: VirtualMachine) -> None:
    """MSR 0x8B, which every system looks at, reads 0 and ignores writes, without exit (BH-72)."""
    bench = Bench(vm, CODE)
    check.equal(_read(bench, MICROCODE), 0, "at first")
    _write(bench, MICROCODE, 0x1122334455667788)
    check.equal(_read(bench, MICROCODE), 0, "after a write")


@requirement("K-MSR-3")
@modes(Mode.LONG64)
def test_kernel_msrs_ignore_the_upper_half_of_rcx(vm: VirtualMachine) -> None:
    """An MSR that the kernel answers is selected by ECX alone (BH-63)."""
    bench = Bench(vm, CODE)
    check.equal(_read(bench, MICROCODE, upper=DIRTY), 0, "RDMSR 0x8B")
    _write(bench, MICROCODE, 1, upper=DIRTY)
    _write(bench, TSC, 1 << 60, upper=DIRTY)
    check(_read(bench, TSC, upper=DIRTY) >= 1 << 60, "the TSC as set")


@requirement("K-MSR-10", "K-MSR-12", "K-MSR-13", "K-MSR-14")
@modes(Mode.LONG64)
@pytest.mark.parametrize("msr", [0x17, 0x1A0, 0xC001001F, 0xC0010055, 0xC0011021, 0xC0011029])
def test_vendors_msrs(vm: VirtualMachine, msr: int) -> None:
    """MSRs of one vendor are answered by its kernel, with what it says, or come to the caller."""
    answers = {
        0x17: (0, 0),
        0x1A0: (0x1800, 0x1800 | 0x50080),
        0xC001001F: (1 << 54, (1 << 64) - 1),
    }
    bench = Bench(vm, CODE)
    effect = bench.execute("rdmsr", {Gpr.RCX: msr, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY})
    check.equal(effect.end, DONE, "RDMSR")
    if effect.exits:
        check.equal(effect.exits, (ExitReason.RDMSR,), "exits")
        check.equal(effect.edx_eax, 0, "the accelerator's answer")
    else:
        wanted, mask = answers.get(msr, (0, (1 << 64) - 1))
        if msr == 0x17:
            mask = (1 << 64) - 1
        check.equal(effect.edx_eax & mask, wanted, "the kernel's answer, where it says one")
    before = effect.edx_eax
    effect = bench.execute("wrmsr", {Gpr.RCX: msr} | _value(0x1122334455667788))
    check.equal(effect.end, DONE, "WRMSR")
    check(effect.exits in ((), (ExitReason.WRMSR,)), f"exits of WRMSR: {effect.exits}")
    effect = bench.execute("rdmsr", {Gpr.RCX: msr})
    check.equal(effect.edx_eax, before, "the write is ignored")


@requirement("K-MSR-11")
@modes(Mode.LONG64)
def test_arch_capabilities(vm: VirtualMachine) -> None:
    """MSR 0x10A has bits of 0x131 only, or is #GP(0), or comes to the caller; it is read-only."""
    bench = Bench(vm, CODE)
    effect = bench.execute("rdmsr", {Gpr.RCX: 0x10A})
    if effect.end == DONE:
        check.equal(effect.edx_eax & ~0x131, 0, "other bits")
        check(effect.exits in ((), (ExitReason.RDMSR,)), f"exits: {effect.exits}")
    else:
        check.equal(effect.end, "#GP(0)", "RDMSR")
        check.equal(effect.exits, (), "exits")
    if bench.cpuid(7)[3] >> 29 & 1:
        check.equal(effect.end, DONE, "RDMSR where CPUID offers it")


# ---- the time-stamp counter ----


@requirement("K-MSR-5")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_tsc_msr_is_the_counter_of_rdtsc(vm: VirtualMachine) -> None:
    """RDMSR of the TSC between two RDTSC gives a value between theirs, without exit."""
    run = vm.run_code("""
        rdtsc
        mov     esi, eax
        mov     edi, edx
        mov     ecx, 0x10
        rdmsr
        mov     ebx, eax
        mov     ebp, edx
        rdtsc
        hlt
    """)
    gpr = run.registers.gpr
    first = gpr[Gpr.RDI] << 32 | gpr[Gpr.RSI]
    read = gpr[Gpr.RBP] << 32 | gpr[Gpr.RBX]
    last = gpr[Gpr.RDX] << 32 | gpr[Gpr.RAX]
    assert first <= read <= last
    assert run.reasons() == [ExitReason.HALTED]


@requirement("K-MSR-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("value", [1 << 60, 0x0123456789ABCDEF, 0x7FFFFFFF00000000])
def test_written_tsc_goes_on_from_there(vm: VirtualMachine, value: int) -> None:
    """WRMSR sets all 64 bits of the TSC, without exit; RDTSC and RDMSR go on from there."""
    bench = Bench(vm, CODE)
    _write(bench, TSC, value)
    counted = bench.execute("rdtsc").edx_eax
    read = _read(bench, TSC)
    check(value <= counted < value + (1 << 48), f"RDTSC {counted:#x} goes on from {value:#x}")
    check(counted <= read, f"RDMSR {read:#x} is not before RDTSC {counted:#x}")


# ---- what comes to the caller ----

EXITING = {
    "apic_base": APIC_BASE,
    "tsc_adjust": 0x3B,
    "mtrrcap": 0xFE,
    "mcg_cap": 0x179,
    "mtrr_physbase0": 0x200,
    "mtrr_def_type": 0x2FF,
    "tsc_deadline": 0x6E0,
    "x2apic_id": 0x802,
    "unknown": 0x12345678,
    "hypervisor": 0x40000000,
    "tsc_aux": 0xC0000103,
    "unknown_high": 0xFFFFFFFF,
}
UNKNOWN = 0x12345678
ANSWERED_AS_ZERO = {name: EXITING[name] for name in ("mtrrcap", "mtrr_def_type", "mcg_cap")} | {
    "mcg_status": 0x17A
}
ALL = (Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX, Gpr.RSI, Gpr.RDI, Gpr.RBP)


def _at(stubs: Stubs, label: str, registers: dict[Gpr, int]) -> None:
    stubs.registers.gpr |= registers | {Gpr.RIP: stubs.symbol(label)}


@requirement("K-MSR-1", "K-MSR-15", "A-EXIT-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", EXITING)
def test_rdmsr_exit_tells_msr_and_next_rip(vm: VirtualMachine, name: str) -> None:
    """RDMSR of an MSR that the kernel has not: its number and npc; nothing has changed."""
    _rdmsr_exit(vm, EXITING[name], 0)


@requirement("K-MSR-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
def test_rdmsr_exit_in_other_modes(vm: VirtualMachine) -> None:
    """RDMSR exits alike in every mode; npc is an offset in CS."""
    _rdmsr_exit(vm, UNKNOWN, 0)


@requirement("K-MSR-1")
@modes(Mode.LONG64)
def test_rdmsr_exit_with_a_dirty_rcx(vm: VirtualMachine) -> None:
    """The exit's MSR is ECX, whatever is in bits 63:32 of RCX."""
    _rdmsr_exit(vm, UNKNOWN, DIRTY)


def _rdmsr_exit(vm: VirtualMachine, msr: int, upper: int) -> None:
    stubs = Stubs(vm, "rdmsr_insn: rdmsr\nrdmsr_after: hlt\n")
    before = {gpr: 0x1111111 * (gpr + 1) for gpr in ALL} | {Gpr.RCX: upper | msr}
    _at(stubs, "rdmsr_insn", before)
    taken = stubs.guest.next_exit()
    assert isinstance(taken, RdmsrExit), taken
    check.equal(taken.msr, msr, "MSR")
    check.equal(taken.npc, stubs.symbol("rdmsr_after"), "npc")
    state = stubs.guest.state()
    check.equal({gpr: state.gpr[gpr] for gpr in ALL}, before, "registers")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("rdmsr_insn"), "RIP")


@requirement("K-MSR-2", "K-MSR-15", "A-EXIT-9")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", EXITING)
def test_wrmsr_exit_tells_msr_value_and_next_rip(vm: VirtualMachine, name: str) -> None:
    """WRMSR of an MSR that the kernel has not: number, EDX:EAX and npc; nothing has changed."""
    _wrmsr_exit(vm, EXITING[name], 0, 0x1122334455667788)


@requirement("K-MSR-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [0, 0xFFFFFFFF, 1 << 32, 0x80000000, 1 << 63, (1 << 64) - 1])
def test_wrmsr_exit_tells_all_of_the_value(vm: VirtualMachine, value: int) -> None:
    """The exit's value is EDX:EAX, 64 bits, and nothing of the registers' upper halves."""
    _wrmsr_exit(vm, UNKNOWN, DIRTY, value)


@requirement("K-MSR-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
def test_wrmsr_exit_in_other_modes(vm: VirtualMachine) -> None:
    """WRMSR exits alike in every mode, with 64 bits; npc is an offset in CS."""
    _wrmsr_exit(vm, UNKNOWN, 0, 0x8877665544332211)


def _wrmsr_exit(vm: VirtualMachine, msr: int, upper: int, value: int) -> None:
    stubs = Stubs(vm, "wrmsr_insn: wrmsr\nwrmsr_after: hlt\n")
    before = {gpr: 0x1111111 * (gpr + 1) for gpr in ALL}
    before |= {Gpr.RCX: upper | msr} | _value(value, upper)
    _at(stubs, "wrmsr_insn", before)
    taken = stubs.guest.next_exit()
    assert isinstance(taken, WrmsrExit), taken
    check.equal(taken.msr, msr, "MSR")
    check.equal(taken.value, value, "value")
    check.equal(taken.npc, stubs.symbol("wrmsr_after"), "npc")
    state = stubs.guest.state()
    check.equal({gpr: state.gpr[gpr] for gpr in ALL}, before, "registers")
    check.equal(state.gpr[Gpr.RIP], stubs.symbol("wrmsr_insn"), "RIP")


@requirement("K-RUN-13", "K-MSR-1")
@modes(Mode.LONG64)
def test_unhandled_rdmsr_exits_again(vm: VirtualMachine) -> None:
    """A run after an RDMSR exit that nobody handled takes the same exit again."""
    stubs = Stubs(vm, "rdmsr_insn: rdmsr\nrdmsr_after: hlt\n")
    _at(stubs, "rdmsr_insn", {Gpr.RCX: UNKNOWN})
    first, second = stubs.guest.next_exit(), stubs.guest.next_exit()
    assert isinstance(first, RdmsrExit)
    assert isinstance(second, RdmsrExit)
    assert (second.msr, second.npc) == (first.msr, first.npc)


# ---- what the accelerator answers ----


def _asked(bench: Bench, msr: int) -> int:
    """The accelerator's answer to RDMSR."""
    before = {Gpr.RBX: 0x1234, Gpr.RSI: 0x5678, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY, Gpr.RCX: msr}
    effect = bench.execute("rdmsr", before)
    check.equal(effect.end, DONE, f"RDMSR {msr:#x}")
    check.equal(effect.exits, (ExitReason.RDMSR,), "exits")
    check.equal(effect.gpr[Gpr.RAX] >> 32, 0, "bits 63:32 of RAX")
    check.equal(effect.gpr[Gpr.RDX] >> 32, 0, "bits 63:32 of RDX")
    for gpr in (Gpr.RBX, Gpr.RSI, Gpr.RCX):
        check.equal(effect.gpr[gpr], before[gpr], gpr.name)
    return effect.edx_eax


def _told(bench: Bench, msr: int, value: int) -> None:
    before = {Gpr.RBX: 0x1234, Gpr.RCX: msr} | _value(value)
    effect = bench.execute("wrmsr", before)
    check.equal(effect.end, DONE, f"WRMSR {msr:#x}")
    check.equal(effect.exits, (ExitReason.WRMSR,), "exits")
    check.equal({gpr: effect.gpr[gpr] for gpr in before}, before, "registers")


@requirement("A-MSR-1", "A-MSR-4", "K-MSR-15")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_apic_base_is_the_local_apics(vm: VirtualMachine) -> None:
    """RDMSR of 0x1B is the local APIC's base: 0xFEE00000, enabled, bootstrap processor."""
    assert _asked(Bench(vm, CODE), APIC_BASE) == 0xFEE00900


@requirement("A-MSR-5", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("base", [0xFEC00900, 0xFEE00100, 0x1_2345_6900])
def test_apic_base_can_be_moved(vm: VirtualMachine, base: int) -> None:
    """WRMSR of 0x1B sets the local APIC's base; RDMSR gives it, above 4 GiB too."""
    bench = Bench(vm, CODE)
    _told(bench, APIC_BASE, base)
    check.equal(_asked(bench, APIC_BASE), base, "APIC base")


@requirement("A-MSR-2", "A-MSR-4", "A-VCPU-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("name", ANSWERED_AS_ZERO)
def test_mtrr_and_mcg_msrs_are_zero(vm: VirtualMachine, name: str) -> None:
    """MTRRcap, MTRRdefType, MCG_CAP and MCG_STATUS read 0 (BH-106)."""
    assert _asked(Bench(vm, CODE), ANSWERED_AS_ZERO[name]) == 0


@requirement("A-MSR-6", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["mtrr_def_type", "mcg_status"])
def test_writes_of_mtrr_and_mcg_are_ignored(vm: VirtualMachine, name: str) -> None:
    """WRMSR of MTRRdefType and MCG_STATUS goes on behind it, and changes nothing."""
    bench = Bench(vm, CODE)
    _told(bench, ANSWERED_AS_ZERO[name], 0xC06)
    check.equal(_asked(bench, ANSWERED_AS_ZERO[name]), 0, "read after it")


@requirement("A-MSR-3", "A-MSR-7", "A-MSR-4", "A-MSR-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["tsc_adjust", "mtrr_physbase0", "unknown", "tsc_aux"])
def test_other_msrs_are_zero_and_ignored(vm: VirtualMachine, name: str) -> None:
    """Any other MSR reads 0 and ignores what is written; the guest goes on."""
    bench = Bench(vm, CODE)
    _told(bench, EXITING[name], 0x1122334455667788)
    check.equal(_asked(bench, EXITING[name]), 0, "read after it")


@requirement("A-VCPU-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("feature", "bit"), [("mce", 7), ("mtrr", 12), ("mca", 14)])
def test_accelerator_shows_mce_mtrr_mca(vm: VirtualMachine, feature: str, bit: int) -> None:
    """The accelerator's mask shows MCE, MTRR and MCA in leaf 1, and takes nothing away."""
    bench = Bench(vm, CODE)
    with_mask = bench.cpuid(1)
    check.equal(with_mask[3] >> bit & 1, 1, feature)
    bench.guest.vcpu.configure(200, bytes(4) + (1).to_bytes(4, "little") + bytes(32))
    without = bench.cpuid(1)
    check.equal(with_mask[:3], without[:3], "EAX, EBX, ECX")
    check.equal(with_mask[3], without[3] | 1 << 7 | 1 << 12 | 1 << 14, "EDX")


@requirement("K-MSR-1", "K-MSR-2", "K-INK-13")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["rdmsr", "wrmsr"])
def test_trap_follows_an_emulated_msr_access(vm: VirtualMachine, insn: str) -> None:
    """With TF set, #DB follows an RDMSR or WRMSR that the kernel has done (SDM 3A 18.3.1.4)."""
    bench = Bench(vm, CODE)
    effect = bench.execute(insn, {Gpr.RCX: MICROCODE}, flags=0x100)
    assert effect.frame is not None
    assert (effect.frame.vector, effect.frame.ip) == (1, bench.guest.symbol(f"{insn}_after"))


@requirement("K-SET-8", "K-MSR-8")
@modes(Mode.LONG64)
def test_efer_survives_the_caller(vm: VirtualMachine) -> None:
    """EFER that the caller has read and set again is what it was (BH-68)."""
    bench = Bench(vm, CODE)
    before = _read(bench, EFER)
    bench.stubs.registers.msr[Msr.EFER] = bench.guest.state().msr[Msr.EFER]
    check.equal(_read(bench, EFER), before, "EFER")
