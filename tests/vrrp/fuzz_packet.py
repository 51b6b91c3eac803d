"""Looks for bytes that `decode` neither understands nor refuses. Runs where atheris is installed:

python -m pip install atheris
python tests/vrrp/fuzz_packet.py -max_total_time=600 -max_len=1100

The first byte says over which version of IP, the next whether a checksum is put in, so that more gets past.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from lvsd.errors import PacketError
    from lvsd.model import Address
    from lvsd.vrrp.packet import decode, encode

ADDRESSES = [Address.parse("192.168.0.1"), Address.parse("fe80::1")]
ALL_ONES = 0xFFFF


def fuzz(raw: bytes) -> None:
    source = ADDRESSES[raw[:1] > b"\x7f"]
    wire = summed_up(raw[2:]) if raw[1:2] > b"\x7f" else raw[2:]
    try:
        said = decode(wire, source, source)
    except PacketError:
        return
    again = decode(encode(said, source), source, source)
    assert again == said, f"{wire.hex()} is {said}, which is written and read as {again}"


def summed_up(wire: bytes) -> bytes:
    """Return the bytes with a checksum over them alone in the place of theirs."""
    without = wire[:6] + bytes(2) + wire[8:] + bytes(len(wire) % 2)
    total = (int.from_bytes(without) - 1) % ALL_ONES + 1
    return wire[:6] + (ALL_ONES - total).to_bytes(2) + wire[8:]


atheris.Setup(sys.argv, fuzz)
atheris.Fuzz()
