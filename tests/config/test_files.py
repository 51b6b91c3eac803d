"""Every file in etc/ loads; every file in tests/config/bad gives just the messages in its first lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.load import load
from lvsd.config.reference import reference
from lvsd.config.schema import schema
from lvsd.edge.loader import Files
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from conftest import FakeNames

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXPECT = "# expect: "

NOTE = "# note: "

GOOD = sorted(path.name for path in (HERE / "good").iterdir() if path.is_file())
BAD = sorted(path.name for path in (HERE / "bad").iterdir() if path.is_file())
EXAMPLES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "etc").rglob("*.yaml"))


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gives_the_messages_it_expects(
    name: str, names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    lines = (HERE / "bad" / name).read_text().splitlines()
    expected = [line.removeprefix(EXPECT) for line in lines if line.startswith(EXPECT)]
    with pytest.raises(ConfigError) as caught:
        load(f"bad/{name}", Files(), names)
    assert [str(mistake) for mistake in caught.value.mistakes] == expected


@pytest.mark.parametrize("name", GOOD)
def test_good_file_gives_the_notes_it_expects(
    name: str, names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    lines = (HERE / "good" / name).read_text().splitlines()
    expected = [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]
    _, notes = load(f"good/{name}", Files(), names)
    assert [str(note) for note in notes] == expected


@pytest.mark.parametrize("path", [*EXAMPLES, "etc/lvs_dr.conf"])
def test_example_loads_without_a_mistake(
    path: str, names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config, _ = load(path, Files(), names)
    assert config.services


@pytest.mark.parametrize("path", EXAMPLES)
def test_example_names_the_schema_for_editors(path: str) -> None:
    first = (ROOT / path).read_text().splitlines()[0]
    prefix, _, schema_path = first.partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (ROOT / path).parent.joinpath(schema_path).is_file()


def test_schema_in_etc_is_current() -> None:
    # lvsd schema > etc/lvsd.schema.json
    assert json.loads((ROOT / "etc/lvsd.schema.json").read_text()) == schema()


def test_reference_in_docs_is_current() -> None:
    # python -m lvsd.config.reference
    assert (ROOT / "docs/configuration.md").read_text().endswith(reference())


def test_main_example_is_the_classic_cluster(names: FakeNames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ours, _ = load("etc/lvsd.yaml", Files(), names)
    classic, _ = load("etc/lvs_dr.conf", Files(), names)
    assert {service.key for service in ours.services} == {service.key for service in classic.services}
    assert ours.settings.addresses == classic.settings.addresses


def test_the_two_directors_of_the_example_differ_in_name_and_priority_alone(
    names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    master, _ = load("etc/vrrp.yaml", Files(), names)
    backup, _ = load("etc/vrrp_backup.yaml", Files(), names)
    (vip,) = master.settings.vrrp
    assert (vip.priority, vip.vrid, str(vip.addresses[0])) == (150, 51, "192.168.0.101/24")
    assert backup.settings == replace(master.settings, director="vs2", vrrp=(replace(vip, priority=100),))
    assert backup.services == master.services


def test_example_beside_an_lvs_conf_is_the_classic_cluster_with_a_partner(
    names: FakeNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    beside, _ = load("etc/vrrp_lvs_conf.yaml", Files(), names)
    classic, _ = load("etc/lvs_dr.conf", Files(), names)
    assert beside.services == classic.services
    (vip,) = beside.settings.vrrp
    assert (vip.interface, vip.addresses) == ("eth0", classic.settings.addresses)
    assert beside.settings.addresses == ()


def test_keepalived_and_ldirectord_are_refused_in_clear_words(names: FakeNames) -> None:
    for name in ("keepalived.conf", "ldirectord.cf", "piranha.lvs.cf"):
        with pytest.raises(ConfigError, match="not yet supported"):
            load(str(HERE / "bad" / name), Files(), names)
