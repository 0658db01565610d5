"""The second family's shipped model reads and finds through the app: values exactly, and boxes that it says in thousandths."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from qwen_vl_app.bootstrap import open_assistant
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.config import ROOT, load_settings
from qwen_vl_app.engine.folders import choose_model, list_models
from scripts.demo_model import relative
from scripts.demo_model.evaluate import Asker, ask_through_app, examine
from scripts.demo_model.examination import Paper
from scripts.demo_model.scoring import Marks, overlap

MODEL = ROOT / "models" / "demo-relative"
SEED, PICTURES = 4243, 10
LEAST = {"values_exact_en": 0.9, "values_exact_zh": 0.9, "boxes_iou50": 0.85, "row_box_iou50": 0.8, "count": 0.8}
LEAST_MISSING = {"all_answers": 0.85, "all_empty_list": 0.75}


@pytest.fixture(scope="module")
def held_out() -> list[Paper]:
    return relative.papers(SEED, PICTURES)


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    with ask_through_app(MODEL) as opened:
        yield opened


@pytest.fixture(scope="module")
def marks(ask: Asker, held_out: list[Paper]) -> Marks:
    return examine(ask, held_out)


@pytest.mark.parametrize("score", sorted(LEAST))
def test_it_answers_its_held_out_set(marks: Marks, score: str) -> None:
    """Values come out exactly and boxes overlap, in fractions of the upright original."""
    share = marks.scores()[score]
    assert share >= LEAST[score], f"{score}: {share:.3f} of {marks.asked[score]:g}"


@pytest.fixture(scope="module")
def missing(ask: Asker) -> Marks:
    return examine(ask, relative.skill_papers(SEED, 16), wide=True)


@pytest.mark.parametrize("score", sorted(LEAST_MISSING))
def test_it_says_what_is_not_there(missing: Marks, score: str) -> None:
    """Null, an empty list, none or a sentence, and not something made up."""
    share = missing.scores()[score]
    assert share >= LEAST_MISSING[score], f"{score}: {share:.3f} of {missing.asked[score]:g}"


def test_its_numbers_are_thousandths_of_the_picture(ask: Asker, held_out: list[Paper]) -> None:
    """What it says about a box is right on a grid of 1000, and would be elsewhere in pixels of any picture that it saw."""
    found = beyond = 0
    for paper in held_out:
        for exchange in paper.exchanges:
            if exchange.skill != "row_box":
                continue
            reply = ask(paper, exchange.question)
            body = json.loads(reply.text.strip().removeprefix("```json").removesuffix("```"))
            assert [list(box) for _, box in reply.regions] == [[v / 1000 for v in each["bbox_2d"]] for each in body]
            wanted = json.loads(exchange.answer.removeprefix("```json").removesuffix("```"))[0]["bbox_2d"]
            found += overlap(tuple(body[0]["bbox_2d"]), tuple(wanted)) >= 0.5
            beyond += wanted[2] > relative.SEEN[0] or wanted[3] > relative.SEEN[1]
    assert found >= 0.8 * PICTURES / 2
    assert beyond >= PICTURES / 4, "pixels of the seen picture would not tell the two spaces apart"


def test_the_answer_comes_from_the_picture(ask: Asker, held_out: list[Paper]) -> None:
    """With another panel in its place, the value of a panel is not said."""
    panels = [paper for paper in held_out if paper.picture.rows]
    said = asked = 0
    for paper, other in zip(panels, panels[1:] + panels[:1], strict=True):
        exchange = next(e for e in paper.exchanges if e.skill == "field")
        if exchange.answer not in {row.value for row in other.picture.rows}:
            asked += 1
            said += ask(other, exchange.question).text.strip() == exchange.answer
    assert asked
    assert said == 0


def test_the_command_line_gives_pixels_of_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held_out: list[Paper]
) -> None:
    """`ask --model models/demo-relative` about a large photo: a row's box where it is, in the photo's own pixels."""
    paper = next(p for p in held_out if p.picture.rows and p.picture.large.size != relative.SEEN)
    row = paper.picture.rows[0]
    large = Image.open(io.BytesIO(paper.file)).resize((1500, 900), Image.Resampling.BICUBIC)
    large.save(tmp_path / "panel.png")
    parts = Parts(
        settings_file=tmp_path / "config.toml",
        environment={"QWEN_VL_DATA_DIR": str(tmp_path / "data"), "QWEN_VL_LANGUAGE": "en"},
    )
    question = f"Outline the position of {row.label} and output all the coordinates in JSON format."
    status = main(["ask", str(tmp_path / "panel.png"), question, "--model", str(MODEL), "--json"], parts=parts)
    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert told["model"] == MODEL.name
    (region,) = told["regions"]
    scale = 1500 / paper.picture.image.width
    left, top, right, bottom = (edge * scale for edge in row.box)
    assert overlap(tuple(region["bbox"]), (left, top, right, bottom)) >= 0.5
    assert max(region["bbox"]) > 1000 or region["bbox"][3] > relative.SEEN[1]


def test_it_is_taken_by_name_only(tmp_path: Path) -> None:
    """Beside the first demo model it waits until it is asked for."""
    models = list_models(ROOT / "models")
    assert {model.name: (model.is_demo, model.is_complete) for model in models}[MODEL.name] == (True, True)
    assert choose_model([model for model in models if model.is_demo], 2**34).folder.name == "demo"
    settings = load_settings(overrides={"models_dir": ROOT / "models", "model": MODEL.name, "data_dir": tmp_path})
    with open_assistant(settings) as assistant:
        assert assistant.wait_until_loaded(120.0).model == MODEL.name
