# SPDX-License-Identifier: BSD-2-Clause
"""Many CPUs, over and over: INIT, SIPI, SIPI to all, in machines made anew each time.

NVMMCONF_SMP_RUNS says how often (`make stress-smp`: 1000).
"""

from __future__ import annotations

import os
import re

import pytest

from nvmmconf.boot import load_multiboot
from nvmmconf.boot.machine import MachineSize
from nvmmconf.guest import GuestLibrary, Mode
from tests.boot.conftest import Booted, targets

CPUS = 4
RUNS = int(os.environ.get("NVMMCONF_SMP_RUNS", "6"))
MODES = (Mode.PROT32, Mode.LONG64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", targets(), ids=lambda one: one.name)
def test_every_cpu_comes_up_every_time(library: GuestLibrary, target, mode: Mode) -> None:
    """Each of the 4 APIC ids comes once (the guest's own check, and what it says)."""
    size = MachineSize(4 << 20, CPUS)
    image = library.image("smp", mode, cpus=CPUS).elf.read_bytes()
    plan = load_multiboot(image, size.ram, size.memory_map)
    for run in range(RUNS):
        booted = Booted(target, size, plan, None)
        try:
            booted.run()
            where = f"run {run}: {booted.outcome}\n{booted.console}\n{booted.machine.where()}"
        finally:
            booted.machine.close()
        assert booted.outcome.status == 1, where
        ids = re.findall(r"APIC id 0x([0-9a-fA-F]+)", booted.console)
        assert sorted(int(one, 16) for one in ids) == list(range(CPUS)), where
