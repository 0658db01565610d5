"""`accept`: the truth set run with the model that is loaded, a table of what got better or worse, and the activation.

Knows arguments and the table. Does not know how a value is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from qwen_vl_app.answers import to_csv
from qwen_vl_app.chat import Table
from qwen_vl_app.cli.files import name_of
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, FormError, Reason
from qwen_vl_app.forms import AcceptanceReport, Change, FieldMark, TruthCase, desk_of
from qwen_vl_app.forms.acceptance import cells_of, differences_text
from qwen_vl_app.forms.truth_folder import cases_in


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed. Without a folder the site's own truth set is run."""

    folder: str = ""
    template: str = ""
    anyway: bool = False
    dry: bool = False
    """Only compare: activate nothing."""
    who: str = ""
    out: str = ""


def accept(parts: Parts, request: Request, *, overrides: Mapping[str, Any], is_json: bool = False) -> int:
    """Run the truth set, print the table, activate what did not get worse; return 1 where it did."""
    terminal = Terminal(language=language_of(overrides), is_json=is_json)
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        with parts.build_assistant(settings) as assistant:
            desk = desk_of(assistant)
            cases: Iterable[tuple[TruthCase, bytes]] | None = None
            if request.folder:
                template = desk.templates.get(request.template) if request.template else None
                found = cases_in(
                    Path(request.folder),
                    template=template,
                    language=terminal.language.value,
                    max_bytes=settings.max_upload_mb * 2**20,
                )
                first = next(found, None)  # what is wrong with the folder is told before a model is waited for
                if first is None:
                    raise FormError("forms.truth.empty")
                cases = chain([first], found)
            elif not desk.acceptance.cases():
                raise FormError("forms.truth.empty")
            report = desk.acceptance.run(cases)
            _tell(terminal, report)
            if request.out:
                _write(terminal, report, Path(request.out))
            if request.dry:
                return FAILED if report.is_worse else DONE
            desk.acceptance.activate(report, anyway=request.anyway, who=request.who)
            if not is_json:
                terminal.note(Reason("cli.accept.activated", model=report.configuration.model))
            return DONE
    except AppError as error:
        terminal.fail(error)
        return status_of(error)


def _tell(terminal: Terminal, report: AcceptanceReport) -> None:
    if terminal.is_json:
        terminal.json(
            {
                "configuration": asdict(report.configuration),
                "active": None if report.active is None else asdict(report.active),
                "differences": [asdict(each) for each in report.differences],
                "is_worse": report.is_worse,
                **{mark.value: report.count(mark) for mark in FieldMark},
                **{change.value: report.count(change) for change in Change},
                "fields": [asdict(each) for each in report.fields],
            }
        )
        return
    if report.differences:
        terminal.line(terminal.say("cli.accept.differs", what=differences_text(report.differences, terminal.language)))
    for each in report.changed:
        mark = terminal.say(f"forms.mark.{each.mark.value}")
        change = terminal.say(f"forms.change.{each.change.value}")
        nothing = terminal.say("forms.nothing_there")
        facts = {"expected": each.expected or nothing, "got": each.got or nothing}
        said = terminal.say("cli.accept.line", mark=mark, change=change, **facts)
        terminal.line(f"{each.picture_name}  {each.key}: {said}")
    terminal.line(
        terminal.say(
            "cli.accept.summary",
            right=report.count(FieldMark.RIGHT),
            total=len(report.fields),
            better=report.count(Change.BETTER),
            worse=report.count(Change.WORSE),
        )
    )


def _write(terminal: Terminal, report: AcceptanceReport, target: Path) -> None:
    titles, lines = cells_of(report, terminal.language)
    try:
        target.write_bytes(to_csv(Table(titles, lines)))
    except OSError as error:
        raise FormError("forms.target_unwritable", name=name_of(str(target))) from error
    terminal.note(Reason("cli.forms.wrote", name=target.name))
