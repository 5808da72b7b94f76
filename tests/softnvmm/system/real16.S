# SPDX-License-Identifier: BSD-2-Clause
# Down to real mode and up again: unreal limits, interrupts through the IVT, IRET,
# a 16-bit stack, and protected mode a second time.
# runtime: prot32
start:
    mov     esi, offset code16
    mov     edi, 0x10000
    mov     ecx, offset code16_end-code16
    rep movsb
    mov     edi, 0
    mov     ecx, 256
    mov     eax, 0x10000000
1:  mov     ax, offset other-code16
    mov     [edi*4], eax
    inc     edi
    loop    1b
    .irp    vector, 0, 3, 4, 5, 6, 13, 0x40
    mov     word ptr [\vector*4], offset v\vector-code16
    .endr
    DESC    SLOT, 0x10000, 0xFFFF, 0x9B
    DESC    SLOT+8, 0, 0xFFFF, 0x93
    lidt    [ivt]
    .byte   0xEA
    .long   down-code16
    .word   SLOT
    .code16
    .balign 16
code16:
    .macro CHAR c
    mov     al, \c
    out     0xE9, al
    .endm
down:
    mov     ax, SLOT+8
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     gs, ax                      # FS keeps its 4 GiB
    mov     eax, cr0
    and     al, 0xFE
    mov     cr0, eax
    .byte   0xEA
    .word   real-code16, 0x1000
real:
    xor     ax, ax
    mov     ss, ax
    mov     sp, 0x7000
    mov     ax, 0x1000
    mov     ds, ax
    CHAR    'r'
    xor     cx, cx
    div     cx
    int3
    mov     al, 0x7F
    inc     al
    into
    mov     ax, 5
    bound   ax, [pair-code16]
    ud2
    int     0x40
    sti
    int     0x40
    cli
    mov     eax, 0x100000
    mov     edx, fs:[eax]
    CHAR    'u'
    pushfd
    pop     ecx
    int     0x41
    push    sp
    pop     ax
    cmp     ax, sp
    jne     1f
    CHAR    's'
1:  mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    .byte   0x66, 0xEA
    .long   up
    .word   KCODE
pair:
    .word   6, 9

# Each says its digit and the IP and flags that it was given, and skips the
# instruction where it is a fault.
    .macro HANDLER vector, char, skip
v\vector:
    mov     bp, sp
    push    ax
    CHAR    \char
    mov     ax, [bp]
    call    word16
    mov     ax, [bp + 4]
    and     ax, 0x7700
    call    word16
    add     word ptr [bp], \skip
    pop     ax
    iret
    .endm
    HANDLER 0, '0', 2
    HANDLER 3, '3', 0
    HANDLER 4, '4', 0
    HANDLER 5, '5', 4
    HANDLER 6, '6', 2
    HANDLER 13, 'd', 2
    HANDLER 0x40, 'i', 0
other:
    CHAR    '?'
    iret
word16:
    push    cx
    push    bx
    mov     bx, ax
    mov     cx, 4
1:  rol     bx, 4
    mov     al, bl
    and     al, 15
    cmp     al, 10
    sbb     al, 0x69
    das
    out     0xE9, al
    loop    1b
    pop     bx
    pop     cx
    ret
    .code32
code16_end:
up:
    mov     eax, KDATA
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    mov     esp, offset stack_top
    lidt    [idtr]
    LINE
    TRY     "protected again"
    int     0x80
    END
    EXIT    0
    .section .rodata
ivt:
    .word   0x3FF
    .long   0
