"""The commands put together: their arguments, the language of their help, and what an error is worth as a status.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from qwen_vl_app import __version__
from qwen_vl_app.batch import ExportKind
from qwen_vl_app.chat import Detail
from qwen_vl_app.cli import accept as accepting
from qwen_vl_app.cli import ask as asking
from qwen_vl_app.cli import batch as batching
from qwen_vl_app.cli import bench as benching
from qwen_vl_app.cli import checkup
from qwen_vl_app.cli import look as looking
from qwen_vl_app.cli import prove_offline as proving
from qwen_vl_app.cli import serve as serving
from qwen_vl_app.cli.files import expanded
from qwen_vl_app.cli.flags import ANSWERING, LanguageFlag, Shared, taking
from qwen_vl_app.cli.forms_program import forms_app
from qwen_vl_app.cli.help_page import context_class, short_help
from qwen_vl_app.cli.history_program import history_app
from qwen_vl_app.cli.models_program import models_app
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, INTERRUPTED
from qwen_vl_app.cli.terminal import Terminal, speak_utf8
from qwen_vl_app.cli.usage import language_asked, where_to_look, wrong_usage
from qwen_vl_app.errors import Reason
from qwen_vl_app.forms import LookAt
from qwen_vl_app.texts import Language, t

log = logging.getLogger(__name__)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""What a write fails with where it goes to a disk that is full; what fills up by commands is mostly their output."""

_app = typer.Typer(
    name="qwen_vl_app",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_app.add_typer(forms_app, name="forms")
_app.add_typer(history_app, name="history")
_app.add_typer(models_app, name="models")

# Flags of some commands. Their help is put in by `_speak`, in the language of this machine.
PageFlag = Annotated[int, typer.Option("--page", min=1, metavar="N")]
DetailFlag = Annotated[Detail | None, typer.Option("--detail")]


def main(arguments: Sequence[str] | None = None, *, parts: Parts | None = None) -> int:
    """Run one command and return its exit status. `parts` are the real ones unless a test brings its own."""
    speak_utf8()
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_verbose = "-v" in words or "--verbose" in words
    logging.basicConfig(
        level=logging.INFO if is_verbose else logging.CRITICAL, format="%(levelname)s %(name)s: %(message)s"
    )
    language = language_asked(words)
    command = spoken(language)
    first = next((word for word in words if not word.startswith("-") and word not in (*Language, "auto")), "")
    is_json = "--json" in words and first != "bench"  # there it names a file
    try:
        # Not by itself, or what was mistyped could not be told as JSON as well.
        status = command.main(
            args=words, prog_name="python -m qwen_vl_app", obj=parts or Parts(), standalone_mode=False
        )
    except TyperException as error:
        return _show_usage(error, Terminal(language=language, is_json=is_json))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # a stranger's: a person at a terminal gets a calm sentence, `--verbose` shows the rest
        log.info("a command failed", exc_info=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:  # where JSON went there may be none for more
            Terminal(language=language).fail(Reason("cli.output_lost"))
        else:
            Terminal(language=language, is_json=is_json).fail(Reason("app.unexpected_command"))
        return FAILED
    return status if isinstance(status, int) else DONE


def _show_usage(error: Any, terminal: Terminal) -> int:
    """Tell what is wrong with the words of a command, and return its status."""
    if type(error).__name__ == "NoArgsIsHelpError":
        # Nothing is wrong: who types a command alone wants to see what it takes.
        error.show()
        return int(error.exit_code)
    sentence = wrong_usage(error, terminal.language)
    if terminal.is_json:
        terminal.json({"error": {"code": "cli.usage", "message": sentence}})
    terminal.tell(sentence)
    if hint := where_to_look(error, terminal.language):
        terminal.tell(hint)
    return int(error.exit_code)


def spoken(language: Language) -> Any:
    """Return all commands with their help in a language, as click has them."""
    command = get_command(_app)
    _speak(command, Language(language))
    return command


def _speak(command: Any, language: Language, *, code: str = "") -> None:
    """Put the help into a command, its flags and its sub-commands, from the catalogue: `history list` is `history-list`."""
    command.help = t(f"cli.help.{code or command.name}", language)
    command.short_help = short_help(code or command.name, language)
    command.context_class = context_class(language)
    for parameter in command.params:
        if getattr(parameter, "help", "") is None:
            parameter.help = t(f"cli.help.flag.{parameter.name}", language)
    for name, sub in getattr(command, "commands", {}).items():
        sub.name = name
        _speak(sub, language, code=f"{code}-{name}" if code else name)


@_app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version")] = False,
    language: LanguageFlag = None,
) -> None:
    if version:
        sys.stdout.write(f"qwen_vl_app {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


@_app.command("ask")
@taking("is_json", "is_verbose", *ANSWERING)
def _ask(
    shared: Shared,
    words: Annotated[list[str], typer.Argument(metavar='[PICTURE]... "QUESTION"', show_default=False)],
    *,
    is_anew: Annotated[bool, typer.Option("--anew")] = False,
    in_parts: Annotated[bool, typer.Option("--parts")] = False,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, max=32768, metavar="N")] = None,
    page: PageFlag = 1,
    detail: DetailFlag = None,
) -> int:
    request = asking.Request(
        expanded(words[:-1]),
        words[-1],
        page=page - 1,
        detail=detail,
        max_new_tokens=max_tokens,
        is_anew=is_anew,
        in_parts=in_parts,
    )
    return asking.ask(
        shared.parts, request, overrides=shared.overrides, is_json=shared.is_json, is_verbose=shared.is_verbose
    )


@_app.command("look")
@taking("is_json", "model", "device", "precision", "models_dir", "language", "is_verbose")
def _look(
    shared: Shared,
    files: Annotated[list[str], typer.Argument(metavar="FILE", show_default=False)],
    *,
    page: PageFlag = 1,
    detail: DetailFlag = None,
) -> int:
    request = looking.Request(expanded(files), page=page - 1, detail=detail)
    return looking.look(
        shared.parts, request, overrides=shared.overrides, is_json=shared.is_json, is_verbose=shared.is_verbose
    )


@_app.command("batch")
@taking("is_json", "is_verbose", *ANSWERING)
def _batch(
    shared: Shared,
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", show_default=False)] = "",
    *,
    task: Annotated[str, typer.Option("--task", metavar="NAME", show_default=False)] = "",
    given: Annotated[list[str] | None, typer.Option("--with", metavar="WORDS")] = None,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", metavar="QUESTION")] = None,
    detail: DetailFlag = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, max=32768, metavar="N")] = None,
    is_recursive: Annotated[bool, typer.Option("--recursive")] = False,
    is_watching: Annotated[bool, typer.Option("--watch")] = False,
    out: Annotated[str, typer.Option("--out", metavar="DIR", show_default=False)] = "",
    exports: Annotated[list[ExportKind] | None, typer.Option("--export")] = None,
    resume: Annotated[str, typer.Option("--resume", metavar="RUN", show_default=False)] = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    taken: Annotated[str, typer.Option("--take-away", metavar="RUN", show_default=False)] = "",
    compare: Annotated[str, typer.Option("--compare", metavar="RUN", show_default=False)] = "",
    tag: Annotated[str, typer.Option("--tag", metavar="FIELD", show_default=False)] = "",
    template: Annotated[str, typer.Option("--template", metavar="NAME|FILE", show_default=False)] = "",
    second_look: Annotated[LookAt, typer.Option("--look")] = LookAt.DEFAULT,
    is_listing: Annotated[bool, typer.Option("--list")] = False,
) -> int:
    request = batching.Request(
        folder=folder,
        task=task,
        given=tuple(given or ()),
        prompts=tuple(prompts or ()),
        detail=detail,
        max_new_tokens=max_tokens,
        is_recursive=is_recursive,
        is_watching=is_watching,
        out=out,
        exports=tuple(exports or ()),
        resume=resume,
        retry_failed=retry_failed,
        taken=taken,
        compare=compare,
        tag=tag,
        template=template,
        look=second_look,
        is_listing=is_listing,
    )
    return batching.batch(
        shared.parts, request, overrides=shared.overrides, is_json=shared.is_json, is_verbose=shared.is_verbose
    )


@_app.command("accept")
@taking("is_json", *ANSWERING)
def _accept(
    shared: Shared,
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", show_default=False)] = "",
    *,
    template: Annotated[str, typer.Option("--template", metavar="NAME", show_default=False)] = "",
    activate_anyway: Annotated[bool, typer.Option("--activate-anyway")] = False,
    only_compare: Annotated[bool, typer.Option("--only-compare")] = False,
    reviewer: Annotated[str, typer.Option("--who", metavar="NAME", show_default=False)] = "",
    report_file: Annotated[str, typer.Option("--out", metavar="FILE", show_default=False)] = "",
) -> int:
    request = accepting.Request(folder, template, activate_anyway, only_compare, reviewer, report_file)
    return accepting.accept(shared.parts, request, overrides=shared.overrides, is_json=shared.is_json)


@_app.command("doctor")
@taking("is_json", "is_verbose", *ANSWERING)
def _doctor(
    shared: Shared,
    *,
    load: Annotated[bool, typer.Option("--load")] = False,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE")] = None,
) -> int:
    return checkup.doctor(
        shared.parts,
        overrides=shared.overrides,
        loads=load,
        report=report,
        is_json=shared.is_json,
        is_verbose=shared.is_verbose,
    )


@_app.command("bench")
@taking("language")
def _bench(
    shared: Shared,
    *,
    shape: Annotated[str, typer.Option("--shape", metavar="0.4b|2b|3b|7b|qwen3-4b|qwen3-8b")] = "0.4b",
    model_folder: Annotated[Path | None, typer.Option("--model", metavar="DIR")] = None,
    sizes: Annotated[str, typer.Option("--sizes", metavar="N,WxH")] = "512,1024",
    tokens: Annotated[int, typer.Option("--tokens", min=2, max=4096, metavar="N")] = 32,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=20, metavar="N")] = 2,
    arms: Annotated[str, typer.Option("--arms", metavar="|".join(benching.ARMS))] = "all",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
    chart_file: Annotated[Path | None, typer.Option("--chart", metavar="FILE")] = None,
) -> int:
    request = benching.Request(shape, model_folder, sizes, tokens, rounds, arms, json_file, chart_file)
    return benching.bench(shared.parts, request, overrides=shared.overrides)


@_app.command("prove-offline")
@taking("is_json", "model", "models_dir", "language")
def _prove_offline(
    shared: Shared,
    *,
    report_file: Annotated[Path, typer.Option("--out", metavar="FILE")] = Path("offline-report.md"),
    no_browser: Annotated[bool, typer.Option("--no-browser")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS")] = 600.0,
) -> int:
    return proving.prove_offline(
        shared.parts,
        overrides=shared.overrides,
        out=report_file,
        timeout_s=timeout,
        uses_browser=not no_browser,
        is_json=shared.is_json,
    )


@_app.command("serve")
@taking(*ANSWERING)
def _serve(
    shared: Shared,
    *,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, metavar="N")] = None,
) -> int:
    return serving.serve(shared.parts, overrides={**shared.overrides, "port": port})
