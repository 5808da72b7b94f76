# SPDX-License-Identifier: BSD-2-Clause
# From real mode to 64-bit mode by one write of CR0, with bits of the case's beside PE and PG;
# loads RAX there, EFER to RBX, and halts.
#
# area: instructions
# modes: real16
# parameters: cache

    .set    PML4, 0x3000                # the tables, in RAM that nothing else uses
    .set    PDPT, 0x4000
    .set    PD, 0x5000

start:
    xor     ax, ax
    mov     es, ax
    mov     dword ptr es:[PML4], PDPT | 3
    mov     dword ptr es:[PDPT], PD | 3
    mov     dword ptr es:[PD], 0x83     # the first 2 MiB, as they are
    lgdt    cs:[gdt_register]
    lidt    cs:[no_idt]                 # a fault ends it
    mov     eax, 0x620                  # OSXMMEXCPT, OSFXSR, PAE
    mov     cr4, eax
    mov     eax, PML4
    mov     cr3, eax
    WRITE_MSR 0xC0000080, 0x100
    mov     eax, {{ 0x80000031 + cache }}
    mov     cr0, eax
    .byte   0x66, 0xEA                  # jmp far, 32-bit offset
    .long   0x20000 + long_mode
    .word   8

    .code64
long_mode:
    mov     ecx, 0xC0000080
    rdmsr
    mov     ebx, eax
    movabs  rax, 0x1122334455667788
    hlt
after_long:
    .code16

    .pushsection .rodata
    .balign 8
gdt_table:
    .quad   0, 0x00AF9B000000FFFF
    .popsection
    TABLE_REGISTER gdt_register, (0x20000 + gdt_table), 15
    TABLE_REGISTER no_idt, 0, 0
