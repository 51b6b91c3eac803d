"""What the README says can be typed, and what it points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lvsd.cli import make_parser
from lvsd.config.load import load
from lvsd.edge.loader import Files
from lvsd.edge.names import SystemNames

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
YAML = [text for kind, text in BLOCKS if kind == "yaml"]
TYPED = [re.split(" {4,}", line)[0] for kind, text in BLOCKS if not kind for line in text.splitlines()]


@pytest.mark.parametrize("text", YAML)
def test_its_configuration_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lvsd.yaml"
    file.write_text(text)
    config, notes = load(str(file), Files(), SystemNames())
    assert config.services
    assert not notes


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("lvsd ")])
def test_its_commands_are_understood(line: str) -> None:
    make_parser().parse_args(line.split()[1:])


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("make ")])
def test_its_targets_are_there(line: str) -> None:
    assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text()


def test_it_installs_as_the_unit_says() -> None:
    unit = (ROOT / "systemd/lvsd.service").read_text()
    told = [line.removeprefix("#   ") for line in unit.splitlines() if line.startswith("#   ")]
    assert told
    assert [line for line in TYPED if line in told] == told


def test_the_schema_is_installed_where_the_example_names_it() -> None:
    installed = dict(line.split()[-2:] for line in TYPED if line.startswith("install "))
    example = "etc/lvsd.yaml"
    schema = (ROOT / example).read_text().splitlines()[0].partition("$schema=")[2]
    assert installed[f"etc/{schema}"] == str(Path(installed[example]).with_name(schema))


def test_its_comparison_is_shown_on_a_real_kernel() -> None:
    rows = [line.strip("|").split("|") for line in README.splitlines() if line.startswith("| ")]
    shown_by = [re.findall(r"`(.+?)`", cells[-1]) for cells in rows if len(cells) == 5][1:]
    assert len(shown_by) >= 10
    assert all(shown_by)
    assert {Path(path).parts[:2] for paths in shown_by for path in paths} <= {
        ("tests", "lab"),
        ("tests", "systemd"),
    }


def test_what_it_points_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    paths = re.findall(r"`((?:tests|etc|docs|systemd)/[\w./-]+)`", README)
    assert links
    assert paths
    assert [path for path in {*links, *paths} if not (ROOT / path).exists()] == []


def test_its_subcommands_are_there() -> None:
    words = set(re.findall(r"`lvsd ([a-z]+)", README))
    help_text = make_parser().format_help()
    assert [word for word in words if f"    {word} " not in help_text] == []
