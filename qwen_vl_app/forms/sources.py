"""A template from whatever file a site has: a template, a JSON Schema, the header of a workbook or CSV file.

Knows how they are told apart. Does not know what is in them.
"""

from __future__ import annotations

import json
from dataclasses import replace

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.headers import template_from_table
from qwen_vl_app.forms.schema import template_from_schema
from qwen_vl_app.forms.store import TemplateStore
from qwen_vl_app.forms.template import FormTemplate, checked, slug, template_from


def template_from_file(data: bytes, file_name: str, *, name: str = "") -> FormTemplate:
    """Return the template of a file, under another name where one is given. Raises FormError."""
    stem = file_name.rpartition(".")[0] or file_name
    if file_name.lower().endswith((".xlsx", ".xlsm", ".csv", ".tsv", ".txt")) or data.startswith(b"PK"):
        template = template_from_table(data, file_name)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormError("forms.template.unknown_file") from error
        if not text.strip():
            raise FormError("forms.template.unknown_file")
        template = template_from_text(text, name=slug(stem))
    return checked(replace(template, name=name)) if name else template


def template_from_text(text: str, *, name: str = "") -> FormTemplate:
    """Return the template of a JSON document, which may be a template or a JSON Schema. Raises FormError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormError("forms.schema.not_json") from error
    if isinstance(document, dict) and isinstance(document.get("fields"), list):
        return template_from(document)
    return template_from_schema(text, name=name)


def keep_from_file(store: TemplateStore, data: bytes, file_name: str, *, name: str = "") -> FormTemplate:
    """Keep the template of a file. Only a shared template, or a `name`, says whose next version it is. Raises FormError."""
    template = template_from_file(data, file_name, name=name)
    if name or _is_template(data):
        return store.save(template)
    return store.save_new(template, joins_title=True)


def keep_from_text(store: TemplateStore, text: str) -> FormTemplate:
    """Keep the template of a JSON document that was pasted. Raises FormError."""
    template = template_from_text(text)
    return store.save(template) if _is_template(text) else store.save_new(template, joins_title=True)


def _is_template(document: bytes | str) -> bool:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return False
    return isinstance(found, dict) and isinstance(found.get("fields"), list)
