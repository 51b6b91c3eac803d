"""All that is not a virtual service: the director, its log, how it keeps the table, its VRRP instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.commands import CommandBuilder
from lvsd.config.lvs_conf_beside import unheld_vips
from lvsd.config.model import IpvsSettings, LogSettings, Settings
from lvsd.config.schema import DirectorShape, IpvsShape, LogShape
from lvsd.config.shapes import Shaped, shape
from lvsd.config.sync import sync_settings
from lvsd.config.track import TrackBuilder
from lvsd.config.vips import VipBuilder, Written
from lvsd.config.vrrp import VrrpBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from lvsd.config.document import Findings, Path
    from lvsd.config.fields import Shape
    from lvsd.config.hosts import Lookup
    from lvsd.config.model import DirectorAddress, VrrpInstance
    from lvsd.config.source import Interfaces, Source
    from lvsd.config.vrrp_schema import VrrpShape

    S = TypeVar("S", bound=Shape)


@dataclass(frozen=True, slots=True)
class SettingsBuilder:
    """Makes the settings of the sections `director`, `log`, `ipvs` and `vrrp`."""

    findings: Findings
    lookup: Lookup
    source: Source
    interfaces: Interfaces | None = None

    def build(self, instances: Mapping[str, Shaped[VrrpShape]]) -> Settings:
        """Return the settings; `instances` are those of the section `vrrp`."""
        director = self._section(DirectorShape, "director")
        log = self._section(LogShape, "log").value
        ipvs = self._section(IpvsShape, "ipvs").value
        vips = VipBuilder(self.lookup, self.findings)
        addresses = _addresses(director, vips)
        vrrp = self._vrrp(instances, vips)
        if self.interfaces is not None:
            vips.look_at(self.interfaces)
        return Settings(
            director=director.value.name or self.lookup.names.hostname(),
            addresses=addresses,
            log=LogSettings(log.format, log.file, log.level),
            ipvs=IpvsSettings(
                ipvs.reconcile, ipvs.on_stop, sync_settings(ipvs.sync, vrrp, self.findings, self.lookup)
            ),
            vrrp=vrrp,
        )

    def _section(self, model: type[S], name: str) -> Shaped[S]:
        data = self.findings.merged.data.get(name)
        found = None if data is None else shape(model, data, (name,), self.findings)
        return found or Shaped(model())

    def _vrrp(
        self,
        shapes: Mapping[str, Shaped[VrrpShape]],
        vips: VipBuilder,
    ) -> tuple[VrrpInstance, ...]:
        commands = CommandBuilder(self.source, self.findings)
        services = self.findings.merged.data.get("virtual_services", {})
        track = TrackBuilder(self.findings, commands, services)
        instances = VrrpBuilder(self.lookup, self.findings, vips, track).build_all(shapes)
        self.findings.notes += unheld_vips(self.findings.merged, vips)
        return instances


def _addresses(director: Shaped[DirectorShape], vips: VipBuilder) -> tuple[DirectorAddress, ...]:
    at: Path = ("director", "addresses")
    built = (
        vips.build(Written(it.address, it.interface, it.label, (*at, number), scope=it.scope))
        for number, it in director.numbered("addresses")
    )
    return tuple(address for address in built if address is not None)
