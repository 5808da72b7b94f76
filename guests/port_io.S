# SPDX-License-Identifier: BSD-2-Clause
# Every IN, OUT, INS and OUTS, at a label each; from `start` it only exits.
#
# area: pio
# modes: real16 prot32 compat32 long64

start:
    EXIT    0
{% include "port_io.inc" %}
