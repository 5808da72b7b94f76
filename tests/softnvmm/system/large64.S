# SPDX-License-Identifier: BSD-2-Clause
# Pages of 2 MiB and 1 GiB, entries with reserved bits, CR2 across pages.
# runtime: long64
    .macro READ text, at, expect
    TRY     "\text"
    mov     rbx, \at
    mov     rcx, [rbx]
    int     0x84
    END
    .endm
    .macro PDPTE n, value
    mov     rax, \value
    mov     [page_directory_pointers + \n * 8], rax
    mov     rax, cr3
    mov     cr3, rax
    .endm
    .macro PDE n, value
    mov     rax, \value
    mov     [page_directory + \n * 8], rax
    mov     rax, cr3
    mov     cr3, rax
    .endm
start:
    mov     rax, 0x1122334455667788
    mov     [PAGE_A], rax
    mov     [PAGE_A + 0x1000], rax
    PDE     2, 0x200083
    READ    "2 MiB page", 0x400000
    SAY     "entry "
    HEX     [page_directory+16], 16
    LINE
    mov     byte ptr [0x401000], 0x99
    SAY     "entry "
    HEX     [page_directory+16], 16
    LINE
    .irp    bit, 12, 13, 20, 21, 50, 51, 52, 62
    PDE     2, 0x200083|(1<<\bit)
    .if     \bit != 21 && \bit != 50
    READ    "2 MiB page with bit \bit", 0x400000
    .endif
    .endr
    PDPTE   1, 0x83
    READ    "1 GiB page", 0x40200000
    .irp    bit, 12, 13, 29
    PDPTE   1, 0x83|(1<<\bit)
    READ    "1 GiB page with bit \bit", 0x40200000
    .endr
    PDPTE   1, 0
    mov     qword ptr [pml4 + 8], offset page_directory_pointers+0x83
    READ    "512 GiB page", 0x8000200000
    mov     qword ptr [pml4 + 8], offset page_directory_pointers+3
    mov     rax, cr3
    mov     cr3, rax
    READ    "another way", 0x8000200000
    PTE     0x200000, 3
    PTE     0x201000, 0
    READ    "across into nothing", 0x200FFC
    TRY     "write across into nothing"
    mov     qword ptr [0x200FFC], 0
    END
    SAY     "unchanged "
    mov     eax, [0x200FFC]
    HEX     rax, 8
    LINE
    mov     ecx, 0xC0000080
    mov     eax, 0x101
    xor     edx, edx
    wrmsr
    mov     rax, 0x8000000000200003
    mov     [page_tables + 0x200 * 8], rax
    invlpg  [0x200000]
    READ    "NX without NXE", 0x200000
    TRY     "jump where nothing is, without NXE"
    mov     eax, WINDOW
    jmp     rax
    END
    EXIT    0
