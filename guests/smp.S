# SPDX-License-Identifier: BSD-2-Clause
# Starts all other processors by INIT, SIPI, SIPI to all but itself; each notes its
# APIC id, comes to its own mode and counts itself; when all are there, exits with 0.
#
# The first processor waits for ever for one that does not come: the host's watchdog
# says so, and SYNC 1 that it was waiting.
#
# area: smp
# modes: prot32 long64
# parameters: cpus

    .set    .Lstart_page, 0x70000       # below 1 MiB, where nobody else is

    .bss
    .balign 4
cpus_up:
    .skip   4                           # those that are through
cpus_begun:
    .skip   4
apic_ids:                               # in the order in which they came
    .skip   4 * {{ cpus }}
ids_seen:
    .skip   32                          # a bit for each id

# Notes this processor's APIC id and counts it.  Changes eax, ebx.
    .macro NOTE_ID
    mov     ebx, 1
    lock xadd [cpus_begun], ebx
    cmp     ebx, {{ cpus }}
    jae     .Lone_too_many\@
    APIC_READ 0x20
    shr     eax, 24
    mov     [apic_ids + {{ bx }} * 4], eax
    lock inc dword ptr [cpus_up]
.Lone_too_many\@:
    .endm

    .text
start:
    MAP_APIC
    cld
    mov     esi, offset ap_start
    mov     edi, .Lstart_page
    mov     ecx, offset ap_start_size
    rep movsb
    APIC_WRITE 0xF0, 0x1FF              # spurious interrupts to 0xFF, APIC on
    NOTE_ID
    SYNC    1
init_ipi:
    APIC_SEND 0xC4500                   # INIT to all but this one
first_sipi:
    APIC_SEND 0xC4600 | (.Lstart_page >> 12)
second_sipi:
    APIC_SEND 0xC4600 | (.Lstart_page >> 12)
wait:
    pause
    cmp     dword ptr [cpus_up], {{ cpus }}
    jb      wait
all_up:
    SYNC    2

    xor     esi, esi
next_id:
    mov     eax, [apic_ids + {{ si }} * 4]
    LOG     "APIC id", eax
    bts     [ids_seen], eax
    jnc     once
    FAIL    "an APIC id seen twice"
once:
    inc     esi
    cmp     esi, {{ cpus }}
    jb      next_id
    CHECK_MEM dword, [cpus_begun], {{ cpus }}, "processors that came"
    DONE

# A processor whose mode is that of `start`, without a stack.
ap_flat:
    mov     eax, 0x10
    mov     ds, eax
    mov     ss, eax
    NOTE_ID
ap_done:
    STAND_STILL

# Where a SIPI begins, copied to the start page: real mode, IP 0.
    .section .rodata
    .code16
ap_start:
    cli
    lgdt    cs:[ap_gdtr - ap_start]
{% if bits == 64 %}
    mov     eax, 0x620                  # PAE | OSFXSR | OSXMMEXCPT
    mov     cr4, eax
    mov     eax, offset pml4
    mov     cr3, eax
    xor     edx, edx
    mov     eax, 0x100                  # LME
    mov     ecx, 0xC0000080             # EFER
    wrmsr
    mov     eax, 0x80000031             # PG | NE | ET | PE at once, from real mode
{% else %}
    mov     eax, 0x31                   # NE | ET | PE
{% endif %}
    mov     cr0, eax
    .byte   0x66, 0xEA                  # JMP 0x08:ap_flat, with an offset of 32 bits
    .long   ap_flat
    .word   0x08
ap_gdtr:
    .word   gdt_end - gdt - 1
    .long   gdt
    .set    ap_start_size, . - ap_start
