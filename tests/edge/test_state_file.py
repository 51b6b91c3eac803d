"""What lvsd owns is known after a crash; a damaged file says why and costs nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.model import DirectorAddress, Scope
from lvsd.edge import state_file
from lvsd.ipvs.ledger import Owned
from lvsd.model import Address, FirewallMark, Protocol, ServerKey, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS: state_file.OwnedRows = {
    VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), 80): Owned(
        "www", {ServerKey(Address.parse("192.168.0.3"), 80): "rs1"}
    ),
    VirtualAddress(Protocol.UDP, Address.parse("2001:db8::1"), 53): Owned("dns", {}),
    FirewallMark(7, 6): Owned("marked", {ServerKey(Address.parse("2001:db8::3"), 0): "rs3"}),
}
ENTRIES = [state_file.entry(key, owned) for key, owned in ROWS.items()]
ADDRESS = DirectorAddress(Address.parse("192.168.0.101"), 24, "eth0", "eth0:101")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "run" / "state.json"
    state_file.write(file, ENTRIES, [ADDRESS])
    assert state_file.read(file) == state_file.Remembered(ROWS, (ADDRESS,))
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


def test_a_scope_is_read_again_and_is_global_where_an_older_file_says_none(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    link = replace(ADDRESS, scope=Scope.LINK)
    state_file.write(file, [], [link])
    assert state_file.read(file).addresses == (link,)
    file.write_text(VIP % (24, '"eth0"', '"eth0:101"'))
    assert state_file.read(file).addresses == (ADDRESS,)


def test_a_missing_file_is_no_trouble(tmp_path: Path) -> None:
    assert state_file.read(tmp_path / "state.json") == state_file.Remembered({}, ())


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (b"", "damaged"),
        (b"\0" * 100, "damaged"),
        (b'{"version":1,"services":[', "damaged"),
        (b'{"version":1,"services":[{"name":"www"}],"addresses":[]}', "damaged"),
        (b'{"version":2}', "of version 2, not 1"),
        (b"[]", "damaged"),
        (b'{"version":1,"services":[{"protocol":"tcp","address":"x","port":1}],"addresses":[]}', "damaged"),
    ],
)
def test_a_damaged_file_says_so_and_holds_nothing(tmp_path: Path, content: bytes, trouble: str) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(content)
    remembered = state_file.read(file)
    assert (remembered.rows, remembered.addresses) == ({}, ())
    assert trouble in remembered.trouble


MARKED = '{"version":1,"services":[{"fwmark":%s,"version":%s,"name":%s,"servers":[]}],"addresses":[]}'
ROW = (
    '{"version":1,"services":[{"protocol":"tcp","address":%s,"port":%s,"name":"www",'
    '"servers":[["192.168.0.3",%s,%s]]}],"addresses":[]}'
)
VIP = (
    '{"version":1,"services":[],'
    '"addresses":[{"address":"192.168.0.101","prefix":%s,"interface":%s,"label":%s}]}'
)


@pytest.mark.parametrize(
    "content",
    [
        MARKED % ("1e300", 4, '"x"'),
        MARKED % (7.0, 4, '"x"'),
        MARKED % (0, 4, '"x"'),
        MARKED % (2**32, 4, '"x"'),
        MARKED % ("true", 4, '"x"'),
        MARKED % (7, 5, '"x"'),
        MARKED % (7, "[]", '"x"'),
        MARKED % (7, 4, "null"),
        ROW % ("3232235877", 80, 80, '"rs1"'),
        ROW % ('"192.168.0.101"', 65536, 80, '"rs1"'),
        ROW % ('"192.168.0.101"', -1, 80, '"rs1"'),
        ROW % ('"192.168.0.101"', 80, 1e300, '"rs1"'),
        ROW % ('"192.168.0.101"', 80, 80, "{}"),
        VIP % (33, '"eth0"', '""'),
        VIP % (0, '"eth0"', '""'),
        VIP % (24, '"an-interface-of-17"', '""'),
        VIP % (24, '"a/b"', '""'),
        VIP % (24, '""', '""'),
        VIP % (24, '"eth0"', '"eth0:12345678901"'),
        VIP % (24, '"eth0"', "7"),
        VIP % (24, '"eth0"', '"","scope":"far"'),
    ],
)
def test_what_no_row_or_address_can_be_is_damaged(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    remembered = state_file.read(file)
    assert (remembered.rows, remembered.addresses) == ({}, ())
    assert remembered.trouble.startswith("damaged: ")


@pytest.mark.parametrize(
    "content",
    [MARKED % (2**32 - 1, 6, '"x"'), ROW % ('"::1"', 0, 65535, '""'), VIP % (32, '"lo"', '"lo:1"')],
)
def test_what_is_at_the_bounds_is_read(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    assert state_file.read(file).trouble == ""


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_a_trouble_that_nothing_waits_for(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    file = tmp_path / "state.json"
    make(file)
    remembered = state_file.read(file)
    assert (remembered.rows, remembered.addresses) == ({}, ())
    assert remembered.trouble in {"it is no regular file", "Is a directory"}


def test_a_fifo_in_place_of_the_new_file_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    os.mkfifo(file.with_suffix(".new"))
    state_file.write(file, ENTRIES, [])
    assert state_file.read(file).rows == ROWS


@pytest.mark.parametrize(
    ("given", "directory"),
    [
        (None, "/run/lvsd"),
        ("", "/run/lvsd"),
        ("/run/director", "/run/director"),
        ("/run/director:/run/more", "/run/director"),
        ("/run/aaa:/run/lvsd:/run/zzz", "/run/lvsd"),
    ],
)
def test_of_several_runtime_directories_lvsds_own_is_taken(
    given: str | None, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    if given is not None:
        monkeypatch.setenv("RUNTIME_DIRECTORY", given)
    assert str(state_file.path()) == f"{directory}/state.json"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    state_file.write(file, ENTRIES, [])
    file.with_suffix(".new").mkdir()
    with pytest.raises(OSError, match="directory"):
        state_file.write(file, [], [])
    assert state_file.read(file).rows == ROWS
