# SPDX-License-Identifier: BSD-2-Clause
# Calls from level 3 to level 0 through 32- and 16-bit gates, with parameters,
# and RETF n back (SDM 3A 6.8.5, 6.8.6).
# runtime: prot32
start:
    .set    n, 0
    .rept   4
    CALL_GATE SLOT+0x10+8*n, inner, KCODE, 0xEC, n
    .set    n, n + 1
    .endr
    CALL_GATE SLOT+0x30, inner16-0x100000, CODE16, 0xE4, 2
    .irp    n, 0, 1, 2, 3
    TRY     "\n parameters"
    USER    1f
1:  push    0x33333333
    push    0x22222222
    push    0x11111111
    mov     ecx, \n * 4
    CALLF   SLOT+0x13+8*\n
2:  mov     ebx, esp
    int     0x80
    END
    .endr
    TRY     "16-bit gate"
    USER    1f
1:  push    0x22222222
    push    0x11111111
    CALLF   SLOT+0x33
2:  int     0x80
    END
    TRY     "kernel data segments are dropped"
    mov     eax, KDATA
    mov     fs, eax
    USER    1f
1:  mov     eax, UDATA
    mov     ds, eax
    mov     es, eax
    CALLF   SLOT+0x13
2:  mov     ecx, es
    shl     ecx, 16
    mov     cx, ds
    int     0x80
    END
    EXIT    0

inner:
    SAY     " cs="
    mov     eax, cs
    HEX     eax, 4
    SAY     " ss="
    mov     eax, ss
    HEX     eax, 4
    SAY     " used="
    mov     eax, offset kstack_top
    sub     eax, esp
    HEX     eax, 4
    SAY     " frame="
    mov     ebx, esp
1:  HEX     ss:[ebx]
    SAY     ","
    add     ebx, 4
    cmp     ebx, offset kstack_top
    jb      1b
    mov     eax, KDATA
    mov     es, eax
    cmp     ecx, 4
    je      2f
    cmp     ecx, 8
    je      3f
    cmp     ecx, 12
    je      4f
    retf
2:  retf    4
3:  retf    8
4:  retf    12

# A frame of 16-bit words, below a 32-bit stack pointer.
inner16:
    .code16
    .byte   0x66, 0xEA                  # JMP KCODE:inner16_32
    .long   inner16_32
    .word   KCODE
    .code32
inner16_32:
    SAY     " used="
    mov     eax, offset kstack_top
    sub     eax, esp
    HEX     eax, 4
    SAY     " frame="
    mov     ebx, esp
1:  mov     eax, ss:[ebx]
    HEX     eax, 4
    SAY     ","
    add     ebx, 2
    cmp     ebx, offset kstack_top
    jb      1b
    int     0x82
