# SPDX-License-Identifier: BSD-2-Clause
# String instructions with and without prefixes, at a label each, and some others with
# the prefixes of strings; HLT follows each.
#
# area: mmio_strings
# modes: real16 prot32 compat32 long64

{% set words = {1: "b", 2: "w", 4: "d", 8: "q"} %}
{% set sizes = (1, 2, 4, 8) if bits == 64 else (1, 2, 4) %}

# FORM label, instruction: at `label`; `label_after` is RIP when its HLT is done.
    .macro FORM label, instruction:vararg
\label:
    \instruction
\label\()_end:
    hlt
\label\()_after:
    jmp     \label\()_end               # a HALTED exit can be lost at the run's return
    .endm

start:
    EXIT    0

{% for size in sizes %}
{% for op in ("movs", "stos", "lods", "cmps") %}
    FORM    {{ op }}_{{ size }}, {{ op }}{{ words[size] }}
{% for prefix in ("repe", "repne") if op == "cmps" %}
    FORM    {{ prefix }}_{{ op }}_{{ size }}, {{ prefix }} {{ op }}{{ words[size] }}
{% endfor %}
{% if op != "cmps" %}
    FORM    rep_{{ op }}_{{ size }}, rep {{ op }}{{ words[size] }}
    FORM    repne_{{ op }}_{{ size }}, .byte 0xF2{{ ", 0x66" if (size == 2) != (bits == 16) and size
        in (2, 4) }}{{ ", 0x48" if size == 8 }}, {{ {"movs": 0xA4, "stos": 0xAA, "lods": 0xAC}[op]
        + (size > 1) }}
{% endif %}
{% endfor %}
{% endfor %}

{% for code in ("f3", "f2") %}
    FORM    mov_store_{{ code }}, .byte 0x{{ code }}{{ ", 0x66" if bits == 16 }}, 0x89, {{ 0x17 if
        bits == 16 else 0x13 }}
    FORM    mov_load_{{ code }}, .byte 0x{{ code }}{{ ", 0x66" if bits == 16 }}, 0x8B, {{ 0x17 if
        bits == 16 else 0x13 }}
    FORM    or_store_{{ code }}, .byte 0x{{ code }}{{ ", 0x66" if bits == 16 }}, 0x09, {{ 0x17 if
        bits == 16 else 0x13 }}
{% endfor %}

    FORM    rep_movs_67, .byte 0x67, 0xF3, 0xA4
    FORM    movs_ds, .byte 0x3E, 0xA4
    FORM    movs_fs, .byte 0x64, 0xA4
    FORM    movs_ds_fs, .byte 0x26, 0x3E, 0x64, 0xA4
    FORM    stos_fs, .byte 0x64, 0xAA
    FORM    mov_edge_2, mov [{{ bx }}], dx
    FORM    mov_edge_4, mov [{{ bx }}], edx
    FORM    mov_load_edge, mov edx, [{{ bx }}]
