# SPDX-License-Identifier: BSD-2-Clause
# What level 3 may not execute (SDM 3A 6.9).
# runtime: prot32
    .macro INSN insn:vararg
    TRY     "\insn"
    USER    1f
1:  \insn
    int     0x80
    END
    .endm
start:
    INSN    hlt
    INSN    lgdt [gdtr]
    INSN    lidt [idtr]
    INSN    lldt ax
    INSN    ltr ax
    INSN    clts
    INSN    lmsw ax
    INSN    mov eax, cr0
    INSN    mov cr0, eax
    INSN    mov eax, cr2
    INSN    mov cr3, eax
    INSN    mov eax, cr4
    INSN    mov eax, dr0
    INSN    mov dr7, eax
    INSN    invlpg [eax]
    INSN    wbinvd
    INSN    invd
    INSN    rdmsr
    INSN    wrmsr
    INSN    sysexit
    INSN    cli
    INSN    sti
    INSN    in al, 0x80
    INSN    out 0x80, al
    INSN    insb
    INSN    outsb
    INSN    sgdt [scratch]
    INSN    sidt [scratch]
    INSN    sldt ax
    INSN    str ax
    INSN    smsw ax
    INSN    rdtsc
    INSN    clac
    INSN    stac
    INSN    ud2
    .irp    n, 1, 5, 6, 7
    TRY     "mov from cr\n at level 0"
    .byte   0x0F, 0x20, 0xC0 + (\n & 7) * 8
    END
    .endr
    EXIT    0
    .data
scratch:
    .quad   0, 0
