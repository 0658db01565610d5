"""Tiny models on disk, and engines that loaded them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_vl_app.engine.local.engine import LocalEngine
from tests.engine.harness import FAMILIES, Oracle, Pair
from tests.engine.tiny_models import MAKERS


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each family."""
    folder = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        MAKERS[family](folder / family)
    return folder


@pytest.fixture(scope="session", params=FAMILIES)
def shared_pair(request: pytest.FixtureRequest, models_dir: Path) -> Pair:
    """An engine of each family in fp32 with chunks of 16 tokens, so that every prompt is read in several."""
    engine = LocalEngine(models_dir, model=request.param, device="cpu", precision="fp32", threads=1, chunk_tokens=16)
    engine.load()
    return Pair(request.param, engine, Oracle(models_dir / request.param, request.param))


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """The same, with nothing held from the test before."""
    parts = shared_pair.engine._parts
    assert parts is not None
    parts.prefixes.clear()
    parts.features.clear()
    shared_pair.engine._fault = lambda point: None
    yield shared_pair
