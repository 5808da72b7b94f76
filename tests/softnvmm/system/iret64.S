# SPDX-License-Identifier: BSD-2-Clause
# IRETQ, IRETD and RETFQ from 64-bit mode, to all modes, frames good and bad.
# runtime: long64
    .macro FRAME text, cs, ss, flags=2, ip=user_int, insn=iretq
    TRY     "\text"
    mov     rax, offset \ip
    push    \ss
    push    offset ustack_top
    push    \flags
    push    \cs
    push    rax
    \insn
    END
    .endm
start:
    DESC    SLOT+0x00, 0x00AF7B000000FFFF       # 64-bit code 3 not present
    DESC    SLOT+0x08, 0x00CF73000000FFFF       # data 3 not present
    DESC    SLOT+0x10, 0x00EFFB000000FFFF       # L and D
    DESC    SLOT+0x18, 0x00AFBB000000FFFF       # 64-bit code 1
    DESC    SLOT+0x20, 0x00CFB3000000FFFF       # data 1
    FRAME   "to level 3", UCODE, UDATA
    FRAME   "to level 3 with flags", UCODE, UDATA, 0x00247FD7-0x100
    FRAME   "to compatibility mode", UCODE32, UDATA, 2, user_int32
    FRAME   "to level 0", KCODE, KDATA, 2, kernel_int
    FRAME   "to level 0, null ss", KCODE, 0, 2, kernel_int
    FRAME   "to level 0, null ss 3", KCODE, 3, 2, kernel_int
    FRAME   "to level 1", SLOT+0x19, SLOT+0x21
    FRAME   "to level 1, null ss", SLOT+0x19, 1
    FRAME   "to 32 bits of level 0", KCODE32, KDATA, 2, kernel_int32
    FRAME   "to 32 bits of level 0, null ss", KCODE32, 0, 2, kernel_int32
    FRAME   "cs null", 0, UDATA
    FRAME   "cs beyond", 0x403, UDATA
    FRAME   "cs data", UDATA, UDATA
    FRAME   "cs not present", SLOT+0x03, UDATA
    FRAME   "cs L and D", SLOT+0x13, UDATA
    FRAME   "cs rpl 0 of level 3", UCODE-3, UDATA
    FRAME   "ss null 3", UCODE, 3
    FRAME   "ss code", UCODE, UCODE
    FRAME   "ss rpl 0", UCODE, UDATA-3
    FRAME   "ss not present", UCODE, SLOT+0x0B
    FRAME   "rip not canonical", KCODE, KDATA, 2, 0x800000000000
    FRAME   "nt", UCODE, UDATA, 0x4002
    TRY     "nt set"
    push    0x4002
    popfq
    iretq
    END
    TRY     "vm is ignored"
    push    UDATA
    push    offset ustack_top
    push    0x20002
    push    UCODE
    push    offset user_int
    iretq
    END
    TRY     "retfq to level 3"
    push    UDATA
    push    offset ustack_top
    push    UCODE
    push    offset user_int
    .byte   0x48, 0xCB                  # RETFQ
    END
    TRY     "retfq to compatibility mode"
    push    UDATA
    push    offset ustack_top
    push    UCODE32
    push    offset user_int32
    .byte   0x48, 0xCB                  # RETFQ
    END
    TRY     "retfd to the same level"
    sub     rsp, 8
    mov     dword ptr [rsp], offset kernel_int
    mov     dword ptr [rsp + 4], KCODE
    .byte   0xCB
    END
    EXIT    0
kernel_int:
    mov     ecx, ss
    int     0x84
kernel_int32:
    .code32
    mov     ecx, ss
    int     0x84
    .code64
    .section .user
    .code64
user_int:
    mov     ecx, ss
    int     0x84
    .code32
user_int32:
    mov     ecx, ss
    dec     eax                         # REX elsewhere
    int     0x84
    .code64
