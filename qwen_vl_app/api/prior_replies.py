"""What clients of the prior systems get back. Knows shapes only."""

from __future__ import annotations

from qwen_vl_app.api.openai_replies import Shape


class Described(Shape):
    """A description. `inference_time` is in seconds, the waiting included; `model` is the one that answered."""

    description: str
    inference_time: float
    model: str


class Analyzed(Shape):
    """An answer."""

    text: str
