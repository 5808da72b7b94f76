# SPDX-License-Identifier: BSD-2-Clause
# LAR, LSL, VERR, VERW and ARPL over every type, from levels 0 and 3; an LDT.
# runtime: prot32
# variants: 0 3
start:
    .set    type, 0
    .rept   16
    DESC    SLOT+8*type, 0x1000, 0x02345, 0x80+type+0x60*(type&1), 0x8
    .set    type, type+1
    .endr
    mov     ebx, SLOT
    xor     esi, esi
next:
    SAY     "selector "
    HEX     ebx, 4
    .if     VARIANT == 3
    mov     dword ptr [try_resume], offset shown
    mov     [try_esp], esp
    mov     dword ptr [try_go_on], 0
    IDT_GATE 0x86, asked, KCODE, 0xEE
    USER    ask
    .else
    IDT_GATE 0x86, asked, KCODE, 0xEE
    .endif
ask:
    mov     eax, 0x55555555
    mov     edx, 0x55555555
    xor     ebp, ebp
    lar     eax, ebx
    setz    cl
    shl     ebp, 1
    or      ebp, ecx
    lsl     edx, ebx
    setz    cl
    verr    bx
    setz    ch
    verw    bx
    mov     edi, 0
    jnz     1f
    mov     edi, 1
1:  int     0x86
asked:
    mov     esp, offset stack_top
    SAY     " lar="
    HEX     eax
    SAY     " lsl="
    HEX     edx
    SAY     " verr, lsl="
    HEX     ecx, 4
    SAY     " verw="
    HEX     edi, 2
    LINE
shown:
    mov     eax, KDATA
    mov     ds, eax
    mov     es, eax
    xor     ecx, ecx
    add     ebx, 8
    cmp     ebx, SLOT+16*8
    jb      next
    cmp     ebx, 0x200
    ja      2f
    mov     ebx, 0x3F8                  # beyond the table
    jmp     next
2:  DESC    SLOT, ldt, 23, 0x82
    mov     ax, SLOT
    lldt    ax
    TRY     "from the ldt"
    mov     eax, 0x0F
    mov     ds, eax
    mov     ecx, [data]
    int     0x84
    END
    TRY     "beyond the ldt"
    mov     eax, 0x1F
    mov     ds, eax
    END
    TRY     "ldt null"
    xor     eax, eax
    lldt    ax
    mov     eax, 0x0F
    mov     ds, eax
    END
    .irp    sel, 0x04, KDATA, TSS, 0x400
    TRY     "lldt \sel"
    mov     ax, \sel
    lldt    ax
    END
    TRY     "ltr \sel"
    mov     ax, \sel
    ltr     ax
    END
    .endr
    TRY     "ltr null"
    xor     eax, eax
    ltr     ax
    END
    TRY     "arpl"
    mov     cx, 0x10
    mov     ax, 0x13
    arpl    cx, ax
    int     0x84
    END
    EXIT    0
    .data
    .balign 8
ldt:
    .quad   0, 0x00CFF3000000FFFF, 0
data:
    .long   0x13579BDF
