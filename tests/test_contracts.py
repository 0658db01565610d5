"""The laws of the house that the linters do not know, read from the code itself."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_vl_app.config import ROOT

PACKAGE = ROOT / "qwen_vl_app"
MODULES = sorted(PACKAGE.rglob("*.py"))
NETWORK = {
    *("aiohttp", "ftplib", "http", "httpx", "httpx2", "imaplib", "requests", "smtplib", "socket", "socketserver"),
    *("telnetlib", "urllib3", "websocket", "websockets", "xmlrpc"),
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
DOORS = ("qwen_vl_app.bootstrap", "qwen_vl_app.cli", "qwen_vl_app.__main__", "qwen_vl_app.ui", "qwen_vl_app.api")


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _attributes(file: Path, owner: str) -> Iterator[ast.Attribute]:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner:
            yield node


def _imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: `urllib.request` for both ways of saying it."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _offenders(found: dict[str, list[int]]) -> str:
    return "\n".join(f"{name}: line {', '.join(map(str, lines))}" for name, lines in found.items() if lines)


def test_only_config_and_offline_touch_the_environment() -> None:
    """A setting that is read elsewhere cannot be found, documented or tested."""
    names = {"environ", "environb", "getenv", "putenv"}
    found = {
        _name(file): [node.lineno for node in _attributes(file, "os") if node.attr in names]
        + [0 for name in _imports(file) if name in {f"os.{attribute}" for attribute in names}]
        for file in MODULES
        if file.name not in ("config.py", "offline.py")
    }
    assert not _offenders(found), _offenders(found)


def test_only_the_command_line_prints() -> None:
    """Whatever else wants to say something raises, returns or logs."""
    found = {
        _name(file): [
            node.lineno
            for node in ast.walk(_tree(file))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
        for file in MODULES
        if file != PACKAGE / "cli.py"
    }
    assert not _offenders(found), _offenders(found)


def test_only_the_state_room_touches_session_state() -> None:
    """One file knows which keys there are."""
    found = {
        _name(file): [
            node.lineno
            for node in ast.walk(_tree(file))
            if isinstance(node, ast.Attribute) and node.attr == "session_state"
        ]
        + [0 for name in _imports(file) if name == "streamlit.session_state"]
        for file in MODULES
        if file != PACKAGE / "ui" / "state.py"
    }
    assert not _offenders(found), _offenders(found)


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A drawer that takes anything is soon full of it."""
    for folder in ("qwen_vl_app", "scripts", "tests"):
        vague = [str(file) for file in (ROOT / folder).rglob("*.py") if set(file.stem.split("_")) & VAGUE]
        assert not vague, vague


def test_nothing_in_the_package_can_open_a_connection() -> None:
    """Only four know sockets: offline.py, which refuses them; the command line, a client of the app on loopback; the
    remote engine, a client of another server on loopback; and doctor/network.py, which looks whether the port is free and proves that what leads outside is refused."""
    found = {
        _name(file): sorted(
            {
                name
                for name in _imports(file)
                if name.partition(".")[0] in NETWORK - {"http"}
                or name.startswith(("urllib.request", "http.client", "http.server"))
            }
        )
        for file in MODULES
        if file.name not in ("offline.py", "remote.py", "remote_exchange.py")
        and file.relative_to(PACKAGE).as_posix() != "doctor/network.py"
        and file.parent.name != "cli"
    }
    assert not any(found.values()), {name: names for name, names in found.items() if names}


def test_the_scan_sees_what_it_looks_for(tmp_path: Path) -> None:
    """The laws above are kept by the code, not by a blind scan."""
    file = tmp_path / "guilty.py"
    file.write_text("import os\nfrom urllib import request\nimport http.client\nos.environ['A']\n", encoding="utf-8")
    assert {"urllib.request", "http.client"} <= set(_imports(file))
    assert [node.attr for node in _attributes(file, "os")] == ["environ"]


WATCH_IMPORTS = """
import importlib, json, sys
names = json.loads(sys.argv[1])
for name in sys.argv[2:]:  # the libraries' own habits are not in question, nor those of the parts that we name
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # a name within a module
seen = []
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+") or (mode is None and flags & 0o3)
        if writes and not (isinstance(path, str) and ("__pycache__" in path or path.startswith("/dev/"))):
            seen.append(f"open {path}")
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "sqlite3.connect", "subprocess.Popen", "os.mkdir",
                   "os.remove", "os.rename"):
        if "__pycache__" not in str(arguments):
            seen.append(event)
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
heavy = sorted({"torch", "transformers", "xgrammar"} & set(sys.modules))
print(json.dumps({"seen": seen, "heavy": heavy}))
"""


def _import_in_a_new_process(names: list[str], *, first: list[str]) -> dict[str, list[str]]:
    ran = subprocess.run(
        [sys.executable, "-B", "-c", WATCH_IMPORTS, json.dumps(names), *first],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert isinstance(told, dict)
    return told


def test_importing_the_doors_loads_no_torch() -> None:
    """A page or a command is there at once; the model's libraries come when a model is opened."""
    doors = [_name(file) for file in MODULES if _name(file).startswith(DOORS) and not _runs_at_import(file)]
    assert any(name.startswith("qwen_vl_app.api") for name in doors)
    assert _import_in_a_new_process(doors, first=[])["heavy"] == []


def _runs_at_import(file: Path) -> bool:
    """Page scripts and `__main__` are run, not imported: they call something at their top level."""
    return file.stem in ("__main__", "page", "main")


def test_importing_any_module_does_nothing() -> None:
    """No connection, no database, no process and no file written, by any module of the package."""
    names = [_name(file) for file in MODULES if not _runs_at_import(file)]
    own = {"qwen_vl_app", "__future__", "flash_attn", "qwen_vl_utils", *sys.builtin_module_names} | _absent()
    libraries = sorted(
        {name for file in MODULES for name in _imports(file) if name.partition(".")[0] not in own}
        | {name.partition(".")[0] for file in MODULES for name in _imports(file)} - own
    )
    assert _import_in_a_new_process(names, first=libraries)["seen"] == []


def _absent() -> set[str]:
    """Modules that this system or this installation does not have (msvcrt, optional libraries)."""
    import importlib.util

    named = {name.partition(".")[0] for file in MODULES for name in _imports(file)}
    return {name for name in named if importlib.util.find_spec(name) is None}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_exactly(name: str) -> None:
    """Two machines that set up on different days run the same versions; no index or hash stands in these files."""
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        entry = line.partition("#")[0].strip()
        if entry:
            assert "==" in entry and not entry.startswith("-") and "://" not in entry, line


def test_torchvision_is_not_among_the_plain_requirements() -> None:
    """Beside another torch than its own it breaks every import of transformers."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = [line.partition("#")[0].strip().lower() for line in text.splitlines()]
    assert not any(entry.startswith(("torchvision", "qwen-vl-utils", "flash-attn")) for entry in entries)
