"""Write the fixed held-out set of the test suite: `python scripts/demo_model/held_out.py FOLDER`.

Pictures come from examination seeds, which training never draws. `expected.json` carries everything a test needs, so that the
set stays the same when the drawing changes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, the project's root is not on the path

from scripts.demo_model.drawing import Box, Picture
from scripts.demo_model.examination import Paper, papers
from scripts.demo_model.phrases import KINDS
from scripts.demo_model.questions import Exchange

SEED = 4242
PICTURES = 24


def fractions(box: Box, picture: Picture) -> list[float]:
    """Return a box in fractions 0..1 of its picture."""
    width, height = picture.image.size
    return [round(v / s, 5) for v, s in zip(box, (width, height, width, height), strict=True)]


def expected(paper: Paper, exchange: Exchange) -> dict[str, Any]:
    """Return one question with everything that marks its answer."""
    entry: dict[str, Any] = {"skill": exchange.skill, "language": exchange.language, "question": exchange.question}
    picture = paper.picture
    match exchange.skill:
        case "read_all":
            entry["lines"] = [f"{row.label} {row.value}" for row in picture.rows]
        case "json":
            entry["data"] = {row.label: row.value for row in picture.rows}
        case "row_box":
            row = next(r for r in picture.rows if r.label == exchange.subject)
            entry["boxes"] = [{"label": row.label, "box": fractions(row.box, picture)}]
        case "detect_all" | "detect_kind":
            wanted = [t for t in picture.things if exchange.skill == "detect_all" or t.kind == exchange.subject]
            entry["boxes"] = [
                {"label": KINDS[t.kind][exchange.language][0], "box": fractions(t.box, picture)} for t in wanted
            ]
        case _:
            entry["text"] = exchange.answer
    return entry


def main() -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, paper in enumerate(papers(SEED, PICTURES)):
        name = f"{'panel' if paper.picture.rows else 'scene'}-{number:02d}{Path(paper.name).suffix}"
        (folder / name).write_bytes(paper.file)
        written.append({"file": name, "questions": [expected(paper, e) for e in paper.exchanges]})
    text = json.dumps({"pictures": written}, ensure_ascii=False, indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
