# SPDX-License-Identifier: BSD-2-Clause
"""Libraries that look like libnvmm, made with the host's compiler (lookalike.c)."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from nvmmconf.abi import Libnvmm, LibraryChoice, bundled_path, ffi, open_library

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[1] / "nvmmconf" / "softnvmm" / "include"
FUNCTIONS = (
    *("init", "root_init", "capability"),
    *("machine_create", "machine_destroy", "machine_configure"),
    *("vcpu_create", "vcpu_destroy", "vcpu_configure", "vcpu_setstate", "vcpu_getstate"),
    *("vcpu_inject", "vcpu_run", "gpa_map", "gpa_unmap", "hva_map", "hva_unmap"),
    *("gva_to_gpa", "gpa_to_hva", "assist_io", "assist_mem", "ctl", "vcpu_dump"),
)
"""What every libnvmm has (spec libnvmm section 4), without nvmm_vcpu_stop."""


class NoCompilerError(Exception):
    """There is no C compiler."""


def shared_object(where: Path, source: str, *options: str) -> Path:
    """Compile C source to a shared object in folder `where`."""
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        raise NoCompilerError("no C compiler")
    file = where / "library.c"
    file.write_text(source)
    out = where / "libnvmm.so"
    command = [cc, "-shared", "-fPIC", "-Wall", "-Werror", "-D_GNU_SOURCE", *options]
    subprocess.run([*command, "-o", str(out), str(file), "-ldl", "-lpthread"], check=True)
    return out


def stub(where: Path, functions: tuple[str, ...]) -> Path:
    """Make a library of functions that do nothing."""
    return shared_object(
        where, "".join(f"int nvmm_{name}(void) {{ return 0; }}\n" for name in functions)
    )


class LookAlike:
    """lookalike.c, compiled and opened; attributes are its variables without the prefix."""

    def __init__(self, where: Path, *options: str) -> None:
        base = str(bundled_path()).replace("\\", "\\\\").replace('"', '\\"')
        self.path = shared_object(
            where, (HERE / "lookalike.c").read_text(), f'-DBASE="{base}"', f"-I{INCLUDE}", *options
        )
        self._inside = ctypes.CDLL(str(self.path))
        self.library: Libnvmm = open_library(LibraryChoice(str(self.path), "the tests'"))

    def set_int(self, name: str, value: int) -> None:
        """Set one of the int variables."""
        ctypes.c_int.in_dll(self._inside, f"lookalike_{name}").value = value

    def get_int(self, name: str) -> int:
        """Return one of the int variables."""
        return int(ctypes.c_int.in_dll(self._inside, f"lookalike_{name}").value)

    def fail(self, line: str, errno: int) -> None:
        """Have the calls whose line begins with `line` fail."""
        (ctypes.c_char * 64).in_dll(self._inside, "lookalike_failing").value = line.encode()
        self.set_int("errno", errno)

    def record(self, name: str, kind: str) -> ffi.CData:
        """Return one of the structures, as a cffi pointer `kind *`."""
        address = ctypes.addressof(ctypes.c_char.in_dll(self._inside, f"lookalike_{name}"))
        return ffi.cast(f"{kind} *", address)

    def returns(self, exit_: ffi.CData, times: int = 1) -> None:
        """Have the next runs return `exit_` (struct nvmm_x86_exit *) without entering."""
        ffi.memmove(self.record("exit", "struct nvmm_x86_exit"), exit_, ffi.sizeof(exit_[0]))
        self.set_int("exits", times)

    @property
    def calls(self) -> list[str]:
        """What was called since `reset` or `forget`."""
        text = (ctypes.c_char * (1 << 16)).in_dll(self._inside, "lookalike_calls").value
        return text.decode().splitlines()

    @property
    def failing(self) -> str:
        """What `fail` was told."""
        return (ctypes.c_char * 64).in_dll(self._inside, "lookalike_failing").value.decode()

    def forget(self) -> None:
        """Forget what was called."""
        (ctypes.c_char * (1 << 16)).in_dll(self._inside, "lookalike_calls").value = b""

    def reset(self) -> None:
        """Behave like the base again."""
        self.forget()
        self.fail("", 0)
        for name, value in (
            ("version", -1),
            ("state_size", -1),
            ("tpr", 0),
            ("exits", 0),
            ("ticks", 0),
        ):
            self.set_int(name, value)
        ctypes.c_void_p.in_dll(self._inside, "lookalike_at_run").value = None

    def at_run(self, function: Callable[[], object]) -> None:
        """Have every run begin with a call of `function`, after the accelerator's last look."""
        self._at_run = ctypes.CFUNCTYPE(None)(lambda: function() and None)
        pointer = ctypes.cast(self._at_run, ctypes.c_void_p)
        ctypes.c_void_p.in_dll(self._inside, "lookalike_at_run").value = pointer.value
