# SPDX-License-Identifier: BSD-2-Clause
"""Task switches, virtual-8086 mode and the TLB, where a hypervisor or nobody but us can see it."""

import pytest
from cpu_machine import EXEC, INTR, READ, WRITE, Cpu, Exit, assemble
from test_cpu_tables import CODE, protected

TASK, NEW, OLD_TSS, NEW_TSS, NEW_STACK = 0x48, 0x50, 0x106000, 0x120000, 0x131000


@pytest.fixture
def cpu():
    return Cpu()


def two_tasks(cpu, source):
    """Protected mode in a 32-bit task, with a second one at 0xA000."""
    protected(cpu, source)
    for selector, base in ((TASK, OLD_TSS), (NEW, NEW_TSS)):
        kind = 0x8B if selector == TASK else 0x89
        low = 0x67 | (base & 0xFFFFFF) << 16 | kind << 40 | (base >> 24) << 56
        cpu.put(cpu.GDT + selector, low, 8)
    cpu.segment("tr", TASK, 0xB, 0, base=OLD_TSS, limit=0x67)
    cpu["tr.s"] = 0
    cpu.write(OLD_TSS, bytes(0x68))
    cpu.write(NEW_TSS, bytes(0x68))
    for at, value in ((0x20, 0xA000), (0x24, 2), (0x38, NEW_STACK), (0x4C, cpu.CS32)):
        cpu.put(NEW_TSS + at, value, 4)
    for at in (0x48, 0x50, 0x54):
        cpu.put(NEW_TSS + at, cpu.DS64, 4)
    cpu.write(0xA000, assemble("hlt", 32, 0xA000))


def busy(cpu, selector):
    return cpu.read(cpu.GDT + selector + 5, 1) >> 1 & 1


@pytest.mark.parametrize("missing", ["the GDT is read-only", "the new TSS", "the old TSS"])
def test_a_task_switch_that_memory_cuts_short_is_made_again(cpu, missing):
    two_tasks(cpu, f"mov eax, 0x1234; .byte 0x9A; .long 0; .word {NEW}; hlt")
    page = {"the new TSS": NEW_TSS, "the old TSS": OLD_TSS}.get(missing, cpu.GDT)
    cpu.rights(page, READ)
    assert cpu.run() is Exit.MEMORY
    assert cpu["rip"] == CODE + 5
    assert cpu["tr.selector"] == TASK
    assert (busy(cpu, TASK), busy(cpu, NEW)) == (1, 0)
    cpu.rights(page, READ | WRITE | EXEC)
    assert cpu.run() is Exit.HLT
    assert (cpu["rip"], cpu["tr.selector"]) == (0xA000, NEW)
    assert (busy(cpu, TASK), busy(cpu, NEW)) == (1, 1)
    assert cpu.read(NEW_TSS, 2) == TASK
    assert cpu.read(OLD_TSS + 0x28, 4) == 0x1234
    assert cpu["rflags"] & 0x4000
    assert cpu["cr0"] & 8


def test_an_event_that_memory_cuts_short_after_the_switch_comes_again(cpu):
    """The error code has no page to go to: the last access of all."""
    two_tasks(cpu, "nop; hlt")
    cpu.put(cpu.IDT + 8 * 13, NEW << 16 | 0x8500 << 32, 8)
    cpu["inject.type"], cpu["inject.vector"] = 3, 13
    cpu["inject.has_error"], cpu["inject.error"] = 1, 0x77
    cpu.rights(NEW_STACK - 4, 0)
    assert cpu.run() is Exit.MEMORY
    assert cpu["exit.event_interrupted"] == 1
    assert cpu["tr.selector"] == TASK
    assert busy(cpu, NEW) == 0
    cpu.rights(NEW_STACK - 4, READ | WRITE | EXEC)
    cpu["inject.type"], cpu["inject.vector"] = 3, 13
    cpu["inject.has_error"], cpu["inject.error"] = 1, 0x77
    assert cpu.run() is Exit.HLT
    assert cpu.read(NEW_STACK - 4, 4) == 0x77
    assert cpu.read(OLD_TSS + 0x20, 4) == CODE


def test_an_interrupt_from_virtual_8086_mode(cpu):
    protected(cpu, "nop")
    base = cpu.TSS
    cpu.put(base + 4, 0x30000, 4)
    cpu.put(base + 8, cpu.DS64, 4)
    cpu.segment("tr", cpu.TASK, 0xB, 0, base=base, limit=0x67)
    for name, selector in (("es", 1), ("ds", 2), ("fs", 3), ("gs", 4), ("ss", 5), ("cs", 0x800)):
        cpu.segment(name, selector, 3, 3, base=selector << 4, limit=0xFFFF)
        cpu[f"{name}.g"] = 0
    cpu.set(rip=0, rflags=0x20202, rsp=0x100)
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x30
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == cpu.HANDLERS + 0x30
    at = cpu["rsp"]
    frame = [cpu.read(at + 4 * i, 4) for i in range(9)]
    assert frame == [0, 0x800, 0x20202, 0x100, 5, 1, 2, 3, 4]
    assert at + 36 == 0x30000
    assert [cpu[f"{name}.selector"] for name in ("es", "ds", "fs", "gs")] == [0, 0, 0, 0]
    assert cpu["rflags"] & 0x20200 == 0


def test_vm_in_a_frame_counts_at_level_0_only(cpu):
    protected(
        cpu,
        f"push 0x20002; push 0x63; push {CODE + 0x20}; iretd; .org 0x20; pushfd; pop ecx; int 0x80",
    )
    cpu.put(cpu.GDT + 0x60, 0x00CFFB000000FFFF, 8)
    for seg in ("es", "ss", "ds"):
        cpu.segment(seg, cpu.USER_DS, 3, 3, db=1)
    cpu.segment("cs", 0x63, 0xB, 3, db=1)
    cpu.run(6)
    assert cpu["rcx"] & 0x20000 == 0
    assert cpu["rip"] >= CODE + 0x20


@pytest.mark.parametrize("is_global", [0, 1])
def test_mov_cr3_forgets_all_but_global_pages(cpu, is_global):
    entry = cpu.PT + 8 * 0x40
    source = (
        f"mov rax, [0x40000]; mov rdx, cr3; mov dword ptr [{entry}], {0x41003 | is_global << 8};"
        "mov cr3, rdx; mov rcx, [0x40000]; invlpg [0x40000]; mov rbx, [0x40000]; hlt"
    )
    cpu.long_mode(source)
    cpu["cr4"] = 0xA0
    cpu.put(0x40000, 0x1111, 8)
    cpu.put(0x41000, 0x2222, 8)
    cpu.pte(0x40000, 0x40003 | is_global << 8)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 0x1111
    assert cpu["rcx"] == (0x1111 if is_global else 0x2222)
    assert cpu["rbx"] == 0x2222


def test_what_the_hypervisor_writes_into_tables_is_seen(cpu):
    cpu.long_mode("mov rax, [0x40000]; hlt; mov rax, [0x40000]; hlt")
    cpu.put(0x40000, 0x1111, 8)
    cpu.put(0x41000, 0x2222, 8)
    assert cpu.run() is Exit.HLT
    cpu.pte(0x40000, 0x41003)
    cpu.advance()
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 0x2222


def test_a_jump_to_a_task_only_reads_its_tss(cpu):
    """SDM 3A 8.3: nothing of the new TSS is written but the link, which a JMP does not make."""
    two_tasks(cpu, f".byte 0xEA; .long 0; .word {NEW}; hlt")
    cpu.rights(NEW_TSS, READ)
    assert cpu.run() is Exit.HLT
    assert (cpu["rip"], cpu["tr.selector"]) == (0xA000, NEW)
