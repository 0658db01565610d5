"""Makes the app a tool of this machine: an entry in the menu, a file to click on, a service that starts with the session.

    python scripts/shortcuts.py menu       an entry in the menu (Linux), a file on the desktop (Windows)
    python scripts/shortcuts.py service    a systemd user unit, cut off from every network by the system (Linux)
    python scripts/shortcuts.py remove     takes away what this script made, and nothing else

Every file that is made is written down, so that taking it away needs no guessing. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the app needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/shortcuts.py".format(*sys.version_info[:2])
    )

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PurePath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment
from scripts.packages import SetupError, speak_anywhere

NAME = "qwen-vl-app"
TITLE, TITLE_ZH = "Visual assistant", "视觉助手"
WINDOWS_NAME = f"{TITLE}.cmd"
UNIT_NAME = f"{NAME}.service"
_WAITING = 'trap : INT; "$@" || { echo "Enter closes this window."; read -r _; }'


def main(arguments: list[str] | None = None) -> int:
    """Make or take away what is asked for. Returns the exit status."""
    speak_anywhere()
    parser = argparse.ArgumentParser(description="Make the app a tool of this machine, or take that back.")
    parser.add_argument("what", choices=("menu", "service", "remove"))
    wanted = parser.parse_args(arguments).what
    try:
        if wanted == "remove":
            for path in remove():
                print(f"Removed {path}")
        elif wanted == "menu":
            made = make_windows_file(_desktop_folder()) if os.name == "nt" else make_menu_entry(_data_home())
            print(f"Made {made}")
        else:
            made = make_service(_config_home())
            print(f"Made {made}\nStart it now and with every session:  systemctl --user enable --now {UNIT_NAME}")
            print("Let it run while nobody is logged in:  loginctl enable-linger")
    except (SetupError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make_menu_entry(data_home: Path) -> Path:
    """Write the entry and its icon into a Linux desktop's menu; return the entry."""
    icon = data_home / "icons" / "hicolor" / "scalable" / "apps" / f"{NAME}.svg"
    _write(icon, ICON)
    entry = data_home / "applications" / f"{NAME}.desktop"
    _write(entry, desktop_entry(_python(), environment.ROOT))
    return entry


def desktop_entry(python: str, root: Path) -> str:
    """Return the text of the menu's entry, quoted as the desktop entry specification wants it.

    It has a window, in which the app says what it does and is ended with Ctrl-C, and which waits where that fails, so that the
    reason can be read. The shell outlives Ctrl-C: with its end the window would close on an app that is still ending in order.
    """
    command = " ".join(
        _quoted(part) for part in ("/bin/sh", "-c", _WAITING, NAME, python, str(root / "scripts" / "run.py"))
    )
    return "\n".join(
        (
            "[Desktop Entry]",
            "Type=Application",
            f"Name={TITLE}",
            f"Name[zh_CN]={TITLE_ZH}",
            "Comment=Ask questions about pictures, without network",
            "Comment[zh_CN]=离线询问图片内容",
            f"Exec={command}",
            f"Path={str(root).replace(chr(92), chr(92) * 2)}",
            f"Icon={NAME}",
            "Terminal=true",
            "Categories=Graphics;",
            "StartupNotify=false",
            "",
        )
    )


def _quoted(part: str) -> str:
    """Quote a part of Exec: a percent sign is doubled, and four characters are escaped twice, as a string and as an argument."""
    for sign in ("\\", '"', "`", "$"):
        part = part.replace(sign, "\\\\" + sign if sign != "\\" else "\\\\\\\\")
    return '"' + part.replace("%", "%%") + '"'


def make_service(config_home: Path) -> Path:
    """Write the systemd user unit; return it. Raises SetupError where there is no systemd."""
    if shutil.which("systemctl") is None:
        raise SetupError("There is no systemd on this machine; the menu's entry works without it.")
    unit = config_home / "systemd" / "user" / UNIT_NAME
    _write(unit, service_unit(_python(), environment.ROOT))
    subprocess.run(["systemctl", "--user", "daemon-reload"], check=False, capture_output=True)
    return unit


def service_unit(python: str, root: Path) -> str:
    """Return the text of the unit.

    `--no-egress` is what cuts the app off, in a network of its own that has no way out. The address lines do the same where
    a user's manager may set them, which most systems allow to the system's manager alone.
    """
    command = " ".join(
        _unit_quoted(part) for part in (python, str(root / "scripts" / "run.py"), "--no-browser", "--no-egress")
    )
    return "\n".join(
        (
            "[Unit]",
            "Description=Visual assistant, without network",
            "StartLimitIntervalSec=600",
            "StartLimitBurst=5",
            "",
            "[Service]",
            f"ExecStart={command}",
            f"WorkingDirectory={str(root).replace('%', '%%')}",
            "Restart=on-failure",
            "RestartSec=5",
            "TimeoutStopSec=40",
            "KillMode=mixed",  # the script alone is told to end; it ends the app in order
            "NoNewPrivileges=yes",
            "IPAddressDeny=any",
            "IPAddressAllow=localhost",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
            "LockPersonality=yes",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        )
    )


def _unit_quoted(part: str) -> str:
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def make_windows_file(desktop: Path) -> Path:
    """Write a file to click on; return it."""
    file = desktop / WINDOWS_NAME
    _write(file, windows_starter(_python(), environment.ROOT))
    return file


def windows_starter(python: str, root: PurePath) -> str:
    """Return the text of the file: it starts the app, and waits where that fails, so that the reason can be read.

    cmd reads the file in the code page of the console, which may have no letters for the folder's name. Such a name is
    given to Python by its letters' numbers, and one on the way to Python itself by the variable that holds it.
    """
    script, python = str(root / "scripts" / "run.py"), _by_variable(python)
    command = f'"{_without_percent(python)}" "{_without_percent(script)}" %*'
    if not script.isascii():
        code = f"import runpy, sys; sys.argv[0] = '{_in_numbers(script)}'; runpy.run_path(sys.argv[0], run_name='__main__')"
        command = f'"{_without_percent(python)}" -c "{code}" %*'
    lines = ("@echo off", "chcp 65001 >nul", f"title {TITLE}", command, "if errorlevel 1 pause")
    return "\r\n".join(lines) + "\r\n"


_AS_IT_IS = re.compile(r"%(LOCALAPPDATA|USERPROFILE)%")


def _without_percent(part: str) -> str:
    variable = _AS_IT_IS.match(part)
    kept = variable[0] if variable else ""
    return kept + part.removeprefix(kept).replace("%", "%%")


def _by_variable(path: str) -> str:
    """Return a path with the variable that its beginning stands in, where the path has letters that are not in every code page."""
    for name in () if path.isascii() else ("LOCALAPPDATA", "USERPROFILE"):
        folder = os.environ.get(name, "")
        rest = path[len(folder) :]
        if folder and path.lower().startswith(folder.lower()) and rest.startswith("\\") and rest.isascii():
            return f"%{name}%{rest}"
    return path


def _in_numbers(text: str) -> str:
    """Return a text as it stands between the quotes of Python, in signs that mean nothing to cmd."""
    plain = re.compile(r"[A-Za-z0-9 _.:()-]")
    return "".join(sign if plain.fullmatch(sign) else f"\\U{ord(sign):08x}" for sign in text)


def follow() -> list[Path]:
    """Let what was made lead to where the folder is now; return what was written anew. What somebody has changed stays."""
    makers = {
        f"{NAME}.desktop": desktop_entry,
        UNIT_NAME: service_unit,
        WINDOWS_NAME: windows_starter,
    }
    followed = []
    for name, digest in _made().items():
        path = Path(name)
        make = makers.get(path.name)
        text = make(_python(), environment.ROOT) if make is not None else None
        if text is None or digest == _digest(text.encode("utf-8")):
            continue
        try:
            if _digest(path.read_bytes()) == digest:
                _write(path, text)
                followed.append(path)
        except (OSError, SetupError):  # it was taken away, or may not be written any more
            continue
    return followed


def remove() -> list[Path]:
    """Take away every file that was made and is as it was made; return them. What somebody has changed stays, and is said."""
    gone, kept = [], {}
    made = _made()
    if any(Path(name).name == UNIT_NAME for name in made) and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--user", "disable", "--now", UNIT_NAME], check=False, capture_output=True)
    for name, digest in made.items():
        path = Path(name)
        try:
            found = _digest(path.read_bytes())
        except FileNotFoundError:
            continue
        if found != digest:
            print(f"{path} was changed since it was made; it stays.", file=sys.stderr)
            kept[name] = digest
            continue
        path.unlink()
        gone.append(path)
    _note(kept)
    return gone


def _write(path: Path, text: str) -> None:
    data = text.encode("utf-8")
    with environment.written_to():  # first: what is not on the list is never taken away
        _note({**_made(), str(path): _digest(data)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _list() -> Path:
    return environment.SETUP / "made.json"


def _made() -> dict[str, str]:
    try:
        told = json.loads(_list().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in told.items()} if isinstance(told, dict) else {}


def _note(made: dict[str, str]) -> None:
    if not made:
        _list().unlink(missing_ok=True)
        return
    _list().parent.mkdir(parents=True, exist_ok=True)
    _list().write_text(json.dumps(made, indent=1), encoding="utf-8")


def _python() -> str:
    """Return a Python that will still be there when the environment is made anew."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _desktop_folder() -> Path:
    """Return the desktop, which Windows may keep elsewhere than in the home folder."""
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415 - exists on Windows alone

        folders = r"Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, folders) as key:
                return Path(os.path.expandvars(winreg.QueryValueEx(key, "Desktop")[0]))
        except OSError:
            pass
    return Path.home() / "Desktop"


ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" rx="12" fill="#2563eb"/>
<path d="M8 32s9-15 24-15 24 15 24 15-9 15-24 15S8 32 8 32z" fill="#fff"/><circle cx="32" cy="32" r="8" fill="#2563eb"/></svg>
"""

if __name__ == "__main__":
    sys.exit(children.calmly(main))
