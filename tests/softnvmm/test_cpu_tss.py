# SPDX-License-Identifier: BSD-2-Clause
"""What a TSS has for inner levels, the descriptors of the system, virtual-8086 mode's IRET."""

import pytest
from cpu_machine import Cpu, Exit, assemble
from cpu_scene import GP, TS
from test_cpu_tables import CODE, protected

FREE, LEVEL2_CS, LEVEL2_SS, LEVEL3_CS = 0x50, 0x60, 0x68, 0x73


@pytest.fixture
def cpu():
    return Cpu()


@pytest.mark.parametrize(
    ("kind", "word", "limit"), [(0xB, 4, 25), (3, 2, 13)], ids=["32-bit TSS", "16-bit TSS"]
)
@pytest.mark.parametrize("short", [0, 1])
def test_the_inner_stack_lies_within_the_tss(cpu, kind, word, limit, short):
    """SDM 2A, INT n: #TS with the TSS's selector if "TSSstackAddress + 5" (16-bit: 3) "> current
    TSS limit"; here for level 2, while level 0, with the handler, has its stack."""
    protected(cpu, "nop")
    cpu.put(cpu.GDT + LEVEL2_CS, 0x00CFDB000000FFFF, 8)
    cpu.put(cpu.GDT + LEVEL2_SS, 0x00CFD3000000FFFF, 8)
    cpu.put(cpu.GDT + (LEVEL3_CS & ~3), 0x00CFFB000000FFFF, 8)
    for seg in ("es", "ss", "ds"):
        cpu.segment(seg, cpu.USER_DS, 3, 3, db=1)
    cpu.segment("cs", LEVEL3_CS, 0xB, 3, db=1)
    cpu.write(CODE, assemble("int 0x40", 32, CODE))
    cpu.put(cpu.IDT + 8 * 0x40, 0x9000 | LEVEL2_CS << 16 | 0xEE00 << 32, 8)
    cpu.segment("tr", cpu.TASK, kind, 0, base=cpu.TSS, limit=limit - short)
    cpu["tr.s"] = 0
    for level, top, ss in ((0, 0x7000, cpu.DS64), (2, 0x6000, LEVEL2_SS | 2)):
        cpu.put(cpu.TSS + word + 2 * word * level, top, word)
        cpu.put(cpu.TSS + 2 * word + 2 * word * level, ss, 2)
    assert cpu.run(1) is Exit.BUDGET
    if short:
        assert (cpu["rip"], cpu["cs.selector"]) == (cpu.HANDLERS + TS, cpu.CS32)
        assert (cpu.read(cpu["rsp"], 4), cpu.read(cpu["rsp"] + 4, 4)) == (cpu.TASK, CODE)
    else:
        assert (cpu["rip"], cpu["cs.selector"]) == (0x9000, LEVEL2_CS | 2)
        assert (cpu["rsp"], cpu["ss.selector"]) == (0x6000 - 20, LEVEL2_SS | 2)


@pytest.mark.parametrize("short", [0, 1])
def test_an_interrupt_stack_lies_within_the_tss(cpu, short):
    """SDM 2A, INT n: #TS with the TSS's selector if "TSSstackAddress + 7 > current TSS limit"."""
    cpu.long_mode("int 0x40")
    cpu.gate(0x40, cpu.HANDLERS + 0x40, ist=7)
    cpu.put(cpu.TSS + 84, cpu.STACK1, 8)
    cpu["tr.limit"] = 91 - short
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == (TS if short else 0x40)
    if short:
        assert cpu.frame(error=True)["error"] == cpu.TASK
    else:
        assert cpu["rsp"] == cpu.STACK1 - 40


@pytest.mark.parametrize(
    ("source", "low"),
    [
        ("ltr ax; cpuid", 0x67 | 0x8900 << 32),
        ("lldt ax; cpuid", 0x67 | 0x8200 << 32),
        ("call fword ptr [rbx]", 0x9000 | Cpu.CS64 << 16 | 0x8C00 << 32),
    ],
    ids=["TSS", "LDT", "call gate"],
)
def test_the_upper_half_of_a_system_descriptor_has_type_0(cpu, source, low):
    """SDM 3A 5.8.3.1, 7.2.3: bits 12:8 of the last doubleword are 0, or it is #GP(selector): no
    upper half passes for a descriptor of its own.  The bits around them are nobody's."""
    for bit in range(6, 15):
        cpu.long_mode(source)
        cpu.write(0x9000, assemble("cpuid"))
        cpu.put(cpu.GDT + FREE, low, 8)
        cpu.put(cpu.GDT + FREE + 8, 1 << (32 + bit), 8)
        cpu.put(0x40000, FREE << 32, 6)
        cpu.set(rax=FREE, rbx=0x40000)
        if 8 <= bit <= 12:
            assert cpu.run() is Exit.HLT, bit
            assert (cpu.vector(), cpu.frame(error=True)["error"]) == (GP, FREE), bit
        else:
            assert cpu.run() is Exit.CPUID, bit


def test_an_iret_that_virtual_8086_mode_forbids_unblocks_nmis(cpu):
    """SDM 3A 6.7.1: "if the IRET instruction executes with EFLAGS.VM = 1 and IOPL of less than
    3", #GP, "NMIs are unblocked before the exception handler is invoked"."""
    protected(cpu, "nop")
    cpu.put(cpu.TSS + 4, cpu.STACK0, 4)
    cpu.put(cpu.TSS + 8, cpu.DS64, 4)
    for name in ("es", "ds", "fs", "gs", "ss", "cs"):
        cpu.segment(name, CODE >> 4, 3, 3, base=CODE, limit=0xFFFF)
        cpu[f"{name}.g"] = 0
    cpu.segment("tr", cpu.TASK, 0xB, 0, base=cpu.TSS, limit=0x67)
    cpu.set(rip=0, rflags=0x20002, rsp=0x1000)
    cpu.write(CODE, assemble("iret", 16, 0))
    cpu["nmi_blocked"] = 1
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert (cpu.read(cpu["rsp"], 4), cpu.read(cpu["rsp"] + 4, 4)) == (0, 0), "error, EIP"
    assert cpu["nmi_blocked"] == 0
