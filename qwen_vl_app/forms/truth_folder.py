"""A folder of pictures with confirmed values beside them, as a site writes it down: one table, or a file for each picture.

    photos/template.json     the template, unless one is named
    photos/truth.csv         a line for each picture: file, and a column for each field (its key or a name of it)
    photos/pump 7.json       or beside `pump 7.jpg`: {"values": {"serial": "00427", "date": null}}

Knows these files. An empty cell says that nothing stands there; a column that is not there says nothing. Reads only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.delimited import csv_lines
from qwen_vl_app.forms.fields import told_apart
from qwen_vl_app.forms.template import FormTemplate, load_template
from qwen_vl_app.forms.truth import TruthCase
from qwen_vl_app.imaging import ACCEPTED_EXTENSIONS

TEMPLATE_FILE, TABLE_FILE = "template.json", "truth.csv"
MAX_BYTES = 8 * 2**20
_FILE_TITLES = frozenset({"file", "picture", "name", "文件", "图片"})


def cases_in(
    folder: Path, *, template: FormTemplate | None, language: str, max_bytes: int
) -> Iterator[tuple[TruthCase, bytes]]:
    """Yield the cases of a folder with their pictures. Raises FormError, naming the file that cannot be meant."""
    if not folder.is_dir():
        raise FormError("forms.truth.no_folder", name=folder.name)
    if template is None:
        document = _read(folder / TEMPLATE_FILE, MAX_BYTES)
        if document is None:
            raise FormError("forms.truth.no_template")
        template = load_template(document)
    table = _table(folder, template)
    for path in sorted(folder.iterdir(), key=lambda each: each.name.casefold()):
        if path.suffix.lower().lstrip(".") not in _ENDINGS or path.is_symlink() or not path.is_file():
            continue
        values = table.get(path.name.casefold())
        if values is None:
            values = _beside(path, template)
        if values is None:
            continue
        picture = _read(path, max_bytes)
        if picture is None:
            raise FormError("forms.truth.unreadable", name=path.name)
        # Known by name and bytes: the same picture is the same case at the next run, wherever the folder lies then.
        case_id = hashlib.sha256(path.name.encode("utf-8", "replace") + b"\0" + picture).hexdigest()[:32]
        yield TruthCase(case_id, template, language, path.name, values), picture


_ENDINGS = frozenset(ending.lower().lstrip(".") for ending in ACCEPTED_EXTENSIONS)


def _table(folder: Path, template: FormTemplate) -> dict[str, dict[str, JsonValue]]:
    data = _read(folder / TABLE_FILE, MAX_BYTES)
    if data is None:
        return {}
    try:
        # Spreadsheets leave lines behind of which every cell is empty.
        titles, *lines = [
            line for line in csv_lines(data, titles=_FILE_TITLES) if any(cell.strip() for cell in line)
        ] or [[]]
    except ValueError as error:
        raise FormError("forms.truth.unreadable", name=TABLE_FILE) from error
    found: dict[str, dict[str, JsonValue]] = {}
    for line in lines:
        cells = {title: cell for title, cell in zip_longest(titles, line[: len(titles)]) if title.strip()}
        name = next((cell for title, cell in cells.items() if title.strip().casefold() in _FILE_TITLES), None)
        if not name or not name.strip():
            raise FormError("forms.truth.no_file_column", name=TABLE_FILE)
        found[name.strip().casefold()] = _values(cells, template)
    return found


def _beside(path: Path, template: FormTemplate) -> dict[str, JsonValue] | None:
    for candidate in (path.with_name(f"{path.name}.json"), path.with_suffix(".json")):
        data = None if candidate.name == TEMPLATE_FILE else _read(candidate, MAX_BYTES)
        if data is None:
            continue
        try:
            document = json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise FormError("forms.truth.unreadable", name=candidate.name) from error
        values = document.get("values", document) if isinstance(document, dict) else None
        if not isinstance(values, dict):
            raise FormError("forms.truth.unreadable", name=candidate.name)
        return _values(values, template)
    return None


def _values(cells: Mapping[str, Any], template: FormTemplate) -> dict[str, JsonValue]:
    by_name = {" ".join(str(title).split()).casefold(): cell for title, cell in cells.items()}
    # A name that several fields have says nothing of which is meant; the one that a run's results tell it by does.
    told = [
        told_apart(
            template.fields, {field.key: field.names.of(language) or field.key for field in template.fields}, language
        )
        for language in ("en", "zh")
    ]
    found: dict[str, JsonValue] = {}
    for field in template.fields:
        names = (field.key, field.asked_as("en"), field.asked_as("zh"), *(each[field.key] for each in told))
        for name in (" ".join(each.split()).casefold() for each in names):
            if name in by_name:
                cell = by_name[name]
                found[field.key] = None if isinstance(cell, str) and not cell.strip() else cell
                break
    return found


def _read(path: Path, limit: int) -> bytes | None:
    """Return a regular file's content; None where there is none, or it is longer than the limit."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
            return None
        return path.read_bytes()
    except OSError:
        return None
