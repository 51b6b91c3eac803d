"""Whose configuration a text is, told by its first line that says something."""

from __future__ import annotations

import re

from lvsd.errors import ConfigError, Mistake, Place

OWN = "lvsd"
LVS_CONF = "lvs.conf"

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*=")
_KEEPALIVED = re.compile(
    r"""\s*(?:
        !(?!\S*:)                # a comment, which in YAML would be a tag
        | @\^?\w+\s | \$\w+\s*= | include\s+\S+$
        | (?:global_defs | static_\w+ | vrrp\w* | virtual_server\w* | net_namespace\w* | track_\w+
            | linkbeat_\w+ | bfd_instance | local_address_group | nftables\w*)\b(?!\s*:)
    )""",
    re.VERBOSE,
)
_LDIRECTORD = frozenset({
    "autoreload", "callback", "checkcommand", "checkcount", "checkinterval", "checktimeout", "cleanstop",
    "emailalert", "emailalertfreq", "emailalertfrom", "emailalertstatus", "execute", "failurecount",
    "fallback", "fallback6", "fallbackcommand", "fork", "logfile", "maintenancedir", "negotiatetimeout",
    "quiescent", "readdquiescent", "smtp", "supervised", "virtual", "virtual6",
})  # fmt: skip
_PIRANHA = frozenset({
    "backup", "backup_active", "backup_private", "deadtime", "debug_level", "heartbeat", "heartbeat_port",
    "keepalive", "monitor_links", "nat_nmask", "nat_router", "network", "primary", "primary_private",
    "reservation_conflict_action", "rsh_command", "serial_no", "service", "syncdaemon", "tcp_timeout",
    "tcpfin_timeout", "udp_timeout",
})  # fmt: skip


def told_by_content(text: str) -> tuple[str, int]:
    """Return the format that `text` is written in, and the line that shows it."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if _KEEPALIVED.match(line):
            return "keepalived.conf", number
        if assignment := _ASSIGNMENT.match(line):
            return _by_keyword(assignment[1]), number
        return OWN, number
    return OWN, 1


def _by_keyword(word: str) -> str:
    if word in _LDIRECTORD:
        return "ldirectord.cf"
    return "lvs.cf" if word in _PIRANHA else LVS_CONF


def require_readable(text: str, file: str) -> str:
    """Return the format of `text`, `lvsd` or `lvs.conf`; raise ConfigError for one that is not read yet."""
    found, line = told_by_content(text)
    if found not in (OWN, LVS_CONF):
        problem = f"this is {found}, a format that is not yet supported: lvsd reads its own YAML and lvs.conf"
        raise ConfigError([Mistake(Place(file, line, 1), "", problem)])
    return found


def require_own(text: str, file: str) -> None:
    """Raise ConfigError where `text` is not lvsd's own YAML."""
    found, line = told_by_content(text)
    if found != OWN:
        advice = (
            ": name it as `lvs_conf`, or include it under `virtual_services`" if found == LVS_CONF else ""
        )
        problem = f"this is {found}, and only lvsd's own YAML can be included here{advice}"
        raise ConfigError([Mistake(Place(file, line, 1), "", problem)])


def require_lvs_conf(text: str, file: str) -> None:
    """Raise ConfigError where `text` is no lvs.conf."""
    found, line = told_by_content(text)
    if found != LVS_CONF:
        what = "lvsd's own YAML, which is included by `include` at the top level" if found == OWN else found
        raise ConfigError([Mistake(Place(file, line, 1), "", f"this is no lvs.conf, but {what}")])
