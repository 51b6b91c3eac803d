"""Programs that lvsd is asked to run."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from conftest import PROGRAMS, FakeNames, Texts

from lvsd.config.load import load
from lvsd.config.source import Program, Unreadable
from lvsd.edge.loader import Files
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "/etc/lvsd/notify.sh"
TEXT = (
    "virtual_services: {}\nvrrp:\n"
    "  vip: {interface: eth0, virtual_router_id: 51, addresses: [192.0.2.1/24],\n"
    f"    notify: {SCRIPT} --now}}\n"
)
SAFE = Program(stat.S_IFREG | 0o755, {"/etc/lvsd": stat.S_IFDIR | 0o755, "/opt/x": stat.S_IFDIR | 0o700})


def messages(program: Program | None) -> list[str]:
    """Return what is said of the configuration where the script is `program`."""
    programs = {} if program is None else {SCRIPT: program}
    try:
        load("lvsd.yaml", Texts({"lvsd.yaml": TEXT}, programs), FakeNames())
    except ConfigError as error:
        return [
            str(mistake).removeprefix(f"lvsd.yaml:4:13: vrrp.vip.notify: {SCRIPT} ")
            for mistake in error.mistakes
        ]
    return []


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o511, 0o4755])
def test_a_program_that_its_owner_alone_can_change_is_fine(mode: int) -> None:
    assert messages(Program(stat.S_IFREG | mode, SAFE.directories)) == []
    assert PROGRAMS[SCRIPT].mode == stat.S_IFREG | 0o755


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (None, "does not exist on this host: install it, or mend its path"),
        (Program(stat.S_IFDIR | 0o755, {}), "is no file that can be run"),
        (Program(stat.S_IFREG | 0o644, {}), f"is not executable: chmod +x {SCRIPT}"),
        (
            Program(stat.S_IFREG | 0o775, {}),
            f"can be changed by others than its owner: chmod go-w {SCRIPT}",
        ),
        (
            Program(stat.S_IFREG | 0o757, {}),
            f"can be changed by others than its owner: chmod go-w {SCRIPT}",
        ),
        (
            Program(stat.S_IFREG | 0o755, {"/tmp": stat.S_IFDIR | 0o1777}),  # noqa: S108 - named, not used
            "can be replaced by others than its owner: chmod go-w /tmp, or put it elsewhere",
        ),
        (
            Program(stat.S_IFREG | 0o755, {"/etc/lvsd": stat.S_IFDIR | 0o775, "/opt": stat.S_IFDIR | 0o755}),
            "can be replaced by others than its owner: chmod go-w /etc/lvsd, or put it elsewhere",
        ),
    ],
)
def test_a_program_that_others_can_change_or_that_does_not_run_is_refused(
    program: Program | None, message: str
) -> None:
    assert messages(program) == [message]


def test_what_is_wrong_with_a_program_is_said_all_at_once() -> None:
    assert len(messages(Program(stat.S_IFREG | 0o666, {"/a": 0o40777, "/b": 0o40777}))) == 4


def test_the_system_tells_the_modes_of_a_program_and_its_directory(tmp_path: Path) -> None:
    script = tmp_path / "notify.sh"
    script.touch()
    script.chmod(0o754)
    tmp_path.chmod(0o750)
    assert Files().program(str(script)) == Program(
        stat.S_IFREG | 0o754, {str(tmp_path): stat.S_IFDIR | 0o750}
    )


def test_the_directory_that_a_link_leads_to_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    script, link = tmp_path / "real/notify.sh", tmp_path / "link"
    script.touch(0o700)
    link.symlink_to(script)
    (tmp_path / "real").chmod(0o777)
    found = Files().program(str(link))
    assert found.directories[str(tmp_path / "real")] == stat.S_IFDIR | 0o777
    assert found.directories.keys() == {str(tmp_path), str(tmp_path / "real")}
    assert stat.S_IMODE(found.mode) == 0o700


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nonesuch/x", "does not exist on this host"),
        ("/etc/passwd/x", "cannot be looked at: Not a directory"),
        (f"/{'x' * 300}", "cannot be looked at: File name too long"),
    ],
)
def test_a_program_that_cannot_be_looked_at_is_said_so(path: str, words: str) -> None:
    with pytest.raises(Unreadable, match=f"^{words}$"):
        Files().program(path)


def test_links_that_go_round_in_a_circle_are_no_program(tmp_path: Path) -> None:
    for name, target in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(tmp_path / target)
    with pytest.raises(Unreadable):
        Files().program(os.fspath(tmp_path / "a"))
