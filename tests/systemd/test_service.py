"""The shipped unit under a real systemd as process 1."""

from __future__ import annotations

import pytest
from installed import (
    BOTH_UP,
    CONFIG,
    CONFIG_TEXT,
    install,
    page,
    run,
    show,
    table,
    until,
)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    install()
    run("systemctl", "start", "web@rs1", "web@rs2")


@pytest.fixture(autouse=True)
def _running() -> None:
    """Before each test lvsd runs with its first configuration, and both servers are up."""
    if CONFIG.read_text() != CONFIG_TEXT or show("SubState") != ["running"]:
        CONFIG.write_text(CONFIG_TEXT)
        run("systemctl", "restart", "lvsd")
    until(lambda: table() == BOTH_UP)


def test_the_start_is_over_when_the_director_is_ready() -> None:
    assert show("ActiveState", "SubState", "Result") == ["active", "running", "success"]
    until(lambda: show("StatusText") == ["1 virtual services, 2 of 2 probed servers up"])
    assert sorted(page() for _ in range(2)) == ["I am rs1\n", "I am rs2\n"]
