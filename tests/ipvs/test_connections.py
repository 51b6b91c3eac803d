"""Rows of /proc/net/ip_vs_conn, as Linux 6.1 writes them, become messages that another kernel takes in."""

from __future__ import annotations

import pytest

from lvsd.ipvs.connections import Connection, messages, open_connections
from lvsd.model import Address, FirewallMark, Protocol, VirtualAddress

CLIENT, VIP, RS = (Address.parse(f"192.168.0.{number}") for number in (200, 101, 3))
WWW = VirtualAddress(Protocol.TCP, VIP, 80)
V6 = VirtualAddress(Protocol.TCP, Address.parse("2001:db8::101"), 80)
SERVICES = {WWW, V6, FirewallMark(7, 4)}
HEAD = b"Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
ROW = b"TCP C0A800C8 8C3A C0A80065 0050 C0A80003 1F90 ESTABLISHED     899\n"
ROW_V6 = (
    b"TCP 2001:0db8:0000:0000:0000:0000:0000:00c8 8C3A 2001:0db8:0000:0000:0000:0000:0000:0101 0050"
    b" 2001:0db8:0000:0000:0000:0000:0000:0003 0050 SYN_RECV         59\n"
)
OPEN = Connection(CLIENT, 0x8C3A, WWW, RS, 0x1F90, 1, 899)


def test_open_connections_are_read() -> None:
    client, server = (Address.parse(f"2001:db8::{each}") for each in ("c8", "3"))
    opening = Connection(client, 0x8C3A, V6, server, 80, 3, 59)
    assert list(open_connections([HEAD, ROW, ROW_V6], SERVICES)) == [OPEN, opening]


def test_a_service_of_all_ports_is_meant_too() -> None:
    anywhere = {WWW._replace(port=0)}
    assert list(open_connections([ROW], anywhere)) == [OPEN]


@pytest.mark.parametrize(
    "line",
    [
        ROW.replace(b"ESTABLISHED", b"FIN_WAIT   "),
        ROW.replace(b"TCP", b"UDP"),
        ROW.replace(b" 0050 ", b" 0051 "),
        ROW.replace(b" 8C3A ", b" 0000 "),
        ROW.replace(b"C0A80003", b"C0A8zz03"),
        ROW[:40],
        b"\xff\xfe\n",
        b"",
    ],
    ids=["closing", "UDP", "of no service", "template", "no address", "cut", "no text", "empty"],
)
def test_what_needs_not_or_cannot_be_told_is_left_out(line: bytes) -> None:
    assert list(open_connections([line], SERVICES)) == []


def test_a_message_is_as_the_kernel_reads_it() -> None:
    ((message, count),) = messages([OPEN], sync_id=51, room=1472)
    assert count == 1
    assert message.hex(" ", -4) == (
        "0033002c 01010000"  # reserved, syncid, size 44, one connection, version 1
        " 00060024 00000000"  # IPv4, TCP, 36 bytes, no flags
        " 00018c3a 00501f90"  # established, ports of client, VIP and real server
        " 00000000 00000383"  # no firewall mark, 899 s
        " c0a800c8 c0a80065 c0a80003"
    )


def test_messages_are_no_longer_than_there_is_room() -> None:
    many = [OPEN._replace(client_port=port) for port in range(1, 1001)]
    sent = list(messages(many, sync_id=0, room=548))
    assert [count for _, count in sent] == [15] * 66 + [10]
    assert {len(message) for message, _ in sent[:-1]} == {8 + 15 * 36}
    assert max(count for _, count in messages(many, sync_id=0, room=65_000)) == 255


def test_nothing_makes_no_message() -> None:
    assert list(messages([], sync_id=1, room=1472)) == []
