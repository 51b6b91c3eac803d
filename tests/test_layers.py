"""Who may import what: design.md's shape, as data."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"lvsd.model", "lvsd.errors"},
    {"lvsd.config.model"},
    {"lvsd.events"},
    {"lvsd.state", "lvsd.events_doc"},
    {"lvsd.config"},
    {"lvsd.health"},
    {"lvsd.ipvs"},
    {"lvsd.vrrp"},
    {
        "lvsd.effects",
        "lvsd.telling",
        "lvsd.adoption",
        "lvsd.vips",
        "lvsd.director",
        "lvsd.status_text",
        "lvsd.virtual_router",
        "lvsd.failover",
        "lvsd.explain",
        "lvsd.history",
    },
    {"lvsd.edge", "lvsd.lab", "lvsd.cli", "lvsd.__main__"},
]
"""A module imports only what stands above it or beside it. A package means all of its modules."""

EDGE = LAYERS[-1]

SYSTEM = {
    "aiohttp", "asyncio", "os", "pyroute2", "random", "selectors", "signal", "socket", "structlog",
    "subprocess", "threading", "time",
}  # fmt: skip
"""What reads a clock, waits or touches the system: for the edge alone."""

LOGGING = {"structlog": {"lvsd.edge.log"}, "logging": {"lvsd.edge.log", "lvsd.edge.daemon"}}
"""Who may import what writes logs; the daemon takes in what the libraries log."""

CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.glob("lvsd/**/*.py")}


def imports(module: str) -> Iterator[str]:
    """Yield the full names of what a module imports, anywhere in it."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where things are"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def layer_of(module: str) -> int | None:
    """Return the number of a module's layer: that of its longest name in LAYERS."""
    while module != "lvsd":
        for number, layer in enumerate(LAYERS):
            if module in layer:
                return number
        module = module.rpartition(".")[0]
    return None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    layer = layer_of(module)
    if layer is None:
        assert module == "lvsd"
        return
    imported = {each: layer_of(each) for each in imports(module) if each.startswith("lvsd.")}
    assert [each for each, other in imported.items() if other is None or other > layer] == []


@pytest.mark.parametrize("module", sorted(each for each in MODULES if layer_of(each) != len(LAYERS) - 1))
def test_only_the_edge_touches_the_system(module: str) -> None:
    assert {each.partition(".")[0] for each in imports(module)} & SYSTEM == set()
    called = {node.func.attr for node in ast.walk(MODULES[module]) if is_method_call(node)}  # type: ignore[attr-defined]
    assert called & CLOCKS == set()


def is_method_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)


@pytest.mark.parametrize("library", sorted(LOGGING))
def test_the_log_is_written_in_one_place(library: str) -> None:
    assert {module for module in MODULES if library in set(imports(module))} <= LOGGING[library]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("lvsd.config.model", {"pydantic", "yaml", "asyncio"}),
        ("lvsd.director", {"pydantic", "yaml", "asyncio", "socket", "pyroute2", "aiohttp", "structlog"}),
        ("lvsd.state", {"pydantic", "yaml", "asyncio", "pyroute2", "aiohttp", "structlog"}),
        ("lvsd.edge.run", {"pydantic", "yaml"}),
        ("lvsd.cli", {"pyroute2", "aiohttp", "pydantic", "yaml", "structlog"}),
    ],
)
def test_what_is_slow_to_import_is_not_imported_by(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({unwanted!r} & sys.modules.keys()))"
    found = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == []
