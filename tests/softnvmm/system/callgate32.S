# SPDX-License-Identifier: BSD-2-Clause
# Call gates that keep the level, and what is refused (SDM 3A 6.8.4).
# runtime: prot32
# variants: JMP CALL
    .macro GO text, insn, selector
    TRY     "\text"
    \insn\()F   \selector, 0
    END
    .endm
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x1B, 0xC      # not present code
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x9F, 0xC      # conforming 0
    DESC    SLOT+0x10, 0, 0xFF, 0x9B, 0x4         # small
    CALL_GATE SLOT+0x18, target, KCODE
    CALL_GATE SLOT+0x20, target, KCODE, 0x8C
    CALL_GATE SLOT+0x28, target, KCODE, 0x6C
    CALL_GATE SLOT+0x30, target, 0
    CALL_GATE SLOT+0x38, target, KDATA
    CALL_GATE SLOT+0x40, target, UCODE
    CALL_GATE SLOT+0x48, target, SLOT
    CALL_GATE SLOT+0x50, target, SLOT+0x08
    CALL_GATE SLOT+0x58, target, SLOT+0x10
    CALL_GATE SLOT+0x60, target, 0x400
    CALL_GATE SLOT+0x68, target, KCODE, 0xEC, 5
    CALL_GATE SLOT+0x70, target-0x100000, CODE16, 0xE4
    CALL_GATE SLOT+0x78, target, KCODE+3
    .irp    insn, VARIANT
    GO      "\insn plain", \insn, SLOT+0x18
    GO      "\insn rpl 3 of gate 3", \insn, SLOT+0x1B
    GO      "\insn gate 0", \insn, SLOT+0x20
    GO      "\insn gate 0 rpl 3", \insn, SLOT+0x23
    GO      "\insn not present", \insn, SLOT+0x28
    GO      "\insn to null", \insn, SLOT+0x30
    GO      "\insn to data", \insn, SLOT+0x38
    GO      "\insn to level 3", \insn, SLOT+0x40
    GO      "\insn to code not present", \insn, SLOT+0x48
    GO      "\insn to conforming", \insn, SLOT+0x50
    GO      "\insn past the limit", \insn, SLOT+0x58
    GO      "\insn beyond the table", \insn, SLOT+0x60
    GO      "\insn with parameters", \insn, SLOT+0x68
    GO      "\insn rpl of the code is ignored", \insn, SLOT+0x78
    .irp    gate, 0x20, 0x18, 0x40, 0x50
    TRY     "\insn gate \gate from level 3"
    USER    1f
1:  \insn\()F   SLOT+\gate, 0
2:  int     0x80
    END
    .endr
    .endr
    EXIT    0

target:
    SAY     " cs="
    mov     eax, cs
    HEX     eax, 4
    SAY     " pushed="
    mov     eax, ss:[try_esp]
    sub     eax, esp
    HEX     eax, 4
    int     0x82
