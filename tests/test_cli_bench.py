"""`bench` prints a table in both languages, writes JSON and a chart, and refuses what cannot be measured."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.errors import ModelFolderError

FIGURES = {
    "first_token_s": 0.8, "decode_tokens_per_s": 90.0, "follow_up_first_token_s": 0.02, "mixed_s": 1.2, "load_s": 3.0,
    "peak_bytes": 3_100_000_000, "gb_per_s": 28.0, "share_of_limit": 0.59,
}  # fmt: skip
ARMS = (("stock fp32", True, 2.0), ("ours", False, 0.8))


def a_report(**given: Any) -> Mapping[str, Any]:
    """Return a small report, as a measurement would."""
    sizes = [f"{size.width}x{size.height}" for size in given["sizes"]]
    return {
        "model": "random-0.4b", "parameters": 430_000_000, "threads": 2, "limit_gb_per_s": 47.0, "left_out": ["stock bf16"],
        "measured_at": "2026-11-21T03:30:00+00:00",
        "machine": {"processor": "a processor", "torch": "2.13.0", "transformers": "5.23.0"},
        "arms": [
            {"name": name, "is_stock": stock, "sizes": {size: {**FIGURES, "first_token_s": first} for size in sizes}}
            for name, stock, first in ARMS
        ],
        "quality": [{"precision": "int8", "asked": 40, "same": 38, "marked": 30, "right": 29, "likelihood_off": 0.0123}],
        "ratios": {size: {"first_token_sooner": 2.5, "decode_faster": 5.0, "follow_up_sooner": 40.0, "loop_share": 0.03}
                   for size in sizes},
    }  # fmt: skip


@pytest.mark.parametrize(("language", "word"), [("en", "cold first"), ("zh", "冷首字")])
def test_a_table_a_file_and_a_chart(
    language: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every arm has its line for every size, and both files hold what was measured."""
    figures, chart = tmp_path / "bench.json", tmp_path / "bench.png"
    arguments = ["bench", "--sizes", "512,1024", "--json", str(figures), "--chart", str(chart), "--language", language]
    parts = Parts(bench=a_report, environment={}, settings_file=tmp_path / "none.toml")
    assert main(arguments, parts=parts) == 0
    said = capsys.readouterr()
    assert said.out.count("stock fp32 ") == 2 and said.out.count("ours ") == 2
    assert word in said.out and "3.10 GB" in said.out and "59%" in said.out
    assert "stock bf16" in said.err
    assert all(figure in said.out for figure in ("int8", "38", "29", "0.0123"))
    assert json.loads(figures.read_text(encoding="utf-8"))["arms"][1]["name"] == "ours"
    picture = Image.open(io.BytesIO(chart.read_bytes()))
    assert picture.format == "PNG" and picture.width == 1200
    blue = sum(pixel == (0x25, 0x63, 0xEB) for pixel in picture.convert("RGB").get_flattened_data())
    assert blue > 1000


def test_a_number_is_a_square_and_two_are_a_screen(tmp_path: Path) -> None:
    """Sizes reach the measurement as written, and so does the wish for a short one."""
    asked: dict[str, Any] = {}

    def measure(**given: Any) -> Mapping[str, Any]:
        asked.update(given)
        return a_report(**given)

    parts = Parts(bench=measure, environment={}, settings_file=tmp_path / "none.toml")
    assert main(["bench", "--sizes", "512,1920X1080", "--arms", "ends"], parts=parts) == 0
    assert asked["sizes"] == (Size(512, 512), Size(1920, 1080)) and asked["arms"] == "ends"


@pytest.mark.parametrize("sizes", ["", "512,x", "8", "100000", "x512", "1920x", "1920x1080x3", "512x8"])
def test_sizes_that_are_none_are_wrong_usage(sizes: str, tmp_path: Path) -> None:
    """A size that no picture can have is told with the range, before anything is measured."""
    parts = Parts(bench=a_report, environment={}, settings_file=tmp_path / "none.toml")
    assert main(["bench", "--sizes", sizes], parts=parts) == 2


def test_a_shape_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence names the shapes there are."""

    def refuse(**given: Any) -> Mapping[str, Any]:
        raise ModelFolderError("engine.bench.no_shape", shape=given["shape"], shapes="0.4b, 2b")

    parts = Parts(bench=refuse, environment={}, settings_file=tmp_path / "none.toml")
    assert main(["bench", "--shape", "13b", "--language", "en"], parts=parts) == 2
    assert "0.4b, 2b" in capsys.readouterr().err


def test_a_wrong_word_for_the_arms_is_refused_in_both_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With those that there are."""
    parts = Parts(bench=a_report, environment={}, settings_file=tmp_path / "none.toml")
    for language, word in (("en", "choose one of"), ("zh", "请选择")):
        assert main(["bench", "--arms", "some", "--language", language], parts=parts) == 2
        told = capsys.readouterr()
        assert word in told.err + told.out and "ends" in told.err + told.out
