"""What Ollama's clients may ask for, field by field, as in `openai_requests`: taken, neutral only, or ignored.

Knows the shapes; does not know how they are answered. Settings of Ollama's loader are ignored: the model is loaded already,
and the answer is the same without them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue

from qwen_vl_app.api.openai_requests import (
    MOST_LIKELY,
    MOST_NEW_TOKENS,
    Name,
    Neutral,
    Nothing,
    StopText,
    Strict,
    Whole,
    told_choice,
)
from qwen_vl_app.chat import SamplingParams

One: TypeAlias = Annotated[float, Field(ge=1, le=1)]
Base64: TypeAlias = Annotated[str, Field(min_length=1)]
ModelName: TypeAlias = Annotated[str, Field(max_length=200)]
KeepAlive: TypeAlias = Annotated[str, Field(max_length=40)] | float | None

REFUSED = frozenset(
    {
        "repeat_penalty", "presence_penalty", "frequency_penalty", "mirostat", "tfs_z", "typical_p", "min_p", "tools",
        "tool_calls", "tool_name", "suffix", "template", "context", "raw", "think", "thinking", "width",
        "height", "steps", "truncate", "shift",
    }
)  # fmt: skip


class Options(Strict):
    """How tokens are chosen."""

    # Taken
    num_predict: Annotated[int, Field(ge=-2), Whole] | None = None
    """-1 is without an end, -2 as much as the context holds: both get the most that there is."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), Whole] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), Whole] | None = None
    stop: Annotated[list[StopText], Field(max_length=16)] | None = None

    # Taken at the value that changes nothing
    repeat_penalty: One | None = None
    presence_penalty: Neutral | None = None
    frequency_penalty: Neutral | None = None
    mirostat: Annotated[Literal[0], Whole] | None = None
    tfs_z: One | None = None
    typical_p: One | None = None
    min_p: Neutral | None = None

    # Ignored
    numa: bool | None = None
    num_ctx: Annotated[int, Whole] | None = None
    num_batch: Annotated[int, Whole] | None = None
    num_gpu: Annotated[int, Whole] | None = None
    main_gpu: Annotated[int, Whole] | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    logits_all: bool | None = None
    vocab_only: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    embedding_only: bool | None = None
    num_thread: Annotated[int, Whole] | None = None
    num_keep: Annotated[int, Whole] | None = None
    repeat_last_n: Annotated[int, Whole] | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    penalize_newline: bool | None = None


class OllamaRequest(Strict):
    """What both ways of asking share."""

    UNSUPPORTED: ClassVar[frozenset[str]] = REFUSED

    model: Name
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, JsonValue] | None = None
    options: Options | None = None
    logprobs: bool | None = None

    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELY), Whole] | None = None
    think: Literal[False] | None = None

    keep_alive: KeepAlive = None

    @property
    def is_stream(self) -> bool:
        """Ollama streams unless it is told not to."""
        return self.stream is not False

    def sampling(self, *, default_max_new_tokens: int) -> SamplingParams:
        """Return how tokens are chosen; greedy without a temperature. A `num_predict` of 0 means the default."""
        options = self.options or Options()
        wanted = options.num_predict or default_max_new_tokens
        temperature, top_p = told_choice(options.temperature, options.top_p)
        return SamplingParams(
            max_new_tokens=min(wanted, MOST_NEW_TOKENS) if wanted > 0 else MOST_NEW_TOKENS,
            temperature=temperature,
            top_p=top_p,
            top_k=options.top_k or 0,
            seed=options.seed,
            stop=tuple(options.stop or ()),
            top_logprobs=self.top_logprobs or 0,
        )


class GenerateRequest(OllamaRequest):
    """One prompt. An empty one asks whether the model is loaded."""

    prompt: str | None = None
    system: str | None = None
    images: Annotated[list[Base64], Field(max_length=1000)] | None = None

    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    context: Nothing | None = None
    raw: Literal[False] | None = None
    width: None = None
    height: None = None
    steps: None = None


class OllamaMessage(Strict):
    """One message of a conversation. Pictures are seen before the text."""

    role: Literal["system", "user", "assistant"]
    content: str | None = None
    images: Annotated[list[Base64], Field(max_length=1000)] | None = None

    thinking: Literal[""] | None = None
    tool_calls: Nothing | None = None
    tool_name: Literal[""] | None = None


class ChatRequest(OllamaRequest):
    """A conversation. An empty one asks whether the model is loaded."""

    messages: Annotated[list[OllamaMessage], Field(max_length=1000)] | None = None
    tools: Nothing | None = None


class ShowRequest(Strict):
    """Asks about a model, by `model` or by `name`, as it was called before. Ollama's own program sends all of this."""

    model: ModelName | None = None
    name: ModelName | None = None

    # Ignored
    verbose: bool | None = None
    system: str | None = None
    template: str | None = None
    options: dict[str, JsonValue] | None = None
