# SPDX-License-Identifier: BSD-2-Clause
"""Modes, paging, events and exits of the processor, against the words of the SDM."""

import pytest
from cpu_machine import (
    CR8_WRITE,
    EXCP,
    EXEC,
    INT_WINDOW,
    INTR,
    IRET,
    NMI,
    NMI_WINDOW,
    READ,
    SOFT,
    WRITE,
    Cpu,
    Exit,
    assemble,
)

DE, DB, BP, UD, DF, TS, NP, SS, GP, PF = 0, 1, 3, 6, 8, 10, 11, 12, 13, 14
IF, TF, RF = 0x200, 0x100, 0x10000


@pytest.fixture
def cpu():
    return Cpu()


def real(cpu, source):
    """Real mode with an IVT whose handler n is a HLT at 0x900:n."""
    cpu.real_mode(source)
    for vector in range(256):
        cpu.put(4 * vector, 0x0900 << 16 | vector, 4)
        cpu.write(0x9000 + vector, b"\xf4")
    return cpu


def real_vector(cpu):
    assert cpu.run() is Exit.HLT
    assert cpu["cs.base"] == 0x9000, "no exception came"
    return cpu["rip"]


# --- reset ---


def test_reset_state_is_that_of_the_sdm(cpu):
    assert (cpu["cs.selector"], cpu["cs.base"], cpu["rip"]) == (0xF000, 0xFFFF0000, 0xFFF0)
    assert (cpu["rdx"], cpu["rflags"], cpu["cr0"]) == (0x600, 2, 0x60000010)
    assert (cpu["dr6"], cpu["dr7"], cpu["pat"]) == (0xFFFF0FF0, 0x400, 0x0007040600070406)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0xFFFFFFF0, EXEC)
    assert cpu["exit.memory.inst_len"] == 0


# --- real mode ---


def test_int_n_goes_through_the_ivt_and_iret_comes_back(cpu):
    real(cpu, "sti; stc; int 0x21; hlt")
    cpu.put(4 * 0x21, 0x0500 << 16 | 0x10, 4)
    cpu.write(0x5010, assemble("pushf; pop dx; iret", 16))
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x7C04
    assert cpu["rdx"] & 0xFFFF & (IF | 1) == 1  # IF cleared, CF kept
    assert cpu["rflags"] & (IF | 1) == IF | 1
    assert cpu["rsp"] & 0xFFFF == 0x7000


def test_int_n_pushes_flags_cs_and_the_next_ip(cpu):
    real(cpu, "stc; int 0x40")
    assert real_vector(cpu) == 0x40
    assert cpu["rsp"] == 0x7000 - 6
    assert [cpu.read(0x6FFA + at, 2) for at in (0, 2, 4)] == [0x7C03, 0, 0x0003]


@pytest.mark.parametrize(
    ("source", "vector"),
    [
        ("xor cx,cx; div cx", DE),
        ("nop; nop; ud2", UD),
        ("mov bx,0xffff; mov ax,[bx]", GP),
        ("mov bp,0xffff; mov ax,[bp]", SS),
        ("nop; nop; .byte 0xf0, 0x90", UD),
    ],
)
def test_faults_save_the_ip_of_the_instruction(cpu, source, vector):
    real(cpu, source)
    before = len(assemble(source.rpartition(";")[0], 16))
    assert real_vector(cpu) == vector
    assert cpu.read(0x6FFA, 2) == 0x7C00 + before
    assert cpu["rsp"] == 0x6FFA, "no error code in real mode"


def test_offsets_below_the_limit_do_not_fault(cpu):
    real(cpu, "mov bx,0xfffe; mov ax,[bx]; hlt")
    cpu.put(0xFFFE, 0xBEEF, 2)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] & 0xFFFF == 0xBEEF


def test_unreal_mode_is_a_big_hidden_limit(cpu):
    real(cpu, "mov eax,[ebx]; hlt")
    cpu["rbx"] = 0x12345
    cpu.put(0x12345, 0xCAFEF00D, 4)
    cpu["ds.limit"] = 0xFFFFFFFF
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 0xCAFEF00D


def test_the_limit_of_the_idt_is_checked(cpu):
    real(cpu, "int 0x20; hlt")
    cpu["idtr.limit"] = 0x20 * 4 + 2  # one byte too small
    assert real_vector(cpu) == GP
    assert cpu.read(0x6FFA, 2) == 0x7C00


def test_without_an_idt_a_fault_is_a_triple_fault(cpu):
    real(cpu, "nop; ud2")
    cpu["idtr.limit"] = 0
    assert cpu.run() is Exit.SHUTDOWN


# --- limits of an instruction ---


def test_fifteen_bytes_are_allowed_and_sixteen_are_not(cpu):
    real(cpu, ".rept 14; .byte 0x3e; .endr; nop; hlt")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x7C0F
    real(cpu, ".rept 15; .byte 0x3e; .endr; nop; hlt")
    cpu["rsp"] = 0x7000
    assert real_vector(cpu) == GP


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("f0 01 07", True),  # LOCK ADD [bx],ax
        ("f0 03 07", False),  # LOCK ADD ax,[bx]
        ("f0 01 c0", False),  # LOCK ADD ax,ax
        ("f0 39 07", False),  # LOCK CMP
        ("f0 87 07", True),  # LOCK XCHG
        ("f0 89 07", False),  # LOCK MOV
        ("f0 ff 07", True),  # LOCK INC
        ("f0 ff 37", False),  # LOCK PUSH
        ("f0 f7 1f", True),  # LOCK NEG
        ("f0 f7 27", False),  # LOCK MUL
        ("f0 0f ab 07", True),  # LOCK BTS
        ("f0 0f a3 07", False),  # LOCK BT
        ("f0 0f ba 37 01", True),  # LOCK BTR imm
        ("f0 0f ba 27 01", False),  # LOCK BT imm
        ("f0 0f c7 0f", True),  # LOCK CMPXCHG8B
        ("f0 a4", False),  # LOCK MOVSB
    ],
)
def test_lock_is_ud_where_it_is_not_allowed(cpu, code, allowed):
    real(cpu, "nop")
    cpu.write(0x7C00, bytes.fromhex(code) + b"\xf4")
    cpu["rbx"] = 0x500
    assert cpu.run() is Exit.HLT
    assert (cpu["cs.base"] == 0) == allowed
    assert allowed or cpu["rip"] == UD


# --- interrupts, shadows, windows ---


def test_sti_holds_the_window_for_one_instruction(cpu):
    real(cpu, "sti; nop; nop; hlt")
    cpu["intercepts"] = INT_WINDOW
    assert cpu.run() is Exit.INT_WINDOW
    assert cpu["rip"] == 0x7C02


def test_sti_with_if_set_casts_no_shadow(cpu):
    real(cpu, "sti; nop; nop; hlt")
    cpu["rflags"] = IF | 2
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0
    real(cpu, "sti; nop; nop; hlt")
    cpu["rflags"] = 2
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 1
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0


@pytest.mark.parametrize("load", ["mov ss,ax", "push ax; pop ss"])
def test_loading_ss_casts_a_shadow(cpu, load):
    real(cpu, f"xor ax,ax; {load}; nop; hlt")
    steps = 2 + load.count(";")
    assert cpu.run(steps) is Exit.BUDGET
    assert cpu["int_shadow"] == 1
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0


def test_an_exit_in_the_shadow_shows_it_and_advancing_ends_it(cpu):
    real(cpu, "sti; out 0x80,al; hlt")
    assert cpu.run() is Exit.IO
    assert cpu["int_shadow"] == 1
    cpu.advance()
    assert (cpu["int_shadow"], cpu["rip"]) == (0, 0x7C03)


def test_an_injected_interrupt_comes_before_the_first_instruction(cpu):
    real(cpu, "mov ax,1; hlt")
    cpu["rflags"] = IF | 2
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x30
    assert real_vector(cpu) == 0x30
    assert cpu["rax"] == 0
    assert cpu.read(0x6FFA, 2) == 0x7C00
    assert cpu["inject.type"] == 0
    assert cpu["rflags"] & IF == 0


def test_nmi_blocks_nmis_until_iret(cpu):
    real(cpu, "nop; hlt")
    cpu.write(0x9000 + 2, b"\xf4\xcf")  # HLT, IRET
    cpu["inject.type"], cpu["inject.vector"] = NMI, 2
    cpu["intercepts"] = NMI_WINDOW
    assert real_vector(cpu) == 2
    assert cpu["nmi_blocked"] == 1
    cpu.advance()
    assert cpu.run() is Exit.NMI_WINDOW
    assert (cpu["cs.selector"], cpu["rip"], cpu["nmi_blocked"]) == (0, 0x7C00, 0)


def test_iret_is_intercepted_before_it_runs(cpu):
    real(cpu, "iret")
    cpu["intercepts"] = IRET
    cpu["nmi_blocked"] = 1
    assert cpu.run() is Exit.IRET
    assert (cpu["rip"], cpu["rsp"], cpu["nmi_blocked"]) == (0x7C00, 0x7000, 1)


def test_single_step_traps_after_the_instruction(cpu):
    real(cpu, "push 0x102; popf; nop; nop; hlt")
    assert real_vector(cpu) == DB
    assert cpu.read(cpu["rsp"], 2) == 0x7C05, "not after POPF, which began with TF clear"
    assert cpu["dr6"] & 0x4000
    assert cpu["rflags"] & TF == 0


def test_single_step_traps_each_iteration_of_rep(cpu):
    real(cpu, "rep stosb; hlt")
    cpu.set(rcx=3, rdi=0x600, rflags=TF | 2)
    assert real_vector(cpu) == DB
    assert (cpu["rcx"], cpu["rdi"]) == (2, 0x601)
    assert cpu.read(cpu["rsp"], 2) == 0x7C00


def test_mov_ss_holds_the_single_step_trap_back(cpu):
    real(cpu, "mov ss,ax; nop; nop; hlt")
    cpu.set(rflags=TF | 2, rax=0)
    assert real_vector(cpu) == DB
    assert cpu.read(cpu["rsp"], 2) == 0x7C03


def test_rf_goes_away_with_the_next_instruction(cpu):
    real(cpu, "nop; hlt")
    cpu["rflags"] = RF | 2
    cpu.run(1)
    assert cpu["rflags"] & RF == 0


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


def hole(cpu, *pages):
    for page in pages:
        cpu.rights(page, 0)


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


# --- paging ---

P, W, U, RSVD, I = 1, 2, 4, 8, 16  # noqa: E741
PTE = 0x50000  # the page that the tests are about
NX = 1 << 63


@pytest.mark.parametrize(
    ("entry", "user", "source", "error"),
    [
        (PTE, False, "mov al,[rbx]", 0),
        (PTE, False, "mov [rbx],al", W),
        (PTE, True, "mov al,[rbx]", U),
        (PTE, True, "mov [rbx],al", W | U),
        (PTE, False, "jmp rbx", I),
        (PTE, True, "jmp rbx", I | U),
        (PTE | 3, True, "mov al,[rbx]", P | U),
        (PTE | 3, True, "add [rbx],al", P | U | W),
        (PTE | 5, True, "mov [rbx],al", P | U | W),
        (PTE | 5, True, "xchg [rbx],al", P | U | W),
        (PTE | 1, False, "mov [rbx],al", P | W),  # CR0.WP is set
        (PTE | 7 | NX, False, "jmp rbx", P | I),
        (PTE | 7 | NX, True, "jmp rbx", P | I | U),
        (PTE | 7 | 1 << 51, False, "mov al,[rbx]", P | RSVD),
        (PTE | 7 | 1 << 51, True, "mov [rbx],al", P | RSVD | U | W),
    ],
)
def test_page_faults_have_the_right_error_code_and_cr2(cpu, entry, user, source, error):
    cpu.long_mode(source, user=user)
    cpu.pte(PTE, entry)
    cpu["rbx"] = PTE + 0x123
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    frame = cpu.frame(error=True)
    assert frame["error"] == error
    assert cpu["cr2"] == PTE + 0x123
    assert frame["rip"] == (PTE + 0x123 if error & I else 0x8000)
    assert frame["cs"] == (cpu.USER_CS if user else cpu.CS64)
    assert frame["rflags"] & RF
    assert cpu.read(cpu.PT + 8 * (PTE >> 12), 8) == entry, "a fault sets neither A nor D"


@pytest.mark.parametrize(
    ("table", "bits", "efer"),
    [
        ("PT", NX, 0x500),  # NX is reserved without EFER.NXE
        ("PDPT", 1 << 50, 0xD00),
        ("PD", 1 << 48, 0xD00),
    ],
)
def test_reserved_bits_of_each_level(cpu, table, bits, efer):
    cpu.long_mode("nop")
    cpu["efer"] = efer
    # A second tree, so that the code itself stays mapped: PML4 entry 1 and on.
    tree = {name: 0x80000 + 0x1000 * i for i, name in enumerate(("PDPT", "PD", "PT"))}
    entries = {
        "PML4": (cpu.PML4 + 8, tree["PDPT"]),
        "PDPT": (tree["PDPT"], tree["PD"]),
        "PD": (tree["PD"], tree["PT"]),
        "PT": (tree["PT"], PTE),
    }
    cpu.write(0x8000, assemble("mov al,[rbx]; hlt"))
    cpu["rbx"] = 1 << 39
    for name, (at, points_to) in entries.items():
        cpu.put(at, points_to | 7 | (bits if name == table else 0), 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    assert cpu.frame(error=True)["error"] == P | RSVD
    at, points_to = entries[table]
    cpu.put(at, points_to | 7, 8)
    cpu.set(rip=0x8000)
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x8002, "without the bit it is fine"


@pytest.mark.parametrize(
    ("entry", "user", "source"),
    [
        (PTE | 7, True, "mov [rbx],al"),
        (PTE | 5, True, "mov al,[rbx]"),
        (PTE | 1, False, "mov al,[rbx]"),
        (PTE | 7 | NX, True, "mov al,[rbx]"),
    ],
)
def test_what_paging_allows_goes_through(cpu, entry, user, source):
    cpu.long_mode(source, user=user)
    cpu.pte(PTE, entry)
    cpu["rbx"] = PTE
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["rip"] == 0x8000 + len(assemble(source))


def test_without_wp_the_supervisor_writes_read_only_pages(cpu):
    cpu.long_mode("mov [rbx],al; hlt")
    cpu["cr0"] &= ~0x10000
    cpu.pte(PTE, PTE | 1)
    cpu.set(rbx=PTE, rax=0x77)
    assert cpu.run() is Exit.HLT
    assert cpu.read(PTE, 1) == 0x77


def test_accessed_and_dirty_bits(cpu):
    cpu.long_mode("mov al,[rbx]; mov [rbx+0x1000],al; hlt")
    cpu["rbx"] = PTE
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x8008
    entries = [cpu.read(cpu.PT + 8 * (page >> 12), 8) & 0x60 for page in (PTE, PTE + 0x1000)]
    assert entries == [0x20, 0x60]
    assert cpu.read(cpu.PML4, 8) & 0x60 == 0x20


def test_big_pages_and_their_reserved_bits(cpu):
    cpu.long_mode("mov eax,[rbx]; hlt")
    cpu["rbx"] = 0x40000000 + 0x212345
    cpu.put(cpu.PDPT + 8, 0x87, 8)  # 1 GiB at 0
    cpu.put(0x212345, 0x600DF00D, 4)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 0x600DF00D
    cpu.long_mode("mov eax,[rbx]; hlt")
    cpu.put(cpu.PDPT + 8, 0x87 | 1 << 21, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    assert cpu.frame(error=True)["error"] == P | RSVD


@pytest.mark.parametrize(("register", "vector"), [("rbx", GP), ("rbp", SS), ("rsp", SS)])
def test_addresses_must_be_canonical(cpu, register, vector):
    cpu.long_mode(f"mov rax,[{register}]")
    cpu.gate(vector, cpu.HANDLERS + vector, ist=1)
    cpu[register] = 0x0000_8000_0000_0000
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == vector
    assert cpu.frame(error=True)["error"] == 0


def test_a_crossing_access_faults_at_its_second_page(cpu):
    cpu.long_mode("mov [rbx],rax")
    cpu["rbx"] = PTE + 0xFFC
    cpu.pte(PTE + 0x1000, 0)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    assert cpu["cr2"] == PTE + 0x1000
    assert cpu.read(PTE + 0xFFC, 4) == 0


# --- events in long mode ---


def test_a_frame_of_64_bits_is_aligned_and_complete(cpu):
    cpu.long_mode("ud2")
    cpu["rsp"] = cpu.STACK - 3
    cpu["rflags"] = IF | 2
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == UD
    assert cpu["rsp"] == cpu.STACK - 16 - 40
    assert cpu.frame(error=False) == {
        "rip": 0x8000,
        "cs": cpu.CS64,
        "rflags": IF | RF | 2,
        "rsp": cpu.STACK - 3,
        "ss": cpu.DS64,
    }
    assert cpu["rflags"] == 2


def test_a_trap_gate_leaves_if(cpu):
    cpu.long_mode("ud2")
    cpu.gate(UD, cpu.HANDLERS + UD, attr=0x8F00)
    cpu["rflags"] = IF | 2
    assert cpu.run() is Exit.HLT
    assert cpu["rflags"] == IF | 2


@pytest.mark.parametrize(
    ("change", "vector", "error"),
    [
        ({"attr": 0x0E00}, NP, 0x40 * 8 + 2),
        ({"attr": 0x8600}, GP, 0x40 * 8 + 2),
        ({"sel": 0}, GP, 0),
        ({"sel": 0xF8}, GP, 0xF8),
        ({"sel": 0x10}, GP, 0x10),
        ({"sel": 0x18}, GP, 0x18),
    ],
)
def test_bad_gates_fault_with_their_error_codes(cpu, change, vector, error):
    cpu.long_mode("int 0x40")
    cpu.gate(0x40, 0x9999, **change)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == vector
    frame = cpu.frame(error=True)
    assert (frame["error"], frame["rip"]) == (error, 0x8000)
    # The same gate for an interrupt from outside: EXT.
    cpu.long_mode("nop")
    cpu.gate(0x40, 0x9999, **change)
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x40
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == vector
    assert cpu.frame(error=True)["error"] == error | 1


def test_two_contributory_faults_are_a_double_fault(cpu):
    cpu.long_mode("xor ecx,ecx; div ecx")
    cpu.gate(DE, 0, attr=0)
    cpu.gate(GP, cpu.HANDLERS + GP, attr=0x8600)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
    assert cpu.frame(error=True)["error"] == 0


def test_a_benign_fault_and_a_contributory_one_come_one_by_one(cpu):
    cpu.long_mode("ud2")
    cpu.gate(UD, cpu.HANDLERS + UD, attr=0x8600)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == UD * 8 + 2 + 1


def test_a_page_fault_whose_stack_faults_is_a_double_fault(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.gate(DF, cpu.HANDLERS + DF, ist=1)
    cpu.pte(PTE, 0)
    cpu.set(rbx=PTE, rsp=PTE + 0x800)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
    assert cpu["rsp"] == cpu.STACK1 - 48
    assert cpu["cr2"] == PTE + 0x800 - 8


def test_a_fault_on_the_way_to_the_double_fault_is_shutdown(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.pte(PTE, 0)
    cpu.set(rbx=PTE, rsp=PTE + 0x800)
    assert cpu.run() is Exit.SHUTDOWN


def test_int_n_from_cpl3_needs_the_dpl_of_the_gate(cpu):
    cpu.long_mode("int 0x40", user=True)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0x40 * 8 + 2
    cpu.long_mode("int 0x40", user=True)
    cpu.gate(0x40, cpu.HANDLERS + 0x40, attr=0xEE00)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == 0x40
    assert cpu["rsp"] == cpu.STACK0 - 40
    assert (cpu["ss.selector"], cpu["ss.dpl"], cpu["cs.selector"]) == (0, 0, cpu.CS64)
    frame = cpu.frame(error=False)
    assert (frame["rip"], frame["rsp"], frame["ss"]) == (0x8002, cpu.STACK, cpu.USER_DS)


def test_iretq_goes_to_cpl3_and_syscall_comes_back(cpu):
    cpu.long_mode(
        """
        push 0x23; push 0x19000; push 0x202; push 0x2b; push offset user
        iretq
        user: mov eax,cs; syscall; hlt
        """
    )
    cpu.set(star=0x0008 << 32, lstar=0x9000, sfmask=IF)
    cpu.write(0x9000, b"\xf4")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x9000
    assert cpu["rax"] == cpu.USER_CS
    assert cpu["rsp"] == 0x19000
    assert cpu["r11"] == 0x202
    assert cpu["rflags"] == 2
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["ss.dpl"]) == (8, 16, 0)
    assert cpu.read(cpu["rcx"], 1) == 0xF4


@pytest.mark.parametrize("source", ["hlt", "cli", "mov cr0,rax", "lgdt [rbx]", "in al,dx", "wrmsr"])
def test_privileged_instructions_fault_at_cpl3(cpu, source):
    cpu.long_mode(source, user=True)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0


def test_an_injected_exception_pushes_its_error_code(cpu):
    cpu.long_mode("nop")
    cpu["inject.type"], cpu["inject.vector"] = EXCP, GP
    cpu["inject.has_error"], cpu["inject.error"] = 1, 0x1234
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0x1234


# --- modes ---

BOOT = """
    lgdt [gdtr]
    mov eax,cr0
    or al,1
    mov cr0,eax
    .byte 0x66,0xea
    .long protected
    .word 0x18
gdtr: .word 0xff
    .long 0x104000
.code32
protected:
    mov ax,0x10
    mov ds,ax
    mov ss,ax
    mov esp,0x18000
    push 0x11223344
    pop ebx
    mov eax,cr4
    or al,0x20
    mov cr4,eax
    mov eax,0x100000
    mov cr3,eax
    mov ecx,0xc0000080
    rdmsr
    or ah,1
    wrmsr
    mov eax,cr0
    or eax,0x80000000
    mov cr0,eax
    .byte 0xea
    .long long
    .word 0x08
.code64
long:
    mov rdi,0x1122334455667788
    hlt
"""


def test_from_real_mode_to_long_mode(cpu):
    cpu.real_mode(BOOT)
    cpu.tables()
    assert cpu.run() is Exit.HLT
    assert cpu["rdi"] == 0x1122334455667788
    assert cpu["rbx"] == 0x11223344
    assert (cpu["efer"], cpu["cs.l"], cpu["cs.selector"]) == (0x500, 1, 8)
    assert cpu["cr0"] & 0x80000001 == 0x80000001


BACK = """
    lgdt [gdtr]
    mov eax,cr0
    inc eax
    mov cr0,eax
    .byte 0xea
    .word protected, 0x30
gdtr: .word 0xff
    .long 0x104000
protected:
    mov bx,0x38
    mov es,bx
    mov bx,0x10
    mov ds,bx
    dec eax
    mov cr0,eax
    .byte 0xea
    .word again, 0
again:
    xor ax,ax
    mov ds,ax
    mov ebx,0x123456
    mov edx,[ebx]
    hlt
"""


def test_from_protected_mode_back_to_real_keeps_the_limits(cpu):
    cpu.real_mode(BACK)
    cpu.tables()
    cpu.put(0x123456, 0xFEEDFACE, 4)
    assert cpu.run() is Exit.HLT
    assert cpu["cr0"] & 1 == 0
    assert cpu["rdx"] == 0xFEEDFACE
    assert (cpu["ds.selector"], cpu["ds.base"], cpu["ds.limit"]) == (0, 0, 0xFFFFFFFF)
    assert (cpu["es.selector"], cpu["es.limit"]) == (0x38, 0xFFFF)


def test_protected_mode_checks_descriptors(cpu):
    cpu.long_mode("mov ax,0x0f8; mov ds,ax")
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0xF8
    cpu.long_mode("mov ax,0x10; mov ds,ax")
    cpu.put(cpu.GDT + 0x10, 0x00CF13000000FFFF, 8)  # not present
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == NP
    cpu.long_mode("mov ax,0x10; mov ss,ax")
    cpu.put(cpu.GDT + 0x10, 0x00CF13000000FFFF, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == SS


def test_there_are_no_pages_of_512_gib(cpu):
    cpu.long_mode("mov al,[rbx]; hlt")
    cpu["rbx"] = 1 << 39
    cpu.put(cpu.PML4 + 8, 0x87, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    assert cpu.frame(error=True)["error"] == P | RSVD


def test_loading_a_segment_sets_its_accessed_bit(cpu):
    cpu.long_mode("mov ax,0x10; mov ds,ax; hlt")
    cpu.put(cpu.GDT + 0x10, 0x00CF92000000FFFF, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.read(cpu.GDT + 0x10, 8) == 0x00CF93000000FFFF
    assert cpu["ds.type"] == 3


def test_control_registers_refuse_reserved_values(cpu):
    for source in ("mov cr4,rbx", "mov cr0,rbx", "mov cr3,rbx", "mov cr8,rbx"):
        cpu.long_mode(source)
        cpu["rbx"] = 1 << 62
        assert cpu.run() is Exit.HLT
        assert cpu.vector() == GP, source
    cpu.long_mode("mov cr1,rbx")
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == UD


def test_cr8_writes_are_reported_after_they_are_done(cpu):
    cpu.long_mode("mov cr8,rbx; hlt")
    cpu["rbx"] = 9
    cpu["intercepts"] = CR8_WRITE
    assert cpu.run() is Exit.CR8_WRITE
    assert (cpu["cr8"], cpu["rip"], cpu["exit.next_rip"]) == (9, 0x8004, 0x8004)


@pytest.mark.parametrize(
    "change",
    [
        {"cr0": 0x20000000},
        {"cr0": 1 << 32},
        {"efer": 2},
        {"cr4": 1 << 22},
        {"dr7": 1 << 32},
        {"efer": 0x100, "cr0": 0x80000001},
    ],
)
def test_states_that_cannot_be_entered(cpu, change):
    real(cpu, "hlt")
    cpu.set(**change)
    assert cpu.run() is Exit.BAD_STATE
    assert cpu["rip"] == 0x7C00


def test_what_is_not_implemented_is_ud_and_counted(cpu):
    real(cpu, "fsin")
    assert real_vector(cpu) == UD
    assert cpu["unimplemented"] == 1
    real(cpu, "ud2")
    assert real_vector(cpu) == UD
    assert cpu["unimplemented"] == 1


def test_code_written_by_itself_is_seen(cpu):
    real(cpu, "mov byte ptr [there],0xf4; nop; there: nop; ud2")
    assert cpu.run() is Exit.HLT
    assert cpu["cs.base"] == 0


# --- breakpoints ---


@pytest.mark.parametrize(
    ("condition", "size", "at", "source", "hit"),
    [
        (1, 3, 0x50000, "mov [rbx+3],al", True),  # write, 4 bytes
        (1, 3, 0x50000, "mov [rbx+4],al", False),
        (1, 3, 0x50000, "mov al,[rbx+3]", False),
        (3, 3, 0x50000, "mov al,[rbx+3]", True),
        (3, 2, 0x50006, "mov al,[rbx]", True),  # 8 bytes, aligned down
        (3, 0, 0x50007, "mov rax,[rbx]", True),
        (3, 0, 0x50008, "mov rax,[rbx]", False),
        (1, 0, 0x50001, "add [rbx],eax", True),
    ],
)
def test_data_breakpoints_trap_after_the_access(cpu, condition, size, at, source, hit):
    cpu.long_mode(f"{source}; nop; hlt")
    cpu.set(rbx=0x50000, dr1=at, dr7=0x400 | 0x08 | (condition | size << 2) << 20)
    assert cpu.run() is Exit.HLT
    if not hit:
        assert cpu["rip"] < cpu.HANDLERS
        return
    assert cpu.vector() == DB
    frame = cpu.frame(error=False)
    assert frame["rip"] == 0x8000 + len(assemble(source))
    assert frame["rflags"] & RF == 0
    assert cpu["dr6"] & 0xF == 2


def test_an_instruction_breakpoint_comes_before_it_and_rf_holds_it_back(cpu):
    cpu.long_mode("nop; inc rax; hlt")
    cpu.set(dr0=0x8001, dr7=0x402)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert cpu.frame(error=False)["rip"] == 0x8001
    assert (cpu["rax"], cpu["dr6"] & 0xF) == (0, 1)
    cpu.long_mode("nop; inc rax; hlt")
    cpu.set(rip=0x8001, rflags=RF | 2)
    assert cpu.run() is Exit.HLT
    assert (cpu["rax"], cpu["rip"]) == (1, 0x8004)


def test_general_detect_guards_the_debug_registers(cpu):
    cpu.long_mode("mov rax,dr0; hlt")
    cpu["dr7"] = 0x2400
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert cpu.frame(error=False)["rip"] == 0x8000
    assert cpu["dr6"] & 0x2000
    assert cpu["dr7"] == 0x400


def test_alignment_is_checked_for_cpl3_that_asks(cpu):
    source = "mov eax,[rbx]; cpuid"
    for cr0, ac, user, vector in (
        (1 << 18, 1 << 18, True, 17),
        (0, 1 << 18, True, None),
        (1 << 18, 0, True, None),
        (1 << 18, 1 << 18, False, None),
    ):
        cpu.long_mode(source, user=user)
        cpu["cr0"] |= cr0
        cpu.set(rflags=ac | 2, rbx=0x50001)
        if vector is None:
            assert cpu.run() is Exit.CPUID
        else:
            assert cpu.run() is Exit.HLT
            assert cpu.vector() == vector
            assert cpu.frame(error=True)["error"] == 0


# --- what events do to the state around them ---


def test_delivery_ends_the_interrupt_shadow(cpu):
    real(cpu, "nop")
    cpu["int_shadow"] = 1
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x30
    assert real_vector(cpu) == 0x30
    assert cpu["int_shadow"] == 0


def test_a_frame_at_an_address_that_is_not_canonical_is_a_stack_fault(cpu):
    cpu.long_mode("ud2")
    cpu.gate(SS, cpu.HANDLERS + SS, ist=1)
    cpu["rsp"] = 0x0000_8000_0000_0100
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == SS
    assert cpu.frame(error=True)["error"] == 1, "EXT: met while #UD was delivered"


def test_a_page_fault_with_a_bad_gate_is_a_double_fault(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.gate(PF, cpu.HANDLERS + PF, sel=0xF8)
    cpu.pte(PTE, 0)
    cpu["rbx"] = PTE
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF


# --- decimal, BOUND, questions about selectors ---

AF, CF, ZF = 0x10, 1, 0x40


def bcd(n):
    return n % 10 | n // 10 % 10 << 4


@pytest.mark.parametrize(("op", "adjust"), [("add", "daa"), ("sub", "das")])
def test_daa_and_das_make_a_decimal_result(cpu, op, adjust):
    real(cpu, f"{op} al,bl; {adjust}; hlt")
    for a in range(0, 100, 3):
        for b in range(100):
            cpu.set(rip=0x7C00, rax=bcd(a), rbx=bcd(b), rflags=2)
            assert cpu.run() is Exit.HLT
            want = a + b if op == "add" else a - b
            assert cpu["rax"] == bcd(want % 100), (a, b)
            assert cpu["rflags"] & CF == int(not 0 <= want < 100), (a, b)


@pytest.mark.parametrize(
    ("source", "ax", "flags", "want", "flags_after"),
    [
        ("aaa", 0x000F, 0, 0x0105, AF | CF),
        ("aaa", 0x0009, 0, 0x0009, 0),
        ("aaa", 0x0132, AF, 0x0208, AF | CF),
        ("aaa", 0x00FA, 0, 0x0200, AF | CF),  # the carry out of AL goes to AH too
        ("aas", 0x020B, 0, 0x0105, AF | CF),
        ("aas", 0x0239, 0, 0x0209, 0),
        ("aas", 0x0003, AF, 0xFE0D, AF | CF),
    ],
)
def test_ascii_adjustments(cpu, source, ax, flags, want, flags_after):
    real(cpu, f"{source}; hlt")
    cpu.set(rax=ax, rflags=flags | 2)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == want
    assert cpu["rflags"] & (AF | CF) == flags_after


def test_aam_and_aad_are_inverse_and_aam_0_divides_by_zero(cpu):
    real(cpu, "aam; mov bx,ax; aad; hlt")
    for n in range(256):
        cpu.set(rip=0x7C00, rax=n)
        assert cpu.run() is Exit.HLT
        assert (cpu["rax"], cpu["rbx"]) == (n, n // 10 << 8 | n % 10)
    real(cpu, ".byte 0xd4, 0")
    assert real_vector(cpu) == DE


@pytest.mark.parametrize(("index", "inside"), [(-5, True), (-6, False), (7, True), (8, False)])
def test_bound_allows_both_limits(cpu, index, inside):
    real(cpu, "bound ax,[bx]; hlt")
    cpu.set(rax=index & 0xFFFF, rbx=0x500)
    cpu.put(0x500, 7 << 16 | -5 & 0xFFFF, 4)
    assert cpu.run() is Exit.HLT
    assert (cpu["cs.base"] == 0) is inside
    assert inside or cpu["rip"] == 5


@pytest.mark.parametrize(
    ("source", "selector", "user", "want"),
    [
        ("lar", 0x10, False, 0xCF9300),
        ("lar", 0x08, True, None),  # DPL 0 seen from CPL 3
        ("lar", 0x20, True, 0xCFF300),
        ("lar", 0x40, False, 0x8900),
        ("lar", 0x00, False, None),
        ("lar", 0xF8, False, None),
        ("lsl", 0x10, False, 0xFFFFFFFF),
        ("lsl", 0x38, False, 0xFFFF),
        ("lsl", 0x40, False, 0x67),
        ("lsl", 0x23, True, 0xFFFFFFFF),
        ("lsl", 0x13, False, None),  # RPL 3
    ],
)
def test_lar_and_lsl_answer_or_clear_zf(cpu, source, selector, user, want):
    cpu.long_mode(f"{source} eax,ebx; cpuid", user=user)
    cpu.set(rax=0x1234, rbx=selector)
    assert cpu.run() is Exit.CPUID
    assert cpu["rflags"] & ZF == (ZF if want is not None else 0)
    assert cpu["rax"] == (0x1234 if want is None else want)


@pytest.mark.parametrize(
    ("source", "selector", "yes"),
    [
        ("verr", 0x08, True),
        ("verw", 0x08, False),
        ("verr", 0x10, True),
        ("verw", 0x10, True),
        ("verr", 0x40, False),
        ("verw", 0x13, False),
    ],
)
def test_verr_and_verw(cpu, source, selector, yes):
    cpu.long_mode(f"{source} bx; cpuid")
    cpu["rbx"] = selector
    assert cpu.run() is Exit.CPUID
    assert (cpu["rflags"] & ZF != 0) is yes


def test_a_port_is_allowed_by_the_bitmap_of_the_tss(cpu):
    for port, allowed in ((0x10, True), (0x11, False)):
        cpu.long_mode("in al,dx", user=True)
        cpu["tr.limit"] = 0x6B
        cpu.put(cpu.TSS + 0x68, ~(1 << 0x10) & 0xFFFFFFFF, 4)
        cpu["rdx"] = port
        assert cpu.run() is (Exit.IO if allowed else Exit.HLT)
        assert allowed or cpu.vector() == GP


def test_sysenter_and_sysexit_in_protected_mode(cpu):
    cpu.long_mode("nop")
    cpu.set(cr0=0x11, efer=0, cr4=0)
    cpu.segment("cs", 0x18, 0xB, 0, db=1)
    cpu.segment("ss", 0x10, 0x3, 0, db=1)
    cpu.write(0x8000, assemble("sysenter", 32))
    cpu.set(rflags=IF | 2, sysenter_cs=0x08, sysenter_esp=0x5000, sysenter_eip=0x9000)
    cpu.write(0x9000, assemble("hlt; sysexit", 32))
    cpu.set(rcx=0x6000, rdx=0xA000)
    cpu.write(0xA000, assemble("cpuid", 32))
    assert cpu.run() is Exit.HLT
    assert (cpu["rip"], cpu["rsp"], cpu["rflags"]) == (0x9000, 0x5000, 2)
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["cs.db"]) == (8, 16, 1)
    cpu.advance()
    assert cpu.run() is Exit.CPUID
    assert (cpu["rip"], cpu["rsp"]) == (0xA000, 0x6000)
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["ss.dpl"]) == (0x1B, 0x23, 3)


def test_a_data_breakpoint_traps_between_two_iterations(cpu):
    cpu.long_mode("rep stosb; hlt")
    cpu.set(rcx=8, rdi=0x50000, dr1=0x50002, dr7=0x400 | 0x08 | 1 << 20)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert (cpu["rcx"], cpu["rdi"]) == (5, 0x50003)
    assert cpu.frame(error=False)["rip"] == 0x8000


def test_flags_that_do_not_exist_have_their_fixed_values(cpu):
    real(cpu, "hlt")
    cpu["rflags"] = 0xFFFF_FFFF_0000_8028
    assert cpu.run() is Exit.HLT
    assert cpu["rflags"] == 2


# --- flags and the stack ---


@pytest.mark.parametrize(
    ("user", "before", "popped", "after"),
    [
        (False, 2, IF | 0x3000 | 2, IF | 0x3000 | 2),
        (True, 2, IF | 0x3000 | 2, 2),
        (True, IF | 2, 2, IF | 2),
        (True, 0x3000 | 2, IF | 2, IF | 0x3000 | 2),  # IOPL 3: IF yes, IOPL no
    ],
)
def test_popf_changes_if_by_iopl_and_iopl_at_cpl0(cpu, user, before, popped, after):
    cpu.long_mode("popf; cpuid", user=user)
    cpu["rflags"] = before
    cpu.put(cpu.STACK, popped, 8)
    assert cpu.run() is Exit.CPUID
    assert cpu["rflags"] == after


@pytest.mark.parametrize(("iopl", "allowed"), [(0, False), (0x3000, True)])
def test_cli_and_sti_go_by_iopl(cpu, iopl, allowed):
    cpu.long_mode("cli; sti; cpuid", user=True)
    cpu["rflags"] = iopl | IF | 2
    assert cpu.run() is (Exit.CPUID if allowed else Exit.HLT)
    assert allowed or cpu.vector() == GP


def test_pop_to_an_address_with_rsp_uses_rsp_after_the_pop(cpu):
    cpu.long_mode("pop qword ptr [rsp+0x10]; cpuid")
    cpu.put(cpu.STACK, 0x1122334455667788, 8)
    assert cpu.run() is Exit.CPUID
    assert cpu["rsp"] == cpu.STACK + 8
    assert cpu.read(cpu.STACK + 0x18, 8) == 0x1122334455667788
    assert cpu.read(cpu.STACK + 0x10, 8) == 0


# --- refusals ---


def test_paging_with_lme_needs_pae_and_code_without_l(cpu):
    for cr4, long, fits in ((0, 0, False), (0x20, 1, False), (0x20, 0, True)):
        cpu.long_mode("nop")
        cpu.set(cr0=0x11, cr4=cr4, efer=0x100)
        cpu.segment("cs", 0x18, 0xB, 0, db=1 - long, long=long)
        cpu["idtr.limit"] = 0  # a fault is a shutdown
        cpu.write(0x8000, assemble("mov cr0,eax; hlt", 32))
        cpu["rax"] = 0x80000011
        assert cpu.run() is (Exit.HLT if fits else Exit.SHUTDOWN)
        assert cpu["efer"] == (0x500 if fits else 0x100)


def test_a_branch_out_of_the_segment_faults_at_the_branch(cpu):
    cpu.long_mode("jmp rbx")
    cpu["rbx"] = 1 << 47
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["rip"] == 0x8000


def test_a_real_mode_branch_past_the_limit_faults_at_the_branch(cpu):
    real(cpu, "nop; jmp bx")
    cpu["cs.limit"] = 0x8FFF
    cpu["rbx"] = 0x9000
    assert real_vector(cpu) == GP
    assert cpu.read(cpu["rsp"], 2) == 0x7C01


def test_lma_is_not_written_by_wrmsr_and_lme_not_under_paging(cpu):
    cpu.long_mode("wrmsr; rdmsr; cpuid")
    cpu.set(rcx=0xC0000080, rax=0x101, rdx=0)  # LME and SCE, no LMA, no NXE
    assert cpu.run() is Exit.CPUID
    assert cpu["rax"] == 0x501
    cpu.long_mode("wrmsr")
    cpu.set(rcx=0xC0000080, rax=0x001, rdx=0)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP


def test_the_smallest_dividend_by_minus_one_overflows(cpu):
    cpu.long_mode("idiv rbx")
    cpu.set(rdx=1 << 63, rax=0, rbx=(1 << 64) - 1)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DE
