"""A director that cannot hear the others is not master beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.lab.director import DirectorProcess

if TYPE_CHECKING:
    from lvsd.lab.lab import Lab

CONFIG = """\
virtual_services: {}
vrrp:
  vip:
    interface: eth0
    virtual_router_id: 51
    advertisement_interval: 200ms
    addresses: [192.168.0.101/24]
"""
WITHOUT_RAW_SOCKETS = ("setpriv", "--bounding-set=-net_raw")


async def test_without_the_right_to_hear_it_is_in_fault_and_says_so(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    deaf = await DirectorProcess.start(vs1, CONFIG, wrapper=WITHOUT_RAW_SOCKETS)
    told = await deaf.saw("vrrp.changed", new="fault")
    assert told["reason"] == "VRRP cannot be heard on eth0: Operation not permitted"
    assert not deaf.found("vrrp.changed", new="master")
    assert not await vs1.has_address("192.168.0.101")
    await deaf.stop()


async def test_an_interface_that_does_not_exist_is_waited_for(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    director = await DirectorProcess.start(vs1, CONFIG.replace("eth0", "eth7"))
    assert (await director.saw("vrrp.changed", new="fault"))["reason"] == "eth7 does not exist"
    await vs1.run(["ip", "link", "add", "eth7", "type", "veth", "peer", "eth8"])
    await vs1.run(["ip", "address", "add", "192.168.0.7/24", "dev", "eth7"])
    await vs1.run(["ip", "link", "set", "eth8", "up"])
    await vs1.run(["ip", "link", "set", "eth7", "up"])
    await director.saw("vrrp.changed", new="master")
    assert await vs1.has_address("192.168.0.101")
    await vs1.run(["ip", "link", "del", "eth7"])
    await director.saw("vrrp.changed", new="fault", old="master")
    await director.stop()
