"""The arguments of `history` and its commands.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.cli import history
from qwen_vl_app.cli.history import Erasure, Profile
from qwen_vl_app.cli.parts import Parts

history_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

DataDirFlag = Annotated[str | None, typer.Option("--data-dir", metavar="DIR")]
LanguageFlag = Annotated[str | None, typer.Option("--language", metavar="auto|en|zh")]
JsonFlag = Annotated[bool, typer.Option("--json")]
OwnerFlag = Annotated[str, typer.Option("--owner", metavar="PROFILE", show_default=False)]
AllOwnersFlag = Annotated[bool, typer.Option("--all-owners")]
LimitFlag = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N")]
ModelFlag = Annotated[str | None, typer.Option("--model", metavar="DIR")]


@history_app.command("list")
def _list(
    context: typer.Context,
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
    limit: LimitFlag = 50,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.list_conversations, profile=Profile(owner, all_owners), limit=limit)
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("show")
def _show(
    context: typer.Context,
    conversation_id: Annotated[int, typer.Argument(metavar="ID", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.show, profile=Profile(owner), conversation_id=conversation_id)
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("search")
def _search(
    context: typer.Context,
    wanted: Annotated[list[str], typer.Argument(metavar="WORD", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
    limit: LimitFlag = 20,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.search, profile=Profile(owner, all_owners), words=" ".join(wanted), limit=limit)
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("export")
def _export(
    context: typer.Context,
    what: Annotated[list[str], typer.Argument(metavar="[ID] FILE", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    if len(what) > 2 or (len(what) == 2 and not what[0].isascii()) or (len(what) == 2 and not what[0].isdigit()):
        raise typer.BadParameter("[ID] FILE")
    conversation_id = int(what[0]) if len(what) == 2 else None
    work = partial(history.export, profile=Profile(owner), conversation_id=conversation_id, target=Path(what[-1]))
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("import")
def _import(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.bring_in, profile=Profile(owner), source=source)
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("backup")
def _backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    parts = _parts(context)
    work = partial(history.back_up, parts, target=target)
    _end(history.within(parts, work, overrides=_overrides(data_dir, language=language), is_json=is_json))


@history_app.command("restore")
def _restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.restore, source=source)
    _end(history.within(_parts(context), work, overrides=_overrides(data_dir, language=language), is_json=is_json))


@history_app.command("replay")
def _replay(
    context: typer.Context,
    turn_id: Annotated[int, typer.Argument(metavar="TURN", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    is_json: JsonFlag = False,
    model: ModelFlag = None,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    parts = _parts(context)
    work = partial(history.replay, parts, profile=Profile(owner), turn_id=turn_id)
    overrides = {**_overrides(data_dir, language=language), "model": model}
    _end(history.within(parts, work, overrides=overrides, is_json=is_json))


@history_app.command("erase")
def _erase(
    context: typer.Context,
    *,
    turn: Annotated[int | None, typer.Option("--turn", metavar="TURN")] = None,
    conversation: Annotated[int | None, typer.Option("--conversation", metavar="ID")] = None,
    day: Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD")] = None,
    everything: Annotated[bool, typer.Option("--everything")] = False,
    yes: Annotated[bool, typer.Option("--yes")] = False,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    which: date | None = None if day is None else day.date()
    erasure = Erasure(turn, conversation, which, is_everything=everything, is_confirmed=yes)
    work = partial(history.erase, profile=Profile(owner, all_owners), erasure=erasure)
    _with_records(context, work, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("verify")
def _verify(
    context: typer.Context,
    *,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    _with_records(context, history.verify, data_dir=data_dir, language=language, is_json=is_json)


@history_app.command("prove-erased")
def _prove_erased(
    context: typer.Context,
    markers: Annotated[list[str], typer.Argument(metavar="MARKER", show_default=False)],
    *,
    is_hex: Annotated[bool, typer.Option("--hex")] = False,
    is_json: JsonFlag = False,
    data_dir: DataDirFlag = None,
    language: LanguageFlag = None,
) -> None:
    work = partial(history.prove_erased, markers=markers, is_hex=is_hex)
    _end(history.within(_parts(context), work, overrides=_overrides(data_dir, language=language), is_json=is_json))


def _with_records(
    context: typer.Context, work: history.Work, *, data_dir: str | None, language: str | None, is_json: bool
) -> None:
    overrides = _overrides(data_dir, language=language)
    _end(history.with_records(_parts(context), work, overrides=overrides, is_json=is_json))


def _overrides(data_dir: str | None, *, language: str | None) -> Mapping[str, Any]:
    folder = None if data_dir is None else Path(data_dir).expanduser().absolute()
    return {"data_dir": folder, "language": language}


def _parts(context: typer.Context) -> Parts:
    parts = context.find_object(Parts)
    assert parts is not None  # noqa: S101 - `main` put it there
    return parts


def _end(status: int) -> None:
    raise typer.Exit(status)
