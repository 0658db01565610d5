"""A template from whatever file a site has: a template, a JSON Schema, the header of a workbook or CSV file.

Knows how they are told apart. Does not know what is in them.
"""

from __future__ import annotations

import json
from dataclasses import replace

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.headers import template_from_table
from qwen_vl_app.forms.schema import template_from_schema
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
            raise FormError("forms.template.not_json") from error
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
