"""Programs that lvsd is asked to run."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest
from conftest import NOTIFY, PROGRAMS, USERS, FakeNames, Texts

from lvsd.config.load import load
from lvsd.config.source import Entry, Program, Unreadable
from lvsd.edge.loader import Files
from lvsd.edge.unprivileged import number_of
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = NOTIFY
TEXT = (
    "virtual_services: {{}}\nvrrp:\n"
    "  vip: {{interface: eth0, virtual_router_id: 51, addresses: [192.0.2.1/24],\n"
    "    notify: {{any: {script} --now, user: {user}}}}}\n"
)
FILE, DIRECTORY, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


def messages(user: str = "lvsd", **way: Entry) -> list[str]:
    """Return what is said of the configuration where the way to the script has `way`, by its last names."""
    names = {"root": "/", "etc": "/etc", "lvsd": "/etc/lvsd", "script": SCRIPT, "link": "/etc/link"}
    passed = PROGRAMS[SCRIPT].way | {names[name]: entry for name, entry in way.items()}
    return said(Program(SCRIPT, passed), user)


def said(program: Program | None, user: str = "lvsd") -> list[str]:
    """Return what is said of the configuration where the script is `program`."""
    programs = {} if program is None else {SCRIPT: program}
    text = TEXT.format(script=SCRIPT, user=user)
    try:
        load("lvsd.yaml", Texts({"lvsd.yaml": text}, programs), FakeNames())
    except ConfigError as error:
        return [
            str(mistake).removeprefix(f"lvsd.yaml:4:19: vrrp.vip.notify.any: {SCRIPT} ")
            for mistake in error.mistakes
        ]
    return []


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o511, 0o4755])
@pytest.mark.parametrize("owner", [0, USERS["lvsd"]])
def test_a_program_that_root_or_who_runs_it_alone_can_change_is_fine(mode: int, owner: int) -> None:
    mine = {"etc": Entry(DIRECTORY | 0o700, owner), "lvsd": Entry(DIRECTORY | 0o755, owner)}
    assert messages(script=Entry(FILE | mode, owner), link=Entry(LINK | 0o777, owner), **mine) == []


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"script": Entry(DIRECTORY | 0o755)}, "is no file that can be run"),
        ({"script": Entry(FILE | 0o644)}, f"is not executable: chmod +x {SCRIPT}"),
        (
            {"script": Entry(FILE | 0o775)},
            f"can be changed by others than its owner: chmod go-w {SCRIPT}",
        ),
        (
            {"script": Entry(FILE | 0o1757)},
            f"can be changed by others than its owner: chmod go-w {SCRIPT}",
        ),
        (
            {"script": Entry(FILE | 0o755, 1000, "ann")},
            f"can be changed by ann, who owns {SCRIPT}: chown root {SCRIPT}",
        ),
        (
            {"lvsd": Entry(DIRECTORY | 0o775)},
            "can be replaced by others than its owner: chmod go-w /etc/lvsd, or put it elsewhere",
        ),
        (
            {"root": Entry(DIRECTORY | 0o757)},
            "can be replaced by others than its owner: chmod go-w /, or put it elsewhere",
        ),
        (
            {"etc": Entry(DIRECTORY | 0o1777, 1000, "1000")},
            "can be replaced by 1000, who owns /etc: chown root /etc, or put it elsewhere",
        ),
        (
            {"link": Entry(LINK | 0o777, 1000, "ann")},
            "can be replaced by ann, who owns /etc/link: chown -h root /etc/link, or put it elsewhere",
        ),
    ],
)
def test_a_program_that_others_can_change_or_that_does_not_run_is_refused(
    way: dict[str, Entry], message: str
) -> None:
    assert messages(**way) == [message]


def test_a_program_that_is_missing_is_said_so() -> None:
    assert said(None) == ["does not exist on this host: install it, or mend its path"]


def test_others_may_write_in_a_sticky_directory_where_they_cannot_touch_what_is_not_theirs() -> None:
    sticky = Entry(DIRECTORY | 0o1777)
    assert messages(etc=sticky, lvsd=sticky) == []
    assert messages(etc=sticky, lvsd=Entry(DIRECTORY | 0o755, 1000, "ann")) == [
        "can be replaced by ann, who owns /etc/lvsd: chown root /etc/lvsd, or put it elsewhere"
    ]


def test_what_root_runs_is_roots_alone() -> None:
    lvsds = Entry(FILE | 0o755, USERS["lvsd"], "lvsd")
    assert messages("lvsd", script=lvsds) == []
    refused = [f"can be changed by lvsd, who owns {SCRIPT}: chown root {SCRIPT}"]
    assert messages("root", script=lvsds) == refused
    assert messages("nonesuch", script=lvsds) == refused


def test_what_is_wrong_with_a_program_is_said_all_at_once() -> None:
    open_to_all = Entry(DIRECTORY | 0o777)
    assert len(messages(etc=open_to_all, lvsd=open_to_all, script=Entry(FILE | 0o666, 1000, "ann"))) == 5


def test_the_system_tells_modes_and_owners_of_a_program_and_all_above_it(tmp_path: Path) -> None:
    script = tmp_path / "notify.sh"
    script.touch()
    script.chmod(0o754)
    tmp_path.chmod(0o750)
    found = Files().program(f"{tmp_path.parent}/.//{tmp_path.name}/../{tmp_path.name}/notify.sh")
    assert found.file == str(script)
    assert found.way.keys() == {str(each) for each in (script, *script.parents)}
    mine = pwd.getpwuid(os.geteuid())
    assert found.way[str(tmp_path)] == Entry(DIRECTORY | 0o750, mine.pw_uid, mine.pw_name)
    assert found.way[str(script)] == Entry(FILE | 0o754, mine.pw_uid, mine.pw_name)


@pytest.mark.parametrize("target", ["../real/notify.sh", "{here}/real/notify.sh"])
def test_links_on_the_way_and_what_they_lead_to_count_as_well(tmp_path: Path, target: str) -> None:
    for name in ("real", "links"):
        (tmp_path / name).mkdir()
    script, link, folder = tmp_path / "real/notify.sh", tmp_path / "links/notify", tmp_path / "folder"
    script.touch(0o700)
    link.symlink_to(target.format(here=tmp_path))
    folder.symlink_to("links")
    found = Files().program(str(folder / "notify"))
    assert found.file == str(script)
    assert found.mode == FILE | 0o700
    assert found.way.keys() == {
        str(each) for each in (folder, link.parent, link, script.parent, script, *folder.parents)
    }
    assert {path for path, entry in found.way.items() if stat.S_ISLNK(entry.mode)} == {str(folder), str(link)}


def test_a_program_is_refused_for_a_directory_far_above_it(tmp_path: Path) -> None:
    script = tmp_path / "open/inner/notify.sh"
    script.parent.mkdir(parents=True)
    script.touch()
    script.chmod(0o755)
    file = tmp_path / "lvsd.yaml"
    file.write_text(TEXT.format(script=script, user=pwd.getpwuid(os.geteuid()).pw_name))
    load(str(file), Files(), FakeNames())
    (tmp_path / "open").chmod(0o775)
    with pytest.raises(ConfigError, match=f"chmod go-w {tmp_path}/open, or put it elsewhere$"):
        load(str(file), Files(), FakeNames())


def test_what_a_user_runs_may_be_roots_the_users_own_or_that_of_who_runs_lvsd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Files().trusted("nobody") == {0, nobody}
    assert Files().trusted("nonesuch") == Files().trusted("root") == {0}
    assert Files().trusted("") == {0, number_of("lvsd") or nobody}
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert Files().trusted("nobody") == {0, 1, nobody}
    assert Files().trusted("") == Files().trusted("nonesuch") == {0, 1}
    assert Files().trusted("root") == {0}


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
