# SPDX-License-Identifier: BSD-2-Clause
"""SYSCALL's flags."""

import pytest
from cpu_machine import Cpu, Exit, assemble


@pytest.fixture
def cpu():
    return Cpu()


def test_no_mask_clears_the_flag_that_is_always_set(cpu):
    """SDM 1 3.4.3: bit 1 of RFLAGS is 1, whatever IA32_FMASK says."""
    cpu.long_mode("syscall; hlt")
    cpu.set(star=0x0008 << 32, lstar=0x9000, sfmask=0xFFFFFFFF)
    cpu.write(0x9000, assemble("pushfq; pop rax; hlt", 64, 0x9000))
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 2
