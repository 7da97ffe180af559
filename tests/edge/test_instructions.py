"""The table of instructions that `make budget` holds requests against: `.ci/budget` counts, which takes minutes."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.loads import LOADS

BENCH = Path(__file__).parents[2] / "bench" / "instructions.py"


@pytest.fixture(name="bench")
def loaded() -> ModuleType:
    """The program, which is no module of a package."""
    spec = spec_from_file_location("instructions", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_every_load(bench: ModuleType) -> None:
    """Whoever adds a load, or an interpreter, counts all of it."""
    table = json.loads(bench.TABLE.read_text())
    assert table
    assert {key: set(figures) for key, figures in table.items()} == {key: {*LOADS} for key in table}


@pytest.mark.parametrize(("figure", "status"), [(1029.0, 0), (1031.0, 1), (500.0, 0)])
def test_a_dearer_request_fails(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    figure: float,
    status: int,
) -> None:
    """From 3 % on, and it says which load and by how much; what no figure is there for is said, too."""
    monkeypatch.setattr(bench, "TABLE", tmp_path / "table.json")
    bench.checked({"post": 1000.0}, "this one", write=True)
    assert bench.checked({"post": figure}, "this one", write=False) == status
    assert ("post has become dearer: 1.031 of 1,000" in capsys.readouterr().out) == bool(status)
    assert bench.checked({"post": figure}, "another", write=False) == 0
    assert "has no figures of another" in capsys.readouterr().out
