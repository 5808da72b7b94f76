# SPDX-License-Identifier: BSD-2-Clause
# Layout of a long64 image: Multiboot entry, trampoline, tables, then the guest.
#
# What the trampoline leaves is the contract in README.md; no instruction after
# POPFD may change a flag.
    .intel_syntax noprefix
{% include "macros.inc" %}

    .section .boot, "ax", @progbits
    .code32
{% include "multiboot.inc" %}
    .globl  boot
boot:
    cli
    mov     esp, offset boot_flags      # no stack is needed but for this
    popfd
    lgdt    [boot_gdtr]
    lidt    [boot_no_idtr]
    mov     eax, 0
    mov     cr2, eax
    mov     eax, 0x620                  # PAE | OSFXSR | OSXMMEXCPT
    mov     cr4, eax
    mov     eax, offset pml4
    mov     cr3, eax
    mov     edx, 0
    mov     eax, 0x100                  # LME; LMA follows with paging
    mov     ecx, 0xC0000080             # EFER
    wrmsr
    mov     eax, 0x80000031             # PG | NE | ET | PE
    mov     cr0, eax
    jmp     0x08:boot_long

    .code64
boot_long:
    mov     eax, 0x10
    mov     ds, eax
    mov     es, eax
    mov     fs, eax
    mov     gs, eax
    mov     ss, eax
    mov     rsp, offset stack_top
    # Writing a 32-bit register clears the upper half.
    .irp    register, eax, ecx, edx, ebx, ebp, esi, edi
    mov     \register, 0
    .endr
    .irp    register, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
    mov     \register, 0
    .endr
    jmp     start

    .balign 4
boot_gdtr:
    .word   gdt_end - gdt - 1
    .long   gdt
boot_no_idtr:
    .word   0
    .long   0
    .balign 4
boot_flags:
    .long   2

    # Accessed and dirty already, so that memory is the same whether or not the
    # trampoline has run.
    .section .tables, "aw", @progbits
    .balign 4096
pml4:
    .quad   page_directory_pointers + 0x023
    .fill   511, 8, 0
page_directory_pointers:
    .quad   page_directory + 0x023
    .fill   511, 8, 0
page_directory:
    .set    .Lpage, 0
    .rept   512                         # 1 GiB as it is, by 2 MiB pages
    .quad   .Lpage + 0x0E3
    .set    .Lpage, .Lpage + 0x200000
    .endr
gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF          # 0x08: 64-bit code
    .quad   0x00CF93000000FFFF          # 0x10: data
gdt_end:

    .bss
    .balign 16
stack:
    .skip   0x4000
stack_top:

    .code64
    .text
{% include guest %}

