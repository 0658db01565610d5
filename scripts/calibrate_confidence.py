"""Prints how often values of each confidence are right, on drawn plates that the demo model never saw.

    python scripts/calibrate_confidence.py
    python scripts/calibrate_confidence.py --model models/demo --pictures 60 --blur 0,1,2

Every plate is asked for as a form, held to its schema, once as drawn and once for each blur, so that there are wrong values
to be doubted. A confidence is good where the share of right values in a row is near its mean confidence.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image, ImageFilter

from qwen_vl_app.answers import nullable_schema, value_scores
from qwen_vl_app.chat import Message, SamplingParams, ScoredToken
from qwen_vl_app.engine.base import GenerationRequest, TokenStep
from qwen_vl_app.engine.local import LocalEngine
from qwen_vl_app.imaging import PictureDecoder, to_image_input
from scripts.demo_model.examination import Paper, papers

BOUNDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
SEED = 777


@dataclass(frozen=True)
class Judged:
    """One value: how sure the model was, by its tokens' mean and their least, and whether it is right."""

    mean: float
    least: float
    is_right: bool


def blurred(file: bytes, radius: float) -> bytes:
    """Return the picture out of focus."""
    if not radius:
        return file
    out = io.BytesIO()
    Image.open(io.BytesIO(file)).convert("RGB").filter(ImageFilter.GaussianBlur(radius)).save(out, "PNG")
    return out.getvalue()


def judged(engine: LocalEngine, decoder: PictureDecoder, paper: Paper, radius: float) -> Iterator[Judged]:
    """Ask for a plate's form and yield each of its values."""
    question = next((each.question for each in paper.exchanges if each.skill == "json"), None)
    if question is None or not paper.picture.rows:
        return
    shown = decoder.render(
        blurred(paper.file, radius), name=paper.name, page=0, fit=lambda size: engine.seen_size(size).size
    )
    rows = {row.label: row.value for row in paper.picture.rows}
    schema = {"type": "object", "properties": {label: {"type": "string"} for label in rows}}
    request = GenerationRequest(
        (Message("user", question, (to_image_input(shown.seen_png),)),),
        SamplingParams(max_new_tokens=256),
        schema=nullable_schema(json.dumps(schema)),
        is_schema_open=True,
    )
    text, tokens = "", []
    for step in engine.generate(request, should_stop=lambda: False):
        if isinstance(step, TokenStep):
            text += step.text
            tokens.append(ScoredToken(step.text, step.logprob, step.raw, step.allowed))
    for path, score in value_scores(text, tokens).items():
        if score.value is not None and path[-1] in rows:
            yield Judged(score.mean, score.least, score.value == rows[str(path[-1])])


def table(found: list[Judged], by: str) -> Iterator[str]:
    """Yield the reliability table's lines, and its expected error: the mean distance of confidence and truth."""
    error = 0.0
    yield f"{by:>15}   values   mean confidence   right"
    for low, high in zip(BOUNDS, (*BOUNDS[1:], 1.01), strict=True):
        inside = [each for each in found if low <= getattr(each, by) < high]
        if not inside:
            continue
        sure = sum(getattr(each, by) for each in inside) / len(inside)
        right = sum(each.is_right for each in inside) / len(inside)
        error += abs(sure - right) * len(inside) / len(found)
        yield f"{low:6.3f} .. {min(high, 1.0):.3f} {len(inside):8} {sure:17.3f} {right:7.3f}"
    yield f"expected calibration error {error:.3f}"


def caught(found: list[Judged], by: str) -> Iterator[str]:
    """Yield, for some limits, how many wrong values lie below and how many right ones with them."""
    wrong = [getattr(each, by) for each in found if not each.is_right]
    right = [getattr(each, by) for each in found if each.is_right]
    for limit in BOUNDS[3:]:
        below, doubted = sum(each < limit for each in wrong), sum(each < limit for each in right)
        yield f"below {limit:.3f}: {below} of {len(wrong)} wrong values caught, {doubted} of {len(right)} right ones doubted"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent.parent / "models" / "demo")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--blur", default="0,1,2", help="radii in pixels, with commas between")
    given = parser.parse_args()
    engine = LocalEngine(given.model.parent, model=given.model.name)
    engine.load()
    decoder = PictureDecoder(max_bytes=2**24, max_pixels=10_000_000, timeout_s=60.0)
    decoder.start()
    asked = papers(SEED, given.pictures)
    found: list[Judged] = []
    try:
        for radius in (float(each) for each in given.blur.split(",")):
            here = [each for paper in asked for each in judged(engine, decoder, paper, radius)]
            found += here
            print(f"blur {radius:g}: {len(here)} values, {sum(each.is_right for each in here)} right")
    finally:
        decoder.close()
        engine.close()
    if not found:
        sys.exit("no plate was answered as a form")
    for by in ("mean", "least"):
        print(*("", *table(found, by), *caught(found, by)), sep="\n")


if __name__ == "__main__":
    main()
