"""Write the known answers that come with the model: `python scripts/demo_model/known.py`.

It takes the sample pictures, whose answers `samples.py` held against their truth, asks them once more through the app, and keeps
what an answer must hold: boxes as fractions of the picture, JSON as data, everything else as text. `doctor` and the tests run the
list through `qwen_vl_app/known_answers.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))  # run as a file, the project's root is not on the path

from qwen_vl_app.known_answers import LISTING
from scripts.demo_model.evaluate import Asker, ask_through_app
from scripts.demo_model.scoring import Reply


class Files:
    """Pictures as the asker wants them."""

    def __init__(self, files: tuple[tuple[bytes, str], ...]) -> None:
        self.files = files


def kept(reply: Reply) -> dict[str, Any]:
    """Return what a right reply holds, in the most telling of the three forms."""
    if reply.regions:
        return {"boxes": [{"label": label, "box": [round(v, 4) for v in box]} for label, box in reply.regions]}
    if isinstance(reply.data, dict | list):
        return {"data": reply.data}
    return {"text": reply.text.strip()}


def entries(folder: Path, ask: Asker) -> list[dict[str, Any]]:
    """Return an entry for each sample and language. Raises ValueError for a sample that is not answered as it says."""
    made = []
    for sample in json.loads((folder / "samples" / "samples.json").read_text(encoding="utf-8")):
        named = [sample["file"], *sample.get("more", [])]
        files = Files(tuple(((folder / "samples" / name).read_bytes(), name) for name in named))
        for language, question in sample["question"].items():
            reply = ask(files, question)
            if reply.text.strip() != sample["answer"][language]:
                raise ValueError(f"{sample['file']}: {reply.text!r}")
            made.append(
                {
                    "name": f"{Path(sample['file']).stem} ({language})",
                    "pictures": [f"samples/{name}" for name in named],
                    "question": question,
                    "answer": kept(reply),
                }
            )
    return made


def main() -> None:
    """Read the command line, ask and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PROJECT / "models" / "demo")
    folder: Path = parser.parse_args().model.resolve()
    with ask_through_app(folder) as ask:
        text = json.dumps(entries(folder, ask), ensure_ascii=False, indent=1)
    (folder / LISTING).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
