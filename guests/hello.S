# SPDX-License-Identifier: BSD-2-Clause
# Prints one line byte by byte with OUT and one with a single REP OUTSB, then
# exits with 0.
#
# area: pio
# modes: real16 prot32 compat32 long64

    TEXT    out_text, "hello from {{ mode }}, a byte at a time\n"
    # More than two of the batches in which libnvmm moves it (L-IO-11).
    TEXT    outsb_text, "and this line by one REP OUTSB, longer than what one exit moves: 32 bytes each time\n"

start:
    cld
    mov     {{ si }}, offset out_text
    mov     {{ cx }}, offset out_text_size
next_byte:
    lodsb
out_insn:
    out     {{ console_port }}, al
after_out:
    loop    next_byte

    # DS:{{ si }}; in real16 DS is 0x2000, where the text is.
    mov     {{ si }}, offset outsb_text
    mov     {{ cx }}, offset outsb_text_size
    mov     dx, {{ console_port }}
outsb_insn:
    rep outsb
after_outsb:
    EXIT    0
