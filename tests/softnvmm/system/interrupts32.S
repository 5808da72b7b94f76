# SPDX-License-Identifier: BSD-2-Clause
# Gates of the IDT: flags, sizes, levels, and what is refused (SDM 3A 7.12).
# runtime: prot32
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x1B, 0xC        # not present
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x9F, 0xC        # conforming
    DESC    SLOT+0x10, 0, 0xFF, 0x9B, 0x4           # small
    .irp    type, 8E, 8F
    IDT_GATE 0x40, shows_flags, KCODE, 0x\type
    TRY     "gate \type"
    push    0x00043602                  # AC, IOPL 3, DF, IF
    popfd
    int     0x40
    END
    .endr
    .irp    type, 86, 87
    IDT_GATE 0x40, in16-0x100000, CODE16, 0x\type
    TRY     "gate \type"
    mov     ebx, esp
    int     0x40
after16\type:
    END
    .endr
    .irp    code, 0, 3, KDATA, UCODE, SLOT, SLOT+0x10, 0x44, 0x400, TSS
    IDT_GATE 0x40, bare, \code, 0x8E
    TRY     "to code \code"
    int     0x40
    END
    .endr
    IDT_GATE 0x40, bare, SLOT+0x08, 0xEE
    TRY     "conforming handler"
    int     0x40
    END
    TRY     "conforming handler from level 3"
    USER    1f
1:  int     0x40
    END
    IDT_GATE 0x40, bare, UCODE, 0xEE
    TRY     "handler of level 3 from level 3"
    USER    1f
1:  int     0x40
    END
    .irp    type, 80, 81, 82, 83, 84, 88, 89, 8A, 8B, 8C, 8D, 9E, 0E
    IDT_GATE 0x40, bare, KCODE, 0x\type
    TRY     "type \type"
    int     0x40
    END
    .endr
    .irp    vector, 3, 4, 0x41
    TRY     "vector \vector of gate 0 from level 3"
    USER    1f
1:  int     \vector
    END
    .endr
    TRY     "int3 from level 3"
    USER    1f
1:  int3
    END
    TRY     "into from level 3"
    USER    1f, 0x802
1:  into
    END
    IDT_GATE 3, bare, KCODE, 0xEE
    TRY     "int3 that level 3 may use"
    USER    1f
1:  int3
    END
    DEFAULT_GATE 3
    TRY     "beyond the limit"
    lidt    [short_idtr]
    int     0x40
    END
    EXIT    0

shows_flags:
    SAY     " flags="
    pushfd
    pop     eax
    and     eax, 0x003E7700
    HEX     eax
    SAY     " saved="
    mov     eax, [esp + 8]
    and     eax, 0x003E7700
    HEX     eax
    iretd

    .balign 16
in16:
    .byte   0x66, 0xEA                  # JMP KCODE:1f
    .long   1f
    .word   KCODE
1:  SAY     " ip="
    mov     eax, [esp]
    sub     ax, [try_ip]
    HEX     eax, 4
    SAY     " used="
    sub     ebx, esp
    HEX     ebx, 4
    int     0x82

bare:
    mov     eax, cs
    SAY     " in cs="
    HEX     eax, 4
    SAY     " used="
    mov     eax, offset kstack_top
    sub     eax, esp
    HEX     eax, 4
    int     0x82
    .section .rodata
short_idtr:
    .word   0x40 * 8 + 6
    .long   idt
