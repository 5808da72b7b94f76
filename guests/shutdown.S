# SPDX-License-Identifier: BSD-2-Clause
# Empties the IDT and raises #UD, which ends as a triple fault; if it lives on
# it exits with 1.
#
# area: shutdown
# modes: real16 prot32 compat32 long64

    TABLE_REGISTER no_idt, 0, 0

start:
lidt_insn:
    lidt    [no_idt]
ud2_insn:
    ud2
after_ud2:
    EXIT    1
