"""A configuration file to `Config`, or ConfigError with every mistake that was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.config import formats, lvs_document, yaml_text
from lvsd.config.checks import CheckBuilder
from lvsd.config.entries import entries
from lvsd.config.hosts import IPV4, Lookup
from lvsd.config.include import merge
from lvsd.config.model import Config
from lvsd.config.schema import CHECK_SHAPES, CheckShape, DocumentShape, ServiceShape, endpoint_of
from lvsd.config.services import ServiceBuilder
from lvsd.config.settings import SettingsBuilder
from lvsd.config.shapes import Shaped, shape, unknown_key, unknown_type
from lvsd.config.source import Unreadable
from lvsd.config.sync import sync_place
from lvsd.config.text import decode
from lvsd.config.vrrp import hosts as vrrp_hosts
from lvsd.config.vrrp_schema import VrrpShape
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    from lvsd.config.document import Document, Findings
    from lvsd.config.fields import Shape
    from lvsd.config.model import Check, Note, VirtualService
    from lvsd.config.source import Interfaces, Names, Source
    from lvsd.config.values import Endpoint

    S = TypeVar("S", bound=Shape)

NOT_YET = frozenset({"metrics", "control"})
"""Sections that lvsd is going to have."""


def load(
    file: str, source: Source, names: Names, interfaces: Interfaces | None = None
) -> tuple[Config, tuple[Note, ...]]:
    """Return the configuration in `file` and remarks on it; raise ConfigError with all that is wrong.

    Without `interfaces` nothing is said of what suits them.
    """
    found, document = read(file, source)
    findings = merge(document, source)
    lookup = Lookup(names)
    _unknown_sections(findings)
    shapes = _service_shapes(findings)
    instances = dict(_shapes(findings, "vrrp", VrrpShape))
    lookup.prefetch([*_hosts(shapes), *vrrp_hosts(instances)])
    config = Config(
        format=found,
        files=tuple(findings.merged.files),
        settings=SettingsBuilder(findings, lookup, source, interfaces).build(instances),
        services=_services(findings, lookup, shapes),
    )
    findings.raise_mistakes()
    return config, tuple(findings.notes)


def read(file: str, source: Source) -> tuple[str, Document]:
    """Return the format that `file` is written in, and its text as a document."""
    try:
        text = decode(source.read(file), file)
    except Unreadable as problem:
        raise ConfigError([Mistake(Place(file), "", str(problem))]) from None
    found = formats.require_readable(text, file)
    return found, (lvs_document if found == formats.LVS_CONF else yaml_text).parse(text, file)


def _unknown_sections(findings: Findings) -> None:
    for section in findings.merged.data:
        if section in NOT_YET:
            findings.mistake((section,), "is not supported yet by this version of lvsd", key=True)
        elif section not in DocumentShape.model_fields:
            findings.mistake((section,), unknown_key(section, list(DocumentShape.model_fields)), key=True)


def _service_shapes(findings: Findings) -> dict[str, Shaped[ServiceShape]]:
    told = any(mistake.path == "virtual_services" for mistake in findings.mistakes)
    if "virtual_services" not in findings.merged.data and not told:
        findings.mistake(("virtual_services",), "is missing: write {} where there are none")
    return dict(_shapes(findings, "virtual_services", ServiceShape))


def _shapes(findings: Findings, section: str, model: type[S]) -> Iterator[tuple[str, Shaped[S]]]:
    """Yield the entries of a section in their shape, but those of which nothing is left."""
    for name, data in entries(findings, section):
        shaped = shape(model, data, (section, name), findings)
        if shaped is not None:
            yield name, shaped


def _hosts(shapes: Mapping[str, Shaped[ServiceShape]]) -> Iterator[tuple[Endpoint, int]]:
    """Yield every host that will have to be resolved, with the IP version that is wanted of it."""
    for shaped in shapes.values():
        service = shaped.value
        literal = service.address.address if service.address else None
        version = (literal.version if literal else IPV4) if service.fwmark is None else service.family or IPV4
        if service.address is not None:
            yield service.address, IPV4
        for item in service.real_servers:
            yield endpoint_of(item)[0], version
        if service.sorry_server is not None:
            yield endpoint_of(service.sorry_server)[0], version


def _services(
    findings: Findings,
    lookup: Lookup,
    shapes: Mapping[str, Shaped[ServiceShape]],
) -> tuple[VirtualService, ...]:
    checks = CheckBuilder(lookup, findings)
    named = _named_checks(findings, checks)
    builder = ServiceBuilder(lookup, findings, checks, named, sync_place(findings))
    services = (builder.build(name, shaped) for name, shaped in shapes.items())
    return tuple(service for service in services if service is not None)


def _named_checks(findings: Findings, builder: CheckBuilder) -> dict[str, Check | None]:
    checks: dict[str, Check | None] = {}
    for name, data in entries(findings, "checks"):
        check = _check_shape(data, name, findings)
        checks[name] = builder.build(check, ("checks", name)) if check is not None else None
    return checks


def _check_shape(data: object, name: str, findings: Findings) -> CheckShape | None:
    """Return the shape of a named check that has no mistakes."""
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in CHECK_SHAPES:
        at = ("checks", name, "type") if kind is not None else ("checks", name)
        findings.mistake(at, unknown_type(data))
        return None
    shaped = shape(CHECK_SHAPES[kind], data, ("checks", name), findings)
    return shaped.value if shaped is not None and not shaped.left_out else None
