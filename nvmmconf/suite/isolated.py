# SPDX-License-Identifier: BSD-2-Clause
"""Running what can end the process in a child of the worker; how it ended is data."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from nvmmconf.nvmm import NvmmError
from nvmmconf.suite import checks
from nvmmconf.suite.errors import GuestHangError

TIMEOUT = 20.0
"""Seconds after which a child is killed."""

_OUTPUT_LIMIT = 16384


class IsolatedError(Exception):
    """The function raised something that says nothing of the target."""


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended."""

    signal: signal.Signals | None
    """What killed it; None where it ended by itself."""
    status: int | None
    """Its exit status: 0 where the function returned; None where a signal killed it."""
    value: Any = None
    """What the function returned."""
    errno: int | None = None
    """That of the NvmmError which it raised."""
    error: str = ""
    """That error, in words."""
    output: str = ""
    """What the child wrote to standard output and standard error."""

    @property
    def aborted(self) -> bool:
        """True where it called abort(3)."""
        return self.signal is signal.SIGABRT

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {self.signal.name}"
        return self.error or f"exit status {self.status}"


def isolated(function: Callable[..., object], *arguments: object) -> ChildEnd:
    """Call `function(*arguments)` in a forked child, and tell how it ended.

    The child makes its own machines, and destroys them by ending.  Raises
    AssertionError where one failed there, GuestHangError where it did not end
    within 20 seconds, IsolatedError for any other exception of the function.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.close(read_end)
            _in_child(function, arguments, write_end, output)
        os.close(write_end)
        said = _read(read_end, time.monotonic() + TIMEOUT)
        if said is None:
            os.kill(child, signal.SIGKILL)
        # The pipe's end is the child's: it has ended, or is about to.
        _, status = os.waitpid(child, 0)
        output.seek(0)
        printed = output.read(_OUTPUT_LIMIT).decode(errors="backslashreplace")
    if said is None:
        raise GuestHangError(f"the isolated child did not end within {TIMEOUT:g} s")
    return _end(status, said, printed)


def _read(descriptor: int, deadline: float) -> bytes | None:
    """All that comes until the other end is closed; None where it is not by then."""
    parts: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as pipe:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                return None
            part = pipe.read(65536)
            if not part:
                return b"".join(parts)
            parts.append(part)


def _in_child(
    function: Callable[..., object], arguments: tuple[object, ...], pipe: int, output: BinaryIO
) -> NoReturn:
    """Never returns, and runs nothing of what the parent would do at its end."""
    status = 1
    try:
        faulthandler.disable()  # a signal is data here
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        # pytest has replaced these by files of its own.
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        said = _call(function, arguments)
        with open(pipe, "wb") as file:
            file.write(said)
        status = 0
    finally:
        os._exit(status)


def _call(function: Callable[..., object], arguments: tuple[object, ...]) -> bytes:
    """What is told of the call: how it ended, and its value or the error's text and errno."""
    before = checks.current().count
    try:
        value = function(*arguments)
        failed = [str(failure) for failure in checks.current().failures]
        if failed:
            return pickle.dumps(("assertion", "; ".join(failed), None))
        return pickle.dumps(("value", value, checks.current().count - before))
    except NvmmError as error:
        return pickle.dumps(("nvmm", str(error), error.errno))
    except AssertionError as error:
        return pickle.dumps(("assertion", str(error) or "an assertion failed", None))
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return pickle.dumps(("other", text, None))


def _end(status: int, said: bytes, output: str) -> ChildEnd:
    if os.WIFSIGNALED(status):
        return ChildEnd(signal.Signals(os.WTERMSIG(status)), None, output=output)
    code = os.WEXITSTATUS(status)
    if not said:
        return ChildEnd(None, code, output=output)
    kind, value, number = pickle.loads(said)
    match kind:
        case "value":
            checks.current().count += number
            return ChildEnd(None, code, value=value, output=output)
        case "nvmm":
            return ChildEnd(None, code, errno=number, error=value, output=output)
        case "assertion":
            raise AssertionError(f"in the isolated child: {value}")
    raise IsolatedError(f"in the isolated child: {value}")
