"""lvsd and keepalived 2.2.7 as each other's peer, either as master: election, stop, crash, cut, return.

v3_checksum_as_v2 is younger than 2.2.7; tests/test_directors.py has a peer of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from vrrp_peers import BACKUP, MASTER, Instance, KeepalivedRouter

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders

if TYPE_CHECKING:
    from lvsd.lab.lab import Lab

VIP6 = "fd00:0:0:1::101"
LINK_LOCAL_VIP = "fe80::101"
V4 = {"vs1": "192.168.0.1", "vs2": "192.168.0.2"}
V6 = {"vs1": "fd00:0:0:1::1", "vs2": "fd00:0:0:1::2"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What the two must agree on; vs1 is lvsd, vs2 keepalived."""

    version: int = 3
    interval: float = 0.3
    password: str = ""
    vip: str = VIP
    unicast: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"{LINK_LOCAL_VIP}/64", f"{self.vip}/64") if ":" in self.vip else (f"{self.vip}/24",)

    def lvsd(self, priority: int) -> str:
        lines = [
            "virtual_services: {}",
            "vrrp:",
            "  vip:",
            "    interface: eth0",
            "    virtual_router_id: 51",
            f"    version: {self.version}",
            f"    priority: {priority}",
            f"    advertisement_interval: {self.interval}s",
            f"    addresses: [{', '.join(map(repr, self.addresses))}]",
        ]
        if self.password:
            lines.append(f"    password: {self.password}")
        if self.unicast:
            hosts = self._hosts
            lines += [f"    unicast_peers: ['{hosts['vs2']}']", f"    source_address: '{hosts['vs1']}'"]
        return "\n".join(lines) + "\n"

    def keepalived(self, priority: int) -> str:
        instance = Instance(
            priority=priority,
            interval=self.interval,
            version=self.version,
            password=self.password,
            addresses=self.addresses,
        )
        if self.unicast:
            hosts = self._hosts
            instance = replace(instance, peers=(hosts["vs1"],), source=hosts["vs2"])
        return instance.conf()

    @property
    def _hosts(self) -> dict[str, str]:
        return V6 if ":" in self.vip else V4


SETTINGS = {
    "version 3": Setting(),
    "version 2 with a password": Setting(version=2, interval=1, password="secret"),  # noqa: S106
    "IPv6": Setting(vip=VIP6),
}


UNICAST = {name: replace(setting, unicast=True) for name, setting in SETTINGS.items()}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
async def test_lvsd_and_keepalived_follow_each_other(bare_lab: Lab, setting: Setting) -> None:
    vs1, vs2 = bare_lab.hosts["vs1"], bare_lab.hosts["vs2"]
    async with Holders.of(setting.vip, [vs1, vs2]) as holders:
        keepalived = await KeepalivedRouter.start(vs2, setting.keepalived(100))
        await holders.become("vs2")

        # lvsd has the higher priority, and preempts; keepalived takes over from its stop and from its death.
        lvsd = await DirectorProcess.start(vs1, setting.lvsd(150))
        await holders.become("vs1")
        await keepalived.become(BACKUP)
        await lvsd.stop()
        await holders.become("vs2")
        await lvsd.restart()
        await holders.become("vs1")
        await bare_lab.cut("vs1")
        await holders.become("vs2")
        await bare_lab.mend("vs1")
        await holders.become("vs1")
        await lvsd.kill()
        await keepalived.become(MASTER)
        await lvsd.begin()
        await holders.become("vs1")

        # keepalived gets the higher priority, and preempts; lvsd takes over from it likewise.
        keepalived.reload(setting.keepalived(200))
        await holders.become("vs2")
        await keepalived.stop()
        await holders.become("vs1")
        await keepalived.begin()
        await holders.become("vs2")
        await lvsd.saw(
            "vrrp.changed", new="backup", after=lvsd.found("vrrp.changed", new="master")[-1]["seq"]
        )
        last = lvsd.seq
        await keepalived.kill()
        await lvsd.saw("vrrp.changed", new="master", after=last)
        assert not lvsd.found("vrrp.rejected")
        assert not lvsd.found("vrrp.differs")


@pytest.mark.parametrize("setting", UNICAST.values(), ids=UNICAST)
async def test_they_follow_each_other_by_unicast(bare_lab: Lab, setting: Setting) -> None:
    vs1, vs2 = bare_lab.hosts["vs1"], bare_lab.hosts["vs2"]
    async with Holders.of(setting.vip, [vs1, vs2]) as holders:
        keepalived = await KeepalivedRouter.start(vs2, setting.keepalived(100))
        await holders.become("vs2")
        lvsd = await DirectorProcess.start(vs1, setting.lvsd(150))
        await holders.become("vs1")
        await keepalived.become(BACKUP)
        keepalived.reload(setting.keepalived(200))
        await holders.become("vs2")
        await keepalived.stop()
        await holders.become("vs1")
        await lvsd.stop()
        assert not lvsd.found("vrrp.rejected")
