# SPDX-License-Identifier: BSD-2-Clause
"""Page walks: rights, reserved bits, big pages, faults."""

import pytest
from cpu_machine import Cpu, Exit, assemble
from cpu_scene import GP, PF, PTE, RF, RSVD, SS, I, P, U, W


@pytest.fixture
def cpu():
    return Cpu()


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
