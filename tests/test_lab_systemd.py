"""A real systemd as process 1 of the lab's kernel."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lvsd.lab.kernel import run_in_kernel

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """\
import os, signal, socket, time
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def reload(*_):
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    tell(f"RELOADING=1\\nMONOTONIC_USEC={now}")
    print("<4>reloaded", flush=True)
    tell("READY=1")
signal.signal(signal.SIGHUP, reload)
print("<6>started", flush=True)
tell("READY=1\\nSTATUS=2 of 2 up")
while True:
    signal.pause()
"""

UNIT = """\
[Service]
Type=notify
ExecStart=/usr/bin/python3 -I -S {service}
ExecReload=/bin/kill -HUP $MAINPID
"""

SCRIPT = """\
readlink /proc/1/exe
cp {unit} /run/systemd/system/probe.service
systemctl daemon-reload
systemctl start probe || exit 1
systemctl show -P Type -P ActiveState -P StatusText probe
systemctl reload probe || exit 1
sleep 0.5
journalctl -u probe -p info -o cat _COMM=python3
systemctl stop probe
systemctl is-active probe
exit 7
"""


def test_a_notifying_service_starts_reloads_and_logs_under_systemd(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("service", "unit", "script", "output")}
    paths["service"].write_text(SERVICE)
    paths["unit"].write_text(UNIT.format_map(paths))
    paths["script"].write_text(SCRIPT.format_map(paths))
    with paths["output"].open("wb") as output:
        status = run_in_kernel(["sh", str(paths["script"])], systemd=True, timeout=90, output=output.fileno())
    expected = """\
        /usr/lib/systemd/systemd
        notify
        2 of 2 up
        active
        started
        reloaded
        inactive
        """
    assert paths["output"].read_text() == textwrap.dedent(expected)
    assert status == 7
