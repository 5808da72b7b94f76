# SPDX-License-Identifier: BSD-2-Clause
"""Can the suite run here, on what, and if not, what is to be done?

`surroundings` looks at the machine, `examine` judges what it saw. The command is
`nvmmconf doctor`.
"""

from nvmmconf.doctor.examine import examine
from nvmmconf.doctor.findings import Diagnosis, Finding, Level
from nvmmconf.doctor.surroundings import Node, Surroundings, look_around

__all__ = [
    "Diagnosis",
    "Finding",
    "Level",
    "Node",
    "Surroundings",
    "examine",
    "look_around",
]
