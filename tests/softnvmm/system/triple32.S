# SPDX-License-Identifier: BSD-2-Clause
# Ways to shut down: the machine ends, and says nothing more.
# runtime: prot32
# variants: noidt stack double
start:
    SAY     "down\n"
    .ifc    VARIANT, noidt
    lidt    [nothing]
    int3
    .endif
    .ifc    VARIANT, stack
    mov     ax, DATA16
    mov     ss, ax
    mov     word ptr [idt + 8 * 8], 0
    mov     byte ptr [idt + 8 * 8 + 5], 0
    mov     byte ptr [idt + 13 * 8 + 5], 0
    mov     ax, 0x400
    mov     ds, ax
    .endif
    .ifc    VARIANT, double
    IDT_GATE 8, 0, 0x400
    mov     byte ptr [idt + 13 * 8 + 5], 0
    mov     ax, 0x400
    mov     ds, ax
    .endif
    SAY     "still here\n"
    EXIT    1
    .section .rodata
nothing:
    .word   0
    .long   0
