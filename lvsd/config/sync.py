"""The shape of `ipvs.sync` to the settings of the kernel's connection synchronisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.config.model import SyncSettings
from lvsd.config.words import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.config.model import VrrpInstance
    from lvsd.config.vrrp_schema import SyncShape
    from lvsd.errors import Place

_PATH: Path = ("ipvs", "sync")


def sync_settings(
    shape: SyncShape | None,
    instances: Sequence[VrrpInstance],
    findings: Findings,
    lookup: Lookup,
) -> SyncSettings | None:
    """Return the settings, and put down what is wrong in them. `instances` are those without mistakes."""
    if shape is None:
        return None
    name = _instance(shape, findings.merged.data.get("vrrp", {}), findings)
    vrids = {instance.name: instance.vrid for instance in instances}
    return SyncSettings(
        interface=shape.interface,
        instance=name,
        id=vrids.get(name, 0) if shape.id is None else shape.id,
        group=shape.group,
        port=_port(shape, findings, lookup),
        ttl=shape.ttl,
        mtu=shape.mtu,
    )


def sync_place(findings: Findings) -> Place | None:
    """Return where connections are said to be synchronised; None where they are not."""
    ipvs = findings.merged.data.get("ipvs")
    wanted = ipvs.get("sync") if isinstance(ipvs, dict) else None
    return None if wanted is None else findings.merged.place(_PATH)


def _instance(shape: SyncShape, known: Collection[str], findings: Findings) -> str:
    """Return the name of the instance that decides; empty where that cannot be told."""
    if shape.instance is not None:
        if shape.instance not in known:
            meant = did_you_mean(shape.instance, known)
            message = f"there is no VRRP instance named {shape.instance!r}{meant}"
            findings.mistake((*_PATH, "instance"), message)
        return shape.instance
    if len(known) == 1:
        return next(iter(known))
    if known:
        message = f"`instance` is missing: the one whose state decides who tells, {one_of(known)}"
    else:
        message = "needs a VRRP instance, whose state decides who tells: write it under `vrrp`"
    findings.mistake(_PATH, message)
    return ""


def _port(shape: SyncShape, findings: Findings, lookup: Lookup) -> int | None:
    if shape.port is None:
        return None
    try:
        port = lookup.port(shape.port, "udp")
    except ValueError as problem:
        findings.mistake((*_PATH, "port"), str(problem))
        return None
    if port == 0:
        findings.mistake((*_PATH, "port"), "must be 1 to 65535, not 0")
    return port
