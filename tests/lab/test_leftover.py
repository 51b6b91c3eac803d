"""VIPs that a director has left which was killed: they go first of all where another host has them by now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lvsd.lab.classic import VIP, VIP6
from lvsd.lab.director import DirectorProcess

if TYPE_CHECKING:
    from lvsd.lab.lab import Lab

CONFIG = """\
virtual_services: {{}}
vrrp:
  vip:
    interface: eth0
    virtual_router_id: 51
    advertisement_interval: 100ms
    addresses: ["{vip}"]
"""


@pytest.mark.parametrize("vip", [f"{VIP}/24", f"{VIP6}/64"], ids=["IPv4", "IPv6"])
async def test_they_go_where_another_has_them_and_stay_where_nobody_has(bare_lab: Lab, vip: str) -> None:
    vs1, vs2 = bare_lab.hosts["vs1"], bare_lab.hosts["vs2"]
    address = vip.partition("/")[0]
    director = await DirectorProcess.start(vs1, CONFIG.format(vip=vip))
    await director.saw("vrrp.changed", new="master")
    await director.kill()
    assert await vs1.has_address(address)
    await director.restart()
    await director.saw("vrrp.changed", new="master")
    assert not director.found("address.removed")

    await director.kill()
    await vs2.run(["ip", "address", "add", vip, "dev", "eth0", *(["nodad"] if ":" in vip else [])])
    await director.begin()
    told = await director.saw("address.removed", cause="vrrp")
    assert (told["seq"], told["address"]) == (2, vip)  # the log began after it
    await director.stop()
