# SPDX-License-Identifier: BSD-2-Clause
"""Where the SDM and the APM differ, each vendor's processor does as its manual says."""

import ctypes

import pytest
from cpu_machine import Cpu, Exit, assemble, library
from cpu_scene import GP, SS, UD

AMD, INTEL = 0, 1
TARGET = 0x9000
NOT_CANONICAL = 0x0000_8000_0000_0000
STAR = 0x0020 << 48 | 0x0008 << 32  # SYSRET: 0x20, 0x28, 0x30; SYSCALL: 0x08, 0x10


@pytest.fixture(params=[AMD, INTEL], ids=["amd", "intel"])
def cpu(request):
    cpu = Cpu()
    cpu["vendor"] = request.param
    return cpu


def is_intel(cpu):
    return cpu["vendor"] == INTEL


def at_target(cpu, source="hlt", bits=64):
    cpu.write(TARGET, assemble(source, bits, TARGET))


def halts(cpu):
    assert cpu.run() is Exit.HLT
    return cpu["exit.next_rip"]


def compatibility(cpu, source):
    """32-bit code at CPL 0 under long mode's tables."""
    cpu.long_mode("nop")
    cpu.segment("cs", cpu.CS32, 0xB, 0, db=1)
    cpu.write(0x8000, assemble(source, 32, 0x8000))


# --- SYSENTER, SYSEXIT ---


@pytest.mark.parametrize("mode", ["64-bit", "compatibility"])
def test_sysenter_in_long_mode(cpu, mode):
    """SDM 2B, SYSENTER: to 64-bit code.  APM 3, SYSENTER: #UD in long mode."""
    if mode == "64-bit":
        cpu.long_mode("sysenter")
    else:
        compatibility(cpu, "sysenter")
    cpu.set(sysenter_cs=0x08, sysenter_esp=0x123456000, sysenter_eip=TARGET, rflags=0x202)
    at_target(cpu)
    halts(cpu)
    if not is_intel(cpu):
        assert cpu.vector() == UD
        return
    assert cpu["rip"] == TARGET
    assert cpu["rsp"] == 0x123456000
    assert (cpu["cs.selector"], cpu["cs.l"], cpu["cs.db"], cpu["cs.dpl"]) == (0x08, 1, 0, 0)
    assert (cpu["ss.selector"], cpu["ss.dpl"]) == (0x10, 0)
    assert cpu["rflags"] & 0x200 == 0


@pytest.mark.parametrize("wide", [False, True])
def test_sysexit_in_long_mode(cpu, wide):
    """SDM 2B, SYSEXIT: selectors CS + 16 and 24, with REX.W CS + 32 and 40, and 64 bits of RSP."""
    cpu.long_mode(".byte 0x48,0x0F,0x35" if wide else ".byte 0x0F,0x35")
    cpu.set(sysenter_cs=0x08, rdx=TARGET, rcx=0x0000_0001_0002_0000 if wide else 0x7_0002_0000)
    at_target(cpu, "ud2")
    halts(cpu)
    assert cpu.vector() == UD
    frame = cpu.frame(error=False)
    if not is_intel(cpu):
        assert frame["rip"] == 0x8000
        return
    assert frame["rip"] == TARGET
    assert frame["cs"] == (0x2B if wide else 0x1B)
    assert frame["ss"] == (0x33 if wide else 0x23)
    assert frame["rsp"] == (0x1_0002_0000 if wide else 0x2_0000)


@pytest.mark.parametrize("register", ["rcx", "rdx"])
def test_sysexit_takes_canonical_addresses_only(register):
    """SDM 2B, SYSEXIT: #GP(0), at CPL 0."""
    cpu = Cpu()
    cpu.long_mode(".byte 0x48,0x0F,0x35")
    cpu.set(vendor=INTEL, sysenter_cs=0x08, rdx=TARGET, rcx=0x20000)
    cpu[register] = NOT_CANONICAL
    halts(cpu)
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["cs"] == cpu.CS64


# --- SYSCALL, SYSRET ---


def test_syscall_from_compatibility_mode(cpu):
    """APM 3, SYSCALL: to CSTAR.  SDM 2B, SYSCALL: #UD unless in 64-bit mode."""
    compatibility(cpu, "syscall")
    cpu.set(star=STAR, lstar=0xA000, cstar=TARGET)
    at_target(cpu)
    halts(cpu)
    if is_intel(cpu):
        assert cpu.vector() == UD
    else:
        assert cpu["rip"] == TARGET


def test_sysret_from_compatibility_mode(cpu):
    """APM 3, SYSRET: to 32-bit code.  SDM 2B, SYSRET: #UD unless in 64-bit mode."""
    compatibility(cpu, "sysret")
    cpu.set(star=STAR, rcx=TARGET)
    at_target(cpu, "ud2")
    halts(cpu)
    assert cpu.vector() == UD
    assert cpu.frame(error=False)["rip"] == (0x8000 if is_intel(cpu) else TARGET)


def test_sysret_at_level_3_is_invalid_before_it_is_forbidden():
    """SDM 2B, SYSRET: #UD outside 64-bit mode comes first, then #GP(0) for CPL."""
    cpu = Cpu()
    compatibility(cpu, "sysret")
    cpu["vendor"] = INTEL
    cpu.segment("cs", 0x1B, 0xB, 3, db=1)
    cpu.segment("ss", cpu.USER_DS, 3, 3, db=1)
    halts(cpu)
    assert cpu.vector() == UD


def test_sysret_to_a_non_canonical_address(cpu):
    """SDM 2B, SYSRET: #GP(0) at CPL 0.  AMD has gone to CPL 3, where the fetch has it."""
    cpu.long_mode("sysretq")
    cpu.set(star=STAR, rcx=NOT_CANONICAL, r11=2)
    halts(cpu)
    assert cpu.vector() == GP
    frame = cpu.frame(error=True)
    if is_intel(cpu):
        assert (frame["rip"], frame["cs"]) == (0x8000, cpu.CS64)
    else:
        assert (frame["rip"], frame["cs"]) == (NOT_CANONICAL, 0x33)


def test_sysret_with_a_null_stack_segment(cpu):
    """APM 3, SYSRET: SS's attributes stay, so a null SS is none.  SDM 2B: it is made up."""
    cpu.long_mode("sysretd")
    cpu.set(star=STAR, rcx=TARGET, r11=2, rsp=0x20000)
    cpu.segment("ss", 0, 0, 0)
    cpu.set(**{"ss.p": 0, "ss.s": 0, "ss.g": 0, "ss.limit": 0})
    at_target(cpu, "push eax; ud2", 32)
    halts(cpu)
    assert cpu.vector() == (UD if is_intel(cpu) else SS)


# --- operand sizes ---


@pytest.mark.parametrize("instruction", ["lfs", "lgs", "lss"])
def test_far_pointers_with_rex_w(cpu, instruction):
    """SDM 2A, LDS: m16:64.  APM 3, LDS: no such form; the offset has 32 bits."""
    cpu.long_mode(f".byte 0x48; {instruction} ebx,[rsi]; hlt")
    selector = cpu.DS64
    cpu["rsi"] = 0x40000
    cpu.put(0x40000, 0x1122334455667788, 8)
    cpu.put(0x40004, selector, 2) if not is_intel(cpu) else cpu.put(0x40008, selector, 2)
    halts(cpu)
    assert cpu["rip"] < 0x9000, "an exception"
    assert cpu["rbx"] == (0x1122334455667788 if is_intel(cpu) else 0x55667788)
    assert cpu[instruction[1:] + ".selector"] == selector


@pytest.mark.parametrize("how", ["jmp", "call"])
def test_far_transfers_with_rex_w(cpu, how):
    """SDM 2A, JMP: m16:64.  APM 3, JMP (far): 32 bits of offset."""
    cpu.long_mode(f".byte 0x48; {how} fword ptr [rsi]")
    high = 0x2
    cpu["rsi"] = 0x40000
    cpu.put(0x40000, TARGET | high << 32, 8)
    if is_intel(cpu):
        cpu.put(0x40008, cpu.CS64, 2)
        # The target's page: the same memory, 8 GiB up.
        cpu.put(cpu.PDPT + 8 * 8, cpu.PD | 7, 8)
    else:
        cpu.put(0x40004, cpu.CS64, 2)
    at_target(cpu)
    halts(cpu)
    assert cpu["rip"] == (TARGET | high << 32 if is_intel(cpu) else TARGET)


@pytest.mark.parametrize(
    ("source", "length"),
    [
        (".byte 0x66,0xEB,0x10", 3),  # JMP rel8
        (".byte 0x66,0xE9,0x10,0x00,0x00,0x00", 6),  # JMP rel32
        (".byte 0x66,0x0F,0x84,0x10,0x00,0x00,0x00", 7),  # JZ rel32
        (".byte 0x66,0xE8,0x10,0x00,0x00,0x00", 6),  # CALL rel32
        (".byte 0x66,0xFF,0xE0", None),  # JMP RAX
        (".byte 0x66,0xC3", None),  # RET
        (".byte 0x66,0xE2,0x10", 3),  # LOOP
    ],
)
def test_intel_ignores_66_with_near_branches(source, length):
    """SDM 2D A.2.5, superscript f64; SDM 1 6.3.7."""
    cpu = Cpu()
    at = 0x210000  # in the 2 MiB page: 16 bits would lose it
    cpu.long_mode(source, org=at)
    goal = at + 0x8000 if length is None else at + length + 0x10
    cpu.set(vendor=INTEL, rax=goal, rcx=5, rflags=0x42, rsp=0x20000)
    cpu.put(0x20000, goal, 8)
    cpu.write(goal, b"\xf4")
    halts(cpu)
    assert cpu["rip"] == goal
    if "0xE8" in source:
        assert cpu["rsp"] == 0x1FFF8
        assert cpu.read(0x1FFF8, 8) == at + length


def test_amd_cuts_a_near_branch_with_66_to_16_bits():
    """APM 3, JMP (near): rel16off, and RIP is zero-extended from 16 bits."""
    cpu = Cpu()
    at = 0x210000
    cpu.long_mode(".byte 0x66,0xE9,0x10,0x00", org=at)
    cpu["vendor"] = AMD
    cpu.write(0x14, b"\xf4")
    halts(cpu)
    assert cpu["rip"] == 0x14


def test_movsxd_to_16_bits_at_the_end_of_memory(cpu):
    """SDM 2B, MOVSXD: r16, r/m16.  AMD reads 32 bits whatever the operand size."""
    cpu.long_mode(".byte 0x66,0x63,0x1E; hlt")  # movsxd bx,[rsi]
    cpu["rsi"] = 0x40FFE
    cpu.put(0x40FFE, 0xBEEF, 2)
    cpu.rights(0x41000, 0)
    assert cpu.run() is (Exit.HLT if is_intel(cpu) else Exit.MEMORY)
    assert cpu["rbx"] & 0xFFFF == (0xBEEF if is_intel(cpu) else 0)


def test_push_of_a_segment_register(cpu):
    """SDM 2B, PUSH: of a 32-bit operand Intel's processors write 16 bits; AMD all."""
    compatibility(cpu, "push fs; hlt")
    cpu.put(0x1FFFC, 0xAAAAAAAA, 4)
    cpu["rsp"] = 0x20000
    halts(cpu)
    assert cpu["rsp"] == 0x1FFFC
    upper = 0xAAAA0000 if is_intel(cpu) else 0
    assert cpu.read(0x1FFFC, 4) == upper | cpu["fs.selector"]


# --- registers ---


@pytest.mark.parametrize("msr", [0x175, 0x176])
def test_wrmsr_of_sysenter_addresses(cpu, msr):
    """SDM 4: canonical, or #GP.  AMD keeps 32 bits (APM 2, 6.1.2: legacy mode only)."""
    cpu.long_mode("wrmsr; hlt")
    cpu.set(rcx=msr, rdx=NOT_CANONICAL >> 32, rax=0x1234)
    halts(cpu)
    if is_intel(cpu):
        assert cpu.vector() == GP
    else:
        assert cpu["sysenter_esp" if msr == 0x175 else "sysenter_eip"] == 0x1234


@pytest.mark.parametrize("bad", [0, 1, 2, 3])
def test_pae_pointers_are_looked_at_by_cr3(cpu, bad):
    """SDM 3A 4.4.1: MOV to CR3 with a reserved bit in any PDPTE that is present is #GP(0)."""
    cpu.long_mode("nop")
    cpu.segment("cs", cpu.CS32, 0xB, 0, db=1)
    cpu.set(efer=0, cr3=0x60000)
    for base in (0x60000, 0x60020):
        cpu.put(base, cpu.PD | 1, 8)
    if bad:
        cpu.put(0x60020 + 8 * bad, 0x7, 8)  # bits 2:1 are reserved
    for vector in range(256):  # 8-byte gates
        at = cpu.HANDLERS + vector
        low = (at & 0xFFFF) | cpu.CS32 << 16 | 0x8E00 << 32 | (at >> 16) << 48
        cpu.put(cpu.IDT + 8 * vector, low, 8)
    cpu.write(0x8000, assemble("mov cr3,eax; hlt", 32, 0x8000))
    cpu["rax"] = 0x60020
    halts(cpu)
    if bad and is_intel(cpu):
        assert cpu.vector() == GP
        assert cpu["cr3"] == 0x60000
    else:
        assert cpu["rip"] == 0x8003
        assert cpu["cr3"] == 0x60020


# --- CPUID ---


def cpuid(vendor, leaf, subleaf=0):
    out = (ctypes.c_uint32 * 4)()
    library().driver_cpuid(vendor, leaf, subleaf, out)
    return list(out)


def test_vendor_strings():
    """SDM 2A and APM 3, CPUID: EBX, EDX, ECX."""

    def name(vendor):
        _, b, c, d = cpuid(vendor, 0)
        return b"".join(r.to_bytes(4, "little") for r in (b, d, c))

    assert name(AMD) == b"AuthenticAMD"
    assert name(INTEL) == b"GenuineIntel"


def test_intels_leaf_4_agrees_with_the_other_leaves():
    """SDM 2A, CPUID leaf 4: size = ways * partitions * line * sets; the list ends with type 0."""
    sizes = []
    for subleaf in range(8):
        a, b, c, _ = cpuid(INTEL, 4, subleaf)
        if a & 0x1F == 0:
            break
        line = (b & 0xFFF) + 1
        assert line == (cpuid(INTEL, 1)[1] >> 8 & 0xFF) * 8  # of CLFLUSH
        ways = (b >> 22) + 1
        sizes.append((a >> 5 & 7, a & 0x1F, ways * ((b >> 12 & 0x3FF) + 1) * line * (c + 1)))
    assert sizes == [(1, 1, 32 << 10), (1, 2, 32 << 10), (2, 3, 256 << 10), (3, 3, 8 << 20)]
    assert cpuid(INTEL, 0x80000006)[2] >> 16 == 256


def test_intels_frequencies_are_the_counters():
    """SDM 2A, CPUID leaf 15: crystal * EBX / EAX is the TSC's, here 1 GHz; leaf 16 has MHz."""
    a, b, c, _ = cpuid(INTEL, 0x15)
    assert c * b // a == 1_000_000_000 == cpuid(INTEL, 0x16)[0] * 1_000_000


def test_features_are_the_same_but_for_amds_copies():
    """Leaves 1 and 7 say what is there; 80000001 EDX repeats leaf 1 on AMD only (APM 3 E.4.2)."""
    assert cpuid(AMD, 1)[1:] == cpuid(INTEL, 1)[1:]
    assert cpuid(AMD, 7) == cpuid(INTEL, 7)
    assert cpuid(AMD, 0x80000001)[2] == cpuid(INTEL, 0x80000001)[2]
    intel = cpuid(INTEL, 0x80000001)[3]
    assert intel & ~(1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29) == 0
    assert cpuid(AMD, 0x80000001)[3] & intel == intel
