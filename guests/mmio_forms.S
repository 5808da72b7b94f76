# SPDX-License-Identifier: BSD-2-Clause
# Every instruction with one memory operand that libnvmm's memory assist takes, at a label
# each, followed by HLT; the operand is at [rbx], that of the MOV with an offset at 0xE128.
#
# area: mmio_data
# modes: real16 prot32 compat32 long64
#
# From `start`, all but those with an immediate on RAM: that none faults, and the lengths.

{% set words = {1: "byte", 2: "word", 4: "dword", 8: "qword"} %}
{% set c = {1: "cl", 2: "cx", 4: "ecx", 8: "rcx"} %}
{% set a = {1: "al", 2: "ax", 4: "eax", 8: "rax"} %}
{% set sizes = (1, 2, 4, 8) if bits == 64 else (1, 2, 4) %}
{% set offset_mov = "movabs" if bits == 64 else "mov" %}
{# What full-sized and short immediates there are; cases name them by these numbers. #}
{% set immediates = {1: (0x0F, 0x80), 2: (0x1234, 0x8001), 4: (0x12345678, 0x80000001),
                     8: (0x12345678, )} %}
{% set short = (0x0F, 0x7F) %}
{% set prefix = {1: "", 2: "0x66, " if bits != 16 else "", 4: "0x66, " if bits == 16 else "",
                 8: "0x48, "} %}

# FORM label, instruction: at `label`; `label_after` is RIP when its HLT is done.
    .macro FORM label, instruction:vararg
\label:
    \instruction
.Lend\@:
    hlt
\label\()_after:
    jmp     .Lend\@                     # a HALTED exit can be lost at the run's return
    .endm

start:
    mov     {{ bx }}, 0xE128
{% for size in sizes %}
{% for op in ("or", "and", "xor", "sub", "mov") %}
    {{ op }}    {{ words[size] }} ptr [{{ bx }}], {{ c[size] }}
    {{ op }}    {{ c[size] }}, {{ words[size] }} ptr [{{ bx }}]
{% endfor %}
    xchg    {{ words[size] }} ptr [{{ bx }}], {{ c[size] }}
    {{ offset_mov }}  ds:0xE128, {{ a[size] }}
    {{ offset_mov }}  {{ a[size] }}, ds:0xE128
{% endfor %}
    EXIT    0

{% for size in sizes %}
{% set m = words[size] ~ " ptr [" ~ bx ~ "]" %}
{% for op in ("or", "and", "xor", "sub", "mov") %}
    FORM    {{ op }}_store_{{ size }}, {{ op }} {{ m }}, {{ c[size] }}
    FORM    {{ op }}_load_{{ size }}, {{ op }} {{ c[size] }}, {{ m }}
{% endfor %}
    FORM    xchg_{{ size }}, xchg {{ m }}, {{ c[size] }}
    FORM    lock_or_{{ size }}, lock or {{ m }}, {{ c[size] }}
    FORM    mov_offset_load_{{ size }}, {{ offset_mov }} {{ a[size] }}, ds:0xE128
    FORM    mov_offset_store_{{ size }}, {{ offset_mov }} ds:0xE128, {{ a[size] }}
{% for value in immediates[size] %}
{% for op in ("or", "and", "xor", "cmp", "test", "mov") %}
    FORM    {{ op }}_imm_{{ size }}_{{ value }}, {{ op }} {{ m }}, {{ value }}
{% endfor %}
{# F6 /1 and F7 /1, which no assembler makes. #}
    FORM    test1_imm_{{ size }}_{{ value }}, .byte {{ prefix[size] }}{{ 0xF6 if size == 1 else 0xF7
        }}, {{ 0x0F if bits == 16 else 0x0B }}{% for byte in value.to_bytes([size, 4] | min, "little")
        %}, {{ byte }}{% endfor %}

{% endfor %}
{% if size > 1 %}
{% for op in ("or", "and", "xor", "cmp") %}
{% for value in short %}
    FORM    {{ op }}_short_{{ size }}_{{ value }}, {{ op }} {{ m }}, {{ value }}
{% endfor %}
    FORM    {{ op }}_short_{{ size }}_m1, {{ op }} {{ m }}, -1
    FORM    {{ op }}_short_{{ size }}_m128, {{ op }} {{ m }}, -128
{% endfor %}
    FORM    movzx_1_{{ size }}, movzx {{ c[size] }}, byte ptr [{{ bx }}]
{% endif %}
{% if size > 2 %}
    FORM    movzx_2_{{ size }}, movzx {{ c[size] }}, word ptr [{{ bx }}]
{% endif %}
{% if size == 8 %}
{% for op in ("or", "and", "xor", "cmp", "test", "mov") %}
    FORM    {{ op }}_negative_8, {{ op }} {{ m }}, -0x76543210
{% endfor %}
{% endif %}
{% endfor %}
