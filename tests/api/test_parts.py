"""The scripts of the page's parts: each behind an address that names its content, and nothing else there."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.testclient import TestClient

from qwen_vl_app.api.parts import part_routes
from qwen_vl_app.ui import browser_part
from qwen_vl_app.ui.browser_part import PARTS, part_scripts


def test_a_script_is_kept_by_browsers_and_others_are_not_there() -> None:
    """What is sent may be kept for ever, for other content would have another address."""
    browser = TestClient(Starlette(routes=part_routes(PARTS, {"a-1.js": "export default 1;"})))
    sent = browser.get(f"{PARTS}/a-1.js")
    assert (sent.status_code, sent.text) == (200, "export default 1;")
    assert sent.headers["content-type"].startswith("text/javascript")
    assert "immutable" in sent.headers["cache-control"]
    assert browser.get(f"{PARTS}/..%2Fapp.py").status_code == 404
    for other in ("a-2.js", "elements.js", "loader.js"):
        refused = browser.get(f"{PARTS}/{other}")
        assert refused.status_code == 404, other
        assert refused.headers["cache-control"] == "no-store"


def test_every_part_has_a_script_that_stands_alone() -> None:
    """Each holds what all of them share and one default function; the loader and the shared file are no parts."""
    scripts = part_scripts()
    files = {path.stem for path in Path(browser_part.__file__).with_name("frontend").glob("*.js")}
    assert {name.rpartition("-")[0] for name in scripts} == files - {"elements", "loader"}
    for name, script in scripts.items():
        assert re.fullmatch(r"[a-z_]+-[0-9a-f]{16}\.js", name), name
        assert script.count("export default") == 1, name
        assert "function element(" in script and not re.search(r"^import ", script, re.M), name
