# SPDX-License-Identifier: BSD-2-Clause
# From 64-bit mode down to protected mode without paging, and up again; SYSCALL
# and SYSENTER of protected mode.
# runtime: long64
start:
    SAY     "long "
    mov     ecx, 0xC0000080
    rdmsr
    HEX     rax, 4
    LINE
    DESC    SLOT, 0x00CF9B000000FFFF
    mov     dword ptr [far_pointer], offset down
    mov     dword ptr [far_pointer + 4], KCODE32
    jmp     fword ptr [far_pointer]
    .code32
down:
    mov     al, 'c'
    out     0xE9, al
    mov     eax, cr0
    btr     eax, 31
    mov     cr0, eax
    mov     al, 'p'
    out     0xE9, al
    mov     ecx, 0xC0000080
    rdmsr
    call    hex16                       # LMA is off, LME still on
    mov     eax, 1
    xor     edx, edx
    mov     ecx, 0xC0000080
    wrmsr                               # SCE alone
    mov     ecx, 0xC0000081
    mov     eax, offset legacy_entry
    mov     edx, 0x00180010             # level 3 at 0x18, level 0 at 0x10 ...
    mov     edx, 0x00180030
    wrmsr
    mov     ecx, 0x174
    mov     eax, 0x40
    xor     edx, edx
    wrmsr
    mov     ecx, 0x175
    mov     eax, offset kstack_top
    wrmsr
    mov     ecx, 0x176
    mov     eax, offset sysenter_entry
    wrmsr
    push    UDATA
    push    offset ustack_top
    push    0x602
    push    UCODE32
    push    offset legacy_user
    iretd
legacy_user:
    syscall
    mov     eax, cs
    mov     ebx, ss
    sysenter
legacy_entry:
    mov     esp, offset kstack_top
    push    ecx
    mov     al, 's'
    out     0xE9, al
    mov     eax, cs
    call    hex16
    mov     eax, ss
    call    hex16
    pushfd
    pop     eax
    and     eax, 0x7700
    call    hex16
    pop     ecx
    mov     eax, ecx
    sub     eax, offset legacy_user
    call    hex16
    sysretd
sysenter_entry:
    call    hex16
    mov     eax, ebx
    call    hex16
    mov     al, 'e'
    out     0xE9, al
    mov     eax, cs
    call    hex16
    mov     eax, ss
    call    hex16
    mov     eax, esp
    sub     eax, offset kstack_top
    call    hex16
    pushfd
    pop     eax
    and     eax, 0x7700
    call    hex16
    mov     ecx, 0xC0000080
    mov     eax, 0x901
    xor     edx, edx
    wrmsr
    mov     eax, cr0
    bts     eax, 31
    mov     cr0, eax
    .byte   0xEA
    .long   up
    .word   KCODE
hex16:
    push    ecx
    push    ebx
    mov     ebx, eax
    mov     ecx, 4
1:  rol     bx, 4
    mov     al, bl
    and     al, 15
    cmp     al, 10
    sbb     al, 0x69
    das
    out     0xE9, al
    loop    1b
    mov     al, ' '
    out     0xE9, al
    pop     ebx
    pop     ecx
    ret
    .code64
up:
    mov     eax, KDATA
    mov     ss, eax
    mov     rsp, offset stack_top
    LINE
    TRY     "long again"
    int     0x80
    END
    EXIT    0
    .data
far_pointer:
    .long   0, 0
