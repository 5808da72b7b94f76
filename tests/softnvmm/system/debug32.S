# SPDX-License-Identifier: BSD-2-Clause
# Single steps, breakpoints on code and data, DR6 and DR7 (SDM 3B 18.2, 18.3).
# runtime: prot32
    .macro BREAK n, at, control
    mov     eax, offset \at
    mov     dr\n, eax
    mov     eax, \control
    mov     dr7, eax
    .endm
start:
    TRY     "single step"
    push    0x102
    popfd
    nop
    nop
    END
    TRY     "popf that clears tf"
    push    2
    push    0x102
    popfd
    popfd
    nop
    END
    TRY     "iret that sets tf"
    push    0x102
    push    KCODE
    push    offset 1f
    iretd
1:  nop
    nop
    END
    TRY     "mov ss holds the step back"
    mov     ebx, ss
    push    0x102
    popfd
    mov     ss, ebx
    nop
    nop
    END
    TRY     "pop ss holds the step back"
    push    KDATA
    push    0x102
    popfd
    pop     ss
    nop
    nop
    END
    TRY     "a step of rep movsb"
    mov     esi, offset data
    mov     edi, offset data+16
    mov     ecx, 4
    push    0x102
    popfd
    rep movsb
    END
    HEX     ecx, 2
    LINE
    TRY     "int n clears tf"
    push    0x102
    popfd
    int     0x80
    END
    TRY     "execute"
    BREAK   0, 1f, 0x00000002
    nop
1:  nop
    END
    TRY     "execute on level 3"
    BREAK   0, 1f, 0x00000002
    USER    1f
1:  nop
    int     0x80
    END
    TRY     "rf lets it pass"
    BREAK   0, 1f, 0x00000002
    push    0x10002
    push    KCODE
    push    offset 1f
    iretd
1:  nop
    END
    .irp    len, 0x00, 0x04, 0x0C
    .irp    off, -1, 0, 1, 2, 3, 4
    TRY     "write watched, len \len at \off"
    BREAK   1, data, 0x00100008+\len*0x100000
    mov     byte ptr [data+\off], 1
    nop
    END
    .endr
    .endr
    TRY     "read of a write breakpoint"
    BREAK   1, data, 0x00D00008
    mov     eax, [data]
    nop
    END
    TRY     "read of an access breakpoint"
    BREAK   1, data, 0x00F00008
    mov     eax, [data]
    nop
    END
    TRY     "write and step"
    BREAK   1, data, 0x00D00008
    push    0x102
    popfd
    mov     dword ptr [data], 1
    nop
    END
    TRY     "two at once"
    BREAK   2, data, 0
    BREAK   3, data, 0xFF0000A0
    mov     dword ptr [data], 1
    nop
    END
    TRY     "push"
    lea     eax, [esp - 4]
    mov     dr1, eax
    mov     eax, 0x00D00008
    mov     dr7, eax
    push    eax
    nop
    END
    TRY     "general detect"
    mov     eax, 0x2000
    mov     dr7, eax
    mov     eax, dr0
    END
    TRY     "dr4 and dr5"
    mov     eax, 0x5A5
    mov     dr5, eax
    mov     ecx, dr7
    xor     eax, eax
    mov     dr7, eax
    int     0x84
    END
    mov     eax, 8
    mov     cr4, eax
    TRY     "dr4 with de"
    mov     eax, dr4
    END
    TRY     "dr6 as written"
    mov     eax, 0
    mov     dr6, eax
    mov     ecx, dr6
    int     0x84
    END
    EXIT    0
    .data
    .balign 16
    .skip   16
data:
    .fill   32, 1, 0
