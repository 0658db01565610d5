"""Shows that a new environment works, from within it: every pinned package is there, torch computes, the demo model answers.

Ends with 0, with 1 where something is broken, with 2 where everything runs but the answer is another one. The last line it
writes says what was found. Needs the environment that it tests; opens no connection.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.offline import go_offline

go_offline()  # before anything else is imported

from qwen_vl_app import bootstrap  # noqa: E402
from qwen_vl_app.chat import Question  # noqa: E402
from qwen_vl_app.config import Settings  # noqa: E402
from qwen_vl_app.doctor import Verdict, known_question, packages_finding  # noqa: E402
from qwen_vl_app.errors import AppError  # noqa: E402
from qwen_vl_app.texts import render  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 600.0


def main() -> int:
    """Test what there is; return the exit status."""
    packages = packages_finding(ROOT / "requirements.txt")
    if packages.verdict is Verdict.PROBLEM:
        print(render(packages.about))
        return 1
    import streamlit  # noqa: F401, PLC0415 - the page's own library, which the model does not need
    import torch  # noqa: PLC0415

    print(f"torch {torch.__version__} computes: {float(torch.ones(2, 2).sum())}")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            model="demo", device="cpu", keep="nothing", data_dir=Path(folder), models_dir=ROOT / "models"
        )
        known = known_question(bootstrap.probe(settings).models())
        if known is None:
            print("Every package is there; there is no demo model to ask.")
            return 0
        return _ask(settings, known.picture, known.name, known.question, known.answer)


def _ask(settings: Settings, data: bytes, name: str, question: str, expected: str) -> int:
    try:
        with bootstrap.open_assistant(settings) as assistant:
            assistant.wait_until_loaded(TIMEOUT_S)
            picture = assistant.stage(data, name)
            answer = assistant.ask(Question(question, (picture,)), is_kept=False, is_anew=True).wait(TIMEOUT_S)
    except AppError as error:
        print(render(error))
        return 1
    if answer is None or answer.error is not None:
        print(
            render(answer.error) if answer is not None and answer.error is not None else "the demo model did not answer"
        )
        return 1
    if answer.text.strip() != expected:
        print(f"the demo model answered {answer.text.strip()!r} and should have said {expected!r}")
        return 2
    print("Every package is there, and the demo model reads what it should.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
