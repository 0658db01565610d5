"""Parts for tests of forms: an engine that plays a model looking at a plate, and an assistant around it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.config import Settings
from qwen_vl_app.engine.base import GenerationRequest, Step, TokenStep
from qwen_vl_app.forms import FieldType, FormField, FormTemplate, Names
from qwen_vl_app.history import HistoryStore
from tests.batch.parts import AnsweringEngine
from tests.ui.fakes import fake_decoder

TEMPLATE = FormTemplate(
    "plate",
    (
        FormField("serial", Names("Serial", "编号"), is_identifier=True, is_required=True),
        FormField("load", Names("Load", "载荷"), FieldType.NUMBER, unit="kg", maximum=100),
        FormField("note", Names("Note", "备注")),
    ),
    title=Names("Plate", "铭牌"),
)


class PlateModel:
    """Answers a form's question with `form`, a locating one with a box, and one about a crop with `again`.

    Each may be changed between two questions. `boxless` names fields that it points at nothing for.
    """

    def __init__(
        self,
        form: object | None = None,
        *,
        again: Mapping[str, str] | None = None,
        boxless: tuple[str, ...] = (),
    ) -> None:
        self.form: object = {"Serial": "AB-123", "Load": "50", "Note": None} if form is None else form
        self.again = dict(again or {})
        self.boxless = boxless
        self.asked: list[str] = []

    def __call__(self, request: GenerationRequest) -> str:
        """Return the reply to a request."""
        text = request.messages[-1].text
        self.asked.append(text)
        if text.startswith("Outline the position of each "):
            name = text.removeprefix("Outline the position of each ").partition(" and output")[0]
            place = {"bbox_2d": [10, 10, 90, 40], "label": name}
            return "[]" if name in self.boxless else json.dumps([place])
        if text.startswith("What is the value of "):
            name = text.removeprefix("What is the value of ").removesuffix("?")
            fallback = self.form.get(name) if isinstance(self.form, dict) else ""
            return self.again.get(name, str(fallback))
        return self.form if isinstance(self.form, str) else json.dumps(self.form)


class SureEngine(AnsweringEngine):
    """An engine that is sure of every token: what makes a person look is never its confidence."""

    def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        for step in super().generate(request, should_stop=should_stop):
            yield replace(step, logprob=-0.001) if isinstance(step, TokenStep) else step


def plate_engine(
    model: Callable[[GenerationRequest], str], *, gate: threading.Semaphore | None = None, at_a_time: int = 1
) -> AnsweringEngine:
    """Return an engine behind which that model sits, which gains from so many answers in one step."""
    return SureEngine(model, gate=gate, at_a_time=at_a_time)


def form_assistant(
    folder: Path, model: Callable[[GenerationRequest], str], *, at_a_time: int = 1, **settings: object
) -> Assistant:
    """Return an assistant, not yet opened, whose decoder reads real pictures in this process."""
    return Assistant(
        engine=plate_engine(model, at_a_time=at_a_time),
        decoder=fake_decoder(),
        history=HistoryStore(folder / "data"),
        settings=Settings.model_validate({"data_dir": folder / "data", "models_dir": folder / "models", **settings}),
    )
