"""The files that ship with the project agree with the code that reads them."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from streamlit import config as streamlit_config
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_cache import populate_hash_if_needed

from qwen_vl_app.config import ROOT, Settings
from qwen_vl_app.offline import is_loopback

STREAMLIT = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def test_the_example_shows_every_setting_with_its_default() -> None:
    """Taking the comment signs away changes nothing, and no setting is missing."""
    text = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    shown = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text))
    assert set(shown) == set(Settings.model_fields)
    assert Settings(**shown) == Settings()
    assert tomllib.loads(text) == {}


def _keys(table: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in table.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys


def test_streamlit_knows_every_option_it_is_given() -> None:
    """A misspelt option would be ignored with a line in the log."""
    unknown = [key for key in _keys(STREAMLIT) if key not in streamlit_config._config_options_template]
    assert not unknown


def test_streamlit_is_closed_and_silent() -> None:
    """Loopback only, no usage reports, no agent door, no tracebacks on the page, nothing fetched from outside."""
    assert is_loopback(STREAMLIT["server"]["address"])
    assert all(map(is_loopback, STREAMLIT["server"]["allowedHosts"]))
    assert STREAMLIT["browser"]["gatherUsageStats"] is False
    assert STREAMLIT["server"]["enableAgentApi"] is False
    assert STREAMLIT["server"]["enableXsrfProtection"] is True
    assert STREAMLIT["server"]["enableCORS"] is True
    assert STREAMLIT["client"]["showErrorDetails"] == "none"
    assert "://" not in str(STREAMLIT)


def test_streamlit_takes_what_the_settings_allow() -> None:
    """An upload of the allowed size reaches the app, which then judges it."""
    assert STREAMLIT["server"]["maxUploadSize"] == Settings().max_upload_mb
    assert STREAMLIT["server"]["port"] == Settings().port


def test_a_page_run_does_not_hold_up_the_model() -> None:
    """Streamlit's sweep after every run would go through all of torch's objects while the model waits for the lock."""
    assert STREAMLIT["runner"]["postScriptGC"] is False


def test_no_part_of_a_page_is_sent_as_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that has dropped what the server only names would end the connection; the largest part is sent whole."""
    monkeypatch.setattr(streamlit_config, "get_option", lambda name: STREAMLIT["global"][name.removeprefix("global.")])
    part = ForwardMsg()
    part.delta.new_element.markdown.body = "x" * 10_000_000
    populate_hash_if_needed(part)
    assert part.hash and not part.metadata.cacheable
