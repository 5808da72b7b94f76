# SPDX-License-Identifier: BSD-2-Clause
# A TSS too short to hold a stack, and inner levels other than 0.
# runtime: prot32
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0xBB, 0xC        # code 1
    DESC    SLOT+0x08, 0, 0xFFFFF, 0xB3, 0xC        # data 1
    DESC    SLOT+0x10, 0, 0xFFFFF, 0xDB, 0xC        # code 2
    CALL_GATE SLOT+0x18, level1, SLOT+0x01
    CALL_GATE SLOT+0x20, level1, SLOT+0x11
    DESC    SLOT+0x28, tss, 0x0B, 0x89
    mov     dword ptr [tss + 16], SLOT+0x09
    IDT_GATE 0x85, level1, SLOT+0x01, 0xEE
    TRY     "call to level 1"
    USER    1f
1:  CALLF   SLOT+0x1B
    END
    TRY     "int to level 1"
    USER    1f
1:  int     0x85
    END
    TRY     "call to level 2 without a stack"
    USER    1f
1:  CALLF   SLOT+0x23
    END
    TRY     "level 1 stack with the wrong level"
    mov     dword ptr [tss + 16], KDATA
    USER    1f
1:  CALLF   SLOT+0x1B
    END
    TRY     "short tss"
    mov     dword ptr [tss + 16], SLOT+0x09
    mov     ax, SLOT+0x28
    ltr     ax
    USER    1f
1:  CALLF   SLOT+0x1B
    END
    TRY     "short tss, int"
    USER    1f
1:  int     0x85
    END
    EXIT    0

level1:
    mov     eax, cs
    shl     eax, 16
    mov     ax, ss
    mov     ebx, esp
    int     0x80
