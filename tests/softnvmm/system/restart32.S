# SPDX-License-Identifier: BSD-2-Clause
# A page fault in the middle of an instruction leaves everything as it was, or, in
# a string instruction, as after the last whole iteration.
# runtime: prot32
    .set    BAD, 0x300000               # not present; around it all is there
    .set    READONLY, 0x2FE000
    .macro FAULTS text, insn:vararg
    TRY     "\text"
    mov     eax, 0x0A0A0A0A
    mov     ebx, 0x0B0B0B0B
    mov     ecx, 4
    mov     edx, 0x0D0D0D0D
    mov     esi, BAD-2
    mov     edi, offset buffer
    mov     ebp, BAD-2
    \insn
    END
    .endm
start:
    mov     edi, offset directory
    mov     eax, 0x83
    mov     [edi], eax
    mov     dword ptr [edi], offset table+3
    mov     edi, offset table
    mov     eax, 3
1:  mov     [edi], eax
    add     eax, 0x1000
    add     edi, 4
    cmp     eax, 0x400000
    jb      1b
    mov     dword ptr [table + (BAD / 4096) * 4], 0
    mov     dword ptr [table + (READONLY / 4096) * 4], READONLY+1
    mov     eax, offset directory
    mov     cr3, eax
    mov     eax, cr0
    or      eax, 0x80010000
    mov     cr0, eax
    FAULTS  "movsb", rep movsb
    call    regs
    FAULTS  "movsd", rep movsd
    call    regs
    FAULTS  "lodsw", lodsw
    call    regs
    FAULTS  "xchg", xchg [esi], eax
    call    regs
    FAULTS  "xchg of a read-only page", xchg [READONLY], eax
    call    regs
    FAULTS  "cmpxchg of a read-only page", cmpxchg [READONLY], ebx
    call    regs
    FAULTS  "xadd", xadd [esi], ebx
    call    regs
    FAULTS  "add", add [READONLY], eax
    call    regs
    FAULTS  "bts of a read-only page", bts dword ptr [READONLY], 5
    call    regs
    FAULTS  "leave", leave
    call    regs
    TRY     "pop"
    push    edx
    pop     dword ptr [READONLY]
    END
    call    regs
    TRY     "push of memory"
    push    dword ptr [esi]
    END
    TRY     "lds"
    mov     esi, BAD-4
    lds     eax, [esi]
    END
    call    regs
    TRY     "call through memory"
    call    dword ptr [BAD]
    END
    TRY     "sgdt"
    sgdt    [BAD-3]
    END
    TRY     "lgdt"
    lgdt    [BAD-3]
    END
    EXIT    0

regs:
    SAY     "  "
    mov     eax, [try_eax]
    HEX     eax
    SAY     " "
    HEX     ebx
    SAY     " "
    HEX     ecx
    SAY     " "
    HEX     edx
    SAY     " "
    HEX     esi
    SAY     " "
    HEX     ebp
    LINE
    ret
    .bss
    .balign 4096
directory:
    .skip   4096
table:
    .skip   4096
buffer:
    .skip   64
