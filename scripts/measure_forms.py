"""Measure what forms are worth on this model: `python scripts/measure_forms.py --pictures 60`.

Draws held-out panels, makes them hard (soft, noisy, in fonts that were never taught), fills a form from each that also asks
for a label that is not there, and looks at every value a second time, the app's own path. Prints how often values are right,
how many wrong ones the second look catches and how many right ones it doubts, how often null is given for what is not there,
and what a confidence is worth.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, the project's root is not on the path

from qwen_vl_app import bootstrap
from qwen_vl_app.config import load_settings
from qwen_vl_app.forms import (
    FillPlan,
    FormField,
    FormFiller,
    FormTemplate,
    JudgedForm,
    LookAt,
    LookOutcome,
    Names,
    judge,
)
from scripts.demo_model.drawing import Picture
from scripts.demo_model.panels import draw_panel
from scripts.demo_model.phrases import LABELS

FONTS = ("NotoSans-Bold", "NotoSerif-Bold", "OpenSans-CondBold", "RobotoCondensed-Bold", "Roboto-Medium")
BANDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.01)


@dataclass(frozen=True)
class Marked:
    """One value that stands on a picture, and what became of it."""

    is_right: bool
    is_null: bool
    confidence: float | None
    look: LookOutcome | None


@dataclass(frozen=True)
class Absent:
    """A label that is not on the picture, and whether null was given."""

    is_null: bool


def hard_panels(count: int, *, seed: int, hardness: float) -> Iterator[tuple[Picture, bytes]]:
    """Yield panels with their PNG files at three times the seen size, blurred and noisy up to `hardness`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        picture = draw_panel(rng, rows=int(rng.integers(2, 5)), scale=3.0, fonts=FONTS)
        soft = picture.large.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 4.5 * hardness))))
        noise = rng.normal(0, float(rng.uniform(0, 40 * hardness)), (soft.height, soft.width, 1))
        worn = Image.fromarray((np.asarray(soft, dtype=float) + noise).clip(0, 255).astype("uint8"))
        file = io.BytesIO()
        worn.save(file, "PNG")
        yield picture, file.getvalue()


def template_for(picture: Picture, rng: np.random.Generator) -> tuple[FormTemplate, str]:
    """Return a form that asks for the panel's labels and for one that is not there, and the key of that one."""
    there = [row.label for row in picture.rows]
    free = [label for label in LABELS if label not in there]
    absent = free[int(rng.integers(0, len(free)))]
    labels = [*there, absent]
    fields = tuple(FormField(f"f{at}", Names(en=label)) for at, label in enumerate(labels))
    return FormTemplate("panel", fields), fields[-1].key


def marks(judged: JudgedForm, picture: Picture, absent: str) -> Iterator[Marked | Absent]:
    """Yield what became of each field."""
    truth = {row.label: row.value for row in picture.rows}
    for each in judged.fields:
        if each.field.key == absent:
            yield Absent(each.value.is_null)
            continue
        look = each.reading.look
        is_right = each.value.written == truth[each.field.names.en]
        yield Marked(is_right, each.value.is_null, each.reading.confidence, None if look is None else look.outcome)


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--seed", type=int, default=9001)
    parser.add_argument("--hardness", type=float, default=1.0)
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--model", default=None)
    given = parser.parse_args()
    found: list[Marked] = []
    absent: list[Absent] = []
    rng = np.random.default_rng(given.seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"data_dir": Path(folder), "keep": "nothing", "model": given.model})
        with bootstrap.open_assistant(settings) as assistant:
            assistant.wait_until_loaded()
            filler = FormFiller(assistant)
            for picture, file in hard_panels(given.pictures, seed=given.seed, hardness=given.hardness):
                template, key = template_for(picture, rng)
                staged = assistant.stage(file, "panel.png")
                judged = judge(filler.fill(FillPlan(template, given.language, LookAt.ALL), staged).form)
                for mark in marks(judged, picture, key):
                    (found if isinstance(mark, Marked) else absent).append(mark)  # type: ignore[arg-type]
            model = assistant.status.engine
            print(
                f"{model.model} ({model.dtype}), {given.pictures} pictures, seed {given.seed}, language {given.language}"
            )
    report(found, absent)


def report(found: list[Marked], absent: list[Absent]) -> None:
    """Print the tables, as Markdown."""
    missed = sum(mark.is_null for mark in found)
    wrong = [mark for mark in found if not mark.is_right and not mark.is_null]
    right = [mark for mark in found if mark.is_right]
    print(
        f"\nvalues right: {_share(len(right), len(found))}; wrong: {len(wrong)}; null where something stands: {missed}"
    )
    print(f"null for what is not there: {_share(sum(mark.is_null for mark in absent), len(absent))}\n")
    print("| second look | of wrong values | of right values |\n|---|---|---|")
    wrongs, rights = Counter(mark.look for mark in wrong), Counter(mark.look for mark in right)
    for look in LookOutcome:
        print(f"| {look.value} | {_share(wrongs[look], len(wrong))} | {_share(rights[look], len(right))} |")
    print("\n| confidence | values | right |\n|---|---|---|")
    known = [mark for mark in found if mark.confidence is not None and not mark.is_null]
    for low, high in pairwise(BANDS):
        band = [mark for mark in known if mark.confidence is not None and low <= mark.confidence < high]
        if band:
            print(f"| {low:g} to {min(high, 1):g} | {len(band)} | {_share(sum(m.is_right for m in band), len(band))} |")
    print("\n| a person is asked where | of wrong values | of right values |\n|---|---|---|")
    for limit in (0.0, 0.8, 0.9, 0.95, 0.98, 0.99):
        for with_look in (False, True):
            caught = sum(_is_doubted(mark, limit, with_look) for mark in wrong)
            doubted = sum(_is_doubted(mark, limit, with_look) for mark in right)
            told = [f"confidence is below {limit:g}"] if limit else []
            told += ["the second look does not agree"] if with_look else []
            if told:
                print(f"| {', or '.join(told)} | {_share(caught, len(wrong))} | {_share(doubted, len(right))} |")


def _is_doubted(mark: Marked, limit: float, with_look: bool) -> bool:
    is_low = mark.confidence is not None and mark.confidence < limit
    return is_low or (with_look and mark.look is not LookOutcome.AGREE)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} % ({count} of {total})" if total else "none"


if __name__ == "__main__":
    main()
