# SPDX-License-Identifier: BSD-2-Clause
"""The doctor's command line; needs nothing but Python's own library."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from nvmmconf.doctor.examine import examine
from nvmmconf.doctor.host import PACKAGES
from nvmmconf.doctor.surroundings import look_around
from nvmmconf.doctor.words import lines

DESCRIPTION = (
    "Look at this machine: can the suite run, on what, and if not, what is to be done? Exits with 0"
    " where it can, 1 where not. Changes nothing; makes one virtual machine, and destroys it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes, and the act."""
    parser.add_argument(
        "--nvmm-lib",
        metavar="PATH",
        help="the libnvmm to examine, as pytest's option: a path, 'system' or 'bundled'",
    )
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis; 0 where the suite can run, else 1."""
    diagnosis = examine(look_around(tuple(PACKAGES)), arguments.nvmm_lib)
    # Piped, a finding is a line whatever its length.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    print("\n".join(lines(diagnosis, width)))
    return 0 if diagnosis.can_run else 1


def main(words: Sequence[str]) -> int:
    """The command on its own."""
    parser = argparse.ArgumentParser(prog="python -m nvmmconf.doctor", description=DESCRIPTION)
    add_arguments(parser)
    return run(parser.parse_args(words))
