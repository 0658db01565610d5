"""Measures what holding an answer to a form costs: the same model, the same question, free and in a form, in turns.

    python scripts/bench_forms.py                        # a random model of the 0.4 B shape, int8
    python scripts/bench_forms.py --shape 0.4b --precision bf16 --tokens 48 --rounds 4

The random model gets a vocabulary of the size and kind of a real one, for the cost of a mask grows with it. Times are of
one decoded token, from one to the next; the first one, the reading and the making of the grammar are told apart. Free and
held answers take turns in one run: read the ratio. Times are of the processor and not of the clock, so that other programs
weigh on them as little as they can; with one thread that is the time an answer takes on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.chat import Message, SamplingParams
from qwen_vl_app.engine.base import GenerationRequest, TokenStep
from qwen_vl_app.engine.local import LocalEngine
from qwen_vl_app.engine.local.bench_models import SHAPES, make_model
from qwen_vl_app.engine.local.grammar import HeldForm

FIELDS = ("serial", "manufacturer", "type", "voltage", "current", "power", "speed", "protection", "year", "remark")
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": ["string", "null"]} for name in FIELDS},
        "date": {"anyOf": [{"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}, {"type": "null"}]},
        "pressure": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 16}, {"type": "null"}]},
        "state": {"enum": ["good", "worn", "broken", None]},
    },
}
FORM["required"] = list(FORM["properties"])
MANY: dict[str, Any] = {"type": "array", "items": FORM, "minItems": 1000}
"""Forms without end, so that no answer ends before its time."""
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def fill_vocabulary(folder: Path) -> int:
    """Give the model's tokenizer as many tokens as its logits, of the kinds a real one has; return how many bear text."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]["vocab_size"]
    vocabulary: dict[str, int] = document["model"]["vocab"]
    used = set(vocabulary.values()) | {entry["id"] for entry in document.get("added_tokens") or ()}
    words = itertools.chain(
        ("".join(letters) for length in (2, 3) for letters in itertools.product(LETTERS, repeat=length)),
        ("\u0120" + "".join(letters) for length in (1, 2, 3) for letters in itertools.product(LETTERS, repeat=length)),
        (f"{one}{''.join(letters)}" for one in ("\u0120", "") for letters in itertools.product(LETTERS[:18], repeat=4)),
    )
    free = (token for token in range(size) if token not in used)
    for token in free:
        word = next((each for each in words if each not in vocabulary), None)
        if word is None:
            break
        vocabulary[word] = token
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return len(vocabulary)


def token_times(engine: LocalEngine, schema: Any, *, tokens: int, seed: int) -> tuple[float, list[float]]:
    """Return the seconds up to the first token, and those from each token to the next."""
    sampling = SamplingParams(max_new_tokens=tokens, temperature=1.0, seed=seed)
    text = None if schema is None else json.dumps(schema)
    request = GenerationRequest((Message("user", "Read all the text in the image."),), sampling, schema=text)
    marks = [time.process_time()]
    for step in engine.generate(request, should_stop=lambda: False):
        if isinstance(step, TokenStep):
            marks.append(time.process_time())
    between = [later - earlier for earlier, later in itertools.pairwise(marks)]
    return between[0], between[1:]


class Share:
    """How long the form itself works, of all that a token takes."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.tokens = 0

    def watch(self, method: Callable[..., Any], *, counts: bool) -> Callable[..., Any]:
        """Return the method with its time added up."""

        def watched(form: HeldForm, *given: Any) -> Any:
            began = time.process_time()
            try:
                return method(form, *given)
            finally:
                self.spent_s += time.process_time() - began
                self.tokens += counts

        return watched


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="0.4b")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(given.shape, Path(folder) / "random")
        texts = fill_vocabulary(Path(folder) / "random")
        engine = LocalEngine(
            Path(folder), model="random", precision=given.precision, threads=given.threads, runs_to_length=True
        )
        engine.load()
        share = Share()
        HeldForm.narrowed = share.watch(HeldForm.narrowed, counts=True)  # type: ignore[method-assign]
        HeldForm.accept = share.watch(HeldForm.accept, counts=False)  # type: ignore[method-assign]
        held: list[float] = []
        free: list[float] = []
        first_s, _ = token_times(engine, MANY, tokens=2, seed=0)
        again_s, _ = token_times(engine, MANY, tokens=2, seed=0)
        ratios = []
        for number in range(given.rounds):
            one = token_times(engine, None, tokens=given.tokens, seed=number)[1]
            other = token_times(engine, MANY, tokens=given.tokens, seed=number)[1]
            free += one
            held += other
            ratios.append(statistics.median(other) / statistics.median(one))
        status = engine.status
        engine.close()
    print(
        f"{given.shape}, {status.dtype}, {texts} tokens with a text, {given.tokens} tokens an answer, {given.rounds} rounds"
    )
    print(f"a token, free     {statistics.median(free) * 1000:8.2f} ms")
    print(f"a token, in form  {statistics.median(held) * 1000:8.2f} ms")
    print(
        f"ratio             {statistics.median(ratios):8.3f}    by round: {', '.join(f'{each:.3f}' for each in ratios)}"
    )
    own_ms = share.spent_s / max(share.tokens, 1) * 1000
    print(f"the form itself   {own_ms:8.2f} ms a token, {own_ms / statistics.median(free) / 10:.1f} % of a free one")
    print(f"the first use of a form, once: {max(first_s - again_s, 0) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
