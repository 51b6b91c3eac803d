"""Running a command on a kernel with IPVS: what goes in, what comes out, and that nothing stays."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lvsd.lab.kernel import TIME_LIMIT_REACHED, LabError, run_in_kernel


@pytest.fixture(autouse=True)
def _on_user_mode_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVSD_LAB_KERNEL", "uml")


def run(tmp_path: Path, *argv: str, **settings: object) -> tuple[int, str]:
    """Run a command in the lab; return its exit status and its output, byte for byte."""
    said = tmp_path / "output"
    with said.open("wb") as output:
        status = run_in_kernel(argv, output=output.fileno(), **settings)
    return status, said.read_bytes().decode()


def kernels() -> list[bytes]:
    """Return the user-mode-linux processes of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return [line for line in lines if b"linux.uml" in line and b"lvsd-lab." in line]


def test_a_command_has_ipvs_and_its_status_and_output_come_out(tmp_path: Path) -> None:
    # An unusual argument, an unusual environment, and another directory arrive as they are.
    script = 'ipvsadm -A -t 192.0.2.1:80 -s mh && ipvsadm -Sn; echo "$1|$ODD|$PWD" >&2; exit 7'
    status, said = run(
        tmp_path, "sh", "-c", script, "sh", "it's  'odd'", environment={"ODD": 'a\n"b"', "PATH": "/sbin:/bin"},
        directory=Path("/usr"),
    )  # fmt: skip
    assert (status, said) == (7, "-A -t 192.0.2.1:80 -s mh\nit's  'odd'|a\n\"b\"|/usr\n")


def test_a_command_out_of_time_is_killed_with_its_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kernels()
    started_at = time.monotonic()
    status, said = run(tmp_path, "sh", "-c", "echo begun; sleep 1000", timeout=4)
    assert (status, said) == (TIME_LIMIT_REACHED, "begun\n")
    assert time.monotonic() - started_at < 10
    assert "the time limit of 4 s is over" in capsys.readouterr().err
    assert not set(kernels()) - set(before)


def test_a_host_with_ipvs_needs_no_second_kernel(tmp_path: Path) -> None:
    # In the lab's kernel we are root and have IPVS, so a lab inside it is namespaces of that same kernel.
    inner = "grep -c : /proc/net/dev; ipvsadm -Ln | wc -l; echo $$ >/tmp/own; cat /tmp/own; exit 5"
    outer = f"env -u LVSD_LAB_KERNEL {sys.executable} -m lvsd.lab run -- sh -c '{inner}'"
    status, said = run(tmp_path, "sh", "-c", f"ipvsadm -A -t 192.0.2.1:80; {outer}; echo $?; ls /tmp")
    assert status == 0
    interfaces, rows, pid, inner_status, *files = said.split()
    assert (interfaces, rows, inner_status, files) == ("1", "3", "5", [])
    assert int(pid) < 100


def test_where_no_such_kernel_can_be_had_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LabError, match="user-mode-linux is missing: run `make setup`"):
        run_in_kernel(["true"])


def test_memory_is_a_number_and_a_unit() -> None:
    with pytest.raises(LabError, match="memory must be a number and M or G, such as 2G, not 'much'"):
        run_in_kernel(["true"], memory="much")
