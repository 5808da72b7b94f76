# SPDX-License-Identifier: BSD-2-Clause
# 64-bit call gates, far transfers between 64-bit and compatibility mode.
# runtime: long64
    .macro GO text, selector
    TRY     "\text"
    mov     dword ptr [far_pointer + 4], \selector
    call    fword ptr [far_pointer]
    END
    .endm
start:
    CALL_GATE SLOT+0x00, target, KCODE
    CALL_GATE SLOT+0x10, target, KCODE, 0x8C
    CALL_GATE SLOT+0x20, target, KCODE, 0x6C
    CALL_GATE SLOT+0x30, target, 0
    CALL_GATE SLOT+0x40, target, KDATA
    CALL_GATE SLOT+0x50, target, KCODE32
    CALL_GATE SLOT+0x60, target, UCODE
    CALL_GATE SLOT+0x70, target, KCODE, 0xE4
    CALL_GATE SLOT+0x80, target, KCODE
    mov     byte ptr [gdt + SLOT + 0x8D], 0x01
    CALL_GATE SLOT+0x90, target, KCODE
    mov     dword ptr [gdt + SLOT + 0x98], 0x00008000
    GO      "plain", SLOT
    GO      "rpl 3 of gate 3", SLOT+3
    GO      "gate 0", SLOT+0x10
    GO      "gate 0 rpl 3", SLOT+0x13
    GO      "not present", SLOT+0x20
    GO      "to null", SLOT+0x30
    GO      "to data", SLOT+0x40
    GO      "to 32-bit code", SLOT+0x50
    GO      "to level 3", SLOT+0x60
    GO      "16-bit gate", SLOT+0x70
    GO      "type in the second half", SLOT+0x80
    GO      "offset not canonical", SLOT+0x90
    GO      "at the end of the table", SLOT+0xB8
    GO      "tss", TSS
    GO      "code of level 0", KCODE
    GO      "null", 0
    .irp    gate, 0x00, 0x10, 0x60
    TRY     "gate \gate from level 3"
    mov     dword ptr [far_pointer + 4], SLOT+\gate+3
    mov     eax, [far_pointer]
    mov     [user_pointer], eax
    mov     eax, [far_pointer + 4]
    mov     [user_pointer + 4], eax
    USER    user
    END
    .endr
    TRY     "gate from compatibility mode"
    mov     dword ptr [user_pointer + 4], SLOT+3
    mov     eax, UDATA
    mov     ds, eax
    USER    user32, 2, UCODE32
    END
    EXIT    0
target:
    SAY     " cs="
    mov     eax, cs
    HEX     rax, 4
    SAY     " ss="
    mov     eax, ss
    HEX     rax, 4
    SAY     " rsp="
    HEX     rsp, 4
    SAY     " frame="
    HEX     [rsp], 4
    SAY     ","
    HEX     [rsp + 8], 4
    cmp     word ptr [rsp + 8], KCODE
    jne     1f
    LINE
    jmp     try_leave
1:  SAY     ","
    HEX     [rsp + 16], 4
    SAY     ","
    HEX     [rsp + 24], 4
    .byte   0x48, 0xCB                  # RETFQ
    .data
far_pointer:
    .long   target, 0
    .section .user
    .balign 16
user_pointer:
    .long   0, 0
user:
    call    fword ptr [user_pointer]
    mov     ecx, ss
    int     0x84
    .code32
user32:
    call    fword ptr [user_pointer]
    mov     ecx, ss
    int     0x84
    .code64
