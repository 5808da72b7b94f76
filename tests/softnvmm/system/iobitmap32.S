# SPDX-License-Identifier: BSD-2-Clause
# Port I/O from level 3, by IOPL and the permission bitmap (SDM 1, 19.5.2).  The
# port is one that nobody has.
# runtime: prot32
    .macro IO text, insn:vararg
    TRY     "\text"
    mov     edx, 0x80
    USER    1f
1:  \insn
    int     0x80
    END
    .endm
start:
    DESC    SLOT, tss2, 0x67+0x14, 0x89
    TRY     "no bitmap"
    USER    1f
1:  in      al, 0x80
    END
    TRY     "iopl 3"
    USER    1f, 0x3002
1:  in      al, 0x80
    int     0x80
    END
    mov     ax, SLOT
    ltr     ax
    mov     word ptr [bitmap + 0x10], 0xFF00    # 0x80 to 0x87 are free
    IO      "byte allowed", in al, 0x80
    IO      "word allowed", in ax, dx
    IO      "dword allowed", in eax, dx
    IO      "byte refused", in al, 0x88
    mov     word ptr [bitmap + 0x10], 0xFFF0
    IO      "byte 83", in al, 0x83
    IO      "byte 84", in al, 0x84
    IO      "word over the edge", in ax, 0x83
    IO      "dword inside", in eax, 0x80
    IO      "dword over the edge", in eax, 0x81
    IO      "past the bitmap", in al, 0x98
    IO      "at the end of the bitmap", in al, 0x90
    IO      "out refused", out 0x85, al
    EXIT    0
    .data
    .balign 16
tss2:
    .long   0
    .long   kstack_top, KDATA
    .fill   22, 4, 0
    .word   0, 0x68
bitmap:
    .fill   32, 1, 0xFF
