# SPDX-License-Identifier: BSD-2-Clause
# Events through task gates: error codes, return by IRET, double faults.
# runtime: prot32
start:
    DESC    SLOT+0x00, task, 0x67, 0x89
    DESC    SLOT+0x08, task2, 0x67, 0x89
    IDT_GATE 13, 0, SLOT, 0x85
    IDT_GATE 0, 0, SLOT, 0x85
    IDT_GATE 8, 0, SLOT+0x08, 0x85
    IDT_GATE 0x41, 0, SLOT, 0x85
    mov     dword ptr [try_ip], offset start
    SAY     "general protection\n"
    mov     eax, 0x400
    mov     ds, eax
    SAY     "went on\n"
    mov     dword ptr [task + 0x20], offset in_task
    mov     dword ptr [task + 0x38], offset task_stack
    SAY     "divide error\n"
    xor     edx, edx
    xor     ecx, ecx
    div     ecx
    SAY     "went on\n"
    mov     dword ptr [task + 0x20], offset in_task
    mov     dword ptr [task + 0x38], offset task_stack
    SAY     "int from level 3\n"
    TRY     "gate level 0"
    DEFAULT_GATE 13
    USER    1f
1:  int     0x41
    END
    TRY     "gate level 3"
    IDT_GATE 0x41, 0, SLOT, 0xE5
    mov     dword ptr [task + 0x20], offset in_task_int
    USER    1f
1:  int     0x41
    int     0x80
    END
    SAY     "double fault\n"
    mov     byte ptr [idt + 13 * 8 + 5], 0
    mov     eax, 0x400
    mov     ds, eax
    EXIT    1

    # The offset that the old task will go on at, and how it came here.
in_task:
    SAY     "  task, tr="
    str     eax
    HEX     eax, 4
    SAY     " back="
    mov     eax, [task]
    HEX     eax, 4
    SAY     " used="
    mov     eax, offset task_stack
    sub     eax, esp
    HEX     eax, 2
    cmp     eax, 0
    je      1f
    pop     eax
    SAY     " e="
    HEX     eax, 4
    mov     dword ptr [tss + 0x28], KDATA           # EAX, so that it works
1:  mov     dword ptr [tss + 0x2C], 1               # ECX
    SAY     " eip="
    mov     eax, [tss + 0x20]
    sub     eax, [try_ip]
    HEX     eax, 4
    LINE
    iretd
    jmp     in_task
in_task_int:
    SAY     " task from cs="
    HEX     [tss + 0x4C], 4
    iretd

in_task2:
    pop     ebx
    SAY     "  double fault, e="
    HEX     ebx, 4
    SAY     " eip="
    mov     eax, [tss + 0x20]
    sub     eax, [try_ip]
    HEX     eax, 4
    LINE
    EXIT    0
    .data
    .balign 16
task:
    .fill   8, 4, 0
    .long   in_task, 2, 0, 0, 0, 0, task_stack, 0, 0, 0
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
    .balign 16
task2:
    .fill   8, 4, 0
    .long   in_task2, 2, 0, 0, 0, 0, task2_stack, 0, 0, 0
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
    .bss
    .skip   2048
task_stack:
    .skip   2048
task2_stack:
