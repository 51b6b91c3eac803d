"""Lab tests run inside a lab's kernel; what fails there says what every host's log said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.lab import kernel
from lvsd.lab.classic import classic
from lvsd.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = Path(__file__).parent
HOW = "lab tests left out, for this is no lab; run them with: lvsd lab run -- python -m pytest tests/lab"


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """The classic network with nginx and telnetd on its real servers."""
    async with Lab(classic()) as built:
        yield built


@pytest.fixture
async def bare_lab() -> AsyncIterator[Lab]:
    """The classic network with no services, for tests whose servers misbehave."""
    async with Lab(classic(services=False)) as built:
        yield built


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="N/M", default="1/1", help="of all files, each Mth from the Nth on")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    left_out = _of_other_parts(ours, config.getoption("part", "1/1")) if kernel.inside() else ours
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_report_collectionfinish() -> str | None:
    return None if kernel.inside() else HOW


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    network = next(
        (value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Lab)), None
    )
    if report.when == "call" and report.failed and network is not None:
        report.sections.append(("what the lab's hosts said", network.report()))
    return report


def _of_other_parts(items: list[pytest.Item], part: str) -> list[pytest.Item]:
    """Return the tests of the files that are not of the part `N/M`."""
    number, parts = map(int, part.split("/"))
    files = sorted({item.path for item in items})
    return [item for item in items if item.path not in files[number - 1 :: parts]]
