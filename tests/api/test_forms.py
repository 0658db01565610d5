"""Forms of answers: what fits, what is said of what does not, and schemas that would harm the app."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from qwen_vl_app.api.forms import LARGEST_SCHEMA_CHARS, AnswerForm
from qwen_vl_app.chat import Answer, FinishReason, ParsedAnswer
from qwen_vl_app.errors import UsageError
from qwen_vl_app.present_model import FormSupport

READING = {"type": "object", "properties": {"bar": {"type": "number"}}, "required": ["bar"]}


def form_of(schema: dict[str, Any]) -> AnswerForm:
    return AnswerForm(schema, must_be_object=False, field="f")


@pytest.mark.parametrize("text", ['{"bar": 4.5}', ' {"bar":4}\n'])
def test_what_fits_is_passed_on_as_json_alone(text: str) -> None:
    """Space around the data is no misfit."""
    form = form_of(READING)
    assert form.misfit(text, None) is None
    assert form.fitted(text, None) == text.strip()


def test_data_inside_prose_counts() -> None:
    """What `answers` found in the text is what is checked."""
    answer = Answer("It is 4 bar", FinishReason.STOP, parsed=ParsedAnswer(data={"bar": 4}, has_data=True))
    assert form_of(READING).misfit(answer.text, answer) is None
    assert form_of(READING).fitted(answer.text, answer) == '{"bar": 4}'


@pytest.mark.parametrize(
    ("text", "said"), [("none", "not valid JSON"), ("{}", "required"), ('{"bar": "4"}', "at bar"), ("[]", "type")]
)
def test_a_misfit_is_said_so_that_the_model_can_mend_it(text: str, said: str) -> None:
    """The place and the broken rule go back to the model, with the form once more."""
    misfit = form_of(READING).misfit(text, None)
    assert misfit is not None
    assert said in misfit
    assert '"bar"' in form_of(READING).repair(misfit)


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_numbers_that_only_python_reads_are_no_json(number: str) -> None:
    """Every other language fails at them, in the text as in data that was taken out of prose."""
    form, text = form_of(READING), f'{{"bar": {number}}}'
    assert form.misfit(text, None) is not None
    parsed = ParsedAnswer(data={"bar": float(number)}, has_data=True)
    assert form.misfit(f"It is {text}", Answer("", FinishReason.STOP, parsed=parsed)) is not None


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400])
def test_a_number_beyond_reckoning_is_a_misfit(number: str) -> None:
    """Whether it is a multiple of a fraction nobody can say, and that is no reason to fail."""
    form = form_of({"type": "number", "multipleOf": 0.01})
    assert form.misfit("4.5", None) is None
    assert form.misfit(number, None) is not None


def test_json_without_a_schema_must_be_an_object() -> None:
    """`json_object` means what it says."""
    form = AnswerForm(must_be_object=True, field="f")
    assert form.misfit("[1]", None) is not None
    assert form.misfit('{"a": 1}', None) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "#/$defs/none"},
        {"$ref": "other.json"},
        {"properties": {"a": {"$ref": "file:///etc/hostname"}}},
        {"$dynamicRef": "#a"},
        {"enum": ["x" * LARGEST_SCHEMA_CHARS]},
        {"anyOf": [{"pattern": "(a+)+$"}]},  # nobody here holds an answer to an expression
        {"patternProperties": {"a": {}}},
        {"properties": {"a": {"type": "integer", "maximum": 10**400}}},
        {"const": [float("inf")]},  # 1e400 in JSON
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_the_model_is_asked(schema: dict[str, Any]) -> None:
    """Broken, dangling, foreign, huge, with rules that could occupy a processor for years, or numbers beyond reckoning."""
    with pytest.raises(UsageError):
        form_of(schema)


def test_a_reference_to_elsewhere_opens_no_socket() -> None:
    """A listener on the very port hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        with pytest.raises(UsageError):
            form_of({"$ref": f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"})
        with pytest.raises(TimeoutError):
            listener.accept()


def test_properties_may_have_the_names_of_rules() -> None:
    """A field called `pattern` or `$ref` is a field, and data are data."""
    schema = {
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "$ref": {"const": {"pattern": "("}}},
        "required": ["pattern"],
        "default": {"pattern": "("},
    }
    assert form_of(schema).misfit('{"pattern": "a"}', None) is None


def test_references_within_the_schema_are_followed_whatever_dialect_it_names() -> None:
    """pydantic's schemas work, and so do those that say which draft they are of."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$defs": {"reading": READING},
        "type": "array",
        "items": {"$ref": "#/$defs/reading"},
    }
    assert form_of(schema).misfit('[{"bar": 1}]', None) is None
    assert form_of(schema).misfit('[{"bar": 1}, {}]', None) is not None


@pytest.mark.parametrize("dialect", [{}, {"$schema": "https://json-schema.org/draft/2020-12/schema"}])
@pytest.mark.parametrize("loop", [False, True])
def test_references_that_multiply_or_run_in_a_circle_come_to_an_end(dialect: dict[str, str], loop: bool) -> None:
    """A schema of forty lines could ask for a million million checks; it is given up, or this would never end."""
    levels: dict[str, Any] = {
        f"l{n}": {**dialect, "allOf": [{"$ref": f"#/$defs/l{n + 1}"}, {"$ref": f"#/$defs/l{n + 1}"}]} for n in range(40)
    }
    levels["l40"] = {"$ref": "#/$defs/l0"} if loop else {"type": "object"}
    assert form_of({**dialect, "$defs": levels, "$ref": "#/$defs/l0"}).misfit("{}", None) is not None


HOPELESS: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}},
    "required": ["a"],
}


def test_an_expression_is_taken_where_the_engine_holds_to_it() -> None:
    """What it leaves out it says; then a strict form is refused by the rule's name, and another is taken as well as it goes."""

    def held(unheld: tuple[str, ...]) -> Callable[[str], FormSupport]:
        return lambda _: FormSupport(is_held=True, unheld=unheld)

    assert AnswerForm(HOPELESS, must_be_object=False, field="f", support=held(())).is_held
    with pytest.raises(UsageError) as refused:
        AnswerForm(HOPELESS, must_be_object=False, field="f", support=held(("pattern",)))
    assert refused.value.facts["rule"] == "pattern"
    loose = AnswerForm(HOPELESS, must_be_object=False, field="f", is_strict=False, support=held(("pattern",)))
    assert not loose.is_held


def test_expressions_are_never_run_here() -> None:
    """One of them would keep this busy for years; the rest of the schema is checked."""
    rules: dict[str, Any] = {**HOPELESS, "patternProperties": {"(b+)+$": {}}, "additionalProperties": False}
    form = AnswerForm(rules, must_be_object=False, field="f", is_strict=False)
    assert form.misfit(json.dumps({"a": "a" * 60 + "!", "b" * 60 + "!": 1}), None) is None
    assert form.misfit('{"b": 1}', None) is not None
