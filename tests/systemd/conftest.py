"""These tests run in a lab whose process 1 is a real systemd: one boot for all that were selected.

On the host a test is not run: the first one boots the lab, which runs pytest on all of them, and each one's
reports are taken from there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lvsd.lab import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
REPORTS = "LVSD_TEST_REPORTS"
HOW = "tests under systemd left out, for this lab has none; run them with: python -m pytest tests/systemd"
# Descriptor 3 is the lab's output, for the reports; what pytest itself says is told where one is missing.
SCRIPT = 'exec 3>&1; "$@" >/run/pytest.out 2>&1; echo; cat /run/pytest.out'
TIME_LIMIT = 1800.0

outcomes = pytest.StashKey[dict[str, list[dict[str, Any]]]]()
said = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: boots a lab")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        item.add_marker("lab")
    if kernel.inside() and not _has_systemd():
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


def pytest_report_collectionfinish() -> str | None:
    return HOW if kernel.inside() and not _has_systemd() else None


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """On the host, tell what came of the test in the lab. This is called for tests of other folders too."""
    if kernel.inside() or not item.path.is_relative_to(HERE):
        return None
    stash = item.session.stash
    if outcomes not in stash:
        ids = [each.nodeid for each in item.session.items if each.path.is_relative_to(HERE)]
        output = _run_in_lab(item.config.rootpath, ids)
        stash[outcomes] = _reports(output.splitlines())
        stash[said] = output
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for told in stash[outcomes].get(item.nodeid) or [_missing(item, stash[said])]:
        hook.pytest_runtest_logreport(
            report=item.config.hook.pytest_report_from_serializable(config=item.config, data=told)
        )
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the lab, write each report where the host reads it."""
    if REPORTS in os.environ:
        line = json.dumps(_plain(report)) + "\n"
        os.write(int(os.environ[REPORTS]), line.encode())


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _run_in_lab(root: Path, ids: Iterable[str]) -> str:
    """Run the tests in the lab and return all that it said."""
    pytest_there = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *ids]
    with tempfile.TemporaryFile() as output:
        status = kernel.run_in_kernel(
            ["sh", "-c", SCRIPT, "sh", *pytest_there],
            environment={**os.environ, REPORTS: "3"},
            directory=root,
            systemd=True,
            timeout=TIME_LIMIT,
            output=output.fileno(),
        )
        output.seek(0)
        return f"{output.read().decode(errors='replace')}\nexit status {status}"


def _reports(lines: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    reports: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line.startswith('{"$report_type"'):
            told = json.loads(line)
            reports.setdefault(told["nodeid"], []).append(told)
    return reports


def _plain(report: pytest.TestReport) -> dict[str, Any]:
    return {"$report_type": "TestReport", **report._to_json()}  # noqa: SLF001 - what xdist does


def _missing(item: pytest.Item, output: str) -> dict[str, Any]:
    """Return a failure that tells what the lab said in place of this test's reports."""
    text = "\n".join(line for line in output.splitlines() if not line.startswith('{"$report_type"'))
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"the lab has no report of this test; it said:\n{text[-8000:]}",
        when="call",
    )
    return _plain(report)
