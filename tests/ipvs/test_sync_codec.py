"""The daemons that synchronise connections: what leads from one state to another, and their messages."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.config.model import SyncSettings
from lvsd.ipvs import sync
from lvsd.ipvs.sync import StartDaemon, Step, StopDaemon, SyncDaemon, SyncRole, daemon, steps, stops
from lvsd.model import Address

FAMILY = 0x1D
NETLINK_HEADER, GENERIC_HEADER = 16, 4
MASTER, BACKUP = SyncRole.MASTER, SyncRole.BACKUP
SETTINGS = SyncSettings("eth0", "vip", 51)
GROUP6 = Address.parse("ff02::81")

AS_MASTER = SyncDaemon(MASTER, "eth0", 51, payload=1472)
AS_BACKUP = SyncDaemon(BACKUP, "eth0", 51)
RUNNING_BACKUP = replace(AS_BACKUP, payload=1472)
JUMBO_BACKUP = replace(AS_BACKUP, payload=8972)
FOREIGN = SyncDaemon(BACKUP, "eth1", 7, payload=1472)

daemons = st.builds(
    SyncDaemon,
    st.sampled_from(SyncRole),
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=15),
    st.integers(0, 255),
    st.binary(min_size=4, max_size=4).map(Address) | st.binary(min_size=16, max_size=16).map(Address),
    st.integers(1, 65535),
    st.integers(1, 255),
    st.integers(1, 65507),
)


@pytest.mark.parametrize(
    ("settings", "role", "expected"),
    [
        (SETTINGS, MASTER, AS_MASTER),
        (SETTINGS, BACKUP, AS_BACKUP),
        (replace(SETTINGS, group=GROUP6), MASTER, replace(AS_MASTER, group=GROUP6, payload=1452)),
        (replace(SETTINGS, mtu=9000), MASTER, replace(AS_MASTER, payload=8972)),
        (replace(SETTINGS, mtu=9000), BACKUP, replace(AS_BACKUP, payload=8972)),
        (replace(SETTINGS, mtu=576), MASTER, replace(AS_MASTER, payload=548)),
        (replace(SETTINGS, mtu=576), BACKUP, replace(AS_BACKUP, payload=1024)),
        (replace(SETTINGS, port=8849, ttl=2), MASTER, replace(AS_MASTER, port=8849, ttl=2)),
    ],
)
def test_settings_become_what_the_kernel_will_tell(
    settings: SyncSettings, role: SyncRole, expected: SyncDaemon
) -> None:
    assert daemon(settings, role) == expected


@pytest.mark.parametrize(
    ("running", "wanted", "expected"),
    [
        ([], AS_MASTER, [StartDaemon(AS_MASTER)]),
        ([AS_MASTER], AS_MASTER, []),
        ([RUNNING_BACKUP], AS_BACKUP, []),
        ([JUMBO_BACKUP], AS_BACKUP, []),
        ([RUNNING_BACKUP], AS_MASTER, [StopDaemon(RUNNING_BACKUP), StartDaemon(AS_MASTER)]),
        ([AS_MASTER, RUNNING_BACKUP], AS_BACKUP, [StopDaemon(AS_MASTER)]),
        (
            [replace(AS_MASTER, port=1)],
            AS_MASTER,
            [StopDaemon(replace(AS_MASTER, port=1)), StartDaemon(AS_MASTER)],
        ),
        (
            [replace(AS_BACKUP, payload=1024)],
            AS_BACKUP,
            [StopDaemon(replace(AS_BACKUP, payload=1024)), StartDaemon(AS_BACKUP)],
        ),
        ([JUMBO_BACKUP], RUNNING_BACKUP, [StopDaemon(JUMBO_BACKUP), StartDaemon(RUNNING_BACKUP)]),
        ([FOREIGN], AS_MASTER, [StopDaemon(FOREIGN), StartDaemon(AS_MASTER)]),
    ],
)
def test_only_what_differs_is_stopped_and_started(
    running: list[SyncDaemon], wanted: SyncDaemon, expected: list[Step]
) -> None:
    assert list(steps(running, [wanted])) == expected


def test_a_daemon_whose_interface_is_another_now_is_started_anew() -> None:
    assert steps([AS_MASTER], [AS_MASTER], anew=True) == (StopDaemon(AS_MASTER), StartDaemon(AS_MASTER))


def test_a_master_may_listen_for_a_while() -> None:
    both = [AS_MASTER, AS_BACKUP]
    assert steps([AS_BACKUP], both) == (StartDaemon(AS_MASTER),)
    assert steps([AS_MASTER], both) == (StartDaemon(AS_BACKUP),)
    assert steps(both, both) == ()
    assert steps(both, [AS_MASTER]) == (StopDaemon(AS_BACKUP),)


def test_only_daemons_of_ones_own_settings_are_stopped_for_good() -> None:
    assert stops([AS_MASTER, FOREIGN], SETTINGS) == (StopDaemon(AS_MASTER),)
    assert stops([replace(AS_MASTER, id=52), replace(RUNNING_BACKUP, interface="eth1")], SETTINGS) == ()


@given(daemons)
def test_a_daemon_reads_as_it_was_written(it: SyncDaemon) -> None:
    assert sync.decode(sync.encode(StartDaemon(it), FAMILY, 1)[NETLINK_HEADER:]) == it


@pytest.mark.parametrize(
    ("message", "command", "flags"),
    [
        (sync.encode(StartDaemon(AS_MASTER), FAMILY, 9), 9, 0x5),
        (sync.encode(StopDaemon(AS_MASTER), FAMILY, 9), 10, 0x5),
        (sync.ask(FAMILY, 9), 11, 0x301),
    ],
)
def test_messages_say_what_is_asked_for(message: bytes, command: int, flags: int) -> None:
    assert struct.unpack_from("=IHHII", message) == (len(message), FAMILY, flags, 9, 0)
    assert message[NETLINK_HEADER] == command


def test_a_start_is_written_as_the_kernel_reads_it() -> None:
    message = sync.encode(StartDaemon(replace(AS_BACKUP, port=8849, ttl=2)), FAMILY, 1)
    assert message[NETLINK_HEADER + GENERIC_HEADER :] == b"".join(
        (
            struct.pack("=HH", 56, 3 | 0x8000),
            struct.pack("=HHI", 8, 1, 2),
            struct.pack("=HH5s3x", 9, 2, b"eth0\0"),
            struct.pack("=HHI", 8, 3, 51),
            struct.pack("=HH4B", 8, 5, 224, 0, 0, 81),
            struct.pack("=HHH2x", 6, 7, 8849),
            struct.pack("=HHB3x", 5, 8, 2),
        )
    )


@given(st.binary(max_size=120))
def test_what_makes_no_sense_is_no_daemon(body: bytes) -> None:
    assert sync.decode(bytes(GENERIC_HEADER) + body) is None


@given(daemons, st.integers(0, 100))
def test_half_an_answer_never_fails(it: SyncDaemon, cut: int) -> None:
    body = sync.encode(StartDaemon(it), FAMILY, 1)[NETLINK_HEADER:]
    assert sync.decode(body[:cut]) in {None, it}
