"""Findings about models: the folders, what fits, what would be loaded and how.

Knows the engine's word on each. Loads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwen_vl_app.chat import EngineStatus
from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.doctor.probe import Fit, RunningApp
from qwen_vl_app.engine.folders import DEMO_MARK, ModelFolder
from qwen_vl_app.engine.manifest import MANIFEST_NAME
from qwen_vl_app.errors import Fact, Reason


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """A picture and a question whose answer is known."""

    name: str
    picture: bytes
    question: str
    answer: str


def model_findings(models: tuple[ModelFolder, ...]) -> Iterator[Finding]:
    """Judge every model folder, and whether there is one that can be used."""
    for model in models:
        if model.problem is not None:
            yield Finding("model", Verdict.NOTE, model.problem)
            continue
        family = model.family.display_name if model.family else ""
        code = "doctor.model.demo" if model.is_demo else "doctor.model.fine"
        reason = Reason(code, model=model.name, family=family, bytes=model.weight_bytes, dtype=model.dtype)
        yield Finding("model", Verdict.OK, reason)
        if not model.is_demo and not (model.path / MANIFEST_NAME).is_file():
            yield Finding("model", Verdict.NOTE, Reason("doctor.model.no_manifest", model=model.name))
    if not any(model.is_complete for model in models):
        yield Finding("model", Verdict.PROBLEM, Reason("doctor.model.none"))


def fit_findings(fits: Sequence[Fit]) -> Iterator[Finding]:
    """Tell for every model and precision whether there is room for it, and for how large pictures."""
    for fit in fits:
        facts: dict[str, Fact] = {
            "model": fit.model,
            "precision": fit.precision,
            "needed": fit.needed_bytes,
            "free": fit.free_bytes,
        }
        if fit.largest is None:
            yield Finding("fit", Verdict.OK, Reason("doctor.fit.no_room", **facts))
        else:
            told = {**facts, "detail": fit.largest.value, "tokens": fit.max_tokens}
            yield Finding("fit", Verdict.OK, Reason("doctor.fit.room", **told))


def running_finding(app: RunningApp) -> Finding:
    """Tell what an app has in memory. What would be chosen beside it is not what it has, and would read as a lack of room."""
    if not app.model:
        return Finding("choice", Verdict.OK, Reason("doctor.choice.running_loading", port=app.port))
    return Finding("choice", Verdict.OK, Reason("doctor.choice.running", model=app.model, port=app.port))


def choice_findings(status: EngineStatus) -> Iterator[Finding]:
    """Tell what is or would be loaded and how, with the reasons, and how large pictures may be."""
    reason = Reason("doctor.choice.model", model=status.model, device=status.device, dtype=status.dtype)
    yield Finding("choice", Verdict.NOTE if status.is_demo else Verdict.OK, reason)
    if status.attention:  # it is chosen by a self-test on the loaded weights, so usually not known here
        yield Finding("choice", Verdict.OK, Reason("doctor.choice.attention", attention=status.attention))
    for choice in (*status.choices, *(status.plan.reasons if status.plan else ())):
        yield Finding("choice", Verdict.OK, choice)
    if status.plan is not None:
        largest = status.plan.rungs[-1]
        usual = status.plan.rung()
        reason = Reason(
            "doctor.sizes.plan",
            usual=usual.max_tokens,
            largest=largest.max_tokens,
            megapixels=largest.max_pixels / 1e6,
            context=status.plan.context_tokens,
        )
        yield Finding("sizes", Verdict.OK, reason)


def known_question(models: tuple[ModelFolder, ...], loaded: str = "") -> KnownQuestion | None:
    """Return the question that a demo model's folder brings with it, under `check` in its `demo.json`; None without.

    That of the model called `loaded` comes first, then any other: what one demo model reads, another may not.
    """
    for model in sorted(models, key=lambda model: model.name != loaded):
        if not model.is_demo:
            continue
        try:
            check = json.loads((model.path / DEMO_MARK).read_text(encoding="utf-8"))["check"]
            picture = model.path / str(check["picture"])
            return KnownQuestion(picture.name, picture.read_bytes(), str(check["question"]), str(check["answer"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None
