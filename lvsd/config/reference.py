"""The settings as Markdown, from the schema. `python -m lvsd.config.reference` prints what docs/ holds."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lvsd.config.schema import CheckShape, schema
from lvsd.config.values import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECTIONS = (
    ("Top level", ""),
    ("director", "DirectorShape"),
    ("director.addresses[]", "AddressShape"),
    ("log", "LogShape"),
    ("ipvs", "IpvsShape"),
    ("ipvs.sync", "SyncShape"),
    ("checks.NAME, every type", "CheckShape"),
    ("checks.NAME, type: http", "HttpShape"),
    ("checks.NAME, type: tcp", "TcpShape"),
    ("checks.NAME, type: telnet", "TelnetShape"),
    ("virtual_services.NAME", "ServiceShape"),
    ("virtual_services.NAME.persistence", "PersistenceShape"),
    ("virtual_services.NAME.real_servers[], sorry_server", "RealServerShape"),
    ("vrrp.NAME", "VrrpShape"),
    ("vrrp.NAME.addresses[], excluded_addresses[]", "VipShape"),
    ("vrrp.NAME.track", "TrackShape"),
    ("vrrp.NAME.track.interfaces[]", "TrackedInterfaceShape"),
    ("vrrp.NAME.track.services[]", "TrackedServiceShape"),
    ("vrrp.NAME.track.commands[]", "TrackedCommandShape"),
    ("vrrp.NAME.notify", "NotifyShape"),
)


def reference() -> str:
    """Return a table for each mapping: its settings, what each takes, its default and meaning."""
    whole = schema()
    return "\n".join(line for title, name in _SECTIONS for line in _section(title, name, whole)) + "\n"


def _section(title: str, name: str, whole: dict[str, Any]) -> Iterator[str]:
    common = CheckShape.model_json_schema()
    shape = {**whole["$defs"], "CheckShape": common, "": whole}[name]
    told_before = common["properties"].keys() if title.startswith("checks.NAME, type") else ()
    required = shape.get("required", [])
    yield from (f"### `{title}`" if name else f"### {title}", "", shape["description"], "")
    yield from ("| setting | takes | default | meaning |", "|---|---|---|---|")
    for setting, about in shape["properties"].items():
        if setting in told_before:
            continue
        default = "needed" if setting in required else _default(about.get("default"))
        yield f"| `{setting}` | {_takes(about)} | {default} | {about['description']} |"
    yield ""


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _takes(about: dict[str, Any]) -> str:
    """Return what a setting takes, told from its schema."""
    choices = about.get("anyOf", about.get("oneOf"))
    if choices is not None:
        return _one_of([choice for choice in choices if choice.get("type") != "null"])
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    if about.get("type") == "array":
        return f"list of {_takes(about['items'])}"
    if "$ref" in about or about.get("type") == "object":
        return "mapping"
    return _SCALARS[json.dumps(about["type"])]


def _one_of(kinds: list[dict[str, Any]]) -> str:
    if [kind.get("type") for kind in kinds] == ["string", "number"]:
        return f"duration ({spelled(kinds[1]['minimum'])} to {spelled(kinds[1]['maximum'])})"
    return " or ".join(dict.fromkeys(map(_takes, kinds)))


_SCALARS = {
    '["string", "number", "boolean"]': "text",
    '["integer", "string"]': "number or text",
    '"string"': "text",
    '"number"': "number",
    '"integer"': "number",
    '"boolean"': "`true`, `false`",
}

if __name__ == "__main__":
    sys.stdout.write(reference())
