"""Whatever a schema says, an answer that was held to it fits the rules that were kept, and the others are named."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from qwen_vl_app.engine.form_patterns import grammar_pattern
from qwen_vl_app.engine.form_rules import form_rules
from qwen_vl_app.engine.json_schemas import UnenforceableError, values_in_both
from qwen_vl_app.engine.local.grammar import Grammars, HeldForm
from qwen_vl_app.engine.local.tokens import TextTokens

PIECES = [
    *(bytes([sign]) for sign in range(256)),
    b'{"', b'": ', b'", "', b"null", b"true", b"12", b"2024", b"-", b'"}', b"]}", b"}}", "米".encode(), b"ab", b'\\"', b", ",
]  # fmt: skip
END = len(PIECES)


class Alphabet:
    """Tokens of one byte and a few longer ones; what every test here writes with."""

    def bytes_of(self, token: int) -> bytes:
        return PIECES[token] if token < END else b""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    """Ready for that alphabet, whose padding is as long as a real model's."""
    return Grammars(cast(TextTokens, Alphabet()), vocabulary=END + 40, end_tokens=[END])


def walk(form: HeldForm, seed: int, *, hints: bytes = b"", most: int = 400) -> str | None:
    """Write with dice for a model; the longer it gets, the rather it wants to close what is open. None where it was cut."""
    dice = random.Random(seed)
    written: list[int] = []
    closing = {*range(128), END} & {*b'"}],nul0123456789:- ' + b"tfrase", END}
    while len(written) < most:
        logits = torch.tensor([dice.gauss(0, 1) for _ in range(END + 40)])
        for token in closing:
            logits[token] += len(written) / 12
        for token in b'"' + hints:
            logits[token] += len(written) / 6
        possible = form.narrowed(logits)
        assert possible is not None
        token = int(possible.argmax())
        assert token <= END
        form.accept(token)
        if token != END:
            written.append(token)
        if form.is_over:
            return b"".join(PIECES[each] for each in written).decode("utf-8", "surrogatepass")
    return None


def answers(grammars: Grammars, schema: Any, *, hints: bytes = b"", count: int = 6) -> Iterator[Any]:
    """Some answers, read."""
    for seed in range(count):
        form = grammars.hold(json.dumps(schema))
        assert form is not None
        text = walk(form, seed, hints=hints)
        if text is not None:
            yield json.loads(text)


def kept(schema: Any, relaxed: tuple[str, ...]) -> Any:
    """The schema without the rules that were named as not enforced."""
    if isinstance(schema, dict):
        return {
            key: value if key in ("enum", "const", "required") else
            {name: kept(each, relaxed) for name, each in value.items()} if key in ("properties", "$defs") else kept(value, relaxed)
            for key, value in schema.items() if key not in relaxed
        }  # fmt: skip
    return [kept(each, relaxed) for each in schema] if isinstance(schema, list) else schema


NUMBER = st.integers(-40, 40) | st.floats(-1e3, 1e3).map(lambda value: round(value, 2))
SMALL = st.integers(0, 4)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters='"\\'), max_size=4)
VALUE = (
    st.none() | st.booleans() | NUMBER | TEXT | st.lists(NUMBER, max_size=2) | st.dictionaries(TEXT, NUMBER, max_size=2)
)


def only(**rules: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=rules)


LEAVES = st.one_of(
    st.just({"type": "null"}), st.just({"type": "boolean"}), st.just({}), st.just(True),
    only(minimum=NUMBER, maximum=NUMBER, exclusiveMinimum=NUMBER).map(lambda rules: {"type": "integer", **rules}),
    only(minimum=NUMBER, exclusiveMaximum=NUMBER, multipleOf=st.integers(1, 9)).map(lambda rules: {"type": "number", **rules}),
    only(minLength=SMALL, maxLength=SMALL).map(lambda rules: {"type": "string", **rules}),
    only(maxLength=SMALL).map(lambda rules: {"type": "string", "pattern": "^[A-Z]{1,2}-[0-9]+$", **rules}),
    st.sampled_from(["date", "time", "email", "uuid"]).map(lambda name: {"type": "string", "format": name}),
    st.lists(VALUE, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    VALUE.map(lambda value: {"const": value}),
    st.lists(st.sampled_from(["string", "integer", "null", "boolean"]), min_size=1, unique=True).map(lambda names: {"type": names}),
)  # fmt: skip


def bigger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(TEXT, inner, max_size=3)
    objects = st.tuples(named, st.integers(0, 3), st.sampled_from([None, True, False]), only(minProperties=SMALL, maxProperties=SMALL)).map(
        lambda of: {
            "type": "object", "properties": of[0], "required": list(of[0])[: of[1]],
            **({} if of[2] is None else {"additionalProperties": of[2]}), **of[3],
        }
    )  # fmt: skip
    arrays = st.tuples(inner, only(minItems=SMALL, maxItems=SMALL, uniqueItems=st.booleans())).map(
        lambda of: {"type": "array", "items": of[0], **of[1]}
    )
    return st.one_of(
        objects, arrays,
        inner.map(lambda each: {"type": "object", "additionalProperties": each, "maxProperties": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"type": "array", "prefixItems": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each}),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"oneOf": each}),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"allOf": each}),
        inner.map(lambda each: {"not": each}),
        inner.map(lambda each: {"$ref": "#/$defs/a~1 b", "$defs": {"a/ b": each}} if isinstance(each, dict) else each),
    )  # fmt: skip


SCHEMAS = st.recursive(LEAVES, bigger, max_leaves=6)


def lifted(schema: Any) -> Any:
    """References are from the top: what they point at is brought there."""
    defs: dict[str, Any] = {}

    def without(each: Any) -> Any:
        if isinstance(each, dict):
            if "$ref" in each:
                name = f"d/{len(defs)}"
                defs[name] = True
                defs[name] = without(each["$defs"]["a/ b"])
                return {"$ref": f"#/$defs/{name.replace('/', '~1')}"}
            return {key: value if key in ("enum", "const") else without(value) for key, value in each.items()}
        return [without(one) for one in each] if isinstance(each, list) else each

    root = without(schema)
    return {**root, "$defs": defs} if isinstance(root, dict) and defs else root


@settings(deadline=None, max_examples=120)
@given(SCHEMAS, st.integers(0, 2**32))
def test_every_answer_is_json_that_fits(grammars: Grammars, schema: Any, seed: int) -> None:
    """A model of dice writes valid JSON for any schema, and it fits every rule that was not named as left out."""
    schema = lifted(schema)
    text = json.dumps(schema)
    form = grammars.hold(text)
    assert form is not None
    codes = {note.code for note in form.notes}
    if "engine.form.not_enforced" in codes:
        with pytest.raises(UnenforceableError):
            form_rules(text)
        return
    written = walk(form, seed)
    if written is None:
        assert "engine.form.cut" in {note.code for note in form.notes}
        return
    relaxed = form_rules(text).relaxed
    rules = kept(schema, relaxed)
    errors = [error.message for error in Draft202012Validator(rules).iter_errors(json.loads(written))]
    assert not errors, ascii((schema, written, relaxed))


PLATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "serial": {"anyOf": [{"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, {"type": "null"}]},
        "date": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "state": {"enum": ["ok", "worn", None]},
        "bars": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 16}, {"type": "null"}]},
        "rows": {
            "type": "array",
            "maxItems": 3,
            "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        },
    },
    "required": ["serial", "date", "state", "bars", "rows"],
}


def test_a_form_is_enforced_in_full(grammars: Grammars) -> None:
    """What forms are made of needs no rule left out, and their fields come in their order."""
    assert form_rules(json.dumps(PLATE)).relaxed == ()
    found = list(answers(grammars, PLATE))
    assert found
    for each in found:
        Draft202012Validator(PLATE).validate(each)
        assert list(each) == list(PLATE["properties"])


@pytest.mark.parametrize("value", [None, "AB-1234"])
def test_what_the_model_wants_and_may_say_is_said(grammars: Grammars, value: str | None) -> None:
    """A model that wants null gets null, one that wants a value gets the value: the form chooses nothing."""
    wanted = json.dumps(dict.fromkeys(PLATE["properties"]) | {"serial": value, "rows": []}).encode()
    form = grammars.hold(json.dumps(PLATE))
    assert form is not None
    at = 0
    while not form.is_over:
        logits = torch.zeros(END + 40)
        logits[wanted[at]] = 1.0
        possible = form.narrowed(logits)
        assert possible is not None
        form.accept(int(possible.argmax()))
        at += 1
    assert at == len(wanted)
    assert form.notes == ()


@pytest.mark.parametrize(
    "wanted",
    ['{"state": "ok", "serial": "AB-1234"}', "{}", '{"rows": [{"n": 1}, {}], "bars": null}', json.dumps(dict.fromkeys(PLATE["properties"]) | {"rows": []})],
)  # fmt: skip
def test_an_open_form_follows_the_model(grammars: Grammars, wanted: str) -> None:
    """Fields in the model's own order, and fields left out: it is never made to go on where it wants to end."""
    form = grammars.hold(json.dumps(PLATE), is_open=True)
    assert form is not None
    for byte in wanted.encode():
        logits = torch.zeros(END + 40)
        logits[byte] = 1.0
        possible = form.narrowed(logits)
        assert possible is not None
        assert int(possible.argmax()) == byte
        form.accept(byte)
    possible = form.narrowed(torch.zeros(END + 40))
    assert form.is_over or (possible is not None and torch.isfinite(possible[END]))
    assert form.notes == ()


def test_an_open_form_has_its_fields_and_their_values_alone(grammars: Grammars) -> None:
    """No other names, no other values, and no more fields than there are."""
    open_form = {"type": "object", "properties": PLATE["properties"], "additionalProperties": False}
    count = 0
    for seed in range(8):
        form = grammars.hold(json.dumps(PLATE), is_open=True)
        assert form is not None
        text = walk(form, seed)
        if text is not None:
            pairs = json.loads(text, object_pairs_hook=list)
            assert len(pairs) <= len(PLATE["properties"])
            for name, value in json.loads(text).items():
                count += 1
                rules = {**open_form["properties"][name]}
                if name == "rows":
                    rules["items"] = {
                        "type": "object",
                        "properties": {"n": {"type": "integer"}},
                        "additionalProperties": False,
                    }
                Draft202012Validator(rules).validate(value)
    assert count


@pytest.mark.parametrize(
    ("schema", "relaxed"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ("uniqueItems",)),
        ({"type": "number", "multipleOf": 0.1}, ("multipleOf",)),
        ({"type": "string", "pattern": "(?=a)b"}, ("pattern",)),
        ({"type": "string", "pattern": "^a{0,20000}$"}, ("pattern",)),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3}, ("maxLength",)),
        ({"not": {"type": "string"}}, ("not",)),
        ({"if": {"type": "string"}, "then": {"const": "a"}}, ("if", "then")),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ("oneOf",)),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, ("dependentRequired",)),
        ({"type": "array", "contains": {"const": 5}}, ("contains",)),
        ({"type": "number", "minimum": 1e300}, ("minimum",)),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": r"\bx"}}}, ("pattern",)),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_named(grammars: Grammars, schema: Any, relaxed: tuple[str, ...]) -> None:
    """The rest of the schema is enforced all the same."""
    assert form_rules(json.dumps(schema)).relaxed == relaxed
    assert list(answers(grammars, schema))
    form = grammars.hold(json.dumps(schema))
    assert form is not None
    assert form.notes[0].code == "engine.form.relaxed"


@pytest.mark.parametrize(
    "schema",
    [
        False, {"type": "wrong"}, {"$ref": "#/$defs/none"}, {"$ref": "https://example.org/schema"}, {"enum": []},
        {"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}},
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"type": "integer", "minimum": 5, "maximum": 3}, {"type": "string", "minLength": 5, "maxLength": 3},
        {"type": "string", "enum": [1]}, {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {f"p{number}": {} for number in range(500)}},
    ],
)  # fmt: skip
def test_what_nothing_fits_is_not_enforced(grammars: Grammars, schema: Any) -> None:
    """No grammar traps a model that can never end; it writes freely, and that is said."""
    form = grammars.hold(json.dumps(schema))
    assert form is not None
    assert [note.code for note in form.notes] == ["engine.form.not_enforced"]
    logits = torch.randn(END + 40)
    assert form.narrowed(logits) is logits


def test_a_field_that_nothing_fits_is_left_out(grammars: Grammars) -> None:
    """Where it may be; its name is not open to other values then."""
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 0}}}
    assert list(answers(grammars, schema)) == [{}] * 6


def test_rules_side_by_side_are_one(grammars: Grammars) -> None:
    """Under allOf, beside a reference and beside anyOf, every rule counts."""
    schema = {
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
        "$defs": {"base": {"type": "object", "properties": {"a": {"$ref": "#/$defs/small", "maximum": 5}}, "required": ["a"]},
                  "small": {"anyOf": [{"type": "integer"}, {"type": "null"}], "minimum": 3}},
    }  # fmt: skip
    assert form_rules(json.dumps(schema)).relaxed == ()
    for each in answers(grammars, schema):
        assert list(each) == ["a", "b"]
        assert each["a"] in (None, 3, 4, 5)


def test_a_tree_of_itself_is_written(grammars: Grammars) -> None:
    """A schema may refer to itself where it can also end."""
    schema = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    assert list(answers(grammars, schema))


PATTERNS = [
    "[0-9]+", "^[0-9]{2}-[A-Z]$", "^a|b$", "(a|b)c", r"^\d{4}-(?:0[1-9]|1[0-2])$", r"^[\w.-]+@[\w]+\.de$", "^[^a-c]{1,3}$",
    "^[!-~]{2}$", r"\.", "^(?P<kind>SN|PN)[- ]?[0-9]{3}$", "^a*?b$", "^$", "", r"^[压-覆]\/$", '^[0-9]+(?:"|\\\\| in)$', "^.{1,3}$",
    r"^\D\W\S$", '^["a]+$', r"^[\]\\^-]$", r"^[^\x00-\x7f]\u538b.$", r"^\s?\n?$", "^(?:-[0-9]+)*$", "^[é]{0}x$", "^😀.$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_written_under_a_pattern_is_found_by_it(grammars: Grammars, pattern: str) -> None:
    """Also where it may stand anywhere, and whatever the text needs to be escaped."""
    assert form_rules(json.dumps({"type": "string", "pattern": pattern})).relaxed == ()
    found = list(answers(grammars, {"type": "string", "pattern": pattern}, hints=pattern.encode(), count=8))
    assert found
    for text in found:
        assert re.search(pattern, text, re.ASCII), text


@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from(PATTERNS))
def test_what_a_pattern_finds_may_be_written(grammars: Grammars, data: st.DataObject, pattern: str) -> None:
    """No value is shut out that the pattern lets in, but for control characters that nobody prints."""
    signs = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
    value = data.draw(st.from_regex(re.compile(pattern, re.ASCII), alphabet=signs))
    form = grammars.hold(json.dumps({"type": "string", "pattern": pattern}))
    assert form is not None
    value = (
        value.removesuffix("\n") if pattern.endswith("$") else value
    )  # Python's $ also matches before a last line break
    for byte in json.dumps(value, ensure_ascii=False).encode():
        possible = form.narrowed(torch.zeros(END + 40))
        assert possible is not None
        assert torch.isfinite(possible[byte]), value
        form.accept(byte)
    assert form.notes == ()


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", r"a\b", r"(a)\1", r"\p{L}", "(?i)a", "a**", "(a", "a)", "[b-a]", "x{", "(^a$)", "(a+)+", "(a{1,99}){1,99}", "^a{9999}$",
     "((a?){30}){30}", "a" * 5000, "(" * 2000],
)  # fmt: skip
def test_patterns_that_nobody_can_follow_are_named(pattern: str) -> None:
    """What would take ever longer with each sign is one of them."""
    assert grammar_pattern(pattern) is None


@pytest.mark.parametrize("rules", [{"maxLength": 3}, {"minLength": 2}, {"minLength": 1, "maxLength": 1}])
def test_lengths_count_signs_and_let_no_control_character_in(grammars: Grammars, rules: dict[str, int]) -> None:
    """A quotation mark, which JSON writes with two, is one; a control character is no JSON at all."""
    schema = {"type": "string", **rules}
    for text in answers(grammars, schema, count=10):
        Draft202012Validator(schema).validate(text)
    form = grammars.hold(json.dumps(schema))
    assert form is not None
    for byte in '"米"'.encode()[:-1]:
        possible = form.narrowed(torch.zeros(END + 40))
        assert possible is not None
        assert not torch.isfinite(possible[:0x20]).any()
        assert torch.isfinite(possible[byte])
        form.accept(byte)


def test_names_may_have_a_pattern_too(grammars: Grammars) -> None:
    """Both ways of writing that are held to."""
    for rules in ({"propertyNames": {"pattern": "^[A-Z.]{1,3}$"}},
                  {"patternProperties": {"^[A-Z.]{1,3}$": {"type": "integer"}}, "additionalProperties": False}):  # fmt: skip
        schema = {"type": "object", **rules}
        for each in answers(grammars, schema, count=8):
            Draft202012Validator(schema).validate(each)


def test_large_schemas_are_refused_quickly() -> None:
    """References that double at every level would never end."""
    defs: dict[str, Any] = {"d0": {"type": "string"}}
    for level in range(1, 40):
        reference = {"$ref": f"#/$defs/d{level - 1}", "minLength": 1}
        defs[f"d{level}"] = {"type": "object", "properties": {"a": reference, "b": reference}}
    with pytest.raises(UnenforceableError):
        form_rules(json.dumps({"$ref": "#/$defs/d39", "$defs": defs, "minProperties": 0}))


def test_choices_that_multiply_are_refused_before_they_are_there() -> None:
    """Two thousand million options would not fit into any memory."""
    choices = [{"anyOf": [{"type": "integer", "minimum": 10 * at + more} for more in range(6)]} for at in range(12)]
    with pytest.raises(UnenforceableError):
        form_rules(json.dumps({"allOf": choices}))


def test_long_lists_are_not_compared_pair_by_pair() -> None:
    """What one value has in common with another shows without a look at each other one."""
    left, right = list(range(4000)), [*range(3999, 7998), True, "1", 1.5]
    both = {"anyOf": [{"allOf": [{"enum": left}, {"enum": right}]} for _ in range(20)]}
    assert json.loads(form_rules(json.dumps(both)).schema) == {"anyOf": [{"const": 3999}] * 20}
    assert form_rules(json.dumps({"oneOf": [{"enum": left}, {"enum": right[1:]}]})).relaxed == ()
    assert form_rules(json.dumps({"oneOf": [{"enum": left}, {"enum": right}]})).relaxed == ("oneOf",)
    many = {"oneOf": [{"enum": list(range(40 * at, 40 * at + 40))} for at in range(300)]}
    assert form_rules(json.dumps(many)).relaxed == ("oneOf",)


@pytest.mark.parametrize(
    ("rule", "relaxed"),
    [
        ({"type": "string", "format": "uri"}, "format"),
        ({"type": "string", "pattern": f"^{'[ab]?' * 60}$"}, "pattern"),
        ({"type": "integer", "multipleOf": 997}, "multipleOf"),
    ],
)
def test_what_takes_long_to_make_ready_is_held_to_within_limits(rule: dict[str, Any], relaxed: str) -> None:
    """Everybody waits for the model meanwhile; what is not held to any more is named."""
    few, many = ({"type": "array", "prefixItems": [rule] * count} for count in (10, 200))
    assert form_rules(json.dumps(few)).relaxed == ()
    found = form_rules(json.dumps(many))
    assert found.relaxed == (relaxed,)
    assert 0 < found.schema.count(f'"{relaxed}"') < 200


def test_grammars_are_kept(grammars: Grammars) -> None:
    """The same schema is made ready once; each answer has its own place in it."""
    first, second = grammars.hold('{"type": "boolean"}'), grammars.hold('{"type": "boolean"}')
    assert first is not None and second is not None
    made = grammars._held['{"type": "boolean"}', False]
    assert walk(first, 1) in ("true", "false")
    assert not second.is_over
    assert grammars._held['{"type": "boolean"}', False] is made
    assert grammars.nbytes > 0


def test_values_of_two_lists_are_compared_as_json_compares_them() -> None:
    """True is not 1 here, and 1.0 is; of long lists those in both are found, and lists that share nothing are apart."""
    lists = [list(range(2000)), [*range(1000, 3000), True]]
    merged = form_rules(json.dumps({"allOf": [{"enum": each} for each in lists]}))
    assert json.loads(merged.schema) == {"enum": list(range(1000, 2000))}
    apart = [{"enum": list(range(100 * at, 100 * at + 50))} for at in range(30)]
    assert form_rules(json.dumps({"oneOf": apart})).relaxed == ()
    left, right = [True, 1, "1", None, [1], {"a": 1}, 2.0], [1.0, None, {"a": 1.0}, 2, [True, 2]]
    assert values_in_both(left, right) == [1, None, {"a": 1}, 2.0]
