# SPDX-License-Identifier: BSD-2-Clause
# Four-level paging: what a page allows to read, write and fetch from levels 0 and
# 3, with the features of CR4 and CR0 in each combination (SDM 3A 4.6.1, 4.7, 4.8).
# runtime: long64
# variants: plain wp smep smap smapac all
    .set    AREA, 0x250000
start:
    mov     rax, cr0
    and     eax, 0xFFFEFFFF
    .ifc    VARIANT, wp
    or      eax, 0x10000
    .endif
    .ifc    VARIANT, all
    or      eax, 0x10000
    .endif
    mov     cr0, rax
    mov     rax, cr4
    .ifc    VARIANT, smep
    or      eax, 0x100000
    .endif
    .ifc    VARIANT, smap
    or      eax, 0x200000
    .endif
    .ifc    VARIANT, smapac
    or      eax, 0x200000
    .endif
    .ifc    VARIANT, all
    or      eax, 0x300000
    .endif
    mov     cr4, rax
    IDT_GATE 14, faulted
    IDT_GATE 0x86, done, KCODE, 0xEE
    xor     r12d, r12d                  # rights of the page: bits 0-2, and NX
next:
    SAY     "pte "
    HEX     r12, 2
    SAY     ":"
    .irp    insn, 0, 1, 2
    mov     r14d, \insn
    .irp    level, 0, 3
    call    prepare
    mov     [kept], rsp
    mov     dword ptr [result], 0xFFFF
    mov     qword ptr [resume_at], offset after_\insn\()_\level
    .if     \level == 3
    USER    access
    .else
    .ifc    VARIANT, smapac
    push    0x40002
    popfq
    .endif
    jmp     access0
    .endif
after_\insn\()_\level:
    .endr
    .endr
    LINE
    inc     r12d
    cmp     r12d, 16
    jb      next
    EXIT    0

# AREA's page as R12 says; its contents is a RET.
prepare:
    mov     qword ptr [page_tables + AREA / 4096 * 8], AREA + 3
    invlpg  [AREA]
    push    0x40002
    popfq
    mov     byte ptr [AREA], 0xC3
    push    2
    popfq
    mov     eax, r12d
    and     eax, 7
    add     eax, AREA
    bt      r12d, 3
    jnc     1f
    bts     rax, 63
1:  mov     [page_tables + AREA / 4096 * 8], rax
    invlpg  [AREA]
    ret

faulted:
    pop     rax
    mov     [result], eax
done:
    push    2
    popfq
    mov     rsp, [kept]
    SAY     " "
    mov     eax, [result]
    cmp     eax, 0xFFFF
    jne     1f
    SAY     "--"
    jmp     2f
1:  HEX     rax, 2
2:  mov     eax, [page_tables + AREA / 4096 * 8]
    shr     eax, 5
    and     eax, 3
    SAY     "/"
    HEX     rax, 2
    jmp     [resume_at]
    .data
kept:
    .quad   0
result:
    .quad   0
resume_at:
    .quad   0

    .macro ACCESSES name
\name:
    cmp     r14d, 1
    je      1f
    ja      2f
    mov     al, [AREA]
    int     0x86
1:  mov     byte ptr [AREA], 0xC3
    int     0x86
2:  mov     eax, AREA
    call    rax
    int     0x86
    .endm
    .text
    ACCESSES access0
    .section .user
    .code64
    ACCESSES access
