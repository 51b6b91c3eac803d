"""The classic network: two directors, three real servers, a client, and one VIP by direct routing."""

from __future__ import annotations

from lvsd.lab.network import Host, Network
from lvsd.lab.services import Nginx, Telnetd

VIP = "192.168.0.101"
VIP6 = "fd00:0:0:1::101"
CLIENT, DIRECTORS, REAL_SERVERS = "client", ("vs1", "vs2"), ("rs1", "rs2", "rs3")

_ADDRESSES = {"vs1": 1, "vs2": 2, "rs1": 3, "rs2": 4, "rs3": 5, "client": 200}
_NO_ARP = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}


def classic(*, services: bool = True) -> Network:
    """Return hosts `client`, `vs1`, `vs2`, `rs1`, `rs2`, `rs3`, each in IPv4 and IPv6.

    With `services`, nginx and telnetd run on the real servers; without, tests bring their own.
    """
    return Network(tuple(_host(name, services=services) for name in _ADDRESSES))


def _host(name: str, *, services: bool) -> Host:
    number = _ADDRESSES[name]
    addresses = (f"192.168.0.{number}/24", f"fd00:0:0:1::{number}/64")
    if name not in REAL_SERVERS:
        return Host(name, addresses)
    page = Nginx(f"I am real server #{name.removeprefix('rs')}\n")
    running = (page, Telnetd()) if services else ()
    return Host(name, addresses, vips=(VIP, VIP6), sysctls=_NO_ARP, services=running)
