# SPDX-License-Identifier: BSD-2-Clause
# What has to be forgotten: after INVLPG, MOV CR3, CR4.PGE and CR0.WP changes, and
# in a task of its own tables.
# runtime: long64
    .macro SHOW text
    SAY     "\text "
    mov     eax, [PAGE_A]
    HEX     rax, 8
    LINE
    .endm
    .macro SET to, flags
    mov     qword ptr [page_tables + PAGE_A / 4096 * 8], \to+\flags
    .endm
start:
    mov     dword ptr [0x201000], 0x11111111
    mov     dword ptr [0x202000], 0x22222222
    mov     dword ptr [0x203000], 0x33333333
    SET     0x201000, 3
    invlpg  [PAGE_A]
    SHOW    "invlpg"
    SET     0x202000, 3
    invlpg  [PAGE_A + 0x123]
    SHOW    "invlpg, any byte"
    SET     0x203000, 3
    mov     rax, cr3
    mov     cr3, rax
    SHOW    "mov cr3"
    mov     rax, cr4
    bts     eax, 7
    mov     cr4, rax
    SET     0x201000, 0x103
    invlpg  [PAGE_A]
    SHOW    "global"
    SET     0x202000, 0x103
    invlpg  [PAGE_A]
    SHOW    "global, invlpg"
    SET     0x203000, 0x103
    mov     rax, cr4
    btr     eax, 7
    mov     cr4, rax
    SHOW    "cr4.pge off"
    TRY     "less permission after invlpg"
    SET     0x203000, 1
    invlpg  [PAGE_A]
    mov     [PAGE_A], eax
    END
    TRY     "more permission without"
    mov     eax, [PAGE_A]
    SET     0x203000, 3
    mov     [PAGE_A], eax
    END
    SAY     "dirty "
    HEX     [page_tables+PAGE_A/4096*8], 4
    LINE
    SET     0x203000, 3
    invlpg  [PAGE_A]
    mov     eax, [PAGE_A]
    SAY     "read "
    HEX     [page_tables+PAGE_A/4096*8], 4
    mov     [PAGE_A], eax
    SAY     " written "
    HEX     [page_tables+PAGE_A/4096*8], 4
    LINE
    SET     0x203000, 1
    invlpg  [PAGE_A]
    mov     eax, [PAGE_A]
    mov     rax, cr0
    btr     eax, 16
    mov     cr0, rax
    TRY     "wp off"
    mov     [PAGE_A], eax
    END
    mov     rax, cr0
    bts     eax, 16
    mov     cr0, rax
    TRY     "wp on"
    mov     [PAGE_A], eax
    END
    SAY     "other tables\n"
    mov     esi, offset pml4
    mov     edi, 0x300000
    mov     ecx, 512
    rep movsq
    mov     esi, offset page_directory_pointers
    mov     ecx, 512
    rep movsq
    mov     esi, offset page_directory
    mov     ecx, 512
    rep movsq
    mov     esi, offset page_tables
    mov     ecx, 1024
    rep movsq
    mov     qword ptr [0x300000], 0x301007
    mov     qword ptr [0x301000], 0x302007
    mov     qword ptr [0x302000], 0x303007
    mov     qword ptr [0x302008], 0x304007
    mov     qword ptr [0x303000 + PAGE_A / 4096 * 8], 0x202003
    mov     eax, 0x300000
    mov     cr3, rax
    SHOW    "theirs"
    mov     eax, offset pml4
    mov     cr3, rax
    SHOW    "ours"
    EXIT    0
