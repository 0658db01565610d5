"""Measures what answering repeated questions from storage saves: 0, 50 and 100 % repeats, asked of the real model.

    python scripts/bench_cache.py                  # the demo model
    python scripts/bench_cache.py --model NAME --questions 12 --rounds 4

All shares take turns in one run, so that other work of the machine weighs on each: read the ratios. Pictures that were
never seen are the model's samples with a patch of another colour. Times run from the staged picture to the finished answer.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import Question, StagedPicture
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.local import LocalEngine
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.offline import go_offline
from qwen_vl_app.samples import Sample

SHARES = (0, 50, 100)
OWNER = "bench"


class TimedHistory(HistoryStore):
    """A history that knows how long the keeping of questions and answers took, which repeats need as well."""

    saving_s = 0.0

    def begin_turn(self, *arguments: Any, **named: Any) -> Any:
        """As the history's, and measured."""
        return self._timed(super().begin_turn, *arguments, **named)

    def finish_turn(self, *arguments: Any, **named: Any) -> Any:
        """As the history's, and measured."""
        return self._timed(super().finish_turn, *arguments, **named)

    def _timed(self, call: Any, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            self.saving_s += time.perf_counter() - began


@dataclass
class Tally:
    """What one share of repeats took. `beside_saving_s` are the repeats' times without the keeping."""

    all_s: list[float] = field(default_factory=list)
    repeats_s: list[float] = field(default_factory=list)
    beside_saving_s: list[float] = field(default_factory=list)


def main() -> int:
    """Ask, and print a line for each share. Returns 1 where the model did not do what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--questions", type=int, default=8, help="for each share and round")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    go_offline()
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", model=given.model)
        history = TimedHistory(settings.data_dir)
        with Assistant(
            engine=LocalEngine(settings.models_dir, model=settings.model),
            decoder=PictureDecoder(
                max_bytes=settings.max_upload_mb * 2**20, max_pixels=10**8, timeout_s=settings.decode_timeout_s
            ),
            history=history,
            settings=settings,
        ) as assistant:
            status = assistant.wait_until_loaded()
            samples = assistant.samples()
            if not samples:
                print(f"{status.model} has no sample pictures to ask about", file=sys.stderr)
                return 1
            print(
                f"{status.model} on {status.device}, {status.dtype}; {given.rounds} x {given.questions} questions a share"
            )
            return _measure(assistant, history, samples, questions=given.questions, rounds=given.rounds)


def _measure(
    assistant: Assistant, history: TimedHistory, samples: tuple[Sample, ...], *, questions: int, rounds: int
) -> int:
    known = [(sample.question["en"], assistant.stage(sample.data, sample.name)) for sample in samples]
    for text, picture in known:
        _ask(assistant, text, picture)
    tallies = {share: Tally() for share in SHARES}
    fresh = 0
    for turn in range(rounds):
        for share, tally in tallies.items():
            for number in range(questions):
                # Another half of the questions in each round: some have longer answers than others.
                place = number + turn
                is_repeat = (place + 1) * share // 100 > place * share // 100
                text, picture = known[number % len(known)]
                if not is_repeat:
                    fresh += 1
                    sample = samples[number % len(samples)]
                    picture = assistant.stage(_never_seen(sample.data, fresh), sample.name)
                saved_before = history.saving_s
                took_s, is_stored = _ask(assistant, text, picture)
                if is_stored != is_repeat:
                    print("a repeated question was not answered from storage, or a new one was", file=sys.stderr)
                    return 1
                tally.all_s.append(took_s)
                if is_repeat:
                    tally.repeats_s.append(took_s)
                    tally.beside_saving_s.append(took_s - (history.saving_s - saved_before))
    base_s = statistics.fmean(tallies[0].all_s)
    print("| repeats | a question, mean | of the time without repeats | a repeat, median | of it beside saving |")
    print("|---|---|---|---|---|")
    for share, tally in tallies.items():
        mean_s = statistics.fmean(tally.all_s)
        repeat = f"{1000 * statistics.median(tally.repeats_s):.1f} ms" if tally.repeats_s else "-"
        beside = f"{1000 * statistics.median(tally.beside_saving_s):.1f} ms" if tally.beside_saving_s else "-"
        print(f"| {share} % | {1000 * mean_s:.1f} ms | {mean_s / base_s:.3f} | {repeat} | {beside} |")
    figures = assistant.records.cache_figures()
    print(f"{figures.hits} hits, {figures.misses} misses, {figures.saved_s:.1f} s of the model's time saved")
    return 0


def _ask(assistant: Assistant, text: str, picture: StagedPicture) -> tuple[float, bool]:
    """Return the seconds to the finished answer, and whether it came from storage."""
    began = time.perf_counter()
    job = assistant.ask(Question(text, (picture,)), owner=OWNER)
    answer = job.wait()
    took_s = time.perf_counter() - began
    assert answer is not None
    while job.conversation_id is not None and assistant.is_running(OWNER, job.conversation_id):
        time.sleep(0.001)  # it is being stored; the next question is to be measured alone
    return took_s, any(note.code == "history.from_cache" for note in answer.notes)


def _never_seen(data: bytes, number: int) -> bytes:
    """Return the picture with a small patch of a colour that no other has."""
    with Image.open(io.BytesIO(data)) as image:
        changed = image.convert("RGB")
    side = max(min(changed.size) // 16, 4)
    changed.paste((number % 251, number // 251 % 251, 97), (0, 0, side, side))
    written = io.BytesIO()
    changed.save(written, "PNG")
    return written.getvalue()


if __name__ == "__main__":
    sys.exit(main())
