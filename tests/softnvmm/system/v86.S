# SPDX-License-Identifier: BSD-2-Clause
# Virtual-8086 mode: going in by IRET, segments, events, and what needs IOPL 3
# (SDM 3A chapter 21).
# runtime: prot32
# variants: 0 1 2 3
    .macro V86 text, label, flags=0x20002
    TRY     "\text"
    push    0x6666
    push    0x5555
    push    0x4444
    push    0x3333
    push    0x8000                      # SS
    push    0xFFF0                      # SP
    push    \flags
    push    0x10000 >> 4
    push    offset \label-v86_code
    iretd
    END
    .endm
    .irp    iopl, 0, 1, 2, 3
    .set    FLAGS\iopl, 0x20002 + \iopl * 0x1000
    .endr
start:
    mov     esi, offset v86_code        # the code to 0x10000
    mov     edi, 0x10000
    mov     ecx, offset v86_end-v86_code
    rep movsb
    DESC    SLOT, tss2, 0x67+0x21, 0x89
    mov     ax, SLOT
    ltr     ax
    .irp    iopl, VARIANT
    SAY     "iopl \iopl\n"
    .irp    what, int80, int3, into, hlt, cli, sti, pushf, popf, popfd, iretw, ud, lar, arpl, sldt, movcr, smsw, divide, real, farjump, inb, inb2, intgp, lgdt, bound, sysenter
    V86     "\what", v_\what, FLAGS\iopl
    .endr
    .endr
    V86     "flags", v_int80, 0x002747D7
    TRY     "ip above 64 KiB"
    push    0
    push    0
    push    0
    push    0
    push    0
    push    0
    push    0x20002
    push    0x1000
    push    0x10000
    iretd
    END
    TRY     "vm is ignored by popf"
    push    0x20002
    popfd
    pushfd
    pop     ecx
    int     0x84
    END
    IDT_GATE 0x90, conforming, SLOT+0x10, 0xEE
    DESC    SLOT+0x10, 0, 0xFFFFF, 0x9F, 0xC
    V86     "conforming handler", v_int90, FLAGS3
    DESC    SLOT+0x10, 0, 0xFFFFF, 0xBB, 0xC
    V86     "handler of level 1", v_int90, FLAGS3
    IDT_GATE 0x90, stubs+0x80*16, KCODE, 0xEE
    TRY     "back from a handler"
    mov     dword ptr [try_go_on], 1
    push    1
    push    2
    push    3
    push    4
    push    0x8000
    push    0xFF00
    push    FLAGS3
    push    0x1000
    push    offset v_twice-v86_code
    iretd
    END
    V86     "vif vip", v_int80, 0x003A0002
    EXIT    0
conforming:
    int     0x82

    .balign 16
    .code16
v86_code:
v_int80:
    int     0x80
v_int90:
    int     0x90
v_int3:
    int3
v_into:
    mov     al, 0x7F
    inc     al
    into
v_hlt:
    hlt
v_cli:
    cli
    int     0x80
v_sti:
    sti
    nop
    int     0x80
v_pushf:
    pushf
    pop     cx
    int     0x84
v_popf:
    push    0x7ED7
    popf
    pushfd
    pop     ecx
    int     0x84
v_popfd:
    push    dword ptr 0x00277ED7
    popfd
    pushfd
    pop     ecx
    int     0x84
v_iretw:
    push    0x0202
    push    cs
    push    offset 1f-v86_code
    iretw
1:  int     0x80
v_ud:
    ud2
v_lar:
    lar     ax, bx
v_arpl:
    arpl    ax, bx
v_sldt:
    sldt    ax
v_movcr:
    mov     eax, cr0
v_smsw:
    smsw    cx
    and     ecx, 1
    int     0x84
v_divide:
    xor     cx, cx
    div     cx
v_real:
    mov     ax, 0x1000                  # a paragraph
    mov     ds, ax
    mov     es, ax
    mov     ecx, [0]
    push    ds
    pop     fs
    int     0x84
v_farjump:
    .byte   0xEA
    .word   1f-v86_code+16, 0x0FFF
1:  mov     cx, cs
    int     0x84
v_inb:
    in      al, 0x80
    int     0x80
v_inb2:
    in      al, 0x90
    int     0x80
v_intgp:
    int     0x0D                        # its gate is of level 0
v_lgdt:
    lgdt    [0]
v_bound:
    mov     ax, 5
    bound   ax, cs:[1f-v86_code]
1:  .word   6, 7
v_sysenter:
    sysexit
v_twice:
    int     0x80
    mov     cx, ds
    shl     ecx, 16
    mov     cx, es
    int     0x84
    .code32
v86_end:
    .data
    .balign 16
tss2:
    .long   0
    .long   kstack_top, KDATA
    .fill   22, 4, 0
    .word   0, 0x68
    .fill   16, 1, 0xFF
    .fill   1, 1, 0                     # ports 0x80 to 0x87
    .fill   16, 1, 0xFF
