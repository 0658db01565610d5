"""The words everybody speaks: questions, pictures, answers, turns.

Frozen data only. This file knows no library, no model, no database and no page; whatever crosses from one room to
another is one of these, or a Pillow picture. It is long because it is one dictionary: whoever looks a word up finds its
neighbours beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from qwen_vl_app.errors import Reason

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""What a JSON document can hold."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """The area in pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


class Detail(StrEnum):
    """The rungs of the size plan, by the name a user chooses them by."""

    LOW_MEMORY = "low_memory"
    FAST = "fast"
    BALANCED = "balanced"
    DETAIL = "detail"
    DOCUMENT = "document"


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    """The model said everything it wanted to say."""
    LENGTH = "length"
    """The limit of new tokens cut it."""
    STOPPED = "stopped"
    """A person stopped it."""
    REPETITION = "repetition"
    """It had begun to repeat itself without end."""
    FAILED = "failed"
    """An error ended it."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen. `temperature` 0 is greedy; `repetition_penalty` is always 1.0 and so is not here."""

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """How many of the likeliest tokens are told of with every token; changes nothing of the answer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer. `picture_tokens` and `cached_tokens` are parts of `prompt_tokens`."""

    prompt_tokens: int = 0
    picture_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds on a monotonic clock. `first_token_s` and `total_s` count from the moment the model began to work."""

    queued_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions 0..1 of the upright original: left, top, right, bottom with x1 <= x2 and y1 <= y2."""

    x1: float
    y1: float
    x2: float
    y2: float

    def to_pixels(self, size: Size) -> tuple[int, int, int, int]:
        """Return (x1, y1, x2, y2) in whole pixels of a rendition of the given size.

        They are edges between pixels, 0 to the size: the pixels of the box are `x1 .. x2 - 1` and `y1 .. y2 - 1`, of which
        a box with an area has at least one. Drawing, crops and exports all use these numbers.
        """
        x1, x2 = _edges(self.x1, self.x2, size.width)
        y1, y2 = _edges(self.y1, self.y2, size.height)
        return x1, y1, x2, y2


def _edges(low: float, high: float, side: int) -> tuple[int, int]:
    first, last = round(low * side), round(high * side)
    if first == last and low < high:
        pixel = min(int((low + high) / 2 * side), side - 1)
        return pixel, pixel + 1
    return first, last


@dataclass(frozen=True, slots=True)
class Region:
    """Something the model located. A point is a box without area (x1 == x2 and y1 == y2)."""

    box: Box
    label: str = ""
    picture_index: int = 0
    """Which picture of the question it lies on, counted from 0."""
    doubts: tuple[str, ...] = ()
    """Codes of what was mended to draw it, or why a person should look twice; see the catalogue of `answers`."""

    @property
    def is_point(self) -> bool:
        """True where the model gave a point and not a rectangle."""
        return self.box.x1 == self.box.x2 and self.box.y1 == self.box.y2


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A place that cannot be right and is therefore not drawn: what the model wrote, and the code of why."""

    written: str
    code: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text cells under column names; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What an answer's text holds beside its words. `notes` say what had to be mended to read it."""

    data: JsonValue = None
    has_data: bool = False
    """Tells a JSON `null` from no JSON at all."""
    regions: tuple[Region, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[Reason, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """Places that could not be drawn, the first hundred."""
    moments: tuple[Moment, ...] = ()
    """Times of the clip that was asked about, as the text has them."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of a clip that an answer speaks of, in seconds from its beginning; `end_s` where it lasts. `label` is what happens."""

    start_s: float
    end_s: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """What makes a picture a clip: its length in seconds, and the times of the frames that the model sees of it.

    The times ascend and are of an even number, because two frames together make the model's tokens.
    """

    seconds: float
    moments: tuple[float, ...]

    @property
    def pairs(self) -> int:
        """How many times the vision tower looks."""
        return len(self.moments) // 2


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One picture as the model gets it: RGB at the seen size; of a clip all frames that it sees, one behind the other.

    `rgb` is `width * height * 3` bytes a frame, row by row. `picture_id` is the SHA-256 over the size and those bytes, of a
    clip over its times as well, so that two inputs with one id are the same to the model; caches are keyed by it.
    """

    picture_id: str
    size: Size
    rgb: bytes = field(repr=False)
    clip: Clip | None = None

    @property
    def byte_count(self) -> int:
        """How many bytes `rgb` has to have."""
        return self.size.pixels * 3 * (len(self.clip.moments) if self.clip else 1)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a prompt. Pictures stand before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[ImageInput, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenSize:
    """What the model will see of a picture, or of each frame of a clip: its size in pixels; and what all costs in tokens."""

    size: Size
    tokens: int
    detail: Detail


@dataclass(frozen=True, slots=True)
class StagedPicture:
    """A picture that arrived and is ready to be asked about.

    `view` is the upright picture as a browser can show it (JPEG or PNG), `thumbnail` a small JPEG, `seen_png` exactly the
    pixels that the model gets. `size` is the upright original's; boxes are fractions of it. `notes` say what was done on
    arrival (turned upright, first frame taken ...).
    """

    staged_id: str
    picture_id: str
    name: str
    format: str
    size: Size
    seen: SeenSize
    upload: bytes = field(repr=False)
    view: bytes = field(repr=False)
    view_mime: str
    thumbnail: bytes = field(repr=False)
    seen_png: bytes = field(repr=False)
    page: int = 0
    page_count: int = 1
    notes: tuple[Reason, ...] = ()
    in_parts: bool = False
    """A person chose to have it looked at part by part."""
    clip: Clip | None = None
    """Of a clip: then `view` shows the frames that the model sees beside one another, `seen_png` has them one below the other."""

    @property
    def looks(self) -> tuple[int, ...]:
        """The tokens of every time that the vision tower looks: once at a picture, once at each pair of a clip's frames."""
        pairs = 1 if self.clip is None else self.clip.pairs
        return (self.seen.tokens // pairs,) * pairs


@dataclass(frozen=True, slots=True)
class EarlierMessage:
    """A message that stands before a question, from a caller who keeps their conversation themselves."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[StagedPicture, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What a person asks: a text, pictures, and the conversation that it continues (None begins a new one).

    `earlier` is for callers whose conversation is not kept here: what was said before, oldest first. `schema` is a JSON
    Schema as JSON text: the answer is one JSON value that fits it. Whatever it says, a property may be null, be left out
    (which is null as well) or come in another order, so that nothing has to be invented; only with `is_schema_exact` does
    it hold to the letter, its properties in their order.
    """

    text: str
    pictures: tuple[StagedPicture, ...] = ()
    conversation_id: int | None = None
    sampling: SamplingParams = SamplingParams()
    earlier: tuple[EarlierMessage, ...] = ()
    schema: str | None = None
    is_schema_exact: bool = False
    in_parts: bool = False
    """Look at its one large picture part by part, each at full size, and make one answer of what they show; of several, say that
    they are seen whole."""


@dataclass(frozen=True, slots=True)
class LikelyToken:
    """A token that could have been chosen: its bytes, and the natural logarithm of its probability."""

    raw: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of an answer: what it added to the text, and the natural logarithm of its probability, where known.

    `raw` are its own bytes, which may be a part of a character; those of all tokens make the text. The probability is the
    model's own. Where a schema left only some tokens, `allowed` is the logarithm of their probability together (0.0 is all
    of it, far below means that the model wanted something else), so that `logprob - allowed` is how sure it was among
    them. `likely` are the most probable tokens, the likeliest first, where they were asked for.
    """

    text: str
    logprob: float | None
    raw: bytes = b""
    allowed: float = 0.0
    likely: tuple[LikelyToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Confidence:
    """How probable an answer's tokens were to the model, 0..1: all together (geometric mean), and the least of them; where
    the answer holds values, the least of the values' own.

    Low is worth a look; high proves nothing.
    """

    mean: float
    least: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer, whole or cut short. `notes` disclose what was done on the way (a smaller picture, say)."""

    text: str
    finish_reason: FinishReason
    parsed: ParsedAnswer = ParsedAnswer()
    usage: Usage = Usage()
    timing: Timing = Timing()
    model: str = ""
    notes: tuple[Reason, ...] = ()
    error: Reason | None = None
    """Why it failed, where `finish_reason` is FAILED."""
    tokens: tuple[ScoredToken, ...] = field(default=(), compare=False, repr=False)
    """What it was made of. Not kept: an answer from the history or from storage has none."""
    confidence: Confidence | None = field(default=None, compare=False)
    """What is kept of the tokens; None where their probabilities were not known."""


class TurnState(StrEnum):
    """Where a kept turn stands. `interrupted` means that the app ended while the turn was open."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class TurnPicture:
    """A kept picture of a turn, without its bytes: history hands those out by `id` and rendition."""

    id: int
    picture_id: str
    name: str
    format: str
    size: Size
    seen: SeenSize
    view_mime: str
    page: int = 0
    page_count: int = 1
    notes: tuple[Reason, ...] = ()
    clip: Clip | None = None


class Rendition(StrEnum):
    """The named forms of one kept picture."""

    UPLOAD = "upload"
    VIEW = "view"
    SEEN = "seen"
    THUMBNAIL = "thumbnail"


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and what became of it. Times are UTC."""

    id: int
    conversation_id: int
    asked_at: datetime
    state: TurnState
    question: str
    pictures: tuple[TurnPicture, ...] = ()
    answer: Answer | None = None
    """None while nothing has been said yet; partial text has `finish_reason` STOPPED or FAILED."""
    sampling: SamplingParams = SamplingParams()
    finished_at: datetime | None = None
    parent_id: int | None = None
    """The turn that this one continues; None where it begins the conversation."""
    branch_ids: tuple[int, ...] = ()
    """The turns that continue the same turn, this one among them, oldest first: more than one where it was asked again."""
    fingerprint: str = ""
    """Which weights answered."""
    precision: str = ""
    schema: str | None = None
    is_schema_exact: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """The head of a conversation, as a list shows it. Times are UTC."""

    id: int
    title: str
    created_at: datetime
    updated_at: datetime
    turn_count: int = 0
    thumbnail_picture_id: int | None = None
    """The `TurnPicture.id` whose thumbnail stands for the conversation."""
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person added to a turn that stays as it is. The time is UTC."""

    text: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a found text; the matches are what a page marks."""

    text: str
    is_match: bool = False


@dataclass(frozen=True, slots=True)
class Fragment:
    """The part of a found text around its matches. `read` is what stands in the answer's structure: labels and cells."""

    field: Literal["title", "question", "answer", "read", "names"]
    pieces: tuple[TextPiece, ...]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A turn that was found; a title is found with the first turn of its conversation."""

    conversation: Conversation
    turn_id: int
    asked_at: datetime
    fragments: tuple[Fragment, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of what was found, best first."""

    hits: tuple[SearchHit, ...] = ()
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that was given before to the very same question. `kept_at` is UTC."""

    answer: Answer
    turn_id: int
    kept_at: datetime


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """What the store of repeated answers holds, and what it did since the app started."""

    entries: int = 0
    answer_bytes: int = 0
    hits: int = 0
    misses: int = 0
    saved_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ErasedBeside:
    """What was removed of what lies beside the history: runs over folders and filled forms, with all their files."""

    runs: int = 0
    forms: int = 0
    files: int = 0
    file_bytes: int = 0

    def __add__(self, other: ErasedBeside) -> ErasedBeside:
        return ErasedBeside(
            self.runs + other.runs,
            self.forms + other.forms,
            self.files + other.files,
            self.file_bytes + other.file_bytes,
        )


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure removed. Times are UTC; no word of what was erased is in it.

    `is_complete` is False while another program holds traces open; `caveats` say what no app can promise.
    """

    id: int
    scope: Literal["turn", "conversation", "period", "everything", "expired"]
    asked_at: datetime
    completed_at: datetime | None
    conversations: int = 0
    turns: int = 0
    pictures: int = 0
    files: int = 0
    file_bytes: int = 0
    cached_answers: int = 0
    runs: int = 0
    """Runs over folders, with their journals."""
    forms: int = 0
    """Filled forms, with their pictures."""
    caveats: tuple[Reason, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True once nothing of it can be read from the data folder."""
        return self.completed_at is not None


class CoordinateSpace(StrEnum):
    """What the numbers of a model's boxes mean; a property of its family, never guessed from the numbers."""

    SEEN_PIXELS = "seen_pixels"
    """Pixels of the picture at its seen size (Qwen2.5-VL)."""
    THOUSANDTHS = "thousandths"
    """0..1000 along each side (Qwen3-VL)."""


class EngineState(StrEnum):
    """The life of an engine."""

    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the size plan: the most pixels a picture may have at this detail, and the tokens that makes."""

    detail: Detail
    max_pixels: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class SizePlan:
    """How large pictures may be, from the memory there was when the model was loaded.

    `rungs` ascend. `factor` is the pixels along one side of one picture token. Sizes are `smart_resize`'s: both sides a
    multiple of `factor`, the area between `min_pixels` and the rung's `max_pixels`.
    """

    factor: int
    min_pixels: int
    rungs: tuple[Rung, ...]
    default: Detail
    context_tokens: int
    """The longest prompt and answer together."""
    reasons: tuple[Reason, ...] = ()
    spare_tokens: int = 0
    """What memory holds beside the contexts of people's answers and the largest picture: room for several answers of a run."""

    def rung(self, detail: Detail | None = None) -> Rung:
        """Return the rung of that name; the largest one there is where the plan ends below it."""
        wanted = detail or self.default
        order = list(Detail)
        fitting = [rung for rung in self.rungs if order.index(rung.detail) <= order.index(wanted)]
        return fitting[-1] if fitting else self.rungs[0]

    def below(self, detail: Detail) -> Rung | None:
        """Return the next lower rung, or None from the lowest."""
        names = [rung.detail for rung in self.rungs]
        at = names.index(self.rung(detail).detail)
        return self.rungs[at - 1] if at > 0 else None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine is and does, as a status line or `doctor` shows it. `choices` carry what was chosen and why."""

    state: EngineState
    model: str = ""
    family: str = ""
    coordinates: CoordinateSpace = CoordinateSpace.SEEN_PIXELS
    is_demo: bool = False
    fingerprint: str = ""
    device: str = ""
    dtype: str = ""
    attention: str = ""
    weights_bytes: int = 0
    loaded_bytes: int = 0
    """While loading: how much of `weights_bytes` is in place."""
    plan: SizePlan | None = None
    choices: tuple[Reason, ...] = ()
    error: Reason | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured at load, for estimates: seconds and bytes by name."""
    build: str = ""
    """The library that computes, with its version and what it was built for."""
    driver: str = ""
    """The graphics driver's version; empty on a processor, and where it does not tell."""
    gains: Mapping[int, float] = field(default_factory=dict)
    """Measured at load: for so many answers made in one step, how many times the tokens a second of one alone. Empty where
    no more are made at a time than the settings say."""
    needed_bytes: int = 0
    """What the weights take in memory at the chosen precision, with the reserve of the plan."""
    free_bytes: int = 0
    """What was free on the device when this was planned."""
