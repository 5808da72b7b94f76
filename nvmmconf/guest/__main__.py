# SPDX-License-Identifier: BSD-2-Clause
"""`python -m nvmmconf.guest build/guests/<image>`: the files of an image that a run has left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .assemble import Artifacts
from .errors import GuestError
from .mode import Mode
from .toolchain import Toolchain


def main(arguments: Sequence[str]) -> int:
    """Make the ELF file, the flat image, the listing and the map, and print where they are."""
    if len(arguments) != 1:
        print("usage: python -m nvmmconf.guest build/guests/<name>.<mode>-<hash>", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).absolute()
    word = folder.name.partition(".")[2].partition("-")[0]
    try:
        if word not in {mode.value for mode in Mode} or not (folder / "image.o").is_file():
            raise GuestError(f"{folder}: no folder of an image (<name>.<mode>-<hash>)")
        files = Artifacts(folder, Mode(word), folder.name, Toolchain.find())
        for path in (files.elf, files.flat, files.listing, files.map):
            print(path)
    except GuestError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
