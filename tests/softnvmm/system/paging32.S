# SPDX-License-Identifier: BSD-2-Clause
# 32-bit paging: every permission of a page from both levels, 4 KiB and 4 MiB,
# with and without WP, with the A and D bits (SDM 3A 4.3, 4.6, 4.7, 4.8).
# runtime: prot32
# variants: small large smallwp largewp
    .set    AREA, 0x800000
    .set    FRAME, 0x200000
start:
    mov     edi, offset directory       # 4 MiB as they are, for all levels
    mov     ecx, 1024
    xor     eax, eax
    rep stosd
    mov     eax, 0x87
    mov     [directory], eax
    mov     eax, offset table
    mov     edi, eax
    or      eax, 7
    mov     [directory + 8], eax
    mov     eax, 0x10
    mov     cr4, eax                    # PSE
    mov     eax, offset directory
    mov     cr3, eax
    mov     eax, cr0
    or      eax, 0x80000000
    .ifc    VARIANT, smallwp
    or      eax, 0x10000
    .endif
    .ifc    VARIANT, largewp
    or      eax, 0x10000
    .endif
    mov     cr0, eax
    .irp    pde, 0, 1, 3, 5, 7
    .irp    pte, 0, 1, 3, 5, 7
    SAY     "pde \pde pte \pte:"
    .irp    insn, 1, 2, 3
    call    prepare_\pde\pte
    call    level0_\insn
    call    show
    call    prepare_\pde\pte
    call    level3_\insn
    call    show
    .endr
    LINE
    .endr
    .endr
    EXIT    0

    .irp    pde, 0, 1, 3, 5, 7
    .irp    pte, 0, 1, 3, 5, 7
prepare_\pde\pte:
    mov     dword ptr [table], FRAME + \pte
    .ifc    VARIANT, small
    mov     dword ptr [directory + 8], offset table + \pde
    .endif
    .ifc    VARIANT, smallwp
    mov     dword ptr [directory + 8], offset table + \pde
    .endif
    .ifc    VARIANT, large
    mov     dword ptr [directory + 8], 0x80 + \pde
    .endif
    .ifc    VARIANT, largewp
    mov     dword ptr [directory + 8], 0x80 + \pde
    .endif
    invlpg  [AREA]
    mov     byte ptr [FRAME], 0xC3
    ret
    .endr
    .endr

# Reads, writes, jumps; the result in result.
    .irp    level, 0, 3
    .irp    insn, 1, 2, 3
level\level\()_\insn:
    mov     [kept], esp
    mov     dword ptr [result], 0xFFFF
    IDT_GATE 14, faulted
    IDT_GATE 0x86, done, KCODE, 0xEE
    .if     \level == 3
    USER    1f
    .endif
1:
    .if     \insn == 1
    mov     al, [AREA]
    .elseif \insn == 2
    mov     byte ptr [AREA], 0xC3
    .else
    mov     eax, AREA
    call    eax
    .endif
    int     0x86
    .endr
    .endr
faulted:
    pop     eax
    mov     dword ptr ss:[result], eax
done:
    mov     eax, KDATA
    mov     ds, eax
    mov     es, eax
    mov     esp, [kept]
    ret

# The error code, or --, and what has become of A and D.
show:
    SAY     " "
    mov     eax, [result]
    cmp     eax, 0xFFFF
    jne     1f
    SAY     "--"
    jmp     2f
1:  HEX     eax, 2
2:  SAY     "/"
    mov     eax, [directory + 8]
    shr     eax, 4
    and     eax, 6
    mov     ebx, [table]
    shr     ebx, 1
    and     ebx, 0x30
    or      eax, ebx
    HEX     eax, 2
    ret
    .bss
    .balign 4096
directory:
    .skip   4096
table:
    .skip   4096
    .data
kept:
    .long   0
result:
    .long   0
