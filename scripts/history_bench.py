"""Measures the history at 500 and at 50,000 turns and prints how many times slower the large one is: python scripts/history_bench.py.

Both are measured in one run, call by call in turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.chat import Answer, FinishReason, SamplingParams, Turn
from qwen_vl_app.history import HistoryStore, search_index
from qwen_vl_app.history.answer_json import dump_answer, dump_sampling
from qwen_vl_app.history.tables import ConversationRow, PictureRow, RenditionRow, TurnRow

OWNER = "bench"
TURNS_EACH = 5
COMMON = [
    "pump",
    "valve",
    "boiler",
    "meter",
    "label",
    "panel",
    "rust",
    "crack",
    "serial",
    "number",
    "date",
    "pressure",
    "oil",
    "water",
    "steam",
    "left",
    "right",
]
CHINESE = "锅炉温度压力发票金额日期型号铭牌仪表阀门水泵左侧右侧裂纹锈蚀编号数量"
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


def main() -> None:
    """Fill two folders, measure every call on both, print the medians and their ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--small", type=int, default=500)
    options.add_argument("--large", type=int, default=50_000)
    options.add_argument("--rounds", type=int, default=15)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        stores = [_filled(Path(place) / str(turns), turns) for turns in (given.small, given.large)]
        print(f"{'call':34}{given.small:>9} turns{given.large:>9} turns   ratio   (medians, ms)")
        for name, call in _calls().items():
            times: list[list[float]] = [[], []]
            for _ in range(given.rounds):
                for store, taken in zip(stores, times, strict=True):
                    started = time.perf_counter()
                    call(store)
                    taken.append((time.perf_counter() - started) * 1000)
            small, large = (statistics.median(taken) for taken in times)
            print(f"{name:34}{small:15.2f}{large:15.2f}{large / small:8.2f}")
        for store in stores:
            _restart(store, is_clean=True)
        _restart(stores[1], is_clean=False)
        for store in stores:
            started = time.perf_counter()
            head = store.conversations(OWNER, limit=1)[0]
            store.erase_conversation(OWNER, head.id)
            print(f"erasing one conversation: {time.perf_counter() - started:.2f} s")
            store.close()


def _restart(store: HistoryStore, *, is_clean: bool) -> None:
    store.close()
    folder = store._folder.path
    if not is_clean:
        (folder / "history.lock").write_text("", encoding="ascii")
    started = time.perf_counter()
    store.open()
    print(f"opening after {'a clean' if is_clean else 'an unclean'} end: {time.perf_counter() - started:.2f} s")


def _calls() -> dict[str, Callable[[HistoryStore], object]]:
    last_year = {"since": BEGINNING, "until": BEGINNING + timedelta(days=1)}

    def deep_page(store: HistoryStore) -> object:
        page = store.conversations(OWNER, limit=30)
        return store.conversations(OWNER, limit=30, before_id=page[-1].id)

    def conversation(store: HistoryStore) -> tuple[Turn, ...]:
        return store.turns(OWNER, store.conversations(OWNER, limit=1)[0].id, limit=30)

    return {
        "cache, a hit": lambda store: store.answer_cache.find(OWNER, "hit"),
        "cache, a miss": lambda store: store.answer_cache.find(OWNER, "miss"),
        "list, first page": lambda store: store.conversations(OWNER, limit=30),
        "list, two pages": deep_page,
        "turns of a conversation": conversation,
        "search, a rare word": lambda store: store.search(OWNER, "unicorn3"),
        "search, a common word": lambda store: store.search(OWNER, "boiler"),
        "search, three words": lambda store: store.search(OWNER, "boiler rust steam"),
        "search, a beginning": lambda store: store.search(OWNER, "pres"),
        "search, a Chinese word": lambda store: store.search(OWNER, "温度"),
        "search, a word in every turn": lambda store: store.search(OWNER, "everywhere"),
        "search, second page": lambda store: store.search(OWNER, "boiler", offset=20),
        "search, with pictures": lambda store: store.search(OWNER, "boiler", has_pictures=True),
        "search, one day": lambda store: store.search(OWNER, "boiler", **last_year),
        "browse, one day": lambda store: store.search(OWNER, **last_year),
        "browse, with pictures": lambda store: store.search(OWNER, has_pictures=True),
    }


def _filled(folder: Path, turns: int) -> HistoryStore:
    store = HistoryStore(folder)
    store.open()
    chance = random.Random(3)
    sampling = dump_sampling(SamplingParams())
    started = time.perf_counter()
    with store._folder.ready().database.writing() as session:
        for number in range(turns):
            # A day has a hundred turns in both.
            asked_at = BEGINNING + timedelta(days=number // 100, seconds=number % 100)
            if number % TURNS_EACH == 0:
                title = _words(chance, 4)
                head = ConversationRow(
                    owner=OWNER, title=title, created_at=asked_at, updated_at=asked_at, last_turn_id=0
                )
                session.add(head)
                session.flush()
                parent = None
            text = f"{_words(chance, 80)} everywhere unicorn{number % 400}"
            row = TurnRow(
                conversation_id=head.id,
                parent_id=parent,
                state="done",
                asked_at=asked_at,
                finished_at=asked_at,
                question=_words(chance, 12),
                sampling=sampling,
                answer_text=text,
                answer=dump_answer(Answer(text, FinishReason.STOP)),
                pictures=[_picture(number)] if number % 2 == 0 else [],
            )
            session.add(row)
            session.flush()
            parent = row.id
            head.last_turn_id = head.active_turn_id = row.id
        search_index.rebuild(session)
    store.answer_cache.keep(OWNER, "hit", turns // 2)
    print(f"{turns} turns written and indexed in {time.perf_counter() - started:.0f} s")
    return store


def _words(chance: random.Random, count: int) -> str:
    said = chance.choices(COMMON, k=count)
    at = chance.randrange(len(CHINESE) - 6)
    return " ".join(said) + CHINESE[at : at + 6]


def _picture(number: int) -> PictureRow:
    return PictureRow(
        position=0,
        picture_id=str(number),
        name=f"IMG_{number}.jpg",
        format="JPEG",
        width=4032,
        height=3024,
        seen_width=1008,
        seen_height=756,
        seen_tokens=972,
        seen_detail="balanced",
        view_mime="image/jpeg",
        page=0,
        page_count=1,
        notes="[]",
        renditions=[
            RenditionRow(rendition=name, file=f"{number:064x}", mime="image/jpeg") for name in ("view", "seen")
        ],
    )


if __name__ == "__main__":
    main()
