# SPDX-License-Identifier: BSD-2-Clause
# IRET in protected mode, its frames good and bad (SDM 2A, IRET).
# runtime: prot32
    .macro FRAME text, cs, ss, flags=2, ip=2f
    TRY     "\text"
    push    \ss
    push    offset ustack_top
    push    \flags
    push    \cs
    push    offset \ip
1:  iretd
2:  int     0x80
    END
    .endm
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x7B, 0xC        # code 3 not present
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x73, 0xC        # data 3 not present
    DESC    SLOT+0x10, 0, 0xFFFFF, 0xF1, 0xC        # data 3 read-only
    DESC    SLOT+0x18, 0, 0xFFFFF, 0xFF, 0xC        # conforming 3
    DESC    SLOT+0x20, 0, 0xFFFFF, 0x9F, 0xC        # conforming 0
    DESC    SLOT+0x28, 0, 0xFF, 0xFB, 0x4           # small code 3
    DESC    SLOT+0x30, 0, 0xFFFFF, 0xBB, 0xC        # code 1
    DESC    SLOT+0x38, 0, 0xFFFFF, 0xB3, 0xC        # data 1
    FRAME   "to level 3", UCODE, UDATA
    FRAME   "to level 3 with all flags", UCODE, UDATA, 0x00247FD7-0x100
    FRAME   "vif and vip", UCODE, UDATA, 0x00180002
    FRAME   "same level", KCODE, 0
    FRAME   "to level 1", SLOT+0x31, SLOT+0x39
    FRAME   "cs null", 0, UDATA
    FRAME   "cs null 3", 3, UDATA
    FRAME   "cs beyond", 0x403, UDATA
    FRAME   "cs data", UDATA, UDATA
    FRAME   "cs system", TSS+3, UDATA
    FRAME   "cs not present", SLOT+0x03, UDATA
    FRAME   "cs rpl 3 of level 0", KCODE+3, UDATA
    FRAME   "cs rpl 0 of level 3", UCODE-3, UDATA
    FRAME   "cs conforming 3", SLOT+0x1B, UDATA
    FRAME   "cs conforming 0 rpl 3", SLOT+0x23, UDATA
    FRAME   "ip past the limit", SLOT+0x2B, UDATA
    FRAME   "ss null", UCODE, 0
    FRAME   "ss null 3", UCODE, 3
    FRAME   "ss beyond", UCODE, 0x403
    FRAME   "ss code", UCODE, UCODE
    FRAME   "ss read-only", UCODE, SLOT+0x13
    FRAME   "ss not present", UCODE, SLOT+0x0B
    FRAME   "ss rpl 0", UCODE, UDATA-3
    FRAME   "ss level 0", UCODE, KDATA+3
    FRAME   "ss system", UCODE, TSS+3
    TRY     "level 3 cannot go in"
    USER    1f
1:  push    2
    push    KCODE
    push    offset 2f
    iretd
2:
    END
    .irp    iopl, 0, 3
    TRY     "level 3 and flags, iopl \iopl"
    USER    1f, \iopl*0x1000+2
1:  push    0x00243602 ^ \iopl * 0x1000
    push    UCODE
    push    offset 2f
    iretd
2:  int     0x80
    END
    .endr
    TRY     "16 bits"
    mov     ebx, esp
    .byte   0x66, 0x68, 0x02, 0x46      # PUSHW
    .byte   0x66, 0x68, 0x28, 0x00
    .byte   0x66, 0x68
    .word   (in16 - 0x100000)
    .byte   0x66
    iretd
    END
    TRY     "nt without a task to go back to"
    push    0x4002
    popfd
    iretd
    END
    mov     word ptr [tss], KDATA
    TRY     "nt to data"
    push    0x4002
    popfd
    iretd
    END
    mov     word ptr [tss], TSS
    mov     byte ptr [gdt + TSS + 5], 0x89
    TRY     "nt to a task that is not busy"
    push    0x4002
    popfd
    iretd
    END
    EXIT    0
    .balign 16
in16:
    .byte   0x66, 0xEA
    .long   1f
    .word   KCODE
1:  int     0x82
