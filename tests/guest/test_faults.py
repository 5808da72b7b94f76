# SPDX-License-Identifier: BSD-2-Clause
"""Handlers, pages, MSRs and the local APIC from the shared macros: SDM 3A chapters 4, 6, 11.

Every guest here checks itself and runs under QEMU and on the bundled libnvmm.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nvmmconf.abi import Libnvmm, LibraryChoice, bundled_path, open_library
from nvmmconf.guest import GuestError, GuestLibrary, Image, Mode
from tests.guest import software
from tests.guest.qemu import QEMU, boot

PASSED, FAILED = 1, 3
WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17, 21, 29, 30)
"""SDM 3A table 6-1; 29 and 30 of APM 2, 8.2."""

Run = Callable[[Image], tuple[int | None, str]]


@pytest.fixture(params=["qemu", "software"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Status and console text of an image."""

    def under_qemu(image: Image) -> tuple[int | None, str]:
        ended = boot(image, tmp_path)
        return ended.status, ended.console.decode()

    def in_software(image: Image) -> tuple[int | None, str]:
        ended = software.run(image, library, port=False)
        return ended.outcome.status, ended.console

    if request.param == "qemu":
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed (Debian: qemu-system-x86)")
        return under_qemu
    library: Libnvmm = open_library(LibraryChoice(str(bundled_path()), "the tests'"))
    return in_software


def passes(run: Run, image: Image) -> None:
    status, console = run(image)
    assert (status, [line for line in console.splitlines() if "FAIL" in line]) == (PASSED, [])


FAULT = """\
start:
    IDT_SETUP
    .irp    register, ax, bx, cx, dx, si, di, bp
    mov     {{ wide }}\\register, 0x12345678
    .endr
    push    {{ ax }}
    push    0x4D5                       # CF PF AF ZF SF DF
    popf
    EXPECT_FAULT 6, resumed
insn:
    ud2
    FAIL    "no #UD"
resumed:
    .irp    register, ax, bx, cx, dx, si, di, bp
    CHECK_EQ e\\register, 0x12345678, "\\register"
    .endr
    CHECK_MEM dword, [fault_vector], 6, "vector"
    CHECK_MEM dword, [fault_error], 0, "error code"
    CHECK_MEM dword, [fault_ip], insn, "IP"
    mov     ax, [fault_cs]
    mov     cx, cs
    CHECK_SAME ax, cx, "CS"
    mov     {{ ax }}, [fault_sp]
    CHECK_SAME {{ ax }}, {{ sp }}, "SP"
    mov     eax, [fault_flags]
    and     eax, 0xFFD7
    CHECK_EQ eax, 0x4D7, "flags"
    CHECK_MEM dword, [fault_count], 1, "count"
    CHECK_MEM dword, [fault_table], 6, "table"
    CHECK_MEM dword, [fault_table + 16], insn, "table"
    pop     {{ ax }}
    DONE
"""


@pytest.mark.parametrize("mode", list(Mode))
def test_a_fault_is_noted_and_the_guest_goes_on(
    library: GuestLibrary, run: Run, mode: Mode
) -> None:
    passes(run, library.inline(FAULT, mode, name="fault"))


EVERY_VECTOR = """\
start:
    IDT_SETUP 256
{% for vector in range(256) if bits == 16 or vector not in with_error_code %}
    EXPECT_FAULT {{ vector }}, after_{{ vector }}
    int     {{ vector }}
    FAIL    "INT {{ vector }} went on"
after_{{ vector }}:
    CHECK_MEM dword, [fault_vector], {{ vector }}, "vector"
{% endfor %}
    DONE
"""


@pytest.mark.parametrize("mode", list(Mode))
def test_every_vector_has_its_handler(library: GuestLibrary, run: Run, mode: Mode) -> None:
    """INT n pushes no error code, also where the exception n does (SDM 3A 6.4.2)."""
    body = EVERY_VECTOR.replace("with_error_code", str(WITH_ERROR_CODE))
    passes(run, library.inline(body, mode, name="vectors"))


ERROR_CODES = """\
start:
    IDT_SETUP
    EXPECT_FAULT 13, beyond_gdt         # beyond the GDT's limit: #GP(selector)
    mov     eax, 0x1230
    mov     ds, eax
    FAIL    "no #GP"
beyond_gdt:
    CHECK_MEM dword, [fault_error], 0x1230, "selector"
    EXPECT_FAULT 13, no_segment         # no canonical address, a null SS: #GP(0)
    xor     eax, eax
{% if bits == 64 %}
    bts     rax, 63
    mov     al, [rax]
{% else %}
    mov     ss, eax
{% endif %}
    FAIL    "no #GP"
no_segment:
    CHECK_MEM dword, [fault_error], 0, "error code"
    EXPECT_FAULT 0, divided             # no error code
    xor     ecx, ecx
    xor     edx, edx
    div     ecx
    FAIL    "no #DE"
divided:
    CHECK_MEM dword, [fault_error], 0, "error code"
    CHECK_MEM dword, [fault_count], 3, "count"
    CHECK_MEM dword, [fault_table + 8], 0x1230, "first"
    CHECK_MEM dword, [fault_table + 64], 13, "second"
    DONE
"""


@pytest.mark.parametrize("mode", [Mode.PROT32, Mode.COMPAT32, Mode.LONG64])
def test_error_codes(library: GuestLibrary, run: Run, mode: Mode) -> None:
    passes(run, library.inline(ERROR_CODES, mode, name="error-codes"))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("expected", ["", "EXPECT_FAULT 13, after"])
def test_another_vector_ends_the_run(
    library: GuestLibrary, run: Run, mode: Mode, expected: str
) -> None:
    body = "start:\n IDT_SETUP\n {{ expected }}\nud: ud2\nafter: EXIT 0\n"
    image = library.inline(body, mode, name="other", expected=expected)
    status, console = run(image)
    assert status == FAILED
    want = "0x000000000000000d" if expected else "0x00000000ffffffff"
    assert f"was not expected: want {want} got 0x0000000000000006" in console
    assert f"ip {image.symbol('ud'):#018x}" in console


@pytest.mark.parametrize("mode", list(Mode))
def test_an_expectation_counts_once(library: GuestLibrary, run: Run, mode: Mode) -> None:
    body = "start:\n IDT_SETUP\n EXPECT_FAULT 6, after\nafter: ud2\nEXIT 0\n"
    status, console = run(library.inline(body, mode, name="once"))
    assert status == FAILED
    assert "want 0x00000000ffffffff got 0x0000000000000006" in console


@pytest.mark.parametrize("mode", list(Mode))
def test_the_table_keeps_the_first_sixteen(library: GuestLibrary, run: Run, mode: Mode) -> None:
    body = """\
start:
    IDT_SETUP 64
{% for n in range(20) %}
    EXPECT_FAULT {{ 40 + n }}, after_{{ n }}
    int     {{ 40 + n }}
after_{{ n }}:
{% endfor %}
    CHECK_MEM dword, [fault_count], 20, "count"
    CHECK_MEM dword, [fault_vector], 59, "last"
    CHECK_MEM dword, [fault_table + 15 * 64], 55, "sixteenth"
    CHECK_MEM dword, [fault_table + 15 * 64 + 16], after_15, "IP after the INT"
    DONE
"""
    passes(run, library.inline(body, mode, name="table"))


USER = """\
    .bss
    .balign 16
tss:
    .skip   104
user_stack:
    .skip   256
user_stack_top:
    .data
    .balign 8
own_gdt:
    .quad   0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
    .quad   0x00CFFB000000FFFF, 0x00CFF3000000FFFF      # 0x18, 0x20: DPL 3
own_tss:
    .quad   0x0000890000000067                          # 0x28: 32-bit TSS
own_gdt_end:
    TABLE_REGISTER own_gdtr, own_gdt, own_gdt_end-own_gdt-1
    .text
start:
    IDT_SETUP
    mov     eax, offset tss
    mov     [own_tss + 2], ax
    shr     eax, 16
    mov     [own_tss + 4], al
    lgdt    [own_gdtr]
    mov     dword ptr [tss + 4], offset stack_top - 256
    mov     dword ptr [tss + 8], 0x10
    mov     eax, 0x28
    ltr     ax
    EXPECT_FAULT 13, resumed
    push    0x23
    push    offset user_stack_top
    pushf
    push    0x1B
    push    offset user
    iretd
user:
    xor     eax, eax
    mov     ds, eax                     # the handler does without
insn:
    hlt                                 # privileged: #GP(0)
    jmp     resumed
resumed:
    mov     eax, 0x23
    mov     ds, eax
    CHECK_EQ esp, user_stack_top, "ESP stays the user's"
    CHECK_MEM dword, [fault_sp], user_stack_top, "ESP"
    CHECK_MEM dword, [fault_cs], 0x1B, "CS"
    CHECK_MEM dword, [fault_ip], insn, "EIP"
    CHECK_MEM dword, [fault_count], 1, "count"
    DONE
"""


def test_a_fault_at_cpl_3(library: GuestLibrary, run: Run) -> None:
    """The frame has SS:ESP (SDM 3A 6.12.1).  IOPL 3, so that the guest can still report."""
    body = USER.replace("    pushf\n", "    push    0x3002\n")
    passes(run, library.inline(body, Mode.PROT32, name="user"))


PAGES = """\
start:
    IDT_SETUP
    mov     rsi, 0x1122334455667788
    mov     rdi, rsi
    mov     rdx, rsi
    stc
    UNMAP_PAGE 0x1FF000
    jnc     wrong
    CHECK_SAME rsi, rdi, "registers are kept"
    CHECK_SAME rdx, rdi, "registers are kept"

    EXPECT_FAULT 14, absent
    mov     al, [0x1FF123]
    FAIL    "an absent page was read"
absent:
    CHECK_MEM dword, [fault_cr2], 0x1FF123, "CR2"
    CHECK_MEM dword, [fault_error], 0, "error code: not present, read"
    mov     qword ptr [0x1FE000], 0x5678        # its neighbour in the split page
    mov     qword ptr [0x1FDFF8], 0x9ABC

    MAP_PAGE 0x700000001000, 0x1FE000, 3
    mov     rbx, 0x700000001000
    CHECK_MEM qword, [rbx], 0x5678, "far away"
    mov     qword ptr [rbx + 8], 0x7777
    CHECK_MEM qword, [0x1FE008], 0x7777, "the same page"
    EXPECT_FAULT 14, next_page
    mov     al, [rbx + 4096]
    FAIL    "the page after it is there"
next_page:
    mov     rax, [fault_cr2]
    add     rbx, 4096
    CHECK_SAME rax, rbx, "CR2"

    mov     rax, cr0
    or      eax, 1 << 16                # WP
    mov     cr0, rax
    MAP_PAGE 0x1FE000, 0x1FD000, 1
    CHECK_MEM qword, [0x1FEFF8], 0x9ABC, "remapped"
    EXPECT_FAULT 14, read_only
    mov     byte ptr [0x1FE000], 1
    FAIL    "a read-only page was written"
read_only:
    CHECK_MEM dword, [fault_error], 3, "error code: present, write"
    UNMAP_PAGE 0x1FE000
    EXPECT_FAULT 14, gone
    mov     byte ptr [0x1FE000], 1
    FAIL    "an unmapped page was written"
gone:
    CHECK_MEM dword, [fault_error], 2, "error code: not present, write"

    # Through all levels, the page's own U/S is what counts.
    MAP_PAGE 0x1FC000, 0x1FC000, 3
    MAP_PAGE 0x1FB000, 0x1FB000, 7
    DONE
wrong:
    EXIT    9
"""


def test_pages(library: GuestLibrary, run: Run) -> None:
    """Error codes of #PF: SDM 3A 4.7."""
    passes(run, library.inline(PAGES, Mode.LONG64, name="pages"))


def test_tables_run_out_with_a_failure(library: GuestLibrary, run: Run) -> None:
    body = """\
start:
{% for n in range(6) %}
    MAP_PAGE {{ (n + 1) * 2 ** 39 }}, 0x1FF000, 3   # three tables each
    LOG     "mapped"
{% endfor %}
    DONE
"""
    status, console = run(library.inline(body, Mode.LONG64, name="pool"))
    assert status == FAILED
    assert console.count("mapped") == 5
    assert "no page tables left" in console


@pytest.mark.parametrize("mode", list(Mode))
def test_msrs(library: GuestLibrary, run: Run, mode: Mode) -> None:
    body = """\
    WRITE_MSR 0xC0000081, 0x0011223389ABCDEF    # STAR
    mov     {{ bx }}, 0
    READ_MSR 0xC0000081
    CHECK_EQ eax, 0x89ABCDEF, "low half"
    CHECK_EQ edx, 0x00112233, "high half"
    DONE
"""
    passes(run, library.inline(body, mode, name="msr"))


@pytest.mark.parametrize("mode", [Mode.PROT32, Mode.LONG64])
def test_apic(library: GuestLibrary, tmp_path: Path, mode: Mode) -> None:
    """Local vector table after reset: masked (SDM 3A 11.4.7.1); what is written is read."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed (Debian: qemu-system-x86)")
    body = """\
    MAP_APIC
    APIC_READ 0x320                     # LVT timer
    CHECK_EQ eax, 0x10000, "masked"
    APIC_WRITE 0x80, 0x50               # TPR
    mov     eax, 0
    APIC_READ 0x80
    CHECK_EQ eax, 0x50, "TPR"
    mov     ecx, 0x30
    APIC_WRITE 0x80, ecx
    APIC_READ 0x80
    CHECK_EQ eax, 0x30, "TPR"
    DONE
"""
    image = library.inline(body, mode, name="apic")
    assert boot(image, tmp_path).status == PASSED


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("mode", [Mode.PROT32, Mode.LONG64])
def test_smp(library: GuestLibrary, tmp_path: Path, mode: Mode, cpus: int) -> None:
    """INIT, SIPI, SIPI: SDM 3A 9.4; QEMU numbers its APICs from 0."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed (Debian: qemu-system-x86)")
    ended = boot(library.image("smp", mode, cpus=cpus), tmp_path, cpus)
    lines = ended.console.decode().splitlines()
    ids = [int(line.rpartition(" ")[2], 16) for line in lines if "APIC id" in line]
    assert ids[0] == 0
    assert sorted(ids) == list(range(cpus))
    assert ended.status == PASSED


def test_smp_has_to_be_told_how_many(library: GuestLibrary) -> None:
    with pytest.raises(GuestError, match="parameter 'cpus' is missing"):
        library.image("smp", Mode.PROT32)
