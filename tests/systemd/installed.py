"""lvsd installed as the documents say, from the files that are shipped, in a lab under systemd.

The lab sees the host's files; where something is installed, a layer in memory lies over them.
"""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lvsd.lab import links
from lvsd.lab.table import parse_table, weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.lab.table import TableKey

Weights: TypeAlias = "dict[TableKey, dict[tuple[str, int], int]]"

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "systemd"
CONFIG = Path("/etc/lvsd/lvsd.yaml")
STATE = Path("/run/lvsd/state.json")
LOG = Path("/var/log/lvsd/lvsd.log")
VIP, RS1, RS2 = "192.168.0.101", "192.168.0.3", "192.168.0.4"
WWW: TableKey = ("TCP", VIP, 80)
BOTH_UP: Weights = {WWW: {(RS1, 80): 1, (RS2, 80): 1}}

CONFIG_TEXT = """\
director:
  name: vs1
  addresses:
    - {address: 192.168.0.101/24, interface: eth0, label: "eth0:101"}
virtual_services:
  www:
    address: 192.168.0.101:80
    forward: nat
    scheduler: rr
    check: {type: http, path: /, interval: 500ms, fast_interval: 100ms, timeout: 2s, rise: 2, fall: 2}
    real_servers: [192.168.0.3, 192.168.0.4]
"""

OWN_VIP = """\
  addresses:
    - {address: 192.168.0.101/24, interface: eth0, label: "eth0:101"}
"""
NOTIFY = Path("/usr/local/sbin/notify.sh")
NOTIFIED = Path("/run/lvsd/notified")
VRRP = f"""\
vrrp:
  vip:
    interface: eth0
    virtual_router_id: 51
    priority: 150
    advertisement_interval: 500ms
    addresses: [{{address: 192.168.0.101/24, label: "eth0:101"}}]
    notify: {NOTIFY}
"""
_NOTIFY = f"""\
#!/bin/sh
cat /proc/self/status >>{NOTIFIED}
echo "$*" >>{NOTIFIED}
"""

_NGINX = """\
daemon off;
pid /run/web/{name}.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path /run/web/body;
    proxy_temp_path /run/web/proxy;
    fastcgi_temp_path /run/web/fastcgi;
    uwsgi_temp_path /run/web/uwsgi;
    scgi_temp_path /run/web/scgi;
    server {{
        listen {address}:80;
        location / {{ return 200 "I am {name}\\n"; }}
    }}
}}
"""
_NGINX_UNIT = """\
[Service]
NetworkNamespacePath=/run/netns/rs
ExecStart=/usr/sbin/nginx -e stderr -c /run/web/%i.conf
"""
_HERE = """\
link add eth0 type veth peer name rs0
link set rs0 netns rs
address add 192.168.0.1/24 dev eth0
link set eth0 up
"""
_THERE = """\
address add 192.168.0.3/24 dev rs0
address add 192.168.0.4/24 dev rs0
link set rs0 up
link set lo up
route add default via 192.168.0.1
"""
_LVSD = """\
#!/bin/sh
export LD_LIBRARY_PATH={base}/lib PYTHONPATH={prefix}/site-packages
exec {base}/bin/{python} -P -m lvsd "$@"
"""


def run(*argv: str, check: bool = True, text: str = "") -> str:
    """Run a program on the input `text`; return what it wrote to standard output, and why it failed."""
    done = subprocess.run(argv, capture_output=True, text=True, input=text, timeout=60, check=False)  # noqa: S603 - ours
    if check:
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{_why(argv)}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def until(holds: Callable[[], Any], within: float = 90.0, every: float = 0.2) -> Any:  # noqa: ANN401
    """Return what `holds` returns as soon as that is true; asking often would starve the lab's processor."""
    give_up_at = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < give_up_at, f"not in {within:g} s; the journal ends:\n{journal_text()}"
        time.sleep(every)
    return found


def install() -> None:
    """Do what the head of the unit says, then build the network and the real servers."""
    _cover()
    _install_package(Path("/opt/lvsd"))
    for line in (SHIPPED / "lvsd.service").read_text().splitlines():
        if line.startswith("#   install "):
            run("env", f"--chdir={ROOT}", *line.split()[1:])
    run("systemd-sysusers")
    run("/lib/systemd/systemd-sysctl", "/etc/sysctl.d/lvsd.conf")
    _build_network()
    CONFIG.write_text(CONFIG_TEXT)


def _cover() -> None:
    layers = Path("/run/etc")
    (layers / "upper").mkdir(parents=True)
    (layers / "work").mkdir()
    shutil.copy("/run/lab/machine-id", layers / "upper/machine-id")
    lower = f"lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work"
    run("mount", "-t", "overlay", "overlay", "-o", lower, "/etc")
    # The host's own units stay away: some of them would work on the host's files.
    for place in ("/etc/systemd/system", "/opt", "/usr/local/sbin"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)


def _install_package(prefix: Path) -> None:
    """Put lvsd and the interpreter of these tests where every user may read them, wherever they are."""
    libraries = prefix / "site-packages"
    base = prefix / "python"
    base.mkdir(parents=True)
    libraries.mkdir()
    run("mount", "--bind", sys.base_prefix, str(base))
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        (libraries / each.name).symlink_to(prefix / "venv" / each.name)
    (prefix / "venv").mkdir()
    run("mount", "--bind", sysconfig.get_path("purelib"), str(prefix / "venv"))
    (libraries / "lvsd").unlink(missing_ok=True)
    shutil.copytree(ROOT / "lvsd", libraries / "lvsd")
    compileall.compile_dir(libraries / "lvsd", quiet=2)
    command = Path("/usr/local/sbin/lvsd")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    command.write_text(_LVSD.format(base=base, prefix=prefix, python=python))
    command.chmod(0o755)


def _build_network() -> None:
    run("ip", "netns", "add", "rs")
    run("ip", "-batch", "-", text=_HERE)
    run("ip", "-netns", "rs", "-batch", "-", text=_THERE)
    web = Path("/run/web")
    web.mkdir()
    for name, address in (("rs1", RS1), ("rs2", RS2)):
        (web / f"{name}.conf").write_text(_NGINX.format(name=name, address=address))
    Path("/run/systemd/system/web@.service").write_text(_NGINX_UNIT)


def make_notify_command() -> None:
    """Write the command that VRRP notifies, and forget what was notified."""
    NOTIFY.write_text(_NOTIFY)
    NOTIFY.chmod(0o755)
    NOTIFIED.unlink(missing_ok=True)


def vips() -> list[tuple[str, str, str]]:
    """Return where the VIP is: interface, prefix and label."""
    return [
        (each.interface, each.address, each.label)
        for each in links.addresses()
        if each.address.partition("/")[0] == VIP
    ]


def table() -> Weights:
    """Return the weights in the kernel's table."""
    return weights(parse_table(Path("/proc/net/ip_vs").read_text()))


def show(*properties: str) -> list[str]:
    """Return properties of the unit, in the order asked for."""
    told = run("systemctl", "show", "lvsd", *(f"--property={each}" for each in properties))
    found = dict(line.split("=", 1) for line in told.splitlines())
    return [found[each] for each in properties]


def main_pid() -> int:
    return int(show("MainPID")[0])


def journal(*words: str) -> list[dict[str, Any]]:
    """Return lvsd's own lines in the journal."""
    text = run("journalctl", "--unit=lvsd", "--output=cat", "--no-pager", "--quiet", *words)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def messages(identifier: str) -> list[str]:
    """Return what a program said of or for the unit."""
    filters = ("--unit=lvsd", f"--identifier={identifier}", "--output=cat", "--no-pager", "--quiet")
    return run("journalctl", *filters).splitlines()


def _why(argv: tuple[str, ...]) -> str:
    return journal_text() if argv[0] == "systemctl" else ""


def journal_text() -> str:
    return run("journalctl", "--unit=lvsd", "--no-pager", "--lines=40", check=False)


def events(name: str, since: str = "", **fields: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the events of that name, later than the moment `since`, with these fields."""
    return [
        each
        for each in journal()
        if each["event"] == name
        and each["ts"] > since
        and all(each.get(field) == value for field, value in fields.items())
    ]


def last_moment() -> str:
    """Return the time of lvsd's last line."""
    lines = journal()
    return str(lines[-1]["ts"]) if lines else ""


def status(*words: str) -> str:
    return run("lvsd", "status", *words)


def page(host: str = VIP) -> str:
    with urllib.request.urlopen(f"http://{host}/", timeout=5) as answer:
        return str(answer.read().decode())
