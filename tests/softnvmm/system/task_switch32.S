# SPDX-License-Identifier: BSD-2-Clause
# Task switches by JMP, CALL, INT and IRET: links, busy bits, NT, TS, registers
# (SDM 3A 8.3 and 8.4).
# runtime: prot32
# variants: call gate int jmp
    .macro STATE text
    SAY     "  \text"
    SAY     " tr="
    str     eax
    HEX     eax, 4
    SAY     " link="
    mov     eax, [task]
    HEX     eax, 4
    SAY     " main="
    movzx   eax, byte ptr [gdt + TSS + 5]
    HEX     eax, 2
    SAY     " task="
    movzx   eax, byte ptr [gdt + SLOT + 5]
    HEX     eax, 2
    SAY     " fl="
    pushfd
    pop     eax
    and     eax, 0x3F7700
    HEX     eax
    SAY     " ts="
    smsw    eax
    and     eax, 8
    HEX     eax, 2
    clts
    LINE
    .endm
start:
    DESC    SLOT+0x00, task, 0x67, 0x89
    CALL_GATE SLOT+0x08, 0, SLOT, 0xE5
    IDT_GATE 0x40, 0, SLOT, 0xE5
    .irp    round, 1, 2
    SAY     "round \round\n"
    mov     dword ptr [task + 0x20], offset in_task
    mov     dword ptr [task + 0x24], 2
    mov     dword ptr [task + 0x38], offset task_stack
    mov     eax, 0xAAAA0001
    mov     ecx, 0xCCCC0001
    mov     ebx, 0xBBBB0001
    .ifc    VARIANT, call
    CALLF   SLOT
    .endif
    .ifc    VARIANT, gate
    CALLF   SLOT+0x08
    .endif
    .ifc    VARIANT, int
    int     0x40
    .endif
    .ifc    VARIANT, jmp
    push    0x4402                      # NT by hand does not disturb JMP
    popfd
    JMPF    SLOT
    .endif
back_in_main\round:
    STATE   "main"
    push    2
    popfd
    SAY     "  eip="
    mov     eax, [task + 0x20]
    sub     eax, offset in_task
    HEX     eax
    SAY     " flags="
    mov     eax, [task + 0x24]
    and     eax, 0x3F7700
    HEX     eax
    SAY     " esp="
    mov     eax, [task + 0x38]
    sub     eax, offset task_stack
    HEX     eax
    LINE
    .endr
    TRY     "a busy task"
    CALLF   TSS
    END
    TRY     "by rpl 3"
    CALLF   SLOT+3
    END
    EXIT    0

in_task:
    SAY     "  eax="
    HEX     eax
    SAY     " ecx="
    HEX     ecx
    SAY     " edx="
    HEX     edx
    SAY     " main's eax="
    HEX     [tss + 0x28]
    SAY     " eflags="
    mov     eax, [tss + 0x24]
    and     eax, 0x3F7700
    HEX     eax
    SAY     " cs="
    HEX     [tss + 0x4C]
    LINE
    STATE   "task"
    pushfd
    pop     eax
    test    eax, 0x4000
    jz      1f
    iretd
    jmp     in_task                     # where the next switch by CALL goes on
1:  JMPF    TSS
    jmp     in_task
    .data
    .balign 16
task:
    .fill   8, 4, 0
    .long   in_task, 2, 1, 2, 3, 4, task_stack, 5, 6, 7
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
    .bss
    .skip   2048
task_stack:
