# SPDX-License-Identifier: BSD-2-Clause
"""Writing a file so that a reader finds the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

_serial = itertools.count()


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make `path` hold `data`, by a temporary file beside it and a rename.

    The data are on the disk before the name is, so that this holds also where
    the host dies; `durable=False` leaves that out, for what can be made again.
    Raises OSError, and then `path` is as it was.
    """
    # Not tempfile: its files are private to the user, and a report is not.
    temporary = path.with_name(f".{os.getpid()}-{next(_serial)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fdatasync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
