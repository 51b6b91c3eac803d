"""What is said where the kernel does not let its daemons for connections run."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from lvsd.config.model import SyncSettings
from lvsd.edge.sync_daemons import CROSSED, SyncDaemons
from lvsd.errors import KernelError
from lvsd.ipvs.sync import SyncRole
from lvsd.model import Address

if TYPE_CHECKING:
    from lvsd.edge.ipvs import Ipvs
    from lvsd.ipvs.sync import Step, SyncDaemon


@dataclass
class Refusing:
    """A kernel that has no daemons and answers every request with `code`."""

    code: int

    async def sync_daemons(self) -> list[SyncDaemon]:
        return []

    async def steer(self, step: Step) -> int:  # noqa: ARG002 - as the real one
        return self.code


async def reason(code: int, group: str) -> str:
    """Return what is told of a master that is refused with `code`."""
    settings = SyncSettings("eth7", "vip", 51, Address.parse(group))
    with pytest.raises(KernelError) as caught:
        await SyncDaemons(cast("Ipvs", Refusing(code))).set(settings, SyncRole.MASTER)
    return str(caught.value).removeprefix("connections cannot be synchronised as master: ")


@pytest.mark.parametrize("group", ["224.0.0.81", "239.255.255.255", "ff02::81"])
async def test_a_tunnel_between_ip_versions_is_named_where_the_group_is_a_good_one(group: str) -> None:
    told = f"{CROSSED}, or {group} is no multicast group for eth7"
    assert await reason(errno.EINVAL, group) == told
    assert await reason(errno.ENODEV, group) == "there is no interface eth7"
    assert await reason(errno.ENOMEM, group) == os.strerror(errno.ENOMEM)


@pytest.mark.parametrize("group", ["10.0.0.1", "240.0.0.1", "223.255.255.255", "2001:db8::1"])
async def test_a_group_that_is_none_is_the_only_cause(group: str) -> None:
    assert await reason(errno.EINVAL, group) == f"{group} is no multicast group for eth7"
