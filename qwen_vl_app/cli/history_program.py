"""The arguments of `history` and its commands.

Knows typer. Does not know what a command does.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.cli import history
from qwen_vl_app.cli.flags import Shared, taking
from qwen_vl_app.cli.history import Erasure, Profile

history_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

OwnerFlag = Annotated[str, typer.Option("--owner", metavar="PROFILE", show_default=False)]
AllOwnersFlag = Annotated[bool, typer.Option("--all-owners")]
LimitFlag = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N")]


@history_app.callback()
@taking("language")
def _history(
    shared: Shared,
) -> None:
    return None


@history_app.command("list")
@taking("is_json", "data_dir", "language")
def _list(
    shared: Shared,
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
    limit: LimitFlag = 50,
) -> int:
    work = partial(history.list_conversations, profile=Profile(owner, all_owners), limit=limit)
    return _reading(shared, work)


@history_app.command("show")
@taking("is_json", "data_dir", "language")
def _show(
    shared: Shared,
    conversation_id: Annotated[int, typer.Argument(metavar="ID", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
) -> int:
    work = partial(history.show, profile=Profile(owner), conversation_id=conversation_id)
    return _reading(shared, work)


@history_app.command("search")
@taking("is_json", "data_dir", "language")
def _search(
    shared: Shared,
    wanted: Annotated[list[str], typer.Argument(metavar="WORD", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
    limit: LimitFlag = 20,
) -> int:
    work = partial(history.search, profile=Profile(owner, all_owners), words=" ".join(wanted), limit=limit)
    return _reading(shared, work)


@history_app.command("export")
@taking("is_json", "data_dir", "language")
def _export(
    shared: Shared,
    what: Annotated[list[str], typer.Argument(metavar="[ID] FILE", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
) -> int:
    if len(what) > 2 or (len(what) == 2 and not what[0].isascii()) or (len(what) == 2 and not what[0].isdigit()):
        raise typer.BadParameter("[ID] FILE")
    conversation_id = int(what[0]) if len(what) == 2 else None
    work = partial(history.export, profile=Profile(owner), conversation_id=conversation_id, target=Path(what[-1]))
    return _reading(shared, work)


@history_app.command("import")
@taking("is_json", "data_dir", "language")
def _import(
    shared: Shared,
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
) -> int:
    work = partial(history.bring_in, profile=Profile(owner), source=source)
    return _with_records(shared, work)


@history_app.command("backup")
@taking("is_json", "data_dir", "language")
def _backup(
    shared: Shared,
    target: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> int:
    parts = shared.parts
    work = partial(history.back_up, parts, target=target)
    return history.within(parts, work, overrides=shared.overrides, is_json=shared.is_json)


@history_app.command("restore")
@taking("is_json", "data_dir", "language")
def _restore(
    shared: Shared,
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> int:
    work = partial(history.restore, source=source)
    return history.within(shared.parts, work, overrides=shared.overrides, is_json=shared.is_json)


@history_app.command("replay")
@taking("is_json", "model", "data_dir", "language")
def _replay(
    shared: Shared,
    turn_id: Annotated[int, typer.Argument(metavar="TURN", show_default=False)],
    *,
    owner: OwnerFlag = LOCAL_OWNER,
) -> int:
    parts = shared.parts
    work = partial(history.replay, parts, profile=Profile(owner), turn_id=turn_id)
    return history.within(parts, work, overrides=shared.overrides, is_json=shared.is_json)


@history_app.command("erase")
@taking("is_json", "data_dir", "language")
def _erase(
    shared: Shared,
    *,
    turn: Annotated[int | None, typer.Option("--turn", metavar="TURN")] = None,
    conversation: Annotated[int | None, typer.Option("--conversation", metavar="ID")] = None,
    day: Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD")] = None,
    everything: Annotated[bool, typer.Option("--everything")] = False,
    yes: Annotated[bool, typer.Option("--yes")] = False,
    owner: OwnerFlag = LOCAL_OWNER,
    all_owners: AllOwnersFlag = False,
) -> int:
    which: date | None = None if day is None else day.date()
    erasure = Erasure(turn, conversation, which, is_everything=everything, is_confirmed=yes)
    work = partial(history.erase, profile=Profile(owner, all_owners), erasure=erasure)
    return _with_records(shared, work)


@history_app.command("verify")
@taking("is_json", "data_dir", "language")
def _verify(
    shared: Shared,
) -> int:
    return _with_records(shared, history.verify)


@history_app.command("prove-erased")
@taking("is_json", "data_dir", "language")
def _prove_erased(
    shared: Shared,
    markers: Annotated[list[str], typer.Argument(metavar="MARKER", show_default=False)],
    *,
    is_hex: Annotated[bool, typer.Option("--hex")] = False,
) -> int:
    work = partial(history.prove_erased, markers=markers, is_hex=is_hex)
    return history.within(shared.parts, work, overrides=shared.overrides, is_json=shared.is_json)


def _reading(shared: Shared, work: history.Work) -> int:
    return history.reading_records(shared.parts, work, overrides=shared.overrides, is_json=shared.is_json)


def _with_records(shared: Shared, work: history.Work) -> int:
    return history.with_records(shared.parts, work, overrides=shared.overrides, is_json=shared.is_json)
