"""keepalived as a VRRP router on a host of the lab, in any of its settings that concern the other side."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers import RS1, RS2, Peer

from lvsd.lab.classic import VIP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MASTER, BACKUP, FAULT = "MASTER", "BACKUP", "FAULT"


@dataclass(frozen=True, slots=True)
class Instance:
    """A `vrrp_instance`, and whether the same keepalived also balances the web service behind the VIP.

    `name` is one word. `peers` are who it speaks to by unicast, from the address `source`; without any it
    speaks to the group. `initially` is the `state` that it starts in. `settings` are lines added to the
    instance as they are.
    """

    name: str = "vip"
    priority: int = 100
    interval: float = 1.0
    version: int = 3
    vrid: int = 51
    initially: str = BACKUP
    preempt: bool = True
    password: str = ""
    peers: tuple[str, ...] = ()
    source: str = ""
    addresses: tuple[str, ...] = (f"{VIP}/24",)
    balances: bool = False
    settings: tuple[str, ...] = ()

    def conf(self, *others: Instance) -> str:
        """Return keepalived.conf with this instance, and others of the same version."""
        instances = (line for each in (self, *others) for line in each.block())
        return "\n".join([*_GLOBAL, f"  vrrp_version {self.version}", "}", *instances, ""]) + (
            _BALANCES if self.balances else ""
        )

    def block(self) -> Iterator[str]:
        """Yield the lines of its block."""
        yield f"vrrp_instance {self.name} {{"
        yield f"  state {self.initially}"
        yield "  interface eth0"
        yield f"  virtual_router_id {self.vrid}"
        yield f"  priority {self.priority}"
        yield f"  advert_int {self.interval:g}"
        if not self.preempt:
            yield "  nopreempt"
        if self.password:
            yield f"  authentication {{\n    auth_type PASS\n    auth_pass {self.password}\n  }}"
        if self.source:
            yield f"  unicast_src_ip {self.source}"
        if self.peers:
            yield from _block("unicast_peer", self.peers)
        yield from _block("virtual_ipaddress", self.addresses)
        yield from (f"  {line}" for line in self.settings)
        yield "}"


class KeepalivedRouter(Peer):
    """keepalived with instances: a parent, a process for VRRP, and perhaps one that checks."""

    package = "keepalived"
    version = "2.2.7"

    def argv(self) -> Sequence[str]:
        """Return the command line: in the foreground, its log on its output, its files its own."""
        files = {"-f": self.file, "-p": self._pid_file(""), "-r": self._pid_file("vrrp")}
        files["-c"] = self._pid_file("checker")
        return [
            "/usr/sbin/keepalived", "-n", "-l", "-D", "-G",
            *(str(word) for pair in files.items() for word in pair),
        ]  # fmt: skip

    @property
    def states(self) -> dict[str, str]:
        """The state that each instance of its latest start has entered last."""
        return dict(_ENTERED.findall(self.process.output))

    async def become(self, state: str, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """Wait until all its instances are in a state; raise TimeoutError with its log."""
        give_up_at = time.monotonic() + timeout
        while set(self.states.values()) != {state}:
            if time.monotonic() > give_up_at:
                message = f"keepalived of {self.machine.name} is not {state} after {timeout:g} s; it said: "
                raise TimeoutError(message + self.process.output[-3000:])
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Kill all of it at once, so that nobody releases anything."""
        self.process.kill()  # were its parent killed alone, the others would end in order
        await self.process.wait()

    def _pid_file(self, of: str) -> Path:
        return self.machine.directory / f"keepalived-router{of}.pid"


_ENTERED = re.compile(r"\((\w+)\) Entering (\w+) STATE")
_GLOBAL = ("global_defs {", "  router_id lab")
_BALANCES = f"""\
virtual_server {VIP} 80 {{
  delay_loop 1
  lb_algo rr
  lb_kind DR
  protocol TCP
  real_server {RS1} 80 {{
    TCP_CHECK {{
      connect_timeout 1
    }}
  }}
  real_server {RS2} 80 {{
    TCP_CHECK {{
      connect_timeout 1
    }}
  }}
}}
"""


def _block(name: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"  {name} {{"
    yield from (f"    {line}" for line in lines)
    yield "  }"
