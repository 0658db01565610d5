"""Settings: what wins over what, what is refused, and that a refusal names the key, its source and its neighbour."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app.config import ROOT, Settings, load_settings
from qwen_vl_app.errors import SettingsError
from qwen_vl_app.texts import Language, render


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refusal(
    file: Path, overrides: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> SettingsError:
    with pytest.raises(SettingsError) as refused:
        load_settings(overrides, file=file, environment=environment or {})
    return refused.value


def test_without_anything_the_defaults_hold(file: Path) -> None:
    """No file, no variable, no flag: loopback, the folders beside the app, everything chosen by the app."""
    settings = load_settings(file=file, environment={})
    assert settings == Settings()
    assert (settings.models_dir, settings.data_dir) == (ROOT / "models", ROOT / "data")


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_defaults(file: Path) -> None:
    """Each source wins over those before it, key by key; what a flag does not give stays."""
    file.write_text('port = 1111\nthreads = 1\nmodel = "from-file"\n', encoding="utf-8")
    settings = load_settings(
        {"port": 3333, "model": None},
        file=file,
        environment={"QWEN_VL_PORT": "2222", "QWEN_VL_THREADS": "2", "PATH": "/bin"},
    )
    assert (settings.port, settings.threads, settings.model) == (3333, 2, "from-file")
    assert settings.queue_limit == Settings().queue_limit


def test_a_misspelt_key_of_the_file_is_an_error_that_names_the_near_one(file: Path) -> None:
    """`modle` is not silence."""
    file.write_text('modle = "x"\n', encoding="utf-8")
    error = refusal(file)
    assert error.code == "settings.unknown_key_near"
    assert dict(error.facts) == {"key": "modle", "near": "model", "source": "config.toml"}
    assert "Did you mean model?" in render(error, Language.ENGLISH)


def test_a_misspelt_variable_is_an_error_that_names_the_near_one_as_a_variable(file: Path) -> None:
    """What a person has to type is what the sentence says."""
    error = refusal(file, environment={"QWEN_VL_DATADIR": "/x"})
    assert dict(error.facts) == {"key": "QWEN_VL_DATADIR", "near": "QWEN_VL_DATA_DIR", "source": "environment"}


def test_a_key_with_no_neighbour_is_refused_all_the_same(file: Path) -> None:
    """Nothing near is no reason to guess."""
    assert refusal(file, environment={"QWEN_VL_ZZZZZZ": "1"}).code == "settings.unknown_key"


def test_variables_of_others_are_none_of_our_business(file: Path) -> None:
    """Only names that begin with the prefix are read, in either case of letters."""
    settings = load_settings(file=file, environment={"QWEN_PORT": "x", "MODEL": "y", "qwen_vl_port": "2000"})
    assert settings.port == 2000


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("port", 0, "from 1 to 65535"),
        ("port", "eighty", "from 1 to 65535"),
        ("device", "tpu", "one of: auto, cpu, cuda."),
        ("precision", "fp64", "one of: auto, fp32, bf16, int8, fp8, nf4."),
        ("detail", "huge", "one of: low_memory, fast, balanced, detail, document, auto."),
        ("language", "fr", "one of: auto, en, zh."),
        ("decode_timeout_s", 0, "a number above 0, 120 at most"),
        ("max_pictures", -1, "from 1 to 64"),
        ("threads", 4096, "from 0 to 1024"),
        ("queue_limit", 0, "a whole number, 1 or more"),
        ("cache_answers", "maybe", "true or false"),
        ("cache_days", False, "from 0 to 36500"),
        ("max_upload_mb", True, "from 1 to 2048"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_possible(file: Path, key: str, value: object, takes: str) -> None:
    """The error says where to look and what the setting takes, which no other place tells; never the value's own text."""
    error = refusal(file, {key: value})
    assert error.code.startswith("settings.bad_")
    assert (error.facts["key"], error.facts["source"]) == (f"--{key.replace('_', '-')}", "command line")
    assert takes in render(error, Language.ENGLISH)
    assert "{" not in render(error, Language.CHINESE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remote_address", "http://127.0.0.1:99999/v1"),
        ("remote_address", "http://127.0.0.1:0/v1"),
        ("remote_address", "http://10.0.0.1:8000/v1"),
        ("remote_key", "钥匙"),
    ],
)
def test_a_server_that_can_never_be_asked_is_refused_at_once(file: Path, key: str, value: str) -> None:
    """The app would wait half an hour for such a port, and a request with such a key cannot be written."""
    assert refusal(file, environment={f"QWEN_VL_{key.upper()}": value}).code == "settings.bad_value"


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ('port = 8600\ndata_dir = "D:\\vision"\n', "settings.backslash", 2),
        ('data_dir = "C:\\Users\\me"\n', "settings.backslash", 1),
        ("port = 1\n\nport = 2\n", "settings.named_twice", 3),
        ("# models\nmodel = qwen\n", "settings.not_toml", 2),
        ('model = """qwen\n', "settings.not_toml", 1),
    ],
)
def test_a_broken_file_is_told_by_its_line_and_by_what_is_wrong_there(
    file: Path, content: str, code: str, line: int
) -> None:
    """Folders of Windows in double quotation marks are the usual mistake: quotation marks are not what they lack."""
    file.write_text(content, encoding="utf-8")
    error = refusal(file)
    assert (error.code, dict(error.facts)) == (code, {"file": "config.toml", "line": line})


@pytest.mark.parametrize("content", ['data_dir = "D:\\new"', 'batch_folders = ["C:\\temp"]', 'remote_key = "a\\nb"'])
def test_a_sign_that_cannot_be_seen_is_refused(file: Path, content: str) -> None:
    """`D:\\new` between double quotation marks is valid TOML with a line break in it, and no folder that anybody meant."""
    file.write_text(content, encoding="utf-8")
    error = refusal(file)
    assert error.code == "settings.unseen"
    assert "'D:\\vision'" in render(error, Language.ENGLISH)


@pytest.mark.parametrize("value", ["::1", "0.0.0.0", "example.org", "", 1])
def test_the_address_is_no_setting(file: Path, value: object) -> None:
    """A file of an earlier version that names another one is told what to do; one that says what holds stays good."""
    file.write_text(f"host = {json.dumps(value)}\nport = 9000\n", encoding="utf-8")
    error = refusal(file)
    assert (error.code, dict(error.facts)) == ("settings.host", {"key": "host", "source": "config.toml"})
    assert "only at 127.0.0.1" in render(error, Language.ENGLISH)
    assert refusal(file, environment={"QWEN_VL_HOST": "::1"}).code == "settings.host"
    for good in ("127.0.0.1", "localhost"):
        file.write_text(f'host = "{good}"\nport = 9000\n', encoding="utf-8")
        assert load_settings(file=file, environment={}).port == 9000


def test_a_bad_variable_is_named_as_the_variable(file: Path) -> None:
    """The sentence names what the person set."""
    error = refusal(file, environment={"QWEN_VL_MAX_NEW_TOKENS": "many"})
    assert (error.facts["key"], error.facts["source"]) == ("QWEN_VL_MAX_NEW_TOKENS", "environment")


@pytest.mark.parametrize("key", ["data_dir", "models_dir"])
@pytest.mark.parametrize("value", ["", " ", *(() if sys.platform == "win32" else ("~nobody-of-this-name/x",))])
def test_a_folder_that_is_none_is_refused(file: Path, key: str, value: str) -> None:
    """A variable that a service sets to nothing must not put everybody's pictures into the app's own folder."""
    error = refusal(file, environment={f"QWEN_VL_{key.upper()}": value})
    assert (error.code, error.facts["key"]) == ("settings.bad_value", f"QWEN_VL_{key.upper()}")


def test_a_file_with_a_byte_order_mark_still_reads(file: Path) -> None:
    """Windows editors write one."""
    file.write_bytes(b"\xef\xbb\xbfport = 4321\n")
    assert load_settings(file=file, environment={}).port == 4321


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"port = \n", "settings.not_toml"),
        (b"model = qwen\n", "settings.not_toml"),
        (b'model = "\xff"\n', "settings.unreadable"),
    ],
)
def test_a_broken_file_is_a_sentence(file: Path, content: bytes, code: str) -> None:
    """Neither bad TOML nor bad UTF-8 ends in a traceback."""
    file.write_bytes(content)
    error = refusal(file)
    assert error.code == code
    assert "config.toml" in render(error, Language.ENGLISH)


def test_the_environment_takes_a_list_as_it_stands_in_the_file(file: Path) -> None:
    """Brackets and quotation marks would be parts of the keys, and nobody would find out why none opens."""
    keys = ("0123456789abcdef", "fedcba9876543210")
    for written in (", ".join(keys), json.dumps(keys), f" {list(keys)}\n"):
        assert load_settings(file=file, environment={"QWEN_VL_API_KEYS": written}).api_keys == keys
    days = {"QWEN_VL_CACHE_TASK_DAYS": "{ describe = 3, read-text = 0 }"}
    assert load_settings(file=file, environment=days).cache_task_days == {"describe": 3, "read-text": 0}
    for wrong in ('["0123456789abcdef"', "[0123456789abcdef]", "[1]"):
        assert refusal(file, environment={"QWEN_VL_API_KEYS": wrong}).code == "settings.bad_value"


def test_days_to_keep_alone_are_refused(file: Path) -> None:
    """They say when questions are erased, and without `keep` nothing ever is; beside any `keep` they may stand."""
    error = refusal(file, environment={"QWEN_VL_KEEP_DAYS": "7"})
    assert error.code == "settings.keep_days_alone"
    assert "Set QWEN_VL_KEEP to days as well" in render(error, Language.ENGLISH)
    file.write_text("keep_days = 7\n", encoding="utf-8")
    assert load_settings(file=file, environment={"QWEN_VL_KEEP": "days"}).keep_days == 7
    assert load_settings({"keep": "until_erased"}, file=file, environment={}).keep == "until_erased"


def test_days_of_tasks_come_from_the_file_and_from_the_environment(file: Path) -> None:
    """As a table there, as pairs here; what is no number of days is refused by its name."""
    file.write_text("[cache_task_days]\ndescribe = 7\n", encoding="utf-8")
    assert load_settings(file=file, environment={}).cache_task_days == {"describe": 7}
    pairs = {"QWEN_VL_CACHE_TASK_DAYS": "describe=3, read-text = 0"}
    assert load_settings(file=file, environment=pairs).cache_task_days == {"describe": 3, "read-text": 0}
    assert refusal(file, {"cache_task_days": "describe"}).code == "settings.bad_value"


def test_a_folder_in_place_of_the_file_is_a_sentence(file: Path) -> None:
    """What cannot be read says so."""
    file.mkdir()
    assert refusal(file).code == "settings.unreadable"


def test_relative_folders_are_meant_from_the_app_and_home_is_understood(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder does not depend on where a command is typed; `~` is the person's home."""
    home = file.parent / "somebody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    settings = load_settings({"models_dir": "elsewhere", "data_dir": "~/kept"}, file=file, environment={})
    assert settings.models_dir == ROOT / "elsewhere"
    assert settings.data_dir == home / "kept"


def test_every_refusal_has_a_sentence_in_both_languages(file: Path) -> None:
    """No code reaches a person bare."""
    refusals = [
        refusal(file, {"nothing_like_it_at_all": 1}),
        refusal(file, {"modell": "x"}),
        refusal(file, {"port": 0}),
    ]
    for error in refusals:
        for language in Language:
            sentence = render(error, language)
            assert sentence != error.code
            assert "{" not in sentence
