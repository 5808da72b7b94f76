# SPDX-License-Identifier: BSD-2-Clause
# Far JMP and CALL to code segments, good and bad (SDM 2A, JMP and CALL).
# runtime: prot32
# variants: JMP CALL
    .macro GO text, insn, selector
    TRY     "\text"
    \insn\()F   \selector, 4f
4:
    END
    .endm
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x1B, 0xC      # not present
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x9F, 0xC      # conforming 0
    DESC    SLOT+0x10, 0, 0xFFFFF, 0xFF, 0xC      # conforming 3
    DESC    SLOT+0x18, 0, 0xFFFFF, 0xBB, 0xC      # code 1
    DESC    SLOT+0x20, 0, 0xFF, 0x9B, 0x4         # ends at 0xFF
    .set    type, 0
    .rept   16
    DESC    SLOT+0x28+8*type, 0x1000, 0x67, 0x80+type
    .set    type, type + 1
    .endr
    .irp    insn, VARIANT
    GO      "\insn null", \insn, 0
    GO      "\insn null 3", \insn, 3
    GO      "\insn beyond", \insn, 0x200
    GO      "\insn no ldt", \insn, 0xC
    GO      "\insn data", \insn, KDATA
    GO      "\insn not present", \insn, SLOT
    GO      "\insn level 0", \insn, KCODE
    GO      "\insn level 0 rpl 3", \insn, KCODE+3
    GO      "\insn level 3", \insn, UCODE
    GO      "\insn level 1", \insn, SLOT+0x18
    GO      "\insn conforming 0", \insn, SLOT+0x08
    GO      "\insn conforming 0 rpl 3", \insn, SLOT+0x0B
    GO      "\insn conforming 3", \insn, SLOT+0x10
    GO      "\insn past the limit", \insn, SLOT+0x20
    .irp    sys, 0, 2, 3, 6, 7, 8, 0xA, 0xB, 0xD, 0xE, 0xF
    GO      "\insn system type \sys", \insn, SLOT+0x28+8*\sys
    .endr
    TRY     "\insn conforming from level 3"
    USER    1f
1:  \insn\()F   SLOT+0x08, 2f
2:  mov     eax, cs
    int     0x80
    END
    TRY     "\insn kernel code from level 3"
    USER    1f
1:  \insn\()F   KCODE, 2f
2:
    END
    TRY     "\insn user code from level 3"
    USER    1f
1:  \insn\()F   UCODE-3, 2f
2:  int     0x80
    END
    .endr
    TRY     "memory operand"
    jmp     fword ptr [pointer]
arrives:
    END
    TRY     "register operand"
    .byte   0xFF, 0xE8
    END
    EXIT    0
    .data
pointer:
    .long   arrives
    .word   KCODE
