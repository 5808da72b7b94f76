# SPDX-License-Identifier: BSD-2-Clause
"""Instructions that a hypervisor meets in the kernel: done without exit, or refused.

SDM 2 and APM 3 under the names of the instructions; nothing here may reach the caller,
but INVALID, where NVMM gives up.  MONITOR and MWAIT are in test_monitor.py.
"""

from __future__ import annotations

import pytest
from cpuid_bench import ECX
from insn_bench import CR4_TSD, DONE, INTEL, Bench

from nvmmconf.suite import (
    Cr,
    ExitReason,
    Gpr,
    IoExit,
    Mode,
    Msr,
    StateFlag,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)

# ---- what does not exist for a guest ----

UNDEFINED = {
    "vmcall": ".byte 0x0F, 0x01, 0xC1",
    "vmlaunch": ".byte 0x0F, 0x01, 0xC2",
    "vmresume": ".byte 0x0F, 0x01, 0xC3",
    "vmxoff": ".byte 0x0F, 0x01, 0xC4",
    "vmfunc": ".byte 0x0F, 0x01, 0xD4",
    "vmptrld": "vmptrld [{{ bx }}]",
    "vmptrst": "vmptrst [{{ bx }}]",
    "vmclear": "vmclear [{{ bx }}]",
    "vmxon": "vmxon [{{ bx }}]",
    "vmread": ".byte 0x0F, 0x78, 0xC1",
    "vmwrite": ".byte 0x0F, 0x79, 0xC1",
    "invept": ".byte 0x66, 0x0F, 0x38, 0x80, 0x03",
    "invvpid": ".byte 0x66, 0x0F, 0x38, 0x81, 0x03",
    "getsec": ".byte 0x0F, 0x37",
    "vmrun": ".byte 0x0F, 0x01, 0xD8",
    "vmmcall": ".byte 0x0F, 0x01, 0xD9",
    "vmload": ".byte 0x0F, 0x01, 0xDA",
    "vmsave": ".byte 0x0F, 0x01, 0xDB",
    "stgi": ".byte 0x0F, 0x01, 0xDC",
    "clgi": ".byte 0x0F, 0x01, 0xDD",
    "skinit": ".byte 0x0F, 0x01, 0xDE",
    "invlpga": ".byte 0x0F, 0x01, 0xDF",
    "rsm": "rsm",
    "rdtscp": ".byte 0x0F, 0x01, 0xF9",
    "rdpru": ".byte 0x0F, 0x01, 0xFD",
    "ud2": "ud2",
}
CALLS = ("vmcall", "vmmcall", "rdtscp", "rsm", "vmfunc")
"""Undefined at any CPL, whatever else an SVM instruction looks at first."""


def _undefined(vm: VirtualMachine, insn: str, *, user: bool) -> None:
    bench = Bench(vm, UNDEFINED, user=user)
    effect = bench.execute(insn, {Gpr.RBX: 0x6000, Gpr.RAX: 0x6000, Gpr.RCX: 0})
    assert effect.end == "#UD"
    assert effect.exits == ()


@requirement("K-INK-5", "K-INK-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", UNDEFINED)
@pytest.mark.filterwarnings("ignore::nvmmconf.suite.UnimplementedWarning")
def test_virtualization_is_undefined(vm: VirtualMachine, insn: str) -> None:
    """VMX's, SVM's and SMM's instructions, and what CPUID hides, are #UD, and no exit (BH-94)."""
    _undefined(vm, insn, user=False)


@requirement("K-INK-5", "K-INK-3")
@modes(Mode.REAL16)
@pytest.mark.parametrize("insn", CALLS)
def test_hypercalls_are_undefined_in_real_mode(vm: VirtualMachine, insn: str) -> None:
    """VMCALL, VMMCALL, VMFUNC, RDTSCP and RSM are #UD in real mode, too."""
    _undefined(vm, insn, user=False)


@requirement("K-INK-5", "K-INK-3")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", CALLS)
def test_hypercalls_are_undefined_for_users(vm: VirtualMachine, insn: str) -> None:
    """VMCALL, VMMCALL, VMFUNC, RDTSCP and RSM are #UD at CPL 3, too."""
    _undefined(vm, insn, user=True)


@requirement("K-INK-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("counter", [0, 0xFFFFFFFF])
def test_rdpmc_is_undefined(vm: VirtualMachine, counter: int) -> None:
    """RDPMC at CPL 0 is #UD: a guest has no performance counters."""
    effect = Bench(vm, {"rdpmc": "rdpmc"}).execute("rdpmc", {Gpr.RCX: counter})
    assert (effect.end, effect.exits) == ("#UD", ())


# ---- what is done without exit ----

SILENT = {
    "wbinvd": "wbinvd",
    "invlpg": "invlpg [{{ bx }}]",
    "pause": "pause",
    "nop": "nop",
    "rdtsc": "rdtsc",
    "clts": "clts",
    "smsw": "smsw ax",
    "mov_from_cr0": "mov {{ wide }}ax, cr0",
    "mov_to_cr0": "mov {{ wide }}ax, cr0\nmov cr0, {{ wide }}ax",
    "mov_from_cr2": "mov {{ wide }}ax, cr2",
    "mov_to_cr2": "mov cr2, {{ wide }}bx",
    "mov_cr3": "mov {{ wide }}ax, cr3\nmov cr3, {{ wide }}ax",
    "mov_cr4": "mov {{ wide }}ax, cr4\nmov cr4, {{ wide }}ax",
    "mov_dr": "mov dr0, {{ wide }}bx\nmov {{ wide }}ax, dr0",
    "mov_dr7": "mov {{ wide }}ax, dr7\nmov dr7, {{ wide }}ax",
    "pushf": "pushf\npopf",
    "sgdt": "sgdt {{ own }}[{{ bx }}]\nlgdt {{ own }}[{{ bx }}]",
    "sidt": "sidt {{ own }}[{{ bx }}]\nlidt {{ own }}[{{ bx }}]",
    "cli_sti": "sti\ncli",
    "fninit": "fninit",
    "lock": "lock inc dword ptr {{ own }}[{{ bx }}]",
}


@requirement("K-INK-6")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", SILENT)
def test_done_without_exit(vm: VirtualMachine, insn: str) -> None:
    """Cache, TLB, control, debug and flag instructions are done, and nobody hears of them."""
    effect = Bench(vm, SILENT).execute(insn, {Gpr.RBX: 0x6000})
    assert (effect.end, effect.exits) == (DONE, ())


@requirement("K-INV-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_invd(vm: VirtualMachine) -> None:
    """INVD at CPL 0 is done, as WBINVD if need be, and the guest goes on (BH-75)."""
    effect = Bench(vm, {"invd": "invd"}).execute("invd")
    assert (effect.end, effect.exits) == (DONE, ())


# ---- privileged ----

PRIVILEGED = {
    "hlt": "hlt",
    "clts": "clts",
    "lmsw": "lmsw ax",
    "invd": "invd",
    "wbinvd": "wbinvd",
    "invlpg": "invlpg [{{ bx }}]",
    "mov_from_cr0": "mov {{ wide }}ax, cr0",
    "mov_to_cr0": "mov cr0, {{ wide }}ax",
    "mov_from_cr3": "mov {{ wide }}ax, cr3",
    "mov_to_cr3": "mov cr3, {{ wide }}ax",
    "mov_from_cr4": "mov {{ wide }}ax, cr4",
    "mov_to_cr4": "mov cr4, {{ wide }}ax",
    "mov_from_dr7": "mov {{ wide }}ax, dr7",
    "mov_to_dr7": "mov dr7, {{ wide }}ax",
    "lgdt": "lgdt [{{ bx }}]",
    "lidt": "lidt [{{ bx }}]",
    "lldt": "lldt ax",
    "ltr": "ltr ax",
    "cli": "cli",
    "in": "in al, dx",
    "out": "out dx, al",
}


@requirement("K-INK-6", "K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", PRIVILEGED)
def test_privileged_at_cpl_3(vm: VirtualMachine, insn: str) -> None:
    """A privileged instruction at CPL 3 is #GP(0); no exit comes before that check."""
    effect = Bench(vm, PRIVILEGED, user=True).execute(insn, {Gpr.RBX: 0x6000, Gpr.RDX: 0x80})
    assert (effect.end, effect.exits) == ("#GP(0)", ())


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["swapgs", "sysretq", "mov rax, cr8", "mov cr8, rax"])
def test_privileged_in_64_bit_mode(vm: VirtualMachine, insn: str) -> None:
    """SWAPGS, SYSRET and MOV with CR8 at CPL 3 are #GP(0), and no exit."""
    bench = Bench(vm, {"insn": insn}, user=True)
    bench.stubs.registers.msr[Msr.EFER] |= 1
    effect = bench.execute("insn")
    assert (effect.end, effect.exits) == ("#GP(0)", ())


# ---- RDTSC ----

RDTSC = {"rdtsc": "rdtsc"}


@requirement("K-INK-6", "K-MSR-5")
@modes(*EVERY)
def test_tsc_never_goes_back(vm: VirtualMachine) -> None:
    """Each RDTSC gives at least what the one before gave, over runs and exits too."""
    bench = Bench(vm, {"rdtsc": "rdtsc", "out": "out 0x80, al\nrdtsc"})
    last = 0
    for _ in range(5):
        for insn in ("rdtsc", "out"):
            effect = bench.execute(insn, {Gpr.RAX: 0, Gpr.RDX: 0})
            check.equal(effect.end, DONE, insn)
            check(effect.edx_eax >= last, f"{effect.edx_eax:#x} after {last:#x}")
            last = effect.edx_eax


@requirement("K-INK-6")
@modes(Mode.LONG64)
def test_rdtsc_zero_extends(vm: VirtualMachine) -> None:
    """RDTSC clears bits 63:32 of RAX and RDX."""
    dirty = {Gpr.RAX: (1 << 64) - 1, Gpr.RDX: (1 << 64) - 1}
    effect = Bench(vm, RDTSC).execute("rdtsc", dirty)
    assert (effect.gpr[Gpr.RAX] >> 32, effect.gpr[Gpr.RDX] >> 32) == (0, 0)


@requirement("K-INK-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize(
    ("tsd", "user", "end"),
    [(0, False, DONE), (1, False, DONE), (0, True, DONE), (1, True, "#GP(0)")],
)
def test_tsd_keeps_rdtsc_for_cpl_0(vm: VirtualMachine, tsd: int, user: bool, end: str) -> None:
    """With CR4.TSD, RDTSC above CPL 0 is #GP(0); at CPL 0, or without, it is done."""
    bench = Bench(vm, RDTSC, user=user)
    bench.set_cr4(CR4_TSD * tsd)
    effect = bench.execute("rdtsc")
    assert (effect.end, effect.exits) == (end, ())


@requirement("K-TSC-1")
@modes(Mode.REAL16, Mode.LONG64)
def test_caller_reads_a_tsc_after_the_guests(vm: VirtualMachine) -> None:
    """getstate after a run gives a TSC that is not before the guest's last RDTSC."""
    bench = Bench(vm, RDTSC)
    guests = bench.execute("rdtsc").edx_eax
    callers = bench.guest.state().msr[Msr.TSC]
    assert callers >= guests


@requirement("K-TSC-2")
@modes(Mode.LONG64)
def test_tsc_that_comes_with_an_exit(vm: VirtualMachine) -> None:
    """The MSRs that come with an IO exit have a TSC not before the guest's RDTSC before it."""
    stubs = Stubs(vm, "insn: rdtsc\nout 0x80, al\nhlt\n")
    stubs.registers.gpr |= {Gpr.RIP: stubs.symbol("insn")}
    taken = stubs.guest.next_exit()
    assert isinstance(taken, IoExit), taken
    vcpu = stubs.guest.vcpu
    vcpu.getstate(StateFlag.GPRS | StateFlag.MSRS)
    guests = int(vcpu.state.gprs[Gpr.RDX]) << 32 | int(vcpu.state.gprs[Gpr.RAX]) & 0xFFFFFFFF
    check(int(vcpu.state.msrs[Msr.TSC]) >= guests, "the provided TSC is not before RDTSC's")


# ---- control registers ----

MSW = {
    "lmsw": "lmsw ax",
    "smsw16": "smsw ax",
    "smsw_wide": "smsw {{ wide }}ax",
    "clts": "clts",
    "read": "mov {{ wide }}ax, cr0",
    "write": "mov cr0, {{ wide }}ax",
}
PE, MP, EM, TS = 1, 2, 4, 8
NW, CD, PG = 1 << 29, 1 << 30, 1 << 31


def _cr0(bench: Bench) -> int:
    return bench.execute("read", {Gpr.RAX: 0}).gpr[Gpr.RAX]


@requirement("K-INK-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("bits", [MP, EM, TS, MP | TS, MP | EM | TS])
def test_lmsw_sets_three_bits(vm: VirtualMachine, bits: int) -> None:
    """LMSW sets MP, EM and TS as given, without exit; PE stays, and so does the rest (BH-77)."""
    bench = Bench(vm, MSW)
    before = _cr0(bench)
    effect = bench.execute("lmsw", {Gpr.RAX: 0xFFF0 | bits})
    check.equal((effect.end, effect.exits), (DONE, ()), "LMSW")
    check.equal(_cr0(bench), before & ~0xE | bits, "CR0")
    check.equal(bench.execute("smsw16", {Gpr.RAX: 0}).gpr[Gpr.RAX], _cr0(bench) & 0xFFFF, "SMSW")
    check.equal(bench.guest.state().cr[Cr.CR0] & 0xF, before & 1 | bits, "CR0 in getstate")
    bench.execute("lmsw", {Gpr.RAX: 0})
    check.equal(_cr0(bench), before & ~0xE, "CR0 after LMSW of 0")


@requirement("K-INK-6")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_clts_clears_ts_only(vm: VirtualMachine) -> None:
    """CLTS clears CR0.TS and nothing else, without exit (BH-77)."""
    bench = Bench(vm, MSW)
    before = _cr0(bench) | MP | TS
    bench.execute("write", {Gpr.RAX: before})
    check.equal(_cr0(bench), before, "CR0 with TS")
    effect = bench.execute("clts")
    check.equal((effect.end, effect.exits), (DONE, ()), "CLTS")
    check.equal(_cr0(bench), before & ~TS, "CR0 after CLTS")


@requirement("K-INK-6")
@modes(Mode.PROT32, Mode.LONG64)
def test_smsw_of_a_wide_register(vm: VirtualMachine) -> None:
    """SMSW of a 64-bit register gives all of CR0 (SDM 2B)."""
    bench = Bench(vm, MSW)
    wanted = _cr0(bench)
    assert bench.execute("smsw_wide", {Gpr.RAX: 0}).gpr[Gpr.RAX] == wanted


@requirement("K-INK-7", "K-CPUID-7")
@modes(Mode.LONG64)
def test_smep_is_at_once(vm: VirtualMachine) -> None:
    """Setting CR4.SMEP forbids fetches from a user page that was executed before (BH-76)."""
    guest = vm.prepare_code("""
        IDT_SETUP
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        bt      ebx, 7
        jnc     after
        mov     rbx, 0x206000
        call    rbx
        mov     rax, cr4
        bts     rax, 20
        mov     cr4, rax
        EXPECT_FAULT 14, faulted
        call    rbx
        FAIL    "no #PF after SMEP"
        jmp     after
    faulted:
        CHECK_MEM dword, [fault_error], 0x11, "error code: present, a fetch"
        CHECK_MEM dword, [fault_ip], 0x206000, "RIP"
    after:
        DONE
    """)
    for table in ("pml4", "page_directory_pointers"):
        at = guest.image.linear(table)
        entry = int.from_bytes(guest.memory(at, 8), "little") | 4
        guest.write(at, entry.to_bytes(8, "little"))
    directory = guest.image.linear("page_directory")
    guest.write(directory + 8, (0x87).to_bytes(8, "little"))  # 0x200000 is 0, for users too
    guest.write(0x6000, b"\xc3")
    run = guest.run()
    check(run.done, "the guest is through")
    check.equal(set(run.reasons()) - {ExitReason.IO}, set(), "exits but the guest port's")


@requirement("K-INK-11")
@modes(Mode.LONG64)
def test_invpcid_is_there_with_its_feature(vm: VirtualMachine) -> None:
    """INVPCID is done where CPUID shows it, and #UD elsewhere, as always on AMD."""
    code = {"cpuid": "cpuid", "invpcid": ".byte 0x66, 0x0F, 0x38, 0x82, 0x03"}
    bench = Bench(vm, code)
    shown = bench.cpuid(7)[1] >> 10 & 1
    effect = bench.execute("invpcid", {Gpr.RAX: 2, Gpr.RBX: 0x6000})
    check.equal((effect.end, effect.exits), (DONE if shown else "#UD", ()), "INVPCID")
    if bench.vendor() != INTEL:
        check.equal(shown, 0, "INVPCID in CPUID")


@requirement("K-INK-5")
@modes(Mode.LONG64)
def test_pcid_comes_with_invpcid(vm: VirtualMachine) -> None:
    """PCID is shown on Intel only, where INVPCID is."""
    bench = Bench(vm, {"cpuid": "cpuid"})
    if bench.cpuid(1)[ECX] >> 17 & 1:
        check.equal(bench.vendor(), INTEL, "vendor")
        check.equal(bench.cpuid(7)[1] >> 10 & 1, 1, "INVPCID")
    else:
        check(True, "no PCID")


# ---- into long mode ----


@requirement("K-INK-10")
@modes(Mode.REAL16)
def test_real_mode_to_long_mode(vm: VirtualMachine) -> None:
    """A guest goes from real mode to 64-bit code by itself, without exit (SDM 3A 10.8.5)."""
    _to_long_mode(vm, 0)


@requirement("K-INK-9", "K-INK-8", "K-INK-10")
@modes(Mode.REAL16)
@pytest.mark.parametrize("cache", [CD, CD | NW])
def test_long_mode_with_a_change_of_cache_bits(vm: VirtualMachine, cache: int) -> None:
    """A write of CR0 that sets PG and changes CD or NW enters long mode where LME is set."""
    _to_long_mode(vm, cache)


def _to_long_mode(vm: VirtualMachine, cache: int) -> None:
    run = vm.boot("to_long", cache=cache)
    check.equal(run.reason, Stop.HALTED, "the guest is through")
    check.equal(run.rip, 0x20000 + run.symbol("after_long"), "RIP")
    check.equal(run.registers.gpr[Gpr.RAX], 0x1122334455667788, "RAX, loaded by 64-bit code")
    check.equal(run.registers.gpr[Gpr.RBX] & 0x500, 0x500, "EFER.LME and LMA, read by the guest")
    check.equal(run.state.msr[Msr.EFER] & 0x500, 0x500, "EFER.LME and LMA in getstate")
    check.equal(run.state.cr[Cr.CR0] & (CD | NW | PG | PE), cache | PG | PE, "CR0")
    check.equal(run.reasons(), [ExitReason.HALTED], "exits")
