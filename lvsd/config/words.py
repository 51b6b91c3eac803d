"""How mistakes are put into words."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_OTHERS_SAY = {
    "algorithm": "scheduler", "lb_algo": "scheduler", "lb_kind": "forward", "lvs_method": "forward",
    "masq": "nat", "masquerade": "nat", "gate": "dr", "route": "dr", "dsr": "dr", "ipip": "tun",
    "persistence_timeout": "persistence", "persistent": "persistence", "sticky": "persistence",
    "backends": "real_servers", "real": "real_servers", "fallback": "sorry_server", "tunnel": "tun",
    "virtual": "virtual_services", "quiescent": "quiesce", "inhibit_on_failure": "on_failure",
    "mark": "fwmark", "connect": "tcp", "vrid": "virtual_router_id", "advert_int": "advertisement_interval",
    "virtual_ipaddress": "addresses", "virtual_ipaddress_excluded": "excluded_addresses",
    "unicast_peer": "unicast_peers", "unicast_src_ip": "source_address", "mcast_src_ip": "source_address",
    "auth_pass": "password", "authentication": "password", "nopreempt": "preempt", "use_vmac": "virtual_mac",
    "vrrp_version": "version", "track_interface": "track", "track_script": "track", "track_process": "track",
    "scripts": "commands", "script": "command", "notify_master": "notify", "notify_backup": "notify",
    "notify_fault": "notify", "notify_stop": "notify", "vrrp_sync_group": "sync_group",
    "lvs_sync_daemon": "sync", "vrrp_instance": "vrrp", "syncid": "id", "maxlen": "mtu",
}  # fmt: skip
"""What the settings and values are called elsewhere."""

LONGEST_SHOWN = 60
MOST_COMPARED = 1000


def shown(value: object) -> str:
    """Return how a wrong value is shown to the operator."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    if _NUMBER.fullmatch(text):
        return text
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def one_of(choices: Iterable[str]) -> str:
    """Return `dr, nat or tun`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """Return `; did you mean 'web'?` where a choice is close to `word`, else nothing."""
    if len(choices) > MOST_COMPARED or len(word) > LONGEST_SHOWN:
        return ""
    lower = word.lower()
    known = [choice for choice in choices if choice.lower() in (lower, _OTHERS_SAY.get(lower))]
    close = known or get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
