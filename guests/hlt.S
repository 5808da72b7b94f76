# SPDX-License-Identifier: BSD-2-Clause
# Halts with interrupts off; when it is run again it goes on, and exits with 0.
#
# area: hlt
# modes: real16 prot32 compat32 long64

start:
hlt_insn:
    hlt
after_hlt:
    EXIT    0
