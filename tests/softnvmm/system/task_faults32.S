# SPDX-License-Identifier: BSD-2-Clause
# Task switches that fail: about the TSS in the old task, about its contents in
# the new one (SDM 3A table 8-1).  As there may be no stack then, the handlers of
# #TS, #NP and #SS are tasks.
# runtime: prot32
    .macro FRESH
    mov     dword ptr [task + 0x20], offset in_task
    mov     dword ptr [task + 0x24], 2
    mov     dword ptr [task + 0x38], offset task_stack
    mov     dword ptr [task + 0x48], KDATA
    mov     dword ptr [task + 0x4C], KCODE
    mov     dword ptr [task + 0x50], KDATA
    mov     dword ptr [task + 0x54], KDATA
    mov     dword ptr [task + 0x58], 0
    mov     dword ptr [task + 0x5C], 0
    mov     dword ptr [task + 0x60], 0
    mov     byte ptr [gdt + SLOT + 5], 0x89
    mov     byte ptr [gdt + SLOT + 0x85], 0x89
    mov     dword ptr [fault_tss + 0x20], offset fault_task
    mov     dword ptr [fault_tss + 0x38], offset fault_stack
    mov     byte ptr [gdt + TSS + 5], 0x89
    mov     ax, TSS
    ltr     ax
    .endm
    # What the new task finds: the faults name TR and EIP.
    .macro WITH text, field, value
    FRESH
    TRY     "\text"
    mov     dword ptr [task + \field], \value
    CALLF   SLOT
    END
    .endm
start:
    DESC    SLOT+0x00, task, 0x67, 0x89
    DESC    SLOT+0x08, task, 0x66, 0x89             # too short
    DESC    SLOT+0x10, task, 0x67, 0x09             # not present
    DESC    SLOT+0x18, 0, 0xFFFFF, 0x1B, 0xC        # code not present
    DESC    SLOT+0x20, 0, 0xFFFFF, 0x13, 0xC        # data not present
    DESC    SLOT+0x28, 0, 0xFFFFF, 0x91, 0xC        # data read-only
    DESC    SLOT+0x30, 0, 0xFFFFF, 0x99, 0xC        # code execute-only
    DESC    SLOT+0x38, gdt, 0xFF, 0x82              # LDT
    DESC    SLOT+0x40, gdt, 0xFF, 0x02              # LDT not present
    DESC    SLOT+0x48, 0, 0xFFFFF, 0x9F, 0xC        # conforming
    CALL_GATE SLOT+0x50, 0, 0, 0xE5
    CALL_GATE SLOT+0x58, 0, 0x404, 0xE5
    CALL_GATE SLOT+0x60, 0, KDATA, 0xE5
    CALL_GATE SLOT+0x68, 0, SLOT, 0x65              # not present
    CALL_GATE SLOT+0x70, 0, SLOT, 0x85              # level 0
    CALL_GATE SLOT+0x78, 0, TSS, 0xE5               # busy
    DESC    SLOT+0x80, fault_tss, 0x67, 0x89
    IDT_GATE 10, 0, SLOT+0x80, 0x85
    IDT_GATE 11, 0, SLOT+0x80, 0x85
    IDT_GATE 12, 0, SLOT+0x80, 0x85
    .irp    sel, 0x08, 0x10, 0x50, 0x58, 0x60, 0x68, 0x78, 0x73
    FRESH
    TRY     "task \sel"
    CALLF   SLOT+\sel
    END
    FRESH
    TRY     "task \sel by jmp"
    JMPF    SLOT+\sel
    END
    .endr
    FRESH
    TRY     "tss from level 3"
    USER    1f
1:  CALLF   SLOT+3
    END
    FRESH
    TRY     "gate from level 3"
    USER    1f
1:  CALLF   SLOT+0x73
    END
    WITH    "nothing wrong", 0x60, 0
    WITH    "ldt", 0x60, SLOT+0x38
    WITH    "ldt not present", 0x60, SLOT+0x40
    WITH    "ldt is data", 0x60, KDATA
    WITH    "ldt local", 0x60, SLOT+0x3C
    WITH    "ldt beyond", 0x60, 0x400
    WITH    "cs null", 0x4C, 0
    WITH    "cs data", 0x4C, KDATA
    WITH    "cs not present", 0x4C, SLOT+0x18
    WITH    "cs rpl", 0x4C, KCODE+3
    WITH    "cs level 3 rpl 0", 0x4C, UCODE-3
    WITH    "cs beyond", 0x4C, 0x400
    WITH    "cs conforming", 0x4C, SLOT+0x48
    WITH    "ss null", 0x50, 0
    WITH    "ss rpl 3", 0x50, KDATA+3
    WITH    "ss level 3", 0x50, UDATA
    WITH    "ss read-only", 0x50, SLOT+0x28
    WITH    "ss not present", 0x50, SLOT+0x20
    WITH    "ss beyond", 0x50, 0x400
    WITH    "ds read-only", 0x54, SLOT+0x28
    WITH    "ds not present", 0x54, SLOT+0x20
    WITH    "ds execute-only", 0x54, SLOT+0x30
    WITH    "es beyond", 0x48, 0x400
    WITH    "es system", 0x48, SLOT
    WITH    "es rpl 3", 0x48, KDATA+3
    WITH    "fs level 3", 0x58, UDATA
    WITH    "gs not present", 0x5C, SLOT+0x20
    EXIT    0

in_task:
    SAY     " there, ldt="
    sldt    ax
    HEX     eax, 4
    int     0x82

fault_task:
    SAY     " e="
    HEX     [esp], 4
    SAY     " of tr="
    movzx   eax, word ptr [fault_tss]
    HEX     eax, 4
    mov     ebx, offset task
    cmp     eax, TSS
    jne     1f
    mov     ebx, offset tss
    SAY     " at="
    mov     eax, [ebx + 0x20]
    sub     eax, [try_ip]
    HEX     eax, 4
1:  SAY     " cs="
    HEX     [ebx + 0x4C], 4
    SAY     " ss="
    HEX     [ebx + 0x50], 4
    SAY     " nt="
    mov     eax, [ebx + 0x24]
    and     eax, 0x4000
    HEX     eax, 4
    LINE
    push    2
    popfd
    jmp     try_leave
    .data
    .balign 16
fault_tss:
    .fill   8, 4, 0
    .long   fault_task, 2, 0, 0, 0, 0, fault_stack, 0, 0, 0
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
task:
    .fill   26, 4, 0
    .bss
    .skip   2048
fault_stack:
    .skip   2048
task_stack:
