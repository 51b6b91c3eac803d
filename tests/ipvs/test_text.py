"""The table as text; that `render` agrees with ipvsadm itself, tests/lab shows."""

from __future__ import annotations

from lvsd.ipvs import text
from lvsd.ipvs.codec import Connections
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
    ServiceKey,
    Table,
    VirtualAddress,
)

VIP = Address.parse("192.168.0.101")
VIP6 = Address.parse("2001:db8::1")
WWW = VirtualAddress(Protocol.TCP, VIP, 80)
WWW6 = VirtualAddress(Protocol.TCP, VIP6, 443)
SIP = VirtualAddress(Protocol.UDP, VIP, 5060)
MARK = FirewallMark(7, 4)
MARK6 = FirewallMark(7, 6)


def server(address: str, port: int) -> ServerKey:
    return ServerKey(Address.parse(address), port)


TABLE: Table = {
    MARK6: Rows(Service("wrr", persistence=Persistence(30, 56)), {}),
    MARK: Rows(Service("wrr"), {server("10.0.0.1", 0): Server(Forwarding.NAT, 65535)}),
    WWW6: Rows(
        Service("wrr", persistence=Persistence(30, 64)),
        {server("2001:db8::3", 443): Server(Forwarding.TUN, 3)},
    ),
    SIP: Rows(Service("mh", frozenset({"ops", "mh-port", "mh-fallback"}), Persistence(300, 24, "sip")), {}),
    WWW: Rows(
        Service("rr"),
        {
            server("192.168.0.4", 80): Server(Forwarding.DR, 0),
            server("192.168.0.3", 80): Server(Forwarding.DR, 1),
        },
    ),
}

COUNTED: dict[ServiceKey, dict[ServerKey, Connections]] = {
    WWW: {server("192.168.0.3", 80): Connections(active=12, inactive=345)}
}

RENDERED = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.0.101:80 rr
  -> 192.168.0.3:80               Route   1      12         345       
  -> 192.168.0.4:80               Route   0      0          0         
UDP  192.168.0.101:5060 mh (mh-fallback,mh-port) persistent 300 mask 255.255.255.0 pe sip ops
TCP  [2001:db8::1]:443 wrr persistent 30 mask 64
  -> [2001:db8::3]:443            Tunnel  3      0          0         
FWM  7 wrr
  -> 10.0.0.1:0                   Masq    65535  0          0         
FWM  7 IPv6 wrr persistent 30 mask 56
"""  # noqa: W291 - ipvsadm's columns


def test_a_table_looks_as_ipvsadm_shows_it() -> None:
    assert text.render(TABLE, COUNTED, "IP Virtual Server version 1.2.1 (size=4096)") == RENDERED


def test_unknown_connections_have_no_columns() -> None:
    assert text.render({WWW: TABLE[WWW]}) == (
        "IP Virtual Server version 1.2.1\n"
        "Prot LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port           Forward Weight\n"
        "TCP  192.168.0.101:80 rr\n"
        "  -> 192.168.0.3:80               Route   1\n"
        "  -> 192.168.0.4:80               Route   0\n"
    )


LISTING = b"""\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80065:0050 rr  
  -> C0A80004:0050      Route   0      0          0         
  -> C0A80003:0050      Route   1      12         345       
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB wrr persistent 3000 40000000
  -> [2001:0db8:0000:0000:0000:0000:0000:0003]:01BB      Tunnel  3      0          0         
UDP  C0A80065:13C4 mh ops  persistent 30000 FFFFFF00
FWM  00000007 wrr persistent 3000 38000000
FWM  00000007 wrr 
  -> 0A000001:0000      Masq    65535  0          0         
"""  # noqa: W291 - the kernel's columns

IN_LISTED_ORDER: list[ServiceKey] = [WWW, WWW6, SIP, MARK6, MARK]


def test_the_kernels_listing_has_the_servers_of_each_service() -> None:
    listed = list(text.blocks(LISTING.splitlines()))
    assert [text.servers(block) for block in listed] == [TABLE[key].servers for key in IN_LISTED_ORDER]


def test_each_part_of_the_listing_is_known_for_its_service() -> None:
    for key, block in zip(IN_LISTED_ORDER, text.blocks(LISTING.splitlines()), strict=True):
        assert [other for other in (WWW, WWW6, SIP, MARK) if text.describes(block, other)] == [
            MARK if key == MARK6 else key  # which IP version a mark is for, the listing does not tell
        ]


def test_counts_do_not_make_a_listing_another_one() -> None:
    busier = LISTING.replace(b"12         345       ", b"4000000000 2147483647")
    assert list(text.blocks(LISTING.splitlines())) == list(text.blocks(busier.splitlines()))


def test_an_empty_table_lists_nothing() -> None:
    assert list(text.blocks(LISTING.splitlines()[:3])) == []
    assert text.render({}).count("\n") == 3
