"""Whatever stands in the file, it is a configuration or a ConfigError."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from conftest import Loads

    from lvsd.config.model import Config

ROOT = Path(__file__).parent.parent.parent
GOOD = [path.read_bytes() for path in sorted((ROOT / "etc").glob("*.yaml"))]
CLASSIC = [path.read_bytes() for path in sorted((ROOT / "tests/samples").glob("lvs_dr*"))]
FILES = [*GOOD, *CLASSIC]
WORDS = sorted({word for file in FILES for word in re.findall(rb"[^\s\[\]{},:]+|[\[\]{},:\n]", file)})

KEYS = [
    "director", "addresses", "address", "interface", "label", "log", "format", "ipvs", "checks", "web",
    "type", "expect", "status", "headers", "virtual_services", "www", "real_servers", "check", "persistence",
    "fwmark", "prefix", "netmask", "include", "sorry_server", "weight", "<<",
    "vip", "virtual_router_id", "priority", "excluded_addresses", "unicast_peers", "track", "notify",
    "services", "interfaces", "commands", "command", "any", "sync", "instance", "version",
    "advertisement_interval",
]  # fmt: skip
LEAVES = [
    "http",
    "tcp",
    "rs1",
    "192.168.0.101:80",
    "0",
    "1",
    "-1",
    "5m",
    "",
    "none",
    "udp",
    "eth0",
    "192.168.0.101/24",
    "/bin/true",
    "51",
]

same_loader = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def is_loaded_or_refused(loads: Loads, raw: bytes) -> None:
    try:
        config: Config | None = loads(raw)[0]
    except ConfigError as error:
        config, mistakes = None, error.mistakes
    else:
        mistakes = ()
    assert all(mistake.place.file == "lvsd.yaml" for mistake in mistakes)
    assert (config is None) == bool(mistakes)


@same_loader
@given(raw=st.binary(max_size=300))
def test_any_bytes(loads: Loads, raw: bytes) -> None:
    is_loaded_or_refused(loads, raw)


@same_loader
@given(text=st.text(max_size=300))
def test_any_text(loads: Loads, text: str) -> None:
    is_loaded_or_refused(loads, text.encode("utf-8", "surrogatepass"))


@same_loader
@given(data=st.data())
def test_good_files_with_pieces_cut_out_and_put_in(loads: Loads, data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from(FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(raw)))
        length = data.draw(st.integers(0, 20))
        piece = data.draw(st.sampled_from(WORDS) | st.binary(max_size=4) | st.just(b""))
        raw = raw[:begin] + piece + raw[begin + length :]
    is_loaded_or_refused(loads, raw)


@same_loader
@given(words=st.lists(st.sampled_from(WORDS), max_size=60))
def test_words_of_good_files_in_any_order(loads: Loads, words: list[bytes]) -> None:
    is_loaded_or_refused(loads, b" ".join(words))


@same_loader
@given(data=st.data())
def test_good_trees_with_wrong_branches(loads: Loads, data: st.DataObject) -> None:
    keys = st.sampled_from(KEYS)
    leaves = st.none() | st.sampled_from(LEAVES)
    trees = st.recursive(leaves, partial(branches, keys))
    sections = ["director", "log", "ipvs", "checks", "virtual_services", "include", "vrrp", "lvs_conf"]
    tree = data.draw(st.dictionaries(st.sampled_from(sections), trees, min_size=1))
    is_loaded_or_refused(loads, flow(tree).encode())


def branches(keys: st.SearchStrategy[str], inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)


def flow(tree: object) -> str:
    """Return `tree` in YAML's flow style."""
    match tree:
        case None:
            return "null"
        case dict():
            return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
        case list():
            return "[" + ", ".join(flow(value) for value in tree) + "]"
    return f'"{tree}"'


@pytest.mark.parametrize("raw", FILES)
def test_good_files_are_good(loads: Loads, raw: bytes) -> None:
    if b"include:" not in raw and b"lvs_conf:" not in raw:
        loads(raw)
