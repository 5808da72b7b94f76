# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of the processor's system side share: names, and a real mode with handlers."""

from cpu_machine import Exit

DE, DB, BP, UD, DF, TS, NP, SS, GP, PF = 0, 1, 3, 6, 8, 10, 11, 12, 13, 14
IF, TF, RF = 0x200, 0x100, 0x10000
P, W, U, RSVD, I = 1, 2, 4, 8, 16  # noqa: E741
PTE = 0x50000  # the page that tests are about


def real(cpu, source):
    """Real mode with an IVT whose handler n is a HLT at 0x900:n."""
    cpu.real_mode(source)
    for vector in range(256):
        cpu.put(4 * vector, 0x0900 << 16 | vector, 4)
        cpu.write(0x9000 + vector, b"\xf4")
    return cpu


def real_vector(cpu):
    assert cpu.run() is Exit.HLT
    assert cpu["cs.base"] == 0x9000, "no exception came"
    return cpu["rip"]


def hole(cpu, *pages):
    for page in pages:
        cpu.rights(page, 0)
