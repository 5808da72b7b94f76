# SPDX-License-Identifier: BSD-2-Clause
# The T bit of a TSS, the local breakpoints of DR7, CR3 and an LDT across a task
# switch, and a 16-bit task.
# runtime: prot32
start:
    DESC    SLOT+0x00, task, 0x67, 0x89
    DESC    SLOT+0x08, task16, 0x2B, 0x81
    DESC    SLOT+0x10, 0, 0xFFFFF, 0x9B, 0xC
    DESC    SLOT+0x18, ldt, 15, 0x82
    mov     eax, 0x0000033F
    mov     dr7, eax
    TRY     "trap bit"
    mov     word ptr [task + 0x64], 1
    CALLF   SLOT
    END
    mov     eax, 0x0000033F
    mov     dr7, eax
    mov     word ptr [task + 0x64], 0
    mov     word ptr [task + 0x60], SLOT+0x18
    mov     dword ptr [task + 0x20], offset in_task
    mov     dword ptr [task + 0x54], 0x04            # DS from the LDT
    mov     byte ptr [gdt + SLOT + 5], 0x89
    mov     byte ptr [gdt + TSS + 5], 0x89
    mov     ax, TSS
    ltr     ax
    TRY     "ldt"
    CALLF   SLOT
    END
    mov     byte ptr [gdt + SLOT + 5], 0x89
    mov     byte ptr [gdt + TSS + 5], 0x89
    mov     ax, TSS
    ltr     ax
    TRY     "16-bit task"
    mov     ecx, 0x12345678
    CALLF   SLOT+0x08
    int     0x84
    END
    EXIT    0

in_task:
    mov     eax, ds
    SAY     " ds="
    HEX     eax, 4
    sldt    ax
    SAY     " ldt="
    HEX     eax, 4
    SAY     " dr7="
    mov     eax, dr7
    HEX     eax, 4
    xor     eax, eax
    mov     dr7, eax
    int     0x82

    .balign 16
in_task16:
    .code16
    .byte   0x66, 0xEA
    .long   1f
    .word   KCODE
    .code32
1:  movzx   esp, sp
    mov     ebx, KDATA
    mov     ds, ebx
    SAY     " ax="
    HEX     eax, 4
    SAY     " sp="
    HEX     esp, 4
    SAY     " link="
    mov     eax, [task16]
    HEX     eax, 4
    pushfd
    pop     eax
    and     eax, 0x7700
    SAY     " fl="
    HEX     eax, 4
    iretd
    .data
    .balign 16
ldt:
    .quad   0x00CF93000000FFFF, 0
    .balign 16
task:
    .fill   8, 4, 0
    .long   in_task, 2, 0, 0, 0, 0, task_stack, 0, 0, 0
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
    .balign 16
task16:
    .fill   7, 2, 0
    .word   in_task16 - 0x100000, 2, 0xAAAA, 0xCCCC, 0xDDDD, 0xBBBB, 0xF000, 5, 6, 7
    .word   DATA16, CODE16, DATA16, DATA16, 0
    .bss
    .skip   2048
task_stack:
