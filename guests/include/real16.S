# SPDX-License-Identifier: BSD-2-Clause
# Layout of a real16 image: Multiboot entry, trampoline, then the guest.
#
# The guest lives in the 64 KiB segment 0x2000; its symbols are offsets in it.
# What the trampoline leaves is the contract in README.md; no instruction after
# POPFD may change a flag.
{% set long_mode = false %}
    .intel_syntax noprefix
{% include "macros.inc" %}
{% include "protocol.inc" %}
{% include "faults.inc" %}
{% include "system.inc" %}

    .set    BOOT_BASE, 0x10000          # where real16.ld puts .boot
    .section .boot, "ax", @progbits
    .code32
{% include "multiboot.inc" %}
    .globl  boot
boot:
    cli
    mov     esp, offset boot_flags      # no stack is needed but for this
    popfd
    lgdt    [boot_gdtr]
    lidt    [boot_real_idtr]
    mov     eax, 0x10                   # 64 KiB limits, as real mode wants them
    mov     ds, eax
    mov     es, eax
    mov     fs, eax
    mov     gs, eax
    mov     ss, eax
    jmp     0x08:(boot_protected16 - BOOT_BASE)

    .code16
boot_protected16:
    mov     eax, 0x10                   # ET alone: PE, PG, CD, NW off
    mov     cr0, eax
    jmp     0x1000:(boot_real - BOOT_BASE)
boot_real:
    mov     eax, 0
    mov     cr2, eax
    mov     cr3, eax
    mov     cr4, eax
    mov     edx, 0
    mov     ecx, 0xC0000080             # EFER
    wrmsr
    mov     ax, 0x1000
    mov     ds, ax
    lgdt    [boot_reset_gdtr - BOOT_BASE]
    mov     ax, 0x2000
    mov     ds, ax
    mov     es, ax
    mov     fs, ax
    mov     gs, ax
    mov     ss, ax
    mov     esp, 0xFFF0
    mov     eax, 0
    mov     ecx, 0
    mov     edx, 0
    mov     ebx, 0
    mov     ebp, 0
    mov     esi, 0
    mov     edi, 0
    jmp     0x2000:start

    .balign 8
boot_gdt:
    .quad   0
    .quad   0x00009B010000FFFF          # 0x08: 16-bit code, base 0x10000
    .quad   0x000093000000FFFF          # 0x10: data, base 0
boot_gdtr:
    .word   . - boot_gdt - 1
    .long   boot_gdt
boot_reset_gdtr:
    .word   0xFFFF
    .long   0
boot_real_idtr:
    .word   0x3FF
    .long   0
    .balign 4
boot_flags:
    .long   2

    .code16
    .text
{% include guest %}

{% include "faults-code.inc" %}
{% include "paging-code.inc" %}
{% include "protocol-code.inc" %}

