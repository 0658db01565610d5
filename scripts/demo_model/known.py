"""Write the known answers that come with the model: `python scripts/demo_model/known.py`.

It takes the sample pictures, whose answers `samples.py` held against their truth, and draws one more small picture for each skill that
no sample shows. What an answer must hold is the picture's truth: boxes as fractions, JSON as data, everything else as text. A picture
that the model reads wrongly is drawn again from the next number: the list says what this model can be held to on every machine, not
how often it is right, which is `evaluate.py`'s. `doctor` and the tests run it through `qwen_vl_app/known_answers.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # run as a file, the project's root is not on the path

from qwen_vl_app.known_answers import LISTING
from scripts.demo_model import relative, scenes
from scripts.demo_model.curriculum import Split, generator
from scripts.demo_model.evaluate import Asker, Photo, ask_through_app, family_of
from scripts.demo_model.families import RELATIVE
from scripts.demo_model.known_questions import KNOWN, RELATIVE_KNOWN, Known, Pictures
from scripts.demo_model.phrases import LANGUAGES
from scripts.demo_model.questions import Exchange
from scripts.demo_model.scoring import Marks, Reply, mark_wide

TRIES = 60
FOLDER = "known"


def wanted(exchange: Exchange, pictures: Pictures) -> dict[str, Any]:
    """Return what the answer to an exchange must hold."""
    body = exchange.answer.removeprefix("```json").removesuffix("```").strip()
    if body[:1] == "{" or body == "[]":
        return {"data": json.loads(body)}
    if body[:1] != "[":
        return {"text": exchange.answer}
    width, height = pictures[0].image.size
    boxes = []
    for each in json.loads(body):
        corners = [round(v / s, 5) for v, s in zip(each["bbox_2d"], (width, height, width, height), strict=True)]
        boxes.append({"label": each.get("label", each.get("text_content")), "box": corners})
    return {"boxes": boxes}


def _files(pictures: Pictures, name: str) -> tuple[tuple[bytes, str], ...]:
    files = []
    for number, picture in enumerate(pictures, 1):
        buffer = io.BytesIO()
        image = picture.large if picture.large.size == relative.SEEN else picture.image
        image.save(buffer, "PNG", optimize=True)
        files.append((buffer.getvalue(), f"{name.replace(' ', '-').lower()}-{number}.png"))
    return tuple(files)


def drawn_entries(folder: Path, ask: Asker, known: Known, number: int) -> list[dict[str, Any]]:
    """Draw until the model is right in both languages, write the pictures and return the entries. Raises ValueError if it never is.

    No two `number`s draw the same pictures.
    """
    for attempt in range(TRIES):
        rng = generator(Split.SAMPLES, number, attempt)
        pictures = known.draw(rng)
        files = _files(pictures, known.name)
        made = []
        for language in LANGUAGES:
            exchange = known.ask(rng, pictures, language)
            reply = ask(Photo(files), known.question[language])
            picture = pictures[0] if pictures else scenes.draw_scene(rng)
            if not mark_wide(Marks(), exchange, "known", picture, reply):
                break
            made.append(
                {
                    "name": f"{known.name} ({language})",
                    "pictures": [f"{FOLDER}/{name}" for _, name in files],
                    "question": known.question[language],
                    "answer": wanted(exchange, pictures),
                }
            )
        if len(made) == len(LANGUAGES):
            for data, name in files:
                (folder / FOLDER / name).write_bytes(data)
            return made
    raise ValueError(known.name)


def sample_entries(folder: Path, ask: Asker) -> list[dict[str, Any]]:
    """Return an entry for each sample and language. Raises ValueError for a sample that is not answered as it says."""
    made = []
    listing = folder / "samples" / "samples.json"
    for sample in json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []:
        shown = Photo((((folder / "samples" / sample["file"]).read_bytes(), sample["file"]),))
        for language, question in sample["question"].items():
            reply = ask(shown, question)
            if reply.text.strip() != sample["answer"][language]:
                raise ValueError(f"{sample['file']}: {reply.text!r}")
            made.append(
                {
                    "name": f"{Path(sample['file']).stem} ({language})",
                    "pictures": [f"samples/{sample['file']}"],
                    "question": question,
                    "answer": _held(reply),
                }
            )
    return made


def _held(reply: Reply) -> dict[str, Any]:
    if reply.regions:
        return {"boxes": [{"label": label, "box": [round(v, 5) for v in box]} for label, box in reply.regions]}
    return {"data": reply.data} if isinstance(reply.data, dict | list) else {"text": reply.text.strip()}


def main() -> None:
    """Read the command line, draw, ask and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PROJECT / "models" / "demo")
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out what the model never gets right, and say so"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.model.resolve()
    (folder / FOLDER).mkdir(exist_ok=True)
    with ask_through_app(folder) as ask:
        entries = sample_entries(folder, ask)
        chosen, start = (RELATIVE_KNOWN, 2000) if family_of(folder) is RELATIVE else (KNOWN, 1000)
        for number, known in enumerate(chosen, start):
            try:
                entries += drawn_entries(folder, ask, known, number)
            except ValueError:
                if not arguments.leave_out:
                    raise
                print(f"left out: {known.name}")
    (folder / LISTING).write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
