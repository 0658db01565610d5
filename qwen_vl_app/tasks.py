"""Ready-made tasks: what people ask of every picture, in the words that the models were trained on.

Knows names, prompts by family and language, and how much detail each task wants. Does not know pictures, models or
pages; titles and hints are codes, whose sentences the catalogues hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from qwen_vl_app.chat import CoordinateSpace, Detail
from qwen_vl_app.errors import UsageError


class Takes(StrEnum):
    """What a person adds to a task before it can be asked."""

    NOTHING = "nothing"
    NAMES = "names"
    """The names of the fields to extract."""
    THINGS = "things"
    """The kinds of things to find."""
    INSTRUCTION = "instruction"
    """The text to check the picture against."""


_GIVEN = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for what a person adds, where a prompt is looked at and not asked."""
_Words = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Task:
    """One ready-made task. `prompts` are by what a family's boxes mean, then by language (`en`, `zh`)."""

    name: str
    title_code: str
    hint_code: str
    detail: Detail
    prompts: Mapping[CoordinateSpace, Mapping[str, _Words]]
    takes: Takes = Takes.NOTHING
    picture_count: int = 1
    """How many pictures one question is about."""


def prompt_of(task: Task, given: Sequence[str] = (), *, coordinates: CoordinateSpace, language: str) -> str:
    """Return the question to ask.

    `given` are the names, the things, or one instruction. `coordinates` are the loaded family's: the two families were
    trained on different words. Raises UsageError where something is missing or given to a task that takes nothing.
    """
    words = [text for each in given if (text := " ".join(each.split()))]
    if task.takes is Takes.NOTHING and words:
        raise UsageError("tasks.takes_nothing", task=task.name)
    if task.takes is not Takes.NOTHING and not words:
        raise UsageError("tasks.something_missing", task=task.name)
    by_language = task.prompts[coordinates]
    return by_language.get(language, by_language["en"])(words)


def task_named(name: str) -> Task:
    """Return the task of that name. Raises UsageError, naming the tasks there are."""
    for task in TASKS:
        if task.name == name.strip().lower().replace("_", "-"):
            return task
    raise UsageError("tasks.unknown", task=name, known=", ".join(task.name for task in TASKS))


def task_of(question: str) -> Task | None:
    """Return the task that a question was made from, whoever asked it and in which language; None for any other question."""
    words = question.strip()
    for task in TASKS:
        for prompt in (make for by_language in task.prompts.values() for make in by_language.values()):
            if task.takes is Takes.NOTHING:
                if words == prompt(()):
                    return task
                continue
            before, _, after = prompt((_GIVEN,)).partition(_GIVEN)
            if len(words) > len(before) + len(after) and words.startswith(before) and words.endswith(after):
                return task
    return None


def _always(text: str) -> _Words:
    return lambda _given: text


def _both(
    english: _Words, chinese: _Words, *, qwen3_english: _Words | None = None, qwen3_chinese: _Words | None = None
) -> Mapping[CoordinateSpace, Mapping[str, _Words]]:
    """Return the prompts of both families; those of Qwen3-VL are the same where none of its own are given."""
    return {
        CoordinateSpace.SEEN_PIXELS: {"en": english, "zh": chinese},
        CoordinateSpace.THOUSANDTHS: {"en": qwen3_english or english, "zh": qwen3_chinese or chinese},
    }


def _extract_english(names: Sequence[str]) -> str:
    return f"Extract the key-value information in the format:{json.dumps(dict.fromkeys(names, ''), ensure_ascii=False)}"


def _extract_chinese(names: Sequence[str]) -> str:
    # Quoted as JSON quotes, with the published single marks: a name may hold either.
    listed = ",".join("'" + name.replace("'", "’") + "'" for name in names)
    return f"提取图中的：[{listed}]，并且按照json格式输出。"


def _categories(things: Sequence[str]) -> str:
    return ", ".join(thing.replace('"', "”") for thing in things)


def _find_english(things: Sequence[str]) -> str:
    return f"Outline the position of each {_one_of(things, 'and')} and output all the coordinates in JSON format."


def _find_chinese(things: Sequence[str]) -> str:
    return f"框出每个{_one_of(things, '和', comma='、', space='')}的位置，以JSON格式输出所有坐标。"


def _one_of(things: Sequence[str], word: str, *, comma: str = ", ", space: str = " ") -> str:
    if len(things) == 1:
        return things[0]
    return f"{comma.join(things[:-1])}{space}{word}{space}{things[-1]}"


def _check_english(given: Sequence[str]) -> str:
    return (
        "Check the picture against this instruction and answer point by point: for each point, whether it is met, not "
        f"met or cannot be seen, and what in the picture shows it.\nInstruction: {' '.join(given)}"
    )


def _check_chinese(given: Sequence[str]) -> str:
    return (
        f"请对照以下要求逐条检查图片：每一条说明是符合、不符合还是看不出，并指出图中的依据。\n要求：{' '.join(given)}"
    )


TASKS: tuple[Task, ...] = (
    Task(
        name="describe",
        title_code="tasks.describe.title",
        hint_code="tasks.describe.hint",
        detail=Detail.BALANCED,
        prompts=_both(_always("Describe this image."), _always("描述这张图片。")),
    ),
    Task(
        name="read-text",
        title_code="tasks.read_text.title",
        hint_code="tasks.read_text.hint",
        detail=Detail.DETAIL,
        prompts=_both(_always("Read all the text in the image."), _always("请识别出图中所有的文字。")),
    ),
    Task(
        name="spot-text",
        title_code="tasks.spot_text.title",
        hint_code="tasks.spot_text.hint",
        detail=Detail.DETAIL,
        prompts=_both(
            _always("Spotting all the text in the image with line-level, and output in JSON format."),
            _always("检测图中所有的文字行，以JSON格式输出坐标。"),
        ),
    ),
    Task(
        name="extract-fields",
        title_code="tasks.extract_fields.title",
        hint_code="tasks.extract_fields.hint",
        detail=Detail.DETAIL,
        takes=Takes.NAMES,
        prompts=_both(_extract_english, _extract_chinese),
    ),
    Task(
        name="find-and-count",
        title_code="tasks.find_and_count.title",
        hint_code="tasks.find_and_count.hint",
        detail=Detail.DETAIL,
        takes=Takes.THINGS,
        prompts=_both(
            _find_english,
            _find_chinese,
            qwen3_english=lambda things: (
                f'Locate every instance that belongs to the following categories: "{_categories(things)}". '
                "Report bbox coordinates in JSON format."
            ),
        ),
    ),
    Task(
        name="table",
        title_code="tasks.table.title",
        hint_code="tasks.table.hint",
        detail=Detail.DOCUMENT,
        prompts=_both(
            _always("Extract the table in the image as a Markdown table."),
            _always("提取图中的表格，以Markdown表格输出。"),
        ),
    ),
    Task(
        name="compare",
        title_code="tasks.compare.title",
        hint_code="tasks.compare.hint",
        detail=Detail.BALANCED,
        picture_count=2,
        prompts=_both(
            _always("Compare Picture 1 and Picture 2. List what is the same and what is different, one point a line."),
            _always("比较图1和图2，逐条列出相同之处和不同之处。"),
        ),
    ),
    Task(
        name="screenshot-to-code",
        title_code="tasks.screenshot_to_code.title",
        hint_code="tasks.screenshot_to_code.hint",
        detail=Detail.DETAIL,
        prompts=_both(
            _always("Analyze this screenshot and convert it to clean, functional and modern HTML code."),
            _always("分析这张屏幕截图，并将其转换为简洁、可用、现代的HTML代码。"),
        ),
    ),
    Task(
        name="check",
        title_code="tasks.check.title",
        hint_code="tasks.check.hint",
        detail=Detail.DETAIL,
        takes=Takes.INSTRUCTION,
        prompts=_both(_check_english, _check_chinese),
    ),
)
"""In the order a page shows them."""
