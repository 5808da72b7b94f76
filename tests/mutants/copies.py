# SPDX-License-Identifier: BSD-2-Clause
"""Copies of the tree that mutants are put into, and asking their tests."""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from nvmmconf.abi import _libnvmm
from tests.mutants.mutants import ACCEL, API, PACKAGE, ROOT, SOFT, Mutant, Part
from tests.softnvmm_api import conftest as build

if TYPE_CHECKING:
    from tests.mutants.processes import Processes

HANGS = 60  # seconds; the slowest test takes two, on a machine that does nothing else
IGNORE = shutil.ignore_patterns("__pycache__", "*.so", "*.o")

# An editable installation finds the package where it was installed from, whatever the path
# says. This is run at each start of Python in the copy, after the installation has put that in.
SITE = """
import sys
finders = [one for one in sys.meta_path if not type(one).__module__.startswith("_editable")]
sys.meta_path[:] = finders
"""

# One failing example is enough; looking for the smallest would take most of the time.
PROFILE = """
from hypothesis import Phase
settings.register_profile(
    "mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("mutants")
"""


class Verdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "hung"  # which is noticed, too
    SURVIVED = "survived"


class BrokenError(Exception):
    """Neither: the mutant does not build, or its tests do not run."""


@dataclass(frozen=True)
class End:
    """What became of a mutant, and the test that noticed it."""

    verdict: Verdict
    by: str = ""


class Copy(ABC):
    """A copy of a part of the tree and its tests, one mutant at a time."""

    def __init__(self, where: Path, processes: Processes) -> None:
        self.where = where
        self.root = where / "tree"
        self._processes = processes

    @property
    @abstractmethod
    def env(self) -> dict[str, str]:
        """The environment that its tests need, beside this process's."""

    @property
    def options(self) -> list[str]:
        """The options of pytest that its tests need."""
        return []

    def python(self, *words: str, seconds: float | None = None) -> tuple[int, str]:
        """Run Python in the copy: exit status and output.  Raises subprocess.TimeoutExpired."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("NVMM_SOFT_")}
        done = self._processes.run([sys.executable, *words], self.root, env | self.env, seconds)
        return done.returncode, done.stdout

    def ask(self, nodes: list[str], seconds: float | None = None) -> End:
        """What the tests say of the copy as it is.

        Raises BrokenError where they cannot be run.
        """
        temporary = self.where / "tmp"
        command = ["-m", "pytest", "-q", "-x", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
        command += [f"--rootdir={self.root}", f"--basetemp={temporary}", *self.options, *nodes]
        try:
            status, said = self.python(*command, seconds=seconds)
        except subprocess.TimeoutExpired:
            return End(Verdict.HUNG)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if status == 0:
            return End(Verdict.SURVIVED)
        return self.failed(status, said)

    def failed(self, status: int, said: str) -> End:
        """The end that a failing run of the tests is.  Raises BrokenError where it is none."""
        if status != 1:
            raise BrokenError(said)
        return End(Verdict.KILLED, _culprit(said))

    @abstractmethod
    def check(self, mutant: Mutant, source: Path) -> None:
        """Build the file with the mutant, or see that it could be.  Raises BrokenError."""

    @abstractmethod
    def restored(self, source: Path) -> None:
        """The file is as it was."""

    def try_out(self, mutant: Mutant) -> End:
        """Put the mutant in, ask its tests, and put everything back."""
        source = self.root / mutant.path
        text = source.read_text()
        source.write_text(mutant.apply(text))
        try:
            self.check(mutant, source)
            return self.ask(mutant.nodes(), HANGS)
        finally:
            source.write_text(text)
            self.restored(source)


def _culprit(said: str) -> str:
    """The first test that pytest's summary says has failed, without its folders."""
    found = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py.*?)(?: - .*)?$", said, re.MULTILINE)
    return "" if found is None else found[1]


class SoftCopy(Copy):
    """The library in C and its tests, built."""

    def __init__(self, where: Path, processes: Processes) -> None:
        super().__init__(where, processes)
        for part in (SOFT, API):
            shutil.copytree(ROOT / part, self.root / part, ignore=IGNORE)
        self._clients = where / "clients"
        self._built = self._clients / "plain-softnvmm"
        self._built.mkdir(parents=True)
        build.library(self._built, (), self.root / SOFT)

    @property
    def env(self) -> dict[str, str]:
        return {
            "NVMMCONF_CLIENTS": str(self._clients),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def check(self, mutant: Mutant, source: Path) -> None:
        try:
            self._compile(source)
        except RuntimeError as problem:
            raise BrokenError(f"{mutant.where} does not build:\n{problem}") from problem

    def restored(self, source: Path) -> None:
        self._compile(source)

    def _compile(self, source: Path) -> None:
        build.compile_one(source, self._built, (), self.root / SOFT)
        build.link(self._built, ())


class AccelCopy(Copy):
    """The package in Python, with the compiled files that are installed, and its tests."""

    def __init__(self, where: Path, processes: Processes) -> None:
        super().__init__(where, processes)
        self._site = where / "site"
        self._site.mkdir(parents=True)
        (self._site / "sitecustomize.py").write_text(SITE)
        for part in (PACKAGE, Path("guests"), ACCEL, Path("tests") / "abi"):
            shutil.copytree(ROOT / part, self.root / part, ignore=IGNORE)
        for name in ("conftest.py", "pyproject.toml", "tests/conftest.py"):
            shutil.copy(ROOT / name, self.root / name)
        with (self.root / "tests" / "conftest.py").open("a") as file:
            file.write(PROFILE)
        compiled = Path(_libnvmm.__file__)
        shutil.copy(compiled, self.root / PACKAGE / "abi")
        library = compiled.parent.parent / "softnvmm" / "libnvmm.so"
        shutil.copy(library, self.root / SOFT)
        # A mutant may be as long as the text that it takes the place of, and as young.
        compileall.compile_dir(
            self.root / PACKAGE,
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )
        self._see_that_it_is_used()

    @property
    def env(self) -> dict[str, str]:
        return {
            "PYTHONPATH": os.pathsep.join((str(self._site), str(self.root))),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }

    @property
    def options(self) -> list[str]:
        return ["-p", "nvmmconf", f"--nvmm-reports={self.where / 'reports'}"]

    def failed(self, status: int, said: str) -> End:
        """Any failure: that the tests cannot even be collected is the mutant's doing."""
        # A status of pytest's own, and no test to name: plugin, conftest or module do not load.
        why = "at import" if 1 <= status <= 4 else f"pytest ends with {status}"
        return End(Verdict.KILLED, _culprit(said) or why)

    def check(self, mutant: Mutant, source: Path) -> None:
        try:
            compile(source.read_text(), mutant.file, "exec")
        except SyntaxError as problem:
            raise BrokenError(f"{mutant.where} is no Python: {problem}") from problem

    def restored(self, source: Path) -> None:
        pass

    def _see_that_it_is_used(self) -> None:
        """Raises BrokenError where the copy's Python would import another package."""
        status, said = self.python(
            "-c",
            "from nvmmconf import accel, nvmm\n"
            "from nvmmconf.abi import _libnvmm, bundled_path\n"
            "for file in (accel.__file__, nvmm.__file__, _libnvmm.__file__, bundled_path()):\n"
            "    print(file)",
        )
        files = said.splitlines()
        root = self.root.resolve()
        if status != 0 or not all(Path(file).resolve().is_relative_to(root) for file in files):
            raise BrokenError(f"the copy in {root} is not what its Python imports:\n{said}")


COPIES: dict[Part, type[Copy]] = {Part.SOFTNVMM: SoftCopy, Part.ACCEL: AccelCopy}
