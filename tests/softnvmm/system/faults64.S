# SPDX-License-Identifier: BSD-2-Clause
# Exceptions of 64-bit mode: error codes, RIP, canonical addresses.
# runtime: long64
start:
    mov     rbx, 0x0000800000000000
    mov     rdi, 0x7FFFFFFFFFFE
    TRY     "divide by zero"
    xor     ecx, ecx
    div     rcx
    END
    TRY     "int3"
    int3
    END
    TRY     "int n"
    int     0x81
    END
    TRY     "ud2"
    ud2
    END
    .irp    byte, 0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82, 0x9A, 0xCE, 0xD4, 0xD5, 0xEA
    TRY     "opcode \byte"
    .byte   \byte, 0, 0, 0, 0, 0, 0
    END
    .endr
    TRY     "read of a non-canonical address"
    mov     rax, [rbx]
    END
    TRY     "write of a non-canonical address"
    mov     [rbx], rax
    END
    TRY     "non-canonical stack"
    mov     rbp, rbx
    mov     rax, [rbp]
    END
    TRY     "jump to a non-canonical address"
    jmp     rbx
    END
    TRY     "call to a non-canonical address"
    call    rbx
    END
    TRY     "ret to a non-canonical address"
    push    rbx
    ret
    END
    TRY     "int of a gate that is not there"
    mov     byte ptr [idt + 0x90 * 16 + 5], 0
    int     0x90
    END
    .irp    type, 81, 82, 83, 84, 85, 86, 87, 88, 89, 8A, 8B, 8C, 8D, 0E, 9E
    TRY     "gate of type \type"
    mov     byte ptr [idt + 0x90 * 16 + 5], 0x\type
    int     0x90
    END
    .endr
    TRY     "not mapped"
    mov     eax, [WINDOW]
    END
    TRY     "write that is not mapped"
    mov     [WINDOW], eax
    END
    TRY     "jump where nothing is"
    mov     eax, WINDOW
    jmp     rax
    END
    TRY     "cmpxchg16b not aligned"
    cmpxchg16b [gdt + 8]
    END
    TRY     "lock nop"
    .byte   0xF0, 0x90
    END
    TRY     "lock mov"
    .byte   0xF0, 0x89, 0x03
    END
    TRY     "sixteen bytes"
    .fill   15, 1, 0x66
    nop
    END
    EXIT    0
