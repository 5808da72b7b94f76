# SPDX-License-Identifier: BSD-2-Clause
# Exceptions of 32-bit protected mode, each with its error code and EIP.
# runtime: prot32
start:
    TRY     "divide by zero"
    xor     ecx, ecx
    div     ecx
    END
    TRY     "quotient too large"
    mov     edx, 1
    mov     ecx, 1
    div     ecx
    END
    TRY     "int3"
    int3
    END
    TRY     "into"
    mov     eax, 0x7FFFFFFF
    inc     eax
    into
    END
    TRY     "bound"
    mov     eax, 5
    bound   eax, [limits]
    END
    TRY     "ud2"
    nop
    ud2
    END
    TRY     "null ds"
    xor     eax, eax
    mov     ds, eax
    mov     eax, [0x1000]
    END
    TRY     "int n"
    int     0x81
    END
    TRY     "int of a gate that is not there"
    mov     byte ptr [idt + 0x90 * 8 + 5], 0
    int     0x90
    END
    TRY     "int of a gate that is not present"
    mov     byte ptr [idt + 0x90 * 8 + 5], 0x0E
    int     0x90
    END
    EXIT    0
    .data
limits:
    .long   6, 9
