# SPDX-License-Identifier: BSD-2-Clause
# Stacks of level 0 in the TSS that cannot be used, for calls and interrupts.
# runtime: prot32
# variants: call int
# The fault about the stack of level 0 has itself to be delivered to level 0: by
# a task, whose stack is its own.
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x13, 0xC      # not present
    DESC    SLOT+0x08, 0, 0xFFFFF, 0xF3, 0xC      # level 3
    DESC    SLOT+0x10, 0, 0xFFFFF, 0x91, 0xC      # read-only
    DESC    SLOT+0x18, 0, 0xFFFFF, 0x9B, 0xC      # code
    DESC    SLOT+0x20, 0, 0x67, 0x89              # system
    CALL_GATE SLOT+0x28, here, KCODE
    DESC    SLOT+0x30, fault_tss, 0x67, 0x89
    DESC    SLOT+0x38, fault_tss, 0x67, 0x89
    .irp    vector, 10, 12, 13
    IDT_GATE \vector, 0, SLOT+0x30, 0x85
    .endr
    .irp    ss0, 0, 3, 0x400, 0x44, KDATA + 3, SLOT, SLOT + 8, SLOT + 0x10, SLOT + 0x18, SLOT + 0x20
    mov     dword ptr [tss + 8], \ss0
    TRY     "ss0 \ss0"
    mov     dword ptr [fault_tss + 0x20], offset fault_task
    mov     dword ptr [fault_tss + 0x38], offset fault_stack
    USER    1f
1:
    .ifc    VARIANT, call
    CALLF   SLOT+0x2B
    .else
    int     0x81
    .endif
    END
    .endr
    EXIT    0
here:
    int     0x83

# The error code is on the stack of this task.
fault_task:
    SAY     " e="
    HEX     ss:[esp], 4
    SAY     " back to "
    mov     eax, [fault_tss]
    HEX     eax, 4
    mov     eax, [tss + 0x20]
    sub     eax, [try_ip]
    SAY     " at="
    HEX     eax, 4
    LINE
    # Not back to that task: as if this one had always been running.
    mov     byte ptr [gdt + TSS + 5], 0x89
    mov     dword ptr [tss + 8], KDATA
    push    2
    popfd
    DESC    SLOT+0x38, tss2, 0x67, 0x89
    mov     ax, TSS
    mov     byte ptr [gdt + SLOT + 0x35], 0x89
    ltr     ax
    jmp     try_leave
    .data
    .balign 16
fault_tss:
    .fill   8, 4, 0
    .long   fault_task, 2, 0, 0, 0, 0, fault_stack, 0, 0, 0
    .long   KDATA, KCODE, KDATA, KDATA, KDATA, KDATA, 0
    .word   0, 0x68
tss2:
    .fill   26, 4, 0
    .bss
    .skip   1024
fault_stack:
