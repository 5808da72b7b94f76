# SPDX-License-Identifier: BSD-2-Clause
# SYSCALL and SYSRET from all modes, SWAPGS, FSGSBASE, SYSENTER refused (APM 3).
# runtime: long64
    .macro SETMSR msr, value
    mov     ecx, \msr
    mov     rax, offset \value
    mov     rdx, rax
    shr     rdx, 32
    wrmsr
    .endm
start:
    SETMSR  0xC0000081, 0x0018000800000000
    SETMSR  0xC0000082, entry
    SETMSR  0xC0000083, entry_compat
    SETMSR  0xC0000084, 0x40700
    TRY     "from 64-bit mode"
    USER    user, 0x00043602
    END
    TRY     "from compatibility mode"
    USER    user32, 0x602, UCODE32
    END
    TRY     "sysret at level 3"
    USER    user_sysret
    END
    TRY     "sysret to a non-canonical address"
    mov     rcx, 0x800000000000
    sysretq
    END
    TRY     "sysret to compatibility mode"
    mov     ecx, offset user_back32
    mov     r11d, 0x3602
    sysretd
    END
    mov     ecx, 0xC0000080
    mov     eax, 0x900
    xor     edx, edx
    wrmsr
    TRY     "without sce"
    syscall
    END
    TRY     "sysret without sce"
    sysretq
    END
    TRY     "sysenter in long mode"
    sysenter
    END
    TRY     "rdfsbase without the bit"
    rdfsbase rax
    END
    mov     rax, cr4
    bts     eax, 16
    mov     cr4, rax
    mov     rax, 0x123456789ABC
    TRY     "fs and gs"
    wrfsbase rax
    wrgsbase eax
    rdgsbase rcx
    int     0x84
    END
    TRY     "32 bits of fs"
    rdfsbase ecx
    int     0x84
    END
    TRY     "wrgsbase of a non-canonical address"
    mov     rax, 0x800000000000
    wrgsbase rax
    END
    TRY     "swapgs"
    mov     ecx, 0xC0000102
    mov     eax, 0x1000
    xor     edx, edx
    wrmsr
    swapgs
    rdgsbase rcx
    int     0x84
    END
    TRY     "swapgs at level 3"
    USER    user_swapgs
    END
    TRY     "a selector loads 32 bits of base"
    mov     eax, KDATA
    mov     fs, eax
    rdfsbase rcx
    int     0x84
    END
    TRY     "wrmsr of a non-canonical base"
    mov     ecx, 0xC0000100
    xor     eax, eax
    mov     edx, 0x8000
    wrmsr
    END
    TRY     "wrmsr of efer bits that do not exist"
    mov     ecx, 0xC0000080
    mov     eax, 0x2902
    xor     edx, edx
    wrmsr
    END
    TRY     "cr8 above 15"
    mov     eax, 16
    mov     cr8, rax
    END
    TRY     "dr7 above 32 bits"
    mov     rax, 0x100000000
    mov     dr7, rax
    END
    EXIT    0

entry:
    mov     [kept], rsp
    mov     rsp, offset kstack_top
    SAY     " entry"
    jmp     1f
entry_compat:
    mov     [kept], rsp
    mov     rsp, offset kstack_top
    SAY     " compat entry"
1:  SAY     " rcx="
    sub     rcx, [try_ip]
    HEX     rcx, 4
    add     rcx, [try_ip]
    SAY     " r11="
    HEX     r11, 8
    SAY     " cs="
    mov     eax, cs
    HEX     rax, 4
    SAY     " ss="
    mov     eax, ss
    HEX     rax, 4
    SAY     " fl="
    pushfq
    pop     rax
    and     eax, 0x3E7700
    HEX     rax, 8
    mov     rsp, [kept]
    cmp     dword ptr [first], 0
    jne     2f
    mov     dword ptr [first], 1
    sysretq
2:  sysretd
    .data
kept:
    .quad   0
first:
    .long   0
    .section .user
user:
    syscall
    mov     ecx, ss
    int     0x84
user_sysret:
    sysretq
user_swapgs:
    swapgs
    .code32
user32:
    syscall
user_back32:
    mov     ecx, ss
    int     0x84
    .code64
