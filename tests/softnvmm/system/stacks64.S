# SPDX-License-Identifier: BSD-2-Clause
# Stacks of 64-bit interrupts: alignment, RSPn, IST; frames that cannot be
# written; double faults (SDM 3A 7.14).
# runtime: long64
    .macro SHOWS vector, ist, access=0xEE
    IDT_GATE \vector, frame, KCODE, \access, \ist
    .endm
start:
    SHOWS   0x40, 0
    SHOWS   0x41, 1
    SHOWS   0x42, 2
    .irp    off, 0, 1, 8, 15
    .irp    vector, 0x40, 0x41, 0x42
    TRY     "level 0 rsp-\off vector \vector"
    lea     rsp, [rsp - \off]
    int     \vector
    END
    .endr
    .endr
    .irp    vector, 0x40, 0x41, 0x42
    TRY     "level 3 vector \vector"
    USER    user\vector
    END
    .endr
    mov     rax, 0x800000000000
    mov     [tss + 4], rax
    DEFAULT_GATE 12, 0x8E, 1
    DEFAULT_GATE 13, 0x8E, 1
    DEFAULT_GATE 14, 0x8E, 1
    DEFAULT_GATE 8, 0x8E, 1
    DEFAULT_GATE 10, 0x8E, 1
    TRY     "rsp0 not canonical"
    USER    user0x40
    END
    mov     qword ptr [tss + 4], WINDOW
    TRY     "rsp0 not mapped"
    USER    user0x40
    END
    mov     qword ptr [tss + 4], offset kstack_top
    TRY     "double fault: page fault while delivering a page fault"
    DEFAULT_GATE 14
    mov     qword ptr [tss + 4], WINDOW
    USER    user_pf
    END
    mov     qword ptr [tss + 4], offset kstack_top
    TRY     "ud while the stack is not mapped"
    mov     qword ptr [tss + 4], WINDOW
    DEFAULT_GATE 14, 0x8E, 1
    USER    user_ud
    END
    mov     qword ptr [tss + 4], offset kstack_top
    TRY     "contributory twice"
    mov     byte ptr [idt + 13 * 16 + 5], 0
    mov     eax, 0x400
    mov     ds, eax
    END
    TRY     "page fault, then contributory"
    mov     byte ptr [idt + 14 * 16 + 5], 0
    DEFAULT_GATE 13, 0x8E, 1
    mov     eax, [WINDOW]
    END
    TRY     "contributory, then page fault"
    DEFAULT_GATE 13
    DEFAULT_GATE 14, 0x8E, 1
    lea     rsp, [WINDOW + 0x1000]
    mov     eax, 0x400
    mov     ds, eax
    END
    SAY     "and now a triple fault\n"
    lidt    [no_idt]
    ud2
    EXIT    1

frame:
    SAY     " ss="
    mov     eax, ss
    HEX     rax, 4
    SAY     " rsp="
    HEX     rsp, 8
    SAY     " saved ss="
    HEX     [rsp + 32], 4
    SAY     " rsp="
    HEX     [rsp + 24], 8
    SAY     " fl="
    HEX     [rsp + 16], 8
    LINE
    jmp     try_leave
    .section .user
user0x40:
    int     0x40
user0x41:
    int     0x41
user0x42:
    int     0x42
user_pf:
    mov     al, [WINDOW + 0x5000]
user_ud:
    ud2
    .section .rodata
no_idt:
    .word   0
    .quad   0
