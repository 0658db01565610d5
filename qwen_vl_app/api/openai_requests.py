"""What OpenAI's chat completions may ask for, field by field: taken, allowed at its neutral value only, or ignored.

A field that would change the answer and is not supported is refused by its name, and so is one that nobody knows. Knows
the shapes; does not know how they are answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, Tag

from qwen_vl_app.chat import Detail, SamplingParams

DETAILS: Mapping[str, Detail | None] = {
    "auto": None,
    "low": Detail.FAST,
    "high": Detail.DETAIL,
    "original": Detail.DOCUMENT,
}
MOST_NEW_TOKENS = 32768
"""Whoever asks for more, or says that there is no limit, gets as much as this and the context leave."""
MOST_LIKELY = 20
"""Of the tokens that could have been chosen, how many are told at most."""


def _whole(value: object) -> object:
    """JSON has one kind of number: 3.0 is as whole as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Neutral: TypeAlias = Annotated[float, Field(ge=0, le=0)]
Nothing: TypeAlias = Annotated[list[JsonValue], Field(max_length=0)]
StopText: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


def told_choice(temperature: float | None, top_p: float | None) -> tuple[float, float]:
    """Return the temperature and the share of likely tokens; a share of nothing leaves only the likeliest, which is greedy."""
    if top_p == 0:
        return 0.0, 1.0
    return temperature or 0.0, 1.0 if top_p is None else top_p


class Strict(BaseModel):
    """A part of a request: unknown fields are refused, NaN and infinity too."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, protected_namespaces=())


class TextPart(Strict):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageAddress(Strict):
    """A picture in OpenAI's object form. `url` is a data URI."""

    url: str = Field(min_length=1)
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Strict):
    """A picture: a data URI, bare or in an object."""

    type: Literal["image_url"]
    image_url: Annotated[str, Field(min_length=1)] | ImageAddress


class ClipAddress(Strict):
    """A clip in the object form that vLLM took up. `url` is a data URI."""

    url: str = Field(min_length=1)


class ClipPart(Strict):
    """A clip (MP4, MOV, AVI, WEBM): a data URI, bare or in an object. Of its sound nothing is heard."""

    type: Literal["video_url"]
    video_url: Annotated[str, Field(min_length=1)] | ClipAddress


def _kind_in(field: str, value: object) -> str | None:
    """Return the kind that an object names there, "None" where it names none; None where it is no object at all."""
    return str(value.get(field)) if isinstance(value, Mapping) else getattr(value, field, None)


def _by_type(value: object) -> str | None:
    kind = _kind_in("type", value)
    return None if kind is None else f"part_{kind}"


Part: TypeAlias = Annotated[
    Annotated[TextPart, Tag("part_text")]
    | Annotated[ImagePart, Tag("part_image_url")]
    | Annotated[ClipPart, Tag("part_video_url")],
    Discriminator(_by_type),
]


class SystemMessage(Strict):
    """What holds for the whole conversation."""

    role: Literal["system", "developer"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: None = None


class UserMessage(Strict):
    """What a person says and shows. Pictures are seen before the text, whatever their order here."""

    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: None = None


class AssistantMessage(Strict):
    """What was answered earlier. None, which clients keep of an answer that only called tools, is an answer without words."""

    role: Literal["assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)] | None = None
    name: None = None
    refusal: None = None
    audio: None = None
    tool_calls: Nothing | None = None
    function_call: None = None
    annotations: Nothing | None = None


def _by_role(value: object) -> str | None:
    role = _kind_in("role", value)
    return None if role is None else "role_system" if role == "developer" else f"role_{role}"


ChatMessage: TypeAlias = Annotated[
    Annotated[SystemMessage, Tag("role_system")]
    | Annotated[UserMessage, Tag("role_user")]
    | Annotated[AssistantMessage, Tag("role_assistant")],
    Discriminator(_by_role),
]


class JsonSchemaFormat(Strict):
    """A named JSON schema that the answer must fit."""

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    json_schema: dict[str, JsonValue] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """The form of the answer. What is to fit a schema names it: the description says so, and the door refuses it otherwise."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "json_schema"}}},
            "then": {"required": ["json_schema"], "properties": {"json_schema": {"type": "object"}}},
        }
    )

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(Strict):
    """What a stream carries beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionRequest(Strict):
    """A chat completion."""

    UNSUPPORTED: ClassVar[frozenset[str]] = frozenset(
        {
            "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "tools",
            "tool_choice", "tool_calls", "functions", "function_call", "modalities", "audio", "prediction",
            "reasoning_effort", "verbosity", "web_search_options", "name", "refusal", "annotations", "min_p",
        }
    )  # fmt: skip

    # Taken
    model: Name
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    max_tokens: Annotated[int, Field(ge=1), Whole] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1), Whole] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000), Whole] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), Whole] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELY), Whole] | None = None
    service_tier: str | None = None
    """`flex` lets everybody else go first; every other tier is the same."""

    # Taken at the value that changes nothing
    n: Annotated[Literal[1], Whole] | None = None
    presence_penalty: Neutral | None = None
    frequency_penalty: Neutral | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=1)] | None = None
    min_p: Neutral | None = None
    logit_bias: Annotated[dict[str, JsonValue], Field(max_length=0)] | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Nothing | None = None
    function_call: Literal["none"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    audio: None = None
    prediction: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: None = None
    web_search_options: None = None

    # Ignored, because the answer is the same without them
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    parallel_tool_calls: bool | None = None

    @property
    def may_wait(self) -> bool:
        """True where nobody waits for the answer."""
        return self.service_tier == "flex"

    def sampling(self, *, default_max_new_tokens: int) -> SamplingParams:
        """Return how tokens are chosen. Without a temperature the answer is greedy, as everywhere in the app."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        wanted = self.max_completion_tokens or self.max_tokens or default_max_new_tokens
        temperature, top_p = told_choice(self.temperature, self.top_p)
        return SamplingParams(
            max_new_tokens=min(wanted, MOST_NEW_TOKENS),
            temperature=temperature,
            top_p=top_p,
            top_k=max(self.top_k or 0, 0),
            seed=self.seed,
            stop=stop,
            top_logprobs=self.top_logprobs or 0,
        )
