"""A form's question, in the words that the models were trained on for keys and values.

Knows wording in both languages. What a template adds (hints, choices, columns) stands before the published sentence, and a
template without any asks in exactly that sentence: small models understand no other. Does not know pictures or schemas.
"""

from __future__ import annotations

import json

from qwen_vl_app.chat import CoordinateSpace
from qwen_vl_app.forms.fields import FieldType, FormField
from qwen_vl_app.forms.template import FormTemplate
from qwen_vl_app.tasks import prompt_of, task_named


def form_question(template: FormTemplate, language: str) -> str:
    """Return the question that asks for every field."""
    told = [line for field in template.fields if (line := _told(field, language))]
    skeleton: dict[str, object] = {}
    for field in template.fields:
        name = field.asked_as(language)
        match field.type:
            case FieldType.TABLE:
                skeleton[name] = [{column.asked_as(language): "" for column in field.columns}]
            case FieldType.LIST:
                skeleton[name] = [""]
            case _:
                skeleton[name] = ""
    is_flat = all(value == "" for value in skeleton.values())
    if language == "zh" and is_flat:
        listed = ",".join("'" + name.replace("'", "’") + "'" for name in skeleton)
        asked = f"提取图中的：[{listed}]，并且按照json格式输出。"
    elif language == "zh":
        asked = f"按以下格式提取键值信息：{json.dumps(skeleton, ensure_ascii=False)}"
    else:
        asked = f"Extract the key-value information in the format:{json.dumps(skeleton, ensure_ascii=False)}"
    if not told:
        return asked
    absent = "图中没有的填null。" if language == "zh" else "Write null for what is not in the image."
    return "\n".join([*told, absent, asked])


def field_question(field: FormField, language: str) -> str:
    """Return the question for one field alone, in other words than the form's."""
    name = field.asked_as(language)
    return f"{name}的值是多少？" if language == "zh" else f"What is the value of {name}?"


def place_question(field: FormField, language: str, *, coordinates: CoordinateSpace) -> str:
    """Return the question for where a field's value stands."""
    return prompt_of(
        task_named("find-and-count"), [field.asked_as(language)], coordinates=coordinates, language=language
    )


def _told(field: FormField, language: str) -> str:
    """Return what the model has to know beside the name; empty where the name says it all."""
    name, hint = field.asked_as(language), " ".join(field.hint.of(language).split())
    parts = [hint] if hint else []
    if field.type is FieldType.CHOICE:
        words = " / ".join(choice.value for choice in field.choices)
        parts.append(f"只能是：{words}" if language == "zh" else f"one of: {words}")
    if not parts:
        return ""
    return f"{name}：{'；'.join(parts)}。" if language == "zh" else f"{name}: {'; '.join(parts)}."
