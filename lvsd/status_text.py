"""A folded state as a person reads it: the table in ipvsadm's layout, then what is not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.errors import printable
from lvsd.ipvs import text
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Persistence,
    Protocol,
    Rows,
    Server,
    ServerKey,
    Service,
    VirtualAddress,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from lvsd.model import ServiceKey
    from lvsd.state import ServiceRows, State


def status_text(state: State) -> str:
    """Return what `lvsd status` prints."""
    running = "running" if state.running else "stopped"
    name = state.director or "a director whose name is not told"
    lines = [f"{name}: {running} as of its last line, {state.at} (run {state.run}, seq {state.seq})"]
    if not state.complete:
        lines.append("The log has a gap; what it does not say since is missing here until its next snapshot.")
    table, damaged = _table(state)
    lines += ["", text.render(table).rstrip("\n")]
    lines += _section("Rows that the log tells damaged:", iter(damaged))
    lines += _section("Real servers without a row, or that are not up:", _troubled(state))
    lines += _section("VRRP:", _instances(state))
    lines += _section(
        "VIPs:", (f"{told['address']} on {told['interface']}" for told in state.addresses.values())
    )
    lines += _section("Rows that are not lvsd's:", iter(state.foreign))
    return "\n".join(map(printable, "\n".join(lines).split("\n")))


def _section(title: str, lines: Iterator[str]) -> list[str]:
    found = [f"  {line}" for line in lines]
    return ["", title, *found] if found else []


def _instances(state: State) -> Iterator[str]:
    for name, told in state.vrrp.items():
        master = f", master is {told['master']}" if told["master"] and told["state"] != "master" else ""
        yield f"{name:<12} {told['state']:<10} priority {told['priority']}{master}  since {told['since']}"
        yield f"{'':<12} {', '.join(told['addresses'])}: {told['reason']}"


def _troubled(state: State) -> Iterator[str]:
    for name, service in state.to_json()["virtual_services"].items():
        for key, server in service["real_servers"].items():
            if server.get("sorry") or (server["in_table"] and server["health"] == "up"):
                continue
            host = f"{key} ({server['name']})" if server["name"] not in {"", key.rpartition(":")[0]} else key
            since = f" since {server['since']}" if server["since"] else ""
            row = f"weight {server['weight']}" if server["in_table"] else "no row"
            yield f"{name:<12} {host:<32} {server['health']:<8} {row:<9} {server['reason']}{since}"


def _table(state: State) -> tuple[dict[ServiceKey, Rows], list[str]]:
    """Return the table, and what cannot be in it since it is none of IPVS's."""
    table, damaged = {}, []
    for key, rows in state.rows.items():
        try:
            table[_service_key(*key)] = _rows(rows)
        except (ValueError, TypeError, IndexError):
            damaged.append(" ".join(key))
    return table, damaged


def _service_key(protocol: str, address: str) -> ServiceKey:
    if protocol == "fwm":
        words = address.split()
        return FirewallMark(int(words[1]), 6 if len(words) > 2 else 4)  # noqa: PLR2004 - "fwmark 7 ipv6"
    host, port = _split(address)
    return VirtualAddress(Protocol(protocol), host, port)


def _rows(rows: ServiceRows) -> Rows:
    servers = {ServerKey(*_split(key)): _server(row) for key, row in rows.servers.items()}
    settings = rows.settings
    persistence = None
    if settings["persistence"] is not None:
        persistence = Persistence(settings["persistence"], settings["netmask"], settings["engine"])
    return Rows(Service(settings["scheduler"], frozenset(settings["flags"]), persistence), servers)


def _server(row: dict[str, Any]) -> Server:
    return Server(Forwarding(row["forward"]), row["weight"])


def _split(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    return Address.parse(host.strip("[]")), int(port)
