"""`models`: the model folders there are, whole or not.

Knows how a folder's line looks. Does not load anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, Reason
from qwen_vl_app.texts import render


def list_models(parts: Parts, *, overrides: Mapping[str, Any], is_json: bool = False) -> int:
    """Print a line for every model folder and return the exit status."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        models = parts.probe(settings).models()
    except AppError as error:
        terminal.fail(error)
        return status_of(error)
    for model in models:
        family = model.family.display_name if model.family else ""
        if terminal.is_json:
            problem = model.problem
            terminal.json(
                {
                    "name": model.name,
                    "family": family,
                    "bytes": model.weight_bytes,
                    "parameters": model.parameters,
                    "dtype": model.dtype,
                    "is_demo": model.is_demo,
                    "is_complete": problem is None,
                    **(
                        {}
                        if problem is None
                        else {"error": problem.code, "message": render(problem, terminal.language)}
                    ),
                }
            )
        elif model.problem is not None:
            terminal.line(f"{model.name}: {render(model.problem, terminal.language)}")
        else:
            code = "cli.models.demo" if model.is_demo else "cli.models.line"
            words = terminal.say(
                code,
                family=family,
                bytes=model.weight_bytes,
                parameters=model.parameters / 1e9,
                dtype=model.dtype,
            )
            terminal.line(f"{model.name}: {words}")
    if not models:
        terminal.note(Reason("cli.models.none"))
    return DONE
