# SPDX-License-Identifier: BSD-2-Clause
"""What an exit says and what it leaves, MEMORY exits too."""

import pytest
from cpu_machine import EXEC, INTR, READ, SOFT, WRITE, Cpu, Exit, assemble
from cpu_scene import GP, hole, real, real_vector


@pytest.fixture
def cpu():
    return Cpu()


# --- exits ---


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("in al,0x60", {"in": 1, "str": 0, "port": 0x60, "operand_size": 1}),
        ("in ax,dx", {"in": 1, "str": 0, "port": 0x1234, "operand_size": 2}),
        ("out dx,eax", {"in": 0, "str": 0, "port": 0x1234, "operand_size": 4}),
        ("rep outsb", {"in": 0, "str": 1, "rep": 1, "seg": 3, "address_size": 2}),
        ("outsw dx, word ptr fs:[si]", {"in": 0, "str": 1, "rep": 0, "seg": 4, "operand_size": 2}),
        ("rep insd", {"in": 1, "str": 1, "rep": 1, "seg": 0, "operand_size": 4}),
        (".byte 0x67; insb", {"in": 1, "str": 1, "rep": 0, "address_size": 4}),
    ],
)
def test_io_exits_say_what_the_instruction_wants(cpu, source, want):
    real(cpu, source + "; hlt")
    cpu.set(rdx=0x1234, rcx=5, rsi=0x600, rdi=0x700)
    assert cpu.run() is Exit.IO
    assert {name: cpu[f"exit.io.{name}"] for name in want} == want
    assert cpu["rip"] == 0x7C00
    assert cpu["exit.next_rip"] == 0x7C00 + len(assemble(source, 16))
    assert (cpu["rcx"], cpu["rsi"], cpu["rdi"]) == (5, 0x600, 0x700)


def test_rep_outs_with_a_count_of_zero_does_nothing(cpu):
    real(cpu, "rep outsb; hlt")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x7C02


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("cpuid", Exit.CPUID),
        ("invd", Exit.INVD),
        (".byte 0x0f,0x01,0xc8", Exit.MONITOR),
        (".byte 0x0f,0x01,0xc9", Exit.MWAIT),
        ("hlt", Exit.HLT),
    ],
)
def test_intercepted_instructions_stay_until_advanced(cpu, source, reason):
    real(cpu, source)
    assert cpu.run() is reason
    assert cpu["rip"] == 0x7C00
    cpu.advance()
    assert cpu["rip"] == 0x7C00 + len(assemble(source, 16))


def test_msrs_of_the_processor_do_not_exit_and_others_do(cpu):
    real(cpu, "wrmsr; rdmsr; hlt")
    cpu.set(rcx=0xC0000102, rax=0x89ABCDEF, rdx=0x4567)
    assert cpu.run() is Exit.HLT
    assert (cpu["rax"], cpu["rdx"]) == (0x89ABCDEF, 0x4567)
    real(cpu, "wrmsr")
    cpu["rcx"] = 0x1B
    assert cpu.run() is Exit.WRMSR
    assert (cpu["exit.msr"], cpu["exit.next_rip"]) == (0x1B, 0x7C02)
    real(cpu, "wrmsr")
    cpu.set(rcx=0xC0000102, rdx=0x800000)  # not canonical
    assert real_vector(cpu) == GP


def test_the_flag_mask_of_syscall_has_32_bits(cpu):
    """APM 2 6.1.1: bits 63:32 of SFMASK are reserved, and read as zero."""
    cpu.long_mode("wrmsr; xor eax,eax; mov edx,eax; rdmsr; hlt")
    cpu.set(rcx=0xC0000084, rax=0x89AB_CDEF, rdx=0x0123_4567)
    assert cpu.run() is Exit.HLT
    assert (cpu["rax"], cpu["rdx"], cpu["sfmask"]) == (0x89AB_CDEF, 0, 0x89AB_CDEF)


def test_the_budget_and_the_kick_stop_between_instructions(cpu):
    real(cpu, "rep stosb; hlt")
    cpu.set(rcx=100, rdi=0x1000)
    assert cpu.run(10) is Exit.BUDGET
    assert (cpu["rcx"], cpu["rdi"], cpu["rip"]) == (90, 0x100A, 0x7C00)
    cpu["kick"] = 1
    assert cpu.run() is Exit.KICKED
    assert cpu["rcx"] == 90
    cpu["kick"] = 0
    assert cpu.run() is Exit.HLT
    assert (cpu["rcx"], cpu["rdi"]) == (0, 0x1064)


# --- MEMORY exits ---


@pytest.mark.parametrize(
    ("holes", "gpa"),
    [((0x3000,), 0x3000), ((0x2000, 0x3000), 0x2FFE), ((0x2000,), 0x2FFE)],
)
def test_a_crossing_access_reports_the_first_byte_not_reached(cpu, holes, gpa):
    real(cpu, "mov eax,[bx]")
    cpu["rbx"] = 0x2FFE
    hole(cpu, *holes)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (gpa, READ)
    assert cpu.inst_bytes().startswith(assemble("mov eax,[bx]", 16))


@pytest.mark.parametrize(
    ("source", "gpa", "access"),
    [
        ("mov [bx],ax", 0x3010, WRITE),
        ("mov ax,[bx]", 0x3010, READ),
        ("add [bx],ax", 0x3010, WRITE),
        ("xchg ax,[bx]", 0x3010, WRITE),
        ("cmp [bx],ax", 0x3010, READ),
        ("movsb", 0x3020, WRITE),  # from RAM to the hole
        ("movsb es:[di], byte ptr gs:[si]", 0x3030, READ),  # from hole to hole: the source
        ("bts [bx],ax", 0x3010, WRITE),
        ("jmp bx", 0x3010, EXEC),
        ("pop word ptr [bx]", 0x3010, WRITE),
    ],
)
def test_memory_exits_name_one_access_and_change_nothing(cpu, source, gpa, access):
    real(cpu, source)
    hole(cpu, 0x3000)
    cpu.set(rbx=0x3010, rsi=0x2000, rdi=0x3020)
    cpu["gs.base"] = 0x1030
    before = [cpu[r] for r in ("rax", "rbx", "rsi", "rdi", "rsp", "rflags")]
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (gpa, access)
    assert [cpu[r] for r in ("rax", "rbx", "rsi", "rdi", "rsp", "rflags")] == before
    assert cpu["rip"] == (0x3010 if access == EXEC else 0x7C00)
    assert not cpu["exit.event_interrupted"]


def test_push_into_a_hole_leaves_rsp(cpu):
    real(cpu, "push ax")
    cpu["rsp"] = 0x3002
    hole(cpu, 0x3000)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0x3000, WRITE)
    assert cpu["rsp"] == 0x3002


def test_a_mapping_grants_only_its_rights(cpu):
    real(cpu, "mov ax,[bx]; mov [bx],ax")
    cpu["rbx"] = 0x3000
    cpu.rights(0x3000, READ | EXEC)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["rip"], cpu["exit.memory.access"]) == (0x7C02, WRITE)
    real(cpu, "jmp bx")
    cpu.rights(0x3000, READ | WRITE)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["rip"], cpu["exit.memory.access"]) == (0x3000, EXEC)


def test_an_exit_out_of_event_delivery_names_the_event(cpu):
    real(cpu, "int 0x55")
    cpu["rsp"] = 0x3006
    hole(cpu, 0x3000)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0x3004, WRITE)
    assert cpu["exit.event_interrupted"] == 1
    assert (cpu["exit.interrupted.type"], cpu["exit.interrupted.vector"]) == (SOFT, 0x55)
    assert (cpu["rip"], cpu["rsp"], cpu["cs.base"]) == (0x7C00, 0x3006, 0)
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x77
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.interrupted.type"], cpu["exit.interrupted.vector"]) == (INTR, 0x77)
    assert cpu["exit.memory.inst_len"] == 0
    assert cpu["rflags"] == 2


def test_a_page_walk_reports_the_entry(cpu):
    cpu.long_mode("mov rax,[0x40000000]; hlt")
    cpu.put(cpu.PDPT + 8, 0x800000 | 7, 8)  # beyond memory
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0x800000, WRITE)


def test_rep_is_interrupted_with_the_iterations_done(cpu):
    real(cpu, "rep movsb; hlt")
    hole(cpu, 0x3000)
    cpu.set(rcx=100, rsi=0x1000, rdi=0x2FF0)
    cpu.write(0x1000, bytes(range(100)))
    assert cpu.run() is Exit.MEMORY
    assert (cpu["rcx"], cpu["rsi"], cpu["rdi"], cpu["rip"]) == (84, 0x1010, 0x3000, 0x7C00)
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0x3000, WRITE)
    cpu.rights(0x3000, READ | WRITE)
    assert cpu.run() is Exit.HLT
    assert bytes(cpu.memory[0x2FF0 : 0x2FF0 + 100]) == bytes(range(100))
