# SPDX-License-Identifier: BSD-2-Clause
# RETF to outer levels, its frames good and bad (SDM 2B, RET).
# runtime: prot32
    .macro FRAME text, cs, ss, n=0
    TRY     "\text"
    push    \ss
    push    offset ustack_top-8
    .if     \n
    push    0x11111111
    .endif
    push    \cs
    push    offset 2f
1:  .if     \n
    retf    \n
    .else
    retf
    .endif
2:  int     0x80
    END
    .endm
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x7B, 0xC        # code 3 not present
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x73, 0xC        # data 3 not present
    DESC    SLOT+0x10, 0, 0xFFFFF, 0xF1, 0xC        # data 3 read-only
    DESC    SLOT+0x18, 0, 0xFFFFF, 0xFF, 0xC        # conforming 3
    DESC    SLOT+0x20, 0, 0xFFFFF, 0x9F, 0xC        # conforming 0
    DESC    SLOT+0x30, 0, 0xFFFFF, 0xBB, 0xC        # code 1
    DESC    SLOT+0x38, 0, 0xFFFFF, 0xB3, 0xC        # data 1
    FRAME   "to level 3", UCODE, UDATA
    FRAME   "to level 3, released", UCODE, UDATA, 4
    FRAME   "to level 1", SLOT+0x31, SLOT+0x39
    FRAME   "cs null", 0, UDATA
    FRAME   "cs beyond", 0x403, UDATA
    FRAME   "cs data", UDATA, UDATA
    FRAME   "cs system", TSS+3, UDATA
    FRAME   "cs not present", SLOT+0x03, UDATA
    FRAME   "cs rpl 3 of level 0", KCODE+3, UDATA
    FRAME   "cs conforming 3", SLOT+0x1B, UDATA
    FRAME   "cs conforming 0 rpl 3", SLOT+0x23, UDATA
    FRAME   "ss null", UCODE, 0
    FRAME   "ss null 3", UCODE, 3
    FRAME   "ss beyond", UCODE, 0x403
    FRAME   "ss code", UCODE, UCODE
    FRAME   "ss read-only", UCODE, SLOT+0x13
    FRAME   "ss not present", UCODE, SLOT+0x0B
    FRAME   "ss rpl 0", UCODE, UDATA-3
    FRAME   "ss level 0", UCODE, KDATA+3
    .irp    seg, ds, es, fs, gs
    TRY     "\seg after a return"
    mov     ax, UDATA
    mov     ds, ax
    mov     es, ax
    mov     fs, ax
    mov     gs, ax
    mov     ax, KDATA
    mov     \seg, ax
    push    UDATA
    push    offset ustack_top
    push    UCODE
    push    offset 1f
    retf
1:  mov     ecx, \seg
    int     0x84
    END
    .endr
    TRY     "a level 3 code segment in ds stays"
    mov     eax, UCODE
    mov     ds, eax
    mov     eax, SLOT+0x20
    mov     es, eax                     # conforming 0 stays too
    push    UDATA
    push    offset ustack_top
    push    UCODE
    push    offset 1f
    retf
1:  mov     ecx, ds
    mov     edx, es
    shl     edx, 16
    or      ecx, edx
    int     0x84
    END
    EXIT    0
