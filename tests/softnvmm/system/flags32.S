# SPDX-License-Identifier: BSD-2-Clause
# What POPF, CLI and STI change, by level and IOPL (SDM 2B, POPF, table 4-21).
# runtime: prot32
# variants: 0x00000002 0x00247ED7 0x003DFED7 0x00243202
start:
    .irp    value, VARIANT
    TRY     "popf \value at level 0"
    push    \value
    popfd
    pushfd
    pop     ecx
    push    2
    popfd
    and     ecx, 0x003F7EFF
    int     0x84
    END
    TRY     "popf \value, 16 bits"
    push    \value
    .byte   0x66
    popfd
    pushfd
    pop     ecx
    push    2
    popfd
    int     0x84
    END
    .irp    iopl, 0, 1, 2, 3
    TRY     "popf \value at level 3, iopl \iopl"
    USER    1f, \iopl*0x1000+2
1:  push    \value
    popfd
    pushfd
    pop     ecx
    int     0x84
    END
    .endr
    .endr
    .irp    iopl, 0, 3
    TRY     "cli, iopl \iopl"
    USER    1f, \iopl*0x1000+2
1:  cli
    int     0x80
    END
    TRY     "sti, iopl \iopl"
    USER    1f, \iopl*0x1000+2
1:  sti
    nop
    int     0x80
    END
    .endr
    EXIT    0
