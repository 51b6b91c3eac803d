"""What real servers serve: the programs that run on them, with the configuration they need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Service(Protocol):
    """Something a host runs."""

    @property
    def name(self) -> str:
        """What the log file and the failure report call it."""

    @property
    def port(self) -> int:
        """Where it listens for TCP connections."""

    def prepare(self, directory: Path) -> Sequence[str]:
        """Write what the program needs below `directory` (on tmpfs); return how it is started."""


@dataclass(frozen=True, slots=True)
class Nginx:
    """The web server of Debian's nginx-light: every path answers with `page`."""

    page: str
    port: int = 80
    name: str = "nginx"

    def prepare(self, directory: Path) -> Sequence[str]:
        """Write nginx.conf and the page."""
        (directory / "index.html").write_text(self.page)
        (directory / "nginx.conf").write_text(_NGINX.format(directory=directory, port=self.port))
        return ["/usr/sbin/nginx", "-e", "stderr", "-c", str(directory / "nginx.conf")]


@dataclass(frozen=True, slots=True)
class Telnetd:
    """The telnet server of Debian's inetutils-telnetd behind openbsd-inetd: a client reaches `login:`.

    That of telnetd-ssl serves too, but only for root, whose certificate it wants to read.
    """

    port: int = 23
    name: str = "telnetd"

    def prepare(self, directory: Path) -> Sequence[str]:
        """Write inetd.conf."""
        server = next((line for path, line in _TELNETD.items() if Path(path).exists()), "")
        lines = [f"{self.port} stream {protocol} nowait root {server}\n" for protocol in ("tcp", "tcp6")]
        (directory / "inetd.conf").write_text("".join(lines))
        # -i: stay in the foreground; -R 0: any number of sessions a minute, for probes are many.
        return ["/usr/sbin/inetd", "-i", "-R", "0", str(directory / "inetd.conf")]


_TELNETD = {
    "/usr/sbin/telnetd": "/usr/sbin/telnetd telnetd",
    "/usr/sbin/in.telnetd": "/usr/sbin/in.telnetd in.telnetd -L /bin/login",
}
_NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type text/html;
    server {{
        listen {port} backlog=4096;
        listen [::]:{port} backlog=4096;
        root {directory};
        location / {{ try_files /index.html =404; }}
    }}
}}
"""
