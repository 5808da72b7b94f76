# SPDX-License-Identifier: BSD-2-Clause
"""CPUID: the table that the kernel shows where the caller has configured nothing.

SDM 2A "CPUID" and APM 3 appendix E say what the leaves mean.  What a host adds is its own:
the cases look at what NVMM promises to show and to hide, and at whether it contradicts itself.
"""

from __future__ import annotations

import struct

import pytest
from cpuid_bench import EAX, EBX, ECX, EDX, MASK, NAMES, ZERO, cpuid_bench
from insn_bench import AMD, CR4_OSXSAVE, DONE, INTEL, Effect, vendor

from nvmmconf.suite import (
    PAGE_SIZE,
    Capability,
    CpuidMask,
    ExitReason,
    Gpr,
    HostMemory,
    Level,
    Machine,
    Mode,
    Prot,
    Segment,
    StateFlag,
    Vcpu,
    VcpuConfSupport,
    VirtualMachine,
    check,
    modes,
    needs,
    requirement,
)

SIGNATURE = b"___ NVMM ___"


# ---- the kernel's own table ----


@requirement("K-CPUID-1", "K-CPUID-16")
@modes(Mode.LONG64)
def test_highest_leaves(vm: VirtualMachine) -> None:
    """The highest leaves are what NVMM edits: 0xD and 0x8000001F of AMD, 0x16 and 0x80000008."""
    bench = cpuid_bench(vm)
    basic, extended = bench.cpuid(0)[EAX], bench.cpuid(0x80000000)[EAX]
    intel = bench.vendor() == INTEL
    check(1 <= basic <= (0x16 if intel else 0xD), f"highest basic leaf {basic:#x}")
    highest = 0x80000008 if intel else 0x8000001F
    check(0x80000001 <= extended <= highest, f"highest extended leaf {extended:#x}")


@requirement("K-CPUID-1")
@modes(Mode.LONG64)
def test_vendor(vm: VirtualMachine) -> None:
    """Leaf 0 names a vendor that NVMM runs on; AMD's extended leaf repeats it."""
    bench = cpuid_bench(vm)
    name = bench.vendor()
    check(name in (INTEL, *AMD), f"vendor {name!r}")
    if name in AMD:
        check.equal(vendor(bench.cpuid(0x80000000)), name, "leaf 0x80000000")


@requirement("K-CPUID-3", "K-CPUID-13")
@modes(Mode.REAL16, Mode.LONG64)
def test_hypervisor_is_announced(vm: VirtualMachine) -> None:
    """Leaf 1 has the hypervisor bit, and leaf 0x40000000 NVMM's signature."""
    bench = cpuid_bench(vm)
    check.equal(bench.cpuid(1)[ECX] >> 31, 1, "hypervisor bit")
    _, ebx, ecx, edx = bench.cpuid(0x40000000)
    check.equal(struct.pack("<III", ebx, ecx, edx), SIGNATURE, "signature")


@requirement("K-CPUID-14")
@modes(Mode.LONG64)
def test_highest_hypervisor_leaf(vm: VirtualMachine) -> None:
    """Leaf 0x40000000 tells the highest of its range: 0x40000010, or itself (BH-58)."""
    assert cpuid_bench(vm).cpuid(0x40000000)[EAX] in (0x40000000, 0x40000010)


@requirement("K-CPUID-15")
@modes(Mode.LONG64)
def test_tsc_frequency(vm: VirtualMachine) -> None:
    """Leaf 0x40000010, where it is there, has the TSC's frequency in kHz in EAX, and no more."""
    bench = cpuid_bench(vm)
    if bench.cpuid(0x40000000)[EAX] < 0x40000010:
        check(True, "there is no such leaf")
        return
    khz, *rest = bench.cpuid(0x40000010)
    check(100_000 <= khz <= 20_000_000, f"{khz} kHz is a frequency")
    check.equal(rest, [0, 0, 0], "EBX, ECX, EDX")


@requirement("K-CPUID-14")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [0x40000001, 0x40000002, 0x4000000F])
def test_hypervisor_leaves_without_meaning(vm: VirtualMachine, leaf: int) -> None:
    """Between the two hypervisor leaves that NVMM has there is nothing of the host's."""
    bench = cpuid_bench(vm)
    if leaf > bench.cpuid(0x40000000)[EAX]:
        check(True, "the leaf is above the highest")
        return
    assert bench.cpuid(leaf) == ZERO


HIDDEN = {
    "dtes64": (1, ECX, 2),
    "monitor": (1, ECX, 3),
    "ds_cpl": (1, ECX, 4),
    "vmx": (1, ECX, 5),
    "smx": (1, ECX, 6),
    "eist": (1, ECX, 7),
    "tm2": (1, ECX, 8),
    "cnxt_id": (1, ECX, 10),
    "sdbg": (1, ECX, 11),
    "xtpr": (1, ECX, 14),
    "pdcm": (1, ECX, 15),
    "dca": (1, ECX, 18),
    "x2apic": (1, ECX, 21),
    "tsc_deadline": (1, ECX, 24),
    "mce": (1, EDX, 7),
    "mtrr": (1, EDX, 12),
    "mca": (1, EDX, 14),
    "psn": (1, EDX, 18),
    "ds": (1, EDX, 21),
    "acpi": (1, EDX, 22),
    "tm": (1, EDX, 29),
    "tsc_adjust": (7, EBX, 1),
    "sgx": (7, EBX, 2),
    "hle": (7, EBX, 4),
    "rtm": (7, EBX, 11),
    "pqm": (7, EBX, 12),
    "mpx": (7, EBX, 14),
    "avx512f": (7, EBX, 16),
    "intel_pt": (7, EBX, 25),
    "pku": (7, ECX, 3),
    "waitpkg": (7, ECX, 5),
    "cet_ss": (7, ECX, 7),
    "la57": (7, ECX, 16),
    "rdpid": (7, ECX, 22),
    "svm": (0x80000001, ECX, 2),
    "extapic": (0x80000001, ECX, 3),
    "osvw": (0x80000001, ECX, 9),
    "ibs": (0x80000001, ECX, 10),
    "skinit": (0x80000001, ECX, 12),
    "wdt": (0x80000001, ECX, 13),
    "lwp": (0x80000001, ECX, 15),
    "perfctr_core": (0x80000001, ECX, 23),
    "monitorx": (0x80000001, ECX, 29),
    "rdtscp": (0x80000001, EDX, 27),
}
"""What a guest of NVMM cannot have, whatever the host has: leaf, register, bit."""


@requirement("K-CPUID-4", "K-CPUID-5", "K-CPUID-7", "K-CPUID-17")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [1, 7, 0x80000001])
def test_hidden_features(vm: VirtualMachine, leaf: int) -> None:
    """What NVMM does not give to guests CPUID does not show (BH-56, BH-64, BH-65)."""
    values = cpuid_bench(vm).cpuid(leaf)
    for feature, (where, register, bit) in HIDDEN.items():
        if where == leaf:
            check.equal(values[register] >> bit & 1, 0, feature)


SHOWN = {
    (1, ECX): 0x6ED83203 | 1 << 31 | 1 << 17 | 1 << 28,
    (1, EDX): 0x9F8BAB7F,
    (7, EBX): 0x019CA3C9 | 1 << 10 | 1 << 5,
    (7, ECX): 0x1A000705,
    (7, EDX): 0x20004410,
    (0x80000001, ECX): 0x006309F3,
    (0x80000001, EDX): 0xE7D3AB7F,
    (0x80000007, EDX): 0x100,
    (0x80000008, EBX): 0x205,
}


@requirement("K-CPUID-4", "K-CPUID-5", "K-CPUID-7", "K-CPUID-17", "K-CPUID-18", "K-CPUID-19")
@modes(Mode.LONG64)
@pytest.mark.parametrize(
    ("leaf", "register"), [(leaf, NAMES[register]) for leaf, register in SHOWN]
)
def test_features_are_within_nvmms_mask(vm: VirtualMachine, leaf: int, register: str) -> None:
    """A feature word has no bit that no version of NVMM shows."""
    index = NAMES.index(register)
    assert cpuid_bench(vm).cpuid(leaf)[index] & ~SHOWN[leaf, index] == 0


ZEROED = {
    0x7: (EAX,),
    0x80000007: (EAX, EBX, ECX),
    0x80000008: (EDX,),
}


@requirement("K-CPUID-7", "K-CPUID-18", "K-CPUID-19")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", ZEROED)
def test_registers_that_are_zero(vm: VirtualMachine, leaf: int) -> None:
    """Leaf 7 has no subleaves, 0x80000007 power features and 0x80000008 RDPRU's in no register."""
    values = cpuid_bench(vm).cpuid(leaf)
    for register in ZEROED[leaf]:
        check.equal(values[register], 0, NAMES[register])


@requirement("K-CPUID-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [3, 5, 6, 8, 9, 0xA, 0xC])
def test_leaves_that_are_zero(vm: VirtualMachine, leaf: int) -> None:
    """Serial number, MONITOR, power, performance counters and reserved leaves are all zero."""
    bench = cpuid_bench(vm)
    if leaf <= bench.cpuid(0)[EAX]:
        check.equal(bench.cpuid(leaf), ZERO, f"leaf {leaf:#x}")
    else:
        check(True, "the leaf is above the highest")


@requirement("K-CPUID-8", "K-CPUID-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize(("leaf", "subleaf"), [(7, 1), (7, 2), (7, MASK), (0xD, 2), (0xD, 62)])
def test_subleaves_that_are_zero(vm: VirtualMachine, leaf: int, subleaf: int) -> None:
    """Leaf 7 has subleaf 0 only, leaf 0xD none for what XCR0 cannot have."""
    assert cpuid_bench(vm).cpuid(leaf, subleaf) == ZERO


@requirement("K-CPUID-9", "K-CPUID-20")
@modes(Mode.LONG64)
@pytest.mark.parametrize("leaf", [2, 4, 0xB, 0x8000000A, 0x8000001B, 0x8000001F])
def test_leaves_that_amd_has_not(vm: VirtualMachine, leaf: int) -> None:
    """On AMD, Intel's cache and topology leaves are zero, and so are SVM's, IBS's and SEV's."""
    bench = cpuid_bench(vm)
    highest = bench.cpuid(0x80000000 if leaf >> 31 else 0)[EAX]
    if bench.vendor() in AMD and leaf <= highest:
        check.equal(bench.cpuid(leaf), ZERO, f"leaf {leaf:#x}")
    else:
        check(True, "not AMD, or above the highest")


@requirement("K-CPUID-21")
@modes(Mode.LONG64)
@pytest.mark.parametrize(
    "leaf",
    [0x17, 0x20, 0x3FFFFFFF, 0x40000011, 0x7FFFFFFF, 0x80000020, 0x8FFFFFFF, 0xC0000000, MASK],
)
def test_leaf_above_the_highest(vm: VirtualMachine, leaf: int) -> None:
    """A leaf above its range's highest is the highest basic leaf, as NVMM shows it (BH-59)."""
    bench = cpuid_bench(vm)
    basic = bench.cpuid(0)[EAX]
    for subleaf in (0, 1):
        wanted = bench.cpuid(basic, subleaf)
        check.equal(bench.cpuid(leaf, subleaf), wanted, f"leaf {leaf:#x}, subleaf {subleaf}")


@requirement("K-CPUID-6")
@modes(Mode.REAL16, Mode.LONG64)
def test_osxsave_follows_cr4(vm: VirtualMachine) -> None:
    """Leaf 1's OSXSAVE is CR4.OSXSAVE, at once, both ways; XSAVE is there all the time."""
    bench = cpuid_bench(vm)
    if not bench.cpuid(1)[ECX] >> 26 & 1:
        check.equal(bench.cpuid(1)[ECX] >> 27 & 1, 0, "OSXSAVE without XSAVE")
        return
    for on in (0, 1, 0, 1):
        bench.set_cr4(CR4_OSXSAVE * on, CR4_OSXSAVE * (1 - on))
        ecx = bench.cpuid(1)[ECX]
        check.equal((ecx >> 27 & 1, ecx >> 26 & 1), (on, 1), f"CR4.OSXSAVE {on}")


@requirement("K-CPUID-6")
@modes(Mode.LONG64)
def test_osxsave_follows_the_guests_own_write(vm: VirtualMachine) -> None:
    """CPUID sees a CR4.OSXSAVE that the guest has just written."""
    run = vm.run_code("""
        mov     rax, cr4
        or      rax, 1 << 18
        mov     cr4, rax
        mov     eax, 1
        cpuid
        shr     ecx, 26
        and     ecx, 3
        hlt
    """)
    assert run.registers.gpr[Gpr.RCX] in (0, 3)
    assert run.reasons() == [ExitReason.HALTED]


@requirement("K-CPUID-4")
@modes(Mode.LONG64)
def test_features_do_not_contradict(vm: VirtualMachine) -> None:
    """Features agree with AMD's copies of them, with the leaves they need, and with the mode."""
    bench = cpuid_bench(vm)
    one, amd = bench.cpuid(1), bench.cpuid(0x80000001)
    if bench.vendor() in AMD:
        common = 0x0183F3FF
        check.equal(amd[EDX] & common & ~one[EDX], 0, "copies of what leaf 1 has not")
    if one[ECX] >> 26 & 1:
        check(bench.cpuid(0)[EAX] >= 0xD, "leaf 0xD is there with XSAVE")
    check(amd[EDX] >> 29 & 1, "long mode, which this case runs in")
    check(one[EDX] >> 6 & 1, "PAE, which this case runs in")


@requirement("K-CPUID-19")
@modes(Mode.LONG64)
def test_address_sizes(vm: VirtualMachine) -> None:
    """Leaf 0x80000008: 36 to 52 physical address bits, and 48 or 57 linear ones."""
    eax = cpuid_bench(vm).cpuid(0x80000008)[EAX]
    check(36 <= eax & 0xFF <= 52, f"{eax & 0xFF} physical address bits")
    check(eax >> 8 & 0xFF in (48, 57), f"{eax >> 8 & 0xFF} linear address bits")


# ---- several vCPUs ----

CPUID_HLT = b"\x0f\xa2\xf4"
CODE_AT = 0x1000


def _ask(vcpu: Vcpu, leaf: int, subleaf: int = 0) -> Effect:
    """CPUID on a vCPU of one's own, in real mode."""
    vcpu.getstate(StateFlag.SEGS | StateFlag.GPRS)
    vcpu.state.segs[Segment.CS].selector = 0
    vcpu.state.segs[Segment.CS].base = 0
    vcpu.state.gprs[Gpr.RIP] = CODE_AT
    vcpu.state.gprs[Gpr.RAX] = leaf
    vcpu.state.gprs[Gpr.RCX] = subleaf
    vcpu.setstate(StateFlag.SEGS | StateFlag.GPRS)
    while (taken := vcpu.run()).reason in (ExitReason.NONE, ExitReason.STOPPED):
        pass
    vcpu.getstate(StateFlag.GPRS)
    gpr = {register: int(vcpu.state.gprs[register]) for register in Gpr}
    assert taken.reason is ExitReason.HALTED, taken
    return Effect(DONE, (), gpr, None)


def _vcpus(machine: Machine, ids: list[int]) -> dict[int, Vcpu]:
    memory = HostMemory(PAGE_SIZE)
    machine.hva_map(memory)
    memory.data[: len(CPUID_HLT)] = CPUID_HLT
    machine.gpa_map(memory.hva, CODE_AT, PAGE_SIZE, Prot.READ | Prot.WRITE | Prot.EXEC)
    return {number: machine.create_vcpu(number) for number in ids}


@requirement("K-CPUID-2")
def test_apic_id_is_the_vcpus(machine: Machine, capability: Capability) -> None:
    """Leaf 1's initial APIC id is the vCPU's id, on every vCPU."""
    for number, vcpu in _vcpus(machine, [0, 1, 5, capability.max_vcpus - 1]).items():
        check.equal(_ask(vcpu, 1).abcd[EBX] >> 24, number, f"APIC id of vCPU {number}")


@requirement("K-CPUID-2", "K-CPUID-22")
def test_masks_are_the_vcpus_own(machine: Machine) -> None:
    """What is configured on one vCPU changes no other."""
    vcpus = _vcpus(machine, [0, 1])
    before = _ask(vcpus[1], 0x80000001).abcd
    vcpus[0].configure_cpuid(CpuidMask(0x80000001, (MASK, MASK, MASK, MASK)))
    check.equal(_ask(vcpus[0], 0x80000001).abcd, (MASK,) * 4, "vCPU 0")
    check.equal(_ask(vcpus[1], 0x80000001).abcd, before, "vCPU 1")


@requirement("K-VCPU-8", "K-VCPU-5")
def test_masks_end_with_the_vcpu(machine: Machine) -> None:
    """A vCPU that is created again has none of its former masks."""
    vcpu = _vcpus(machine, [0])[0]
    before = _ask(vcpu, 7).abcd
    vcpu.configure_cpuid(CpuidMask(7, (MASK, MASK, MASK, MASK)))
    check.equal(_ask(vcpu, 7).abcd, (MASK,) * 4, "with the mask")
    vcpu.destroy()
    check.equal(_ask(machine.create_vcpu(0), 7).abcd, before, "created again")


@requirement("K-CPUID-10")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_topology_of_several_vcpus(machine: Machine, count: int) -> None:
    """Leaf 0xB, where there is one: the vCPUs' number, ids, and bits enough (BH-62)."""
    vcpus = _vcpus(machine, list(range(count)))
    for number, vcpu in vcpus.items():
        eax, ebx, ecx, edx = _ask(vcpu, 0xB, 1).abcd
        if ecx >> 8 & 0xFF == 0:
            check(True, "there is no such level")
            continue
        check.equal(ecx, 1 | 2 << 8, "level 1 is the cores")
        check.equal(ebx & 0xFFFF, count, "processors of the package")
        check(1 << (eax & 0x1F) >= count, f"{eax & 0x1F} bits of id for {count} processors")
        check.equal(edx, number, f"x2APIC id of vCPU {number}")


@requirement("K-CPUID-10")
def test_topology_leaf_is_there_where_its_levels_are(machine: Machine) -> None:
    """Leaf 0xB is there where EBX of its subleaf 0 is not 0 (SDM 3A 9.9.5.1): one thread a core."""
    vcpu = _vcpus(machine, [0])[0]
    if _ask(vcpu, 0xB, 1).abcd[ECX] >> 8 & 0xFF == 0:
        check(True, "there is no topology")
        return
    eax, ebx, ecx, edx = _ask(vcpu, 0xB, 0).abcd
    check.equal((eax, ecx, edx), (0, 1 << 8, 0), "EAX, ECX, EDX of level 0")
    check.equal(ebx & 0xFFFF, 1, "threads of a core")


@requirement("K-CPUID-2", level=Level.SHOULD)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_htt_comes_with_a_count(machine: Machine, count: int) -> None:
    """Where leaf 1 has HTT, EBX[23:16] counts APIC ids enough for its vCPUs (SDM 2A)."""
    for vcpu in _vcpus(machine, list(range(count))).values():
        _, ebx, _, edx = _ask(vcpu, 1).abcd
        if edx >> 28 & 1:
            check(ebx >> 16 & 0xFF >= count, f"{ebx >> 16 & 0xFF} ids for {count} vCPUs")
        else:
            check(True, "no HTT: a package each")


@requirement("K-CPUID-24")
@needs(VcpuConfSupport.CPUID)
def test_cpuid_configuration_is_offered(capability: Capability) -> None:
    """The capability offers CPUID configuration, and 32 leaves of it."""
    assert VcpuConfSupport.CPUID in capability.vcpu_conf_support
    assert capability.conf_cpuid_maxops >= 32
