# SPDX-License-Identifier: BSD-2-Clause
# Raises #UD with a handler in place: prints U in the handler, K after it, and
# exits with 0.
#
# area: exceptions
# modes: real16 long64

{% if bits == 64 %}
    .pushsection .bss
    .balign 16
idt:
    .skip   7 * 16
    .popsection
    TABLE_REGISTER idt_register, idt, 7*16-1
{% endif %}

start:
{% if bits == 64 %}
    mov     rax, offset ud_handler
    mov     [idt + 6 * 16], ax
    mov     [idt + 6 * 16 + 2], cs
    mov     word ptr [idt + 6 * 16 + 4], 0x8E00     # present, interrupt gate, DPL 0
    shr     rax, 16
    mov     [idt + 6 * 16 + 6], ax
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
    add     {{ "qword" if bits == 64 else "word" }} ptr [{{ bp }}], 2
{% if bits == 64 %}
    iretq
{% else %}
    iret
{% endif %}
