# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf doctor`: can the suite run here, and what is to be done?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nvmmconf.doctor.command import DESCRIPTION, add_arguments

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "doctor",
        help="can the suite run here, on what, and what is to be done?",
        description=DESCRIPTION,
    )
    add_arguments(command)
