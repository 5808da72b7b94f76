# SPDX-License-Identifier: BSD-2-Clause
"""MSRs that the processor and the kernel keep: never an exit.

SDM 2 "RDMSR", "WRMSR", SDM 4 and APM 2 appendix A for what each holds and refuses.
Those that come to the caller are in test_msr_exits.py, system calls in test_system_calls.py.
"""

from __future__ import annotations

import pytest
from insn_bench import AMD, DONE, Bench
from msr_bench import (
    BASES,
    CODE,
    DIRTY,
    EFER,
    KEPT,
    LSTAR,
    MICROCODE,
    NON_CANONICAL,
    NUMBERS,
    PAT,
    TSC,
    read_msr,
    value_registers,
    write_msr,
)

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    Mode,
    Msr,
    StateFlag,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)


def _refused(bench: Bench, msr: int, value: int) -> None:
    """WRMSR of `value` is #GP(0) on the WRMSR, no exit, and the MSR is as before."""
    before = read_msr(bench, msr)
    effect = bench.execute("wrmsr", {Gpr.RCX: msr} | value_registers(value))
    check.equal(effect.end, "#GP(0)", f"WRMSR {msr:#x} := {value:#x}")
    check.equal(effect.exits, (), f"exits of WRMSR {msr:#x}")
    check.equal(read_msr(bench, msr), before, f"MSR {msr:#x} after a refused WRMSR")


# ---- what the processor keeps ----


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("name", "index"), [(name, i) for name in KEPT for i in (0, 1)])
def test_a_written_msr_reads_back(vm: VirtualMachine, name: str, index: int) -> None:
    """The MSRs of system calls, PAT and the swapped GS base read back whole, without exit."""
    msr, place, values = KEPT[name]
    bench = Bench(vm, CODE)
    write_msr(bench, msr, values[index])
    check.equal(read_msr(bench, msr), values[index], "RDMSR")
    check.equal(bench.guest.state().msr[place], values[index], "getstate")


@requirement("K-MSR-6")
@modes(Mode.REAL16)
@pytest.mark.parametrize("name", [*KEPT, *BASES])
def test_msrs_are_whole_in_real_mode(vm: VirtualMachine, name: str) -> None:
    """WRMSR and RDMSR move 64 bits in real mode as in 64-bit mode."""
    bench = Bench(vm, CODE)
    if name in BASES:
        value, msr = 0xFFFF800012345678, BASES[name][0]
    else:
        msr, _, (_, value) = KEPT[name]
    write_msr(bench, msr, value)
    check.equal(read_msr(bench, msr), value, "RDMSR")


@requirement("K-MSR-6", "K-SET-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", KEPT)
def test_guest_reads_what_the_caller_has_set(vm: VirtualMachine, name: str) -> None:
    """RDMSR gives what the caller's setstate gave, and no other MSR has changed."""
    bench = Bench(vm, CODE)
    before = {other: read_msr(bench, NUMBERS[other]) for other in NUMBERS}
    msr, place, (_, value) = KEPT[name]
    bench.stubs.registers.msr[place] = value
    check.equal(read_msr(bench, msr), value, "RDMSR")
    for other in NUMBERS:
        if other != name:
            check.equal(read_msr(bench, NUMBERS[other]), before[other], other)


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", NUMBERS)
def test_upper_half_of_rcx_is_ignored(vm: VirtualMachine, name: str) -> None:
    """ECX alone selects the MSR, EDX:EAX alone are its value, whatever is above (SDM 2)."""
    bench = Bench(vm, CODE)
    value = KEPT[name][2][0] if name in KEPT else 0x7FFF00001000
    write_msr(bench, NUMBERS[name], value, upper=DIRTY)
    check.equal(read_msr(bench, NUMBERS[name], upper=DIRTY), value, "RDMSR")


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
    write_msr(bench, msr, 0x4000)
    check.equal(bench.guest.state().seg[segment].base, 0x4000, "base in getstate")
    check.equal(bench.execute("load").gpr[Gpr.RAX], 0x1817161514131211, "what is there")
    bench.stubs.registers.seg[segment].base = 0xFFFF800000004000
    check.equal(read_msr(bench, msr), 0xFFFF800000004000, "RDMSR of a base that was set")


@requirement("K-MSR-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", ["sysenter_esp", "sysenter_eip"])
def test_sysenter_addresses_of_64_bits(vm: VirtualMachine, name: str) -> None:
    """SYSENTER_ESP and _EIP hold 64 bits on Intel; AMD may keep the lower 32 (APM 2 6.1.2)."""
    bench = Bench(vm, CODE)
    value = 0xFFFF800012345678
    write_msr(bench, NUMBERS[name], value)
    allowed = {value, value & 0xFFFFFFFF} if bench.vendor() in AMD else {value}
    check(read_msr(bench, NUMBERS[name]) in allowed, "the address, or its lower half on AMD")


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
            write_msr(bench, PAT, value)
            check.equal(read_msr(bench, PAT), value, "PAT")
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
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("bits", [0, EFER_SCE, EFER_NXE, EFER_SCE | EFER_NXE])
def test_efer_reads_back(vm: VirtualMachine, bits: int) -> None:
    """EFER.SCE and NXE read back as written, without exit, and getstate has the same."""
    bench = Bench(vm, CODE)
    kept = read_msr(bench, EFER) & (EFER_LME | EFER_LMA)
    write_msr(bench, EFER, kept | bits)
    check.equal(read_msr(bench, EFER), kept | bits, "EFER")
    check.equal(bench.guest.state().msr[Msr.EFER], kept | bits, "EFER in getstate")


@requirement("K-MSR-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", [1, 2, 3, 4, 5, 6, 7, 9, 16, 19, 31, 32, 48, 63])
def test_reserved_bits_of_efer(vm: VirtualMachine, bit: int) -> None:
    """WRMSR EFER with a reserved bit is #GP(0), RIP on the WRMSR, and changes nothing."""
    bench = Bench(vm, CODE)
    _refused(bench, EFER, read_msr(bench, EFER) | 1 << bit)


@requirement("K-MSR-7", "K-SET-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", HIDDEN_EFER)
def test_efer_bits_that_cpuid_does_not_offer(vm: VirtualMachine, bit: int) -> None:
    """A bit of EFER whose feature CPUID hides (SVME, LMSLE, FFXSR, TCE) is reserved: #GP(0)."""
    bench = Bench(vm, CODE)
    leaf, register, feature = HIDDEN_EFER[bit]
    value = read_msr(bench, EFER) | 1 << bit
    if bench.cpuid(leaf)[register] >> feature & 1:
        write_msr(bench, EFER, value)
        check.equal(read_msr(bench, EFER), value, "EFER")
    else:
        _refused(bench, EFER, value)


@requirement("K-SET-8")
@modes(Mode.REAL16, Mode.LONG64)
def test_svme_is_never_seen(vm: VirtualMachine) -> None:
    """EFER.SVME, which the host needs, is neither the guest's nor the caller's to see (BH-68)."""
    bench = Bench(vm, CODE)
    check.equal(read_msr(bench, EFER) >> 12 & 1, 0, "SVME, RDMSR")
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
    effect = bench.execute("wrmsr", {Gpr.RCX: EFER} | value_registers(EFER_LMA | EFER_LME))
    check(effect.end in (DONE, "#GP(0)"), f"WRMSR: {effect.end}")
    check.equal(read_msr(bench, EFER) & EFER_LMA, 0, "LMA")


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


# ---- what the kernel answers ----


@requirement("K-MSR-3")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_microcode_msr(vm: VirtualMachine) -> None:
    """MSR 0x8B, which every system looks at, reads 0 and ignores writes, without exit (BH-72)."""
    bench = Bench(vm, CODE)
    check.equal(read_msr(bench, MICROCODE), 0, "at first")
    write_msr(bench, MICROCODE, 0x1122334455667788)
    check.equal(read_msr(bench, MICROCODE), 0, "after a write")


@requirement("K-MSR-3")
@modes(Mode.LONG64)
def test_kernel_msrs_ignore_the_upper_half_of_rcx(vm: VirtualMachine) -> None:
    """An MSR that the kernel answers is selected by ECX alone (BH-63)."""
    bench = Bench(vm, CODE)
    check.equal(read_msr(bench, MICROCODE, upper=DIRTY), 0, "RDMSR 0x8B")
    write_msr(bench, MICROCODE, 1, upper=DIRTY)
    write_msr(bench, TSC, 1 << 60, upper=DIRTY)
    check(read_msr(bench, TSC, upper=DIRTY) >= 1 << 60, "the TSC as set")


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
    effect = bench.execute("wrmsr", {Gpr.RCX: msr} | value_registers(0x1122334455667788))
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
    write_msr(bench, TSC, value)
    counted = bench.execute("rdtsc").edx_eax
    read = read_msr(bench, TSC)
    check(value <= counted < value + (1 << 48), f"RDTSC {counted:#x} goes on from {value:#x}")
    check(counted <= read, f"RDMSR {read:#x} is not before RDTSC {counted:#x}")


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
    before = read_msr(bench, EFER)
    bench.stubs.registers.msr[Msr.EFER] = bench.guest.state().msr[Msr.EFER]
    check.equal(read_msr(bench, EFER), before, "EFER")


@requirement("K-SET-17", "K-MSR-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("value", [1 << 60, 0x0123456789ABCDEF])
def test_callers_tsc_goes_on_from_there(vm: VirtualMachine, value: int) -> None:
    """A TSC that the caller sets is the guest's at the next entry, and goes on (BH-71)."""
    bench = Bench(vm, CODE)
    bench.execute("rdtsc")
    bench.stubs.registers.msr[Msr.TSC] = value
    counted = bench.execute("rdtsc").edx_eax
    check(value <= counted < value + (1 << 48), f"RDTSC {counted:#x} goes on from {value:#x}")


@requirement("K-SET-2", "K-SET-17")
@modes(Mode.LONG64)
def test_caller_that_writes_back_keeps_the_tsc(vm: VirtualMachine) -> None:
    """getstate and setstate of the MSRs between runs never take the TSC back (BH-71)."""
    bench = Bench(vm, CODE)
    last = 0
    for _ in range(5):
        counted = bench.execute("rdtsc").edx_eax
        check(counted >= last, f"RDTSC {counted:#x} after {last:#x}")
        last = counted
        vcpu = bench.guest.vcpu
        bench.guest.state()
        vcpu.getstate(StateFlag.MSRS)
        vcpu.setstate(StateFlag.MSRS)
