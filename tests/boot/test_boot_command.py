# SPDX-License-Identifier: BSD-2-Clause
"""`nvmmconf boot` as its user meets it: what it prints, and its exit status."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvmmconf.cli import main
from nvmmconf.guest import GuestLibrary, Mode

COMMAND = (sys.executable, "-m", "nvmmconf.cli", "boot")
BACKSTOP = 100.0  # seconds; only a fault takes this long

HALT = b"\xfa\xf4"
SPIN = b"\xeb\xfe"
AT = ("--at", "0x8000", "--mode")
SMALL = ("--memory", "4M")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BACKSTOP,
        check=False,
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file of two bytes: CLI, HLT."""
    path = tmp_path / "image"
    path.write_bytes(HALT)
    return path


@pytest.mark.parametrize("mode", Mode)
def test_a_guest_gives_its_output_and_its_status(library: GuestLibrary, mode: Mode) -> None:
    """hello says its mode and exits with 0, which is 1 here as under QEMU."""
    done = run(library.image("hello", mode).elf, *SMALL)
    assert done.returncode == 1
    assert done.stdout.startswith(f"hello from {mode.value}, a byte at a time\nand this line")
    assert "Multiboot ELF" in done.stderr


def test_a_guest_s_folder_will_do(library: GuestLibrary) -> None:
    folder = library.image("hello", Mode.PROT32).elf.parent
    (folder / "image.elf").unlink()
    done = run(folder, *SMALL)
    assert done.returncode == 1
    assert done.stdout.startswith("hello from prot32")


def test_the_image_in_a_folder_will_do_without_what_it_was_made_of(
    library: GuestLibrary, tmp_path: Path
) -> None:
    shutil.copy(library.image("hello", Mode.PROT32).elf, tmp_path / "image.elf")
    done = run(tmp_path, *SMALL)
    assert done.returncode == 1
    assert done.stdout.startswith("hello from prot32")


def test_a_halted_guest_ends_with_0_and_is_shown(image: Path) -> None:
    done = run(image, *AT, "prot32", *SMALL)
    assert done.returncode == 0
    assert "halted for good" in done.stderr
    assert "protected mode, 32-bit code, at 0008:00008002" in done.stderr
    assert not done.stdout


def test_a_triple_fault_ends_with_4(image: Path) -> None:
    image.write_bytes(b"\x0f\x0b")  # UD2, and no IDT
    done = run(image, *AT, "long64", *SMALL)
    assert done.returncode == 4
    assert "-> 0000000000008000  0f 0b" in done.stderr
    assert "ud2" in done.stderr


def test_reboot_starts_it_again(image: Path) -> None:
    """CMOS byte 0x50 survives: at the second start it is not 0, and the guest ends with it."""
    # mov al,50; out 70,al; in al,71; test al,al; jnz 1f; inc al; out 71,al; ud2; 1: out f4,al
    image.write_bytes(bytes.fromhex("b050e670e471 84c07506 fec0 e671 0f0b e6f4"))
    done = run(image, *AT, "prot32", "--reboot", *SMALL)
    assert done.returncode == 3
    assert "starting again" in done.stderr


def test_the_timeout_ends_it_with_124(image: Path) -> None:
    image.write_bytes(SPIN)
    done = run(image, *AT, "real16", "--timeout", "0.5", *SMALL)
    assert done.returncode == 124
    assert "--timeout" in done.stderr
    assert "at 0000:8000" in done.stderr


@pytest.mark.parametrize("cpus", [1, 2])
def test_ctrl_c_stops_it_and_shows_where_it_was(image: Path, cpus: int) -> None:
    image.write_bytes(b"\xb0\x2a\xe6\xe9\xb0\x0a\xe6\xe9" + SPIN)  # "*\n" on port E9, then spins
    with subprocess.Popen(
        [*COMMAND, str(image), *AT, "long64", "--smp", str(cpus), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "*\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=BACKSTOP)
    assert process.returncode == 130
    assert "Ctrl-C" in errors
    assert re.search(r"rax [0-9a-f]{14}0a", errors)
    assert "-> 0000000000008008  eb fe" in errors
    assert "jmp 0x8008" in errors
    assert ("cpu 1: waits for a start-up IPI" in errors) == (cpus == 2)
    assert "Traceback" not in errors


def test_nobody_reads_the_output(image: Path) -> None:
    """As `nvmmconf boot ... | head -1`: it ends, quietly."""
    image.write_bytes(b"\xb0\x0a\xe6\xe9\xeb\xfc")  # newlines for ever
    with subprocess.Popen(
        [*COMMAND, str(image), *AT, "prot32", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(BACKSTOP) == 130
    assert "Traceback" not in errors
    assert "rror" not in errors


def test_ctrl_c_again_does_no_harm(image: Path) -> None:
    """Whoever is impatient presses it many times: no signal of ours ends the process."""
    image.write_bytes(b"\xb0\x2a\xe6\xe9\xb0\x0a\xe6\xe9" + SPIN)
    with subprocess.Popen(
        [*COMMAND, str(image), *AT, "long64", "--smp", "4", *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "*\n"
        for _ in range(20):
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=BACKSTOP)
    assert process.returncode in (130, -signal.SIGINT)


def test_standard_output_was_closed(image: Path) -> None:
    """As `nvmmconf boot ... >&-`: the guest runs, and its output is lost."""
    image.write_bytes(b"\xb0\x0a\xe6\xe9" + HALT)
    line = shlex.join([*COMMAND, str(image), *AT, "prot32", *SMALL]) + " >&-"
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, timeout=BACKSTOP, check=False
    )
    assert done.returncode == 0
    assert "halted for good" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_screen_in_what_the_terminal_has(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that the terminal's encoding lacks is no reason for a traceback."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    # mov dword ptr [0xb8000], 0xC9 (a corner) | 'i' << 16
    image.write_bytes(bytes.fromhex("c705 00800b00 c9076907") + HALT)
    done = run(image, *AT, "prot32", "--screen", *SMALL)
    assert (done.returncode, done.stdout) == (0, "?i\n")


def test_the_trace_has_a_line_an_exit(image: Path, tmp_path: Path) -> None:
    image.write_bytes(b"\xb0\x41\xe6\xe9\xb0\x00\xe6\xf4")
    trace = tmp_path / "trace"
    assert run(image, *AT, "prot32", "--trace", trace, *SMALL).returncode == 1
    lines = [line for line in trace.read_text().splitlines() if " IO " in line]
    assert [re.sub(r"^\d+ ", "", line) for line in lines] == [
        "cpu0 0x8002 IO out port 0xe9, 1 byte, npc 0x8004",
        "cpu0 0x8006 IO out port 0xf4, 1 byte, npc 0x8008",
    ]


def test_the_screen_is_shown(image: Path) -> None:
    # mov dword ptr [0xb8000], 'H' | 'i' << 16
    image.write_bytes(bytes.fromhex("c705 00800b00 48076907") + HALT)
    done = run(image, *AT, "prot32", "--screen", *SMALL)
    assert done.stdout == "Hi\n"


@pytest.mark.parametrize("profile", ["v1-svm", "v3-vmx"])
def test_the_profile_is_the_one_asked_for(image: Path, profile: str) -> None:
    done = run(image, *AT, "prot32", "--profile", profile, *SMALL)
    assert done.returncode == 0
    assert profile in done.stderr


_REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "no file": (("/nonexistent",), "/nonexistent: No such file"),
    "a folder": (("/",), "/: Is a directory"),
    "neither": (("IMAGE",), "neither a Multiboot nor a Linux kernel"),
    "endless": (("/dev/zero", *SMALL), "larger than the machine's memory"),
    "BIOS size": (("--bios", "IMAGE"), "multiple of 4096"),
    "half a flat": (("IMAGE", "--at", "0x8000"), "--mode"),
    "other half": (("IMAGE", "--mode", "prot32"), "--at"),
    "bad mode": (("IMAGE", *AT, "real"), "real16, prot32, long64"),
    "bad address": (("IMAGE", "--at", "8000h", "--mode", "prot32"), "is no address"),
    "no RAM": (("IMAGE", "--at", "0xA0000", "--mode", "prot32"), "no RAM"),
    "no unit": (("IMAGE", "--memory", "128"), "no unit"),
    "no memory": (("IMAGE", "--memory", "1M"), "at least 2 MiB"),
    "no such memory": (("IMAGE", "--memory", "999999G"), "at most"),
    "no CPU": (("IMAGE", "--smp", "0"), "at least 1"),
    "too many": (("IMAGE", "--smp", "999"), "at most"),
    # 0xFF as a destination means everybody (SDM 3A 10.6.2.1).
    "no ID is left": (("IMAGE", *AT, "prot32", "--smp", "256"), "at most 255"),
    "negative": (("IMAGE", "--smp", "-1"), "--smp"),
    "timeout": (("IMAGE", "--timeout", "never"), "seconds"),
    "profile": (("IMAGE", *AT, "prot32", "--profile", "v9"), "no profile 'v9'"),
    "library": (("IMAGE", *AT, "prot32", "--nvmm-lib", "/nonexistent"), "cannot use /nonexistent"),
    "trace": (("IMAGE", *AT, "prot32", "--trace", "/nonexistent/trace"), "/nonexistent/trace: No"),
    "append": (("IMAGE", *AT, "prot32", "--append", "x"), "--append is for kernels"),
    "module": (("--bios", "IMAGE", "--module", "x"), "--module is for kernels"),
    "both": (("--bios", "IMAGE", *AT, "prot32"), "one or the other"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_what_cannot_be_is_refused_in_a_line(
    image: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = _REFUSED[name]
    line = [str(image) if one == "IMAGE" else one for one in arguments]
    try:
        status: object = main(["boot", *line])
    except SystemExit as error:  # argparse's
        status = error.code
    printed = capsys.readouterr()
    assert status == 2
    assert not printed.out
    last = printed.err.splitlines()[-1]
    assert last.startswith("nvmmconf")
    assert words in last
