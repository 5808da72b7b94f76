# SPDX-License-Identifier: BSD-2-Clause
# 16-bit code and stacks in protected mode: wrap-around, sizes, ESP's upper half,
# returns to 16-bit outer levels.
# runtime: prot32
start:
    DESC    SLOT+0x00, 0x100000, 0xFFFF, 0xFB       # 16-bit code 3
    DESC    SLOT+0x08, 0x180000, 0xFFFF, 0xF3       # 16-bit stack 3
    DESC    SLOT+0x10, 0x180000, 0xFFFF, 0x93       # 16-bit stack 0
    TRY     "16-bit stack wraps"
    mov     ax, SLOT+0x10
    mov     ss, ax
    mov     esp, 0x12340000
    .byte   0x66, 0x68, 0x34, 0x12      # PUSHW
    mov     ecx, esp
    mov     eax, KDATA
    mov     ss, eax
    mov     esp, offset stack_top
    int     0x84
    END
    SAY     "stored "
    HEX     [0x18FFFE], 4
    LINE
    TRY     "level 3 in 16 bits"
    push    SLOT+0x0B
    push    0x0000FF00
    push    2
    push    SLOT+0x03
    push    offset user16-0x100000
    iretd
    END
    TRY     "interrupt on a 16-bit inner stack"
    mov     dword ptr [tss + 4], 0x0000F000
    mov     dword ptr [tss + 8], SLOT+0x10
    IDT_GATE 0x86, small, KCODE, 0xEE
    USER    1f
1:  int     0x86
    END
    EXIT    0
small:
    mov     ecx, esp
    mov     eax, KDATA
    mov     ss, eax
    mov     esp, offset stack_top
    int     0x84
    .balign 16
    .code16
user16:
    mov     ecx, esp
    pusha
    popa
    call    1f
1:  pop     dx
    enter   4, 2
    leave
    mov     ecx, esp
    int     0x84
    .code32
