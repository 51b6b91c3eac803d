"""The shape of the sections on VRRP: `vrrp`, and `ipvs.sync`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator, Field, Tag

from lvsd.config.fields import Shape, default, kind, list_or_text, mapping_or_text
from lvsd.config.scalars import (
    AdvertisementInterval,
    CommandInterval,
    CommandText,
    Count,
    Flag,
    HostText,
    InterfaceName,
    Line,
    Mtu,
    MulticastGroup,
    Name,
    NetworkText,
    Password,
    Port,
    PreemptDelay,
    Priority,
    ScopeName,
    SyncId,
    Timeout,
    TrackWeight,
    Ttl,
    UserName,
    VirtualRouterId,
    VrrpVersion,
)

_WEIGHT = "how much the priority falls meanwhile, down to 1; 0: the instance is in fault"


class VipShape(Shape):
    """A VIP with more than its address."""

    address: NetworkText = Field(description="the VIP with its prefix, as in 192.168.0.101/24")
    label: Line = Field(
        "", description="IPv4 only: what ifconfig shows it as, such as eth0:101; 15 letters at most"
    )
    scope: ScopeName | None = Field(
        None, description="IPv4 only: how far it is valid, see rtnetlink(7); default: global"
    )
    interface: InterfaceName | None = Field(
        None, description="the interface that gets it; default: the instance's"
    )


VipOrText: TypeAlias = Annotated[
    Annotated[NetworkText, Tag("text")] | Annotated[VipShape, Tag("mapping")],
    Discriminator(mapping_or_text),
]
WordList: TypeAlias = Annotated[list[Line], Field(min_length=1)]
AnyCommand: TypeAlias = Annotated[
    Annotated[CommandText, Tag("text")] | Annotated[WordList, Tag("list")],
    Discriminator(list_or_text),
]


class TrackedInterfaceShape(Shape):
    """An interface that must be up, with what it weighs."""

    interface: InterfaceName = Field(description="the interface")
    weight: TrackWeight = Field(0, description=_WEIGHT)


class TrackedServiceShape(Shape):
    """A virtual service that must have a real server, with what it weighs."""

    service: Line = Field(description="the virtual service's name")
    weight: TrackWeight = Field(0, description=_WEIGHT)


class TrackedCommandShape(Shape):
    """A command that must end with status 0."""

    command: AnyCommand = Field(
        description="a program's absolute path and its arguments: a text, split as a shell would, or a list; "
        "no shell is run"
    )
    name: Name | None = Field(None, description="what the log calls it; default: the program's name")
    interval: CommandInterval = default("2s", "from the start of one run to the start of the next")
    timeout: Timeout = default("2s", "how long a run may take; then it is ended, and has failed")
    rise: Count = Field(1, description="how many runs in a row must end well before it counts as well again")
    fall: Count = Field(1, description="how many runs in a row must fail before it counts as failed")
    weight: TrackWeight = Field(0, description=_WEIGHT)
    user: UserName | None = Field(
        None, description="who runs it; default: lvsd, or where there is no such user nobody"
    )


InterfaceOrName: TypeAlias = Annotated[
    Annotated[InterfaceName, Tag("text")] | Annotated[TrackedInterfaceShape, Tag("mapping")],
    Discriminator(mapping_or_text),
]
ServiceOrName: TypeAlias = Annotated[
    Annotated[Line, Tag("text")] | Annotated[TrackedServiceShape, Tag("mapping")],
    Discriminator(mapping_or_text),
]


class TrackShape(Shape):
    """What an instance needs besides its own interface to be master."""

    interfaces: list[InterfaceOrName] = Field([], description="interfaces that must be up")
    services: list[ServiceOrName] = Field([], description="virtual services that must have a real server")
    commands: list[TrackedCommandShape] = Field([], description="commands that must end with status 0")


class NotifyShape(Shape):
    """Commands that are run when an instance enters a state, written as those of `track.commands`."""

    any: AnyCommand | None = Field(
        None,
        description="for every state, after the state's own, with the arguments INSTANCE, its name, the "
        "state, the priority",
    )
    master: AnyCommand | None = Field(None, description="for master")
    backup: AnyCommand | None = Field(None, description="for backup")
    fault: AnyCommand | None = Field(None, description="for fault")
    stop: AnyCommand | None = Field(
        None, description="when the instance ends, because lvsd stops or a reload"
    )
    user: UserName | None = Field(None, description="who runs them; default: as for track.commands")


NotifyOrCommand: TypeAlias = Annotated[
    Annotated[CommandText, Tag("text")]
    | Annotated[WordList, Tag("list")]
    | Annotated[NotifyShape, Tag("mapping")],
    Discriminator(kind),
]


class VrrpShape(Shape):
    """A VRRP instance: VIPs that two or more directors hand over to each other, all at once (RFC 9568)."""

    interface: InterfaceName | None = Field(
        None, description="where advertisements are sent and heard; needed, but with the VIP of an lvs.conf"
    )
    virtual_router_id: VirtualRouterId = Field(
        description="the VRID, 1 to 255: the same on all its directors, and no other's on this network"
    )
    priority: Priority = Field(
        100, description="1 to 255: the highest is master; 255 owns the addresses and always takes them"
    )
    advertisement_interval: AdvertisementInterval = default(
        "1s",
        "how often a master says that it is there: version 3 up to 40.95s in steps of 10ms, version 2 whole "
        "seconds",
    )
    version: VrrpVersion = Field(3, description="VRRP's version, the same on all directors; 2 is IPv4 only")
    password: Password | None = Field(
        None, description="version 2 only, for peers that ask for it: 1 to 8 characters, sent as they are"
    )
    preempt: Flag = Field(
        default=True, description="whether it takes over from a master whose priority is lower"
    )
    preempt_delay: PreemptDelay = default("0s", "how long it waits with that once it could be master")
    addresses: list[VipOrText] = Field(
        [],
        description="the VIPs, with their prefixes, all IPv4 or all IPv6: advertised; 1 to 255 of them, or "
        "none beside an lvs.conf, whose they then are",
    )
    excluded_addresses: list[VipOrText] = Field(
        [], description="more VIPs, IPv4 or IPv6, that go with them and are not advertised"
    )
    unicast_peers: list[HostText] = Field(
        [], description="the other directors, where multicast does not reach them; default: multicast"
    )
    source_address: HostText | None = Field(
        None, description="where advertisements come from; default: the interface's own address"
    )
    sync_group: Name | None = Field(
        None, description="a name: the instances with the same one are master together, or none of them"
    )
    virtual_mac: Flag = Field(
        default=False,
        description="whether the VIPs on `interface`, of the IP version of `addresses`, have the MAC "
        "00:00:5e:00:01:VRID (IPv6 02:VRID): while it is master they are on the macvlan vrrp.VRID "
        "(vrrp6.VRID), with the prefix of a single host and no label",
    )
    track: TrackShape | None = Field(None, description="what the instance needs to be master")
    notify: NotifyOrCommand | None = Field(
        None,
        description="commands that are run on changes of state: a mapping, or just its `any`",
    )


class SyncShape(Shape):
    """The kernel's synchronisation of connections: the master tells the backup of them (ipvsadm(8))."""

    interface: InterfaceName = Field(description="the interface that the two directors share")
    instance: Line | None = Field(
        None, description="the VRRP instance whose state decides who tells; default: the only one"
    )
    id: SyncId | None = Field(
        None, description="0 to 255, the same on both directors; default: the instance's virtual_router_id"
    )
    group: MulticastGroup | None = Field(
        None, description="the multicast address; default: the kernel's, 224.0.0.81"
    )
    port: Port | None = Field(None, description="the UDP port; default: the kernel's, 8848")
    ttl: Ttl | None = Field(None, description="the packets' TTL, 1 to 255; default: the kernel's, 1")
    mtu: Mtu | None = Field(None, description="the largest packet, 576 to 65535; default: the kernel's, 1500")
