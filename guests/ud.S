# SPDX-License-Identifier: BSD-2-Clause
# Raises #UD with a handler in place: prints U in the handler, K after it, and
# exits with 0.
#
# area: exceptions
# modes: real16 prot32 long64

{% set gate = 16 if bits == 64 else 8 %}
{% if bits != 16 %}
    .pushsection .bss
    .balign 16
idt:
    .skip   7 * {{ gate }}
    .popsection
    TABLE_REGISTER idt_register, idt, 7*{{ gate }}-1
{% endif %}

start:
{% if bits != 16 %}
    mov     eax, offset ud_handler
    mov     [idt + 6 * {{ gate }}], ax
    mov     [idt + 6 * {{ gate }} + 2], cs
    mov     word ptr [idt + 6 * {{ gate }} + 4], 0x8E00     # present, interrupt gate, DPL 0
    shr     eax, 16
    mov     [idt + 6 * {{ gate }} + 6], ax
    lidt    [idt_register]
{% else %}
    xor     ax, ax
    mov     es, ax
    mov     word ptr es:[6 * 4], offset ud_handler
    mov     es:[6 * 4 + 2], cs
{% endif %}
ud2_insn:
    ud2
after_ud2:
    PUTC    'K'
    EXIT    0

# #UD is a fault: what it would return to is the UD2, two bytes long.
ud_handler:
    PUTC    'U'
    mov     {{ bp }}, {{ sp }}
    add     {{ {16: "word", 32: "dword", 64: "qword"}[bits] }} ptr [{{ bp }}], 2
    iret{{ {16: "", 32: "d", 64: "q"}[bits] }}
