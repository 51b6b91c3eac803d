"""Running a command on a kernel with IPVS: what goes in, what comes out, and that nothing stays."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.lab.kernel import TIME_LIMIT_REACHED, LabError, run_in_kernel

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _on_user_mode_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LVSD_LAB_KERNEL", "uml")
    # The scratch directories, by which these tests tell their kernels from others.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def run(tmp_path: Path, *argv: str, **settings: object) -> tuple[int, str]:
    """Run a command in the lab; return its exit status and its output, byte for byte."""
    said = tmp_path / "output"
    with said.open("wb") as output:
        status = run_in_kernel(argv, output=output.fileno(), **settings)
    return status, said.read_bytes().decode()


def kernels(scratch: Path) -> list[str]:
    """Return the processes of this machine that name a place in the scratch directory: kernels."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"LAB_SCRATCH={scratch}" in (line := path.read_text()):
                found.append(line)
    return found


def test_a_command_has_ipvs_and_its_status_and_output_come_out(tmp_path: Path) -> None:
    # An unusual argument, an unusual environment, and another directory arrive as they are.
    script = 'ipvsadm -A -t 192.0.2.1:80 -s mh && ipvsadm -Sn; echo "$1|$ODD|$PWD" >&2; exit 7'
    argv = ("sh", "-c", script, "sh", "it's  'odd'")
    environment = {"ODD": 'a\n"b"', "PATH": "/sbin:/bin"}
    status, said = run(tmp_path, *argv, environment=environment, directory=Path("/usr"))
    assert (status, said) == (7, "-A -t 192.0.2.1:80 -s mh\nit's  'odd'|a\n\"b\"|/usr\n")


def test_a_command_out_of_time_is_killed_with_its_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started_at = time.monotonic()
    status, said = run(tmp_path, "sh", "-c", "echo begun; sleep 1000", timeout=8)
    assert (status, said) == (TIME_LIMIT_REACHED, "begun\n")
    assert time.monotonic() - started_at < 60
    assert "the time limit of 8 s is over" in capsys.readouterr().err
    assert not kernels(tmp_path)


def test_a_host_with_ipvs_needs_no_second_kernel(tmp_path: Path) -> None:
    # In the lab's kernel we are root and have IPVS, so a lab in it is namespaces of that same kernel.
    inner = "grep -c : /proc/net/dev; ipvsadm -Ln | wc -l; echo $$ >/run/own; cat /run/own; exit 5"
    outer = f"env -u LVSD_LAB_KERNEL {sys.executable} -m lvsd.lab run -- sh -c '{inner}'"
    status, said = run(tmp_path, "sh", "-c", f"ipvsadm -A -t 192.0.2.1:80; {outer}; echo $?; ls /run")
    assert status == 0
    interfaces, rows, pid, inner_status, *files = said.split()
    assert (interfaces, rows, inner_status) == ("1", "3", "5")
    assert "own" not in files, "the inner lab's /run is its own"
    assert int(pid) < 100


def test_where_no_such_kernel_can_be_had_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match="user-mode-linux is missing: run `make setup`"):
        run_in_kernel(["true"])


def test_memory_is_a_number_and_a_unit() -> None:
    with pytest.raises(LabError, match="memory must be a number and M or G, such as 2G, not 'much'"):
        run_in_kernel(["true"], memory="much")


def test_the_kernel_ends_even_when_we_are_killed(tmp_path: Path) -> None:
    marker = tmp_path / "running"
    command = [
        sys.executable,
        "-m",
        "lvsd.lab",
        "run",
        "--",
        "sh",
        "-c",
        f"echo >{marker}; sleep 1000",
        marker,
    ]
    with subprocess.Popen(command) as process:  # noqa: S603 - ours
        wait_until(marker.exists)
        assert kernels(tmp_path)
        process.kill()
    wait_until(lambda: not kernels(tmp_path))


def wait_until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
