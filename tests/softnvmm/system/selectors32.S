# SPDX-License-Identifier: BSD-2-Clause
# Loads of data and stack segment registers that are refused (SDM 2B, MOV).
# runtime: prot32
# variants: ds es fs gs ss
    .macro LOAD text, seg, selector
    TRY     "\text"
    mov     eax, \selector
    mov     \seg, eax
    END
    .endm
start:
    DESC    SLOT+0x00, 0, 0xFFFFF, 0x13, 0xC      # not present data
    DESC    SLOT+0x08, 0, 0xFFFFF, 0x99, 0xC      # execute-only code
    DESC    SLOT+0x10, 0, 0xFFFFF, 0x9B, 0xC      # readable code
    DESC    SLOT+0x18, 0, 0xFFFFF, 0x91, 0xC      # read-only data
    DESC    SLOT+0x20, 0, 0x67, 0x89              # a TSS
    DESC    SLOT+0x28, 0, 0xFFFFF, 0x9F, 0xC      # conforming readable code
    DESC    SLOT+0x30, 0, 0xFFFFF, 0xB3, 0xC      # data of level 1
    DESC    SLOT+0x38, 0, 0xFFFFF, 0x92, 0xC      # not accessed yet
    DESC    SLOT+0x40, 0, 0xFFFFF, 0x33, 0xC      # not present, level 1
    .irp    seg, VARIANT
    LOAD    "\seg null", \seg, 0
    LOAD    "\seg null 3", \seg, 3
    LOAD    "\seg beyond the table", \seg, 0x1000
    LOAD    "\seg at the limit", \seg, 0x100
    LOAD    "\seg no ldt", \seg, 0x44
    LOAD    "\seg not present", \seg, SLOT
    LOAD    "\seg execute-only", \seg, SLOT+0x08
    LOAD    "\seg readable code", \seg, SLOT+0x10
    LOAD    "\seg read-only", \seg, SLOT+0x18
    LOAD    "\seg system", \seg, SLOT+0x20
    LOAD    "\seg conforming", \seg, SLOT+0x28
    LOAD    "\seg data 1", \seg, SLOT+0x30
    LOAD    "\seg data 1 rpl 1", \seg, SLOT+0x31
    LOAD    "\seg data 0 rpl 1", \seg, KDATA+1
    LOAD    "\seg data 3", \seg, UDATA
    LOAD    "\seg not present 1", \seg, SLOT+0x40
    .endr
    LOAD    "accessed", ds, SLOT+0x38
    HEX     [gdt + SLOT + 0x3C]
    LINE
    .ifnc   VARIANT, ss
    .irp    seg, VARIANT
    TRY     "\seg from level 3"
    USER    1f
1:  mov     eax, KDATA
    mov     \seg, eax
    END
    TRY     "\seg conforming from level 3"
    USER    1f
1:  mov     eax, SLOT + 0x28
    mov     \seg, eax
    int     0x80
    END
    TRY     "\seg kernel code from level 3"
    USER    1f
1:  mov     eax, SLOT + 0x13
    mov     \seg, eax
    END
    .endr
    .endif
    TRY     "cs"
    .byte   0x8E, 0xC8
    END
    TRY     "no such segment"
    .byte   0x8E, 0xF0
    END
    TRY     "store of no such segment"
    .byte   0x8C, 0xF0
    END
    EXIT    0
