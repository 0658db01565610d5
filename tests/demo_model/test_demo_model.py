"""The shipped demo model reads its fixed held-out set through the app: picture file in, parsed answer out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.demo_model.evaluate import Asker, ask_through_app, examine
from scripts.demo_model.examination import skill_papers
from scripts.demo_model.scoring import Marks, Reply, overlap

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "demo"
HELD_OUT = ROOT / "tests" / "data" / "demo"
LEAST_VALUES, LEAST_BOXES, LEAST_REST = 0.95, 0.90, 0.90
SKILLS_SEED, SKILL_PICTURES = 77, 10
LEAST_OF_SKILLS = {
    "all_answers": 0.85,
    "all_json_valid": 0.97,
    "all_json_null": 0.85,
    "outside_honest": 0.9,
    "pair_difference": 0.6,
    "talk_about": 0.9,
}


@dataclass(frozen=True)
class File:
    """A held-out picture as the asker wants it."""

    file: bytes
    name: str

    @property
    def files(self) -> tuple[tuple[bytes, str], ...]:
        return ((self.file, self.name),)


@dataclass(frozen=True)
class Marked:
    """One question's mark: `right` of `asked`."""

    kind: str
    language: str
    right: int
    asked: int


def mark_values(entry: dict[str, Any], reply: Reply) -> tuple[int, int]:
    """Count the values of a reading answer that are exactly right."""
    if "lines" in entry:
        said = [line.strip() for line in reply.text.strip().split("\n")]
        return sum(a == b for a, b in zip(said, entry["lines"], strict=False)), len(entry["lines"])
    if "data" in entry:
        found = reply.data if isinstance(reply.data, dict) else {}
        return sum(found.get(k) == v for k, v in entry["data"].items()), len(entry["data"])
    return int(reply.text.strip() == entry["text"]), 1


def mark_boxes(entry: dict[str, Any], reply: Reply) -> tuple[int, int]:
    """Count the wanted boxes that a box of the same label meets with an overlap of at least a half, each box once."""
    free = list(reply.regions)
    found = 0
    for wanted in entry["boxes"]:
        left, top, right, bottom = wanted["box"]
        same = [r for r in free if r[0] == wanted["label"]]
        best = max(same, key=lambda r: overlap(r[1], (left, top, right, bottom)), default=None)
        if best is not None and overlap(best[1], (left, top, right, bottom)) >= 0.5:
            free.remove(best)
            found += 1
    return found, len(entry["boxes"])


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    with ask_through_app(MODEL) as opened:
        yield opened


@pytest.fixture(scope="module")
def marks(ask: Asker) -> list[Marked]:
    pictures = json.loads((HELD_OUT / "expected.json").read_text(encoding="utf-8"))["pictures"]
    found = []
    for picture in pictures:
        file = File((HELD_OUT / picture["file"]).read_bytes(), picture["file"])
        for entry in picture["questions"]:
            reply = ask(file, entry["question"])
            if "boxes" in entry:
                found.append(Marked("boxes", entry["language"], *mark_boxes(entry, reply)))
            else:
                kind = "values" if entry["skill"] in ("read_all", "json", "field") else "rest"
                found.append(Marked(kind, entry["language"], *mark_values(entry, reply)))
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("kind", "least"), [("values", LEAST_VALUES), ("boxes", LEAST_BOXES), ("rest", LEAST_REST)])
def test_the_demo_model_answers_its_held_out_set(marks: list[Marked], kind: str, least: float, language: str) -> None:
    """Values come out exactly, boxes overlap, and counts, colours and yes or no are right, in both languages."""
    asked = [m for m in marks if m.kind == kind and m.language == language]
    share = sum(m.right for m in asked) / sum(m.asked for m in asked)
    assert share >= least, f"{kind} in {language}: {share:.3f} of {sum(m.asked for m in asked)}"


def test_the_answer_comes_from_the_picture(ask: Asker) -> None:
    """With another panel in its place, the value of a panel is not said."""
    pictures = json.loads((HELD_OUT / "expected.json").read_text(encoding="utf-8"))["pictures"]
    panels = [p for p in pictures if p["file"].startswith("panel")]
    said = 0
    for panel, other in zip(panels, panels[1:] + panels[:1], strict=True):
        field = next(q for q in panel["questions"] if q["skill"] == "field")
        wrong = File((HELD_OUT / other["file"]).read_bytes(), other["file"])
        said += ask(wrong, field["question"]).text.strip() == field["text"]
    assert said == 0


@pytest.fixture(scope="module")
def skills(ask: Asker) -> Marks:
    return examine(ask, skill_papers(SKILLS_SEED, SKILL_PICTURES), wide=True)


@pytest.mark.parametrize("skill", sorted(LEAST_OF_SKILLS))
def test_the_demo_model_says_what_is_not_there_and_what_it_cannot_tell(skills: Marks, skill: str) -> None:
    """Nulls, empty lists and honest sentences come out on pictures drawn afresh, and not made-up values."""
    share = skills.scores()[skill]
    assert share >= LEAST_OF_SKILLS[skill], f"{skill}: {share:.3f} of {skills.asked[skill]:g}"


@pytest.mark.parametrize(
    "sample", json.loads((MODEL / "samples" / "samples.json").read_text(encoding="utf-8")), ids=lambda s: s["file"]
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_sample_is_answered_as_it_says(ask: Asker, sample: dict[str, Any], language: str) -> None:
    """What a newcomer tries first comes out right."""
    file = File((MODEL / "samples" / sample["file"]).read_bytes(), sample["file"])
    reply = ask(file, sample["question"][language])
    assert reply.text.strip() == sample["answer"][language]
