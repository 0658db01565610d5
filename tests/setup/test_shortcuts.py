"""The app as a tool of the machine: what is made, that it is quoted well, and that taking it away takes nothing else."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from qwen_vl_app.history.lock import FolderLock
from scripts import environment, run, shortcuts, uninstall

AWKWARD = Path('/tmp/a folder/100%/wi"th/do$lar')


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of the test's own."""
    root = tmp_path / "project"
    root.mkdir()
    for name, value in {"ROOT": root, "FOLDER": root / ".venv", "SETUP": root / ".setup"}.items():
        monkeypatch.setattr(environment, name, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("QWEN_VL_DATA_DIR", raising=False)
    monkeypatch.setattr(run, "is_this_app", lambda port: False)
    return root


@pytest.mark.skipif(sys.platform == "win32", reason="no desktop of Windows reads it")
def test_the_menu_s_entry_is_one_that_desktops_read(tmp_path: Path) -> None:
    """Quoting and percent signs as the specification wants them."""
    text = shortcuts.desktop_entry("/usr/bin/python3", AWKWARD)
    entry = configparser.RawConfigParser()
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read_string(text)
    told = dict(entry["Desktop Entry"])
    assert told["Name[zh_CN]"] == "视觉助手"
    assert told["Exec"].endswith('"/usr/bin/python3" "/tmp/a folder/100%%/wi\\\\"th/do\\\\$lar/scripts/run.py"')


@pytest.mark.skipif(sys.platform == "win32", reason="no desktop of Windows reads it")
@pytest.mark.parametrize("status", [0, 1])
def test_the_menu_s_window_waits_where_the_start_failed(tmp_path: Path, status: int) -> None:
    """It is a window, so that the app can be ended in it, and one that stays until the reason was read."""
    script = tmp_path / AWKWARD.relative_to("/") / "scripts" / "run.py"
    script.parent.mkdir(parents=True)
    script.write_text(f"print('The disk is full.'); raise SystemExit({status})\n", encoding="utf-8")
    lines = shortcuts.desktop_entry(sys.executable, script.parents[1]).splitlines()
    assert "Terminal=true" in lines
    # As a desktop reads it: the string's own escapes, then the quotes of each argument, then the percent signs.
    exec_ = next(line for line in lines if line.startswith("Exec=")).removeprefix("Exec=").replace("\\\\", "\\")
    quoted = re.findall(r'"((?:\\.|[^"\\])*)"', exec_)
    command = [re.sub(r"\\(.)", r"\1", part).replace("%%", "%") for part in quoted]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as window:
        if status:
            with pytest.raises(subprocess.TimeoutExpired):
                window.wait(3)
        told, _ = window.communicate("\n", timeout=60)
    assert told.startswith("The disk is full.")
    assert ("Enter closes this window." in told) == bool(status)


@pytest.mark.skipif(shutil.which("desktop-file-validate") is None, reason="desktop-file-utils is not installed")
@pytest.mark.parametrize("place", [Path("/opt/app"), AWKWARD])
def test_the_menu_s_entry_passes_the_specification_s_own_checker(tmp_path: Path, place: Path) -> None:
    """Without a warning, wherever the project's folder is."""
    file = tmp_path / "x.desktop"
    file.write_text(shortcuts.desktop_entry("/usr/bin/python3", place), encoding="utf-8")
    told = subprocess.run(["desktop-file-validate", str(file)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")
def test_the_service_runs_without_a_way_out(tmp_path: Path) -> None:
    """The unit quotes what has to be, and cuts the app off."""
    text = shortcuts.service_unit("/usr/bin/python3", AWKWARD)
    assert "--no-egress" in text
    assert "IPAddressDeny=any" in text
    assert '"/tmp/a folder/100%%/wi\\"th/do$$lar/scripts/run.py"' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("folder", ["app", "a folder", "100%", 'wi"th', "do$lar"])
def test_the_service_passes_systemd_s_own_checker(tmp_path: Path, folder: str) -> None:
    """Without a word about the unit, wherever the project's folder is; one with a mistake gets one."""
    root = tmp_path / folder
    (root / "scripts").mkdir(parents=True)
    (root / "scripts" / "run.py").write_text("", encoding="utf-8")
    unit = tmp_path / shortcuts.UNIT_NAME

    def told_of(text: str) -> list[str]:
        unit.write_text(text, encoding="utf-8")
        command = ["systemd-analyze", "verify", "--user", "--man=no", "--generators=no", str(unit)]
        surroundings = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(tmp_path),
        }  # without one it looks at nothing, and says little
        told = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=60, check=False)
        return [line for line in told.stderr.splitlines() if shortcuts.UNIT_NAME in line]

    text = shortcuts.service_unit(sys.executable, root)
    if not told_of(text.replace("ExecStart=", "ExecStrat=")):
        pytest.skip("this systemd-analyze cannot check a user's unit here")
    assert told_of(text) == []


def test_the_file_for_windows_waits_where_something_failed() -> None:
    """Line ends as Windows has them; a person can read why."""
    text = shortcuts.windows_starter(r"C:\Program Files\Python311\python.exe", Path("C:/a b"))
    assert text.count("\r\n") == text.count("\n") == 5
    assert '"C:\\Program Files\\Python311\\python.exe"' in text
    assert "pause" in text


def test_what_was_made_is_taken_away_and_what_was_changed_stays(root: Path, tmp_path: Path) -> None:
    """Written down with their hashes; a file that somebody has edited is theirs."""
    home = tmp_path / "home"
    entry = shortcuts.make_menu_entry(home / "share")
    starter = shortcuts.make_windows_file(home / "Desktop")
    assert entry.is_file()
    starter.write_text("my own", encoding="utf-8")
    neighbour = entry.with_name("other.desktop")
    neighbour.write_text("theirs", encoding="utf-8")
    removed = shortcuts.remove()
    assert entry in removed
    assert len(removed) == 2
    assert starter.is_file()
    assert neighbour.is_file()
    assert shortcuts.remove() == []


def test_nothing_is_made_that_cannot_be_written_down(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As from the folder of another account: it would be taken away by nobody."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def refused(made: object) -> None:
        raise PermissionError(13, "Permission denied", str(root / ".setup" / "made.json"))

    monkeypatch.setattr(shortcuts, "_note", refused)
    monkeypatch.setattr(shortcuts, "_desktop_folder", lambda: tmp_path / "desktop")
    for what in ("menu", "service"):
        assert shortcuts.main([what]) == 1
        told = capsys.readouterr().err
        assert "cannot be written to" in told
        assert "Errno" not in told
    assert not any((tmp_path / name).exists() for name in ("config", "share", "desktop"))


def test_uninstalling_leaves_what_a_person_brought(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The environment goes; models, kit and history stay, and it says where the history is."""
    for name in (".venv/bin", ".setup/last", "models/mine", "offline_pkgs", "data"):
        (root / name).mkdir(parents=True)
    (root / "data" / run.DATA_MARK).write_text("", encoding="utf-8")
    assert uninstall.main([]) == 0
    assert sorted(path.name for path in root.iterdir()) == ["data", "models", "offline_pkgs"]
    assert "--with-data" in capsys.readouterr().out
    assert uninstall.main(["--with-data", "--yes"]) == 0
    assert not (root / "data").exists()


@pytest.mark.parametrize("place", ["", "..", "pictures"])
def test_a_folder_that_is_not_the_app_s_alone_is_never_removed(root: Path, place: str) -> None:
    """A setting that names the project, a folder above it, or somebody's pictures removes none of them."""
    folder = (root / place).resolve()
    folder.mkdir(exist_ok=True)
    (folder / "holiday.jpg").write_bytes(b"")
    if place != "pictures":
        (folder / run.DATA_MARK).write_text("", encoding="utf-8")
    (root / "config.toml").write_text(f"data_dir = '{folder}'\n", encoding="utf-8")
    assert uninstall.main(["--with-data", "--yes"]) == 1
    assert (folder / "holiday.jpg").exists()


def test_a_running_app_is_not_uninstalled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fall over in the middle of an answer."""
    (root / ".venv").mkdir()
    monkeypatch.setattr(run, "is_this_app", lambda port: True)
    (root / ".setup").mkdir()
    note = root / ".setup" / "running.json"
    note.write_text('{"port": 8501}', encoding="utf-8")
    assert uninstall.main([]) == 1
    note.unlink()
    (root / "data").mkdir()
    lock = FolderLock(root / "data")
    lock.acquire(port=8765)
    assert uninstall.main(["--with-data", "--yes"]) == 1, "started in another way, at another port"
    lock.release()
    assert (root / ".venv").is_dir()
    assert uninstall.main([]) == 0, "what answers at 8501 is another account's"


def test_what_was_made_follows_a_folder_that_was_moved(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of what was made moves with the folder. What somebody has changed since is left as it is."""
    entry = shortcuts.make_menu_entry(tmp_path / "share")
    starter = shortcuts.make_windows_file(tmp_path)
    assert shortcuts.follow() == []
    moved = root.rename(tmp_path / "视觉 助手 (新)")
    for name, value in {"ROOT": moved, "SETUP": moved / ".setup"}.items():
        monkeypatch.setattr(environment, name, value)
    starter.write_text("mine", encoding="utf-8")
    assert shortcuts.follow() == [entry]
    assert str(moved / "scripts" / "run.py").replace("\\", "\\" * 4) in entry.read_text(encoding="utf-8")
    assert starter.read_text(encoding="utf-8") == "mine"
    assert shortcuts.follow() == []
    entry.unlink()
    monkeypatch.setattr(environment, "ROOT", root)
    assert shortcuts.follow() == [], "what was taken away is not made again"
    assert entry not in shortcuts.remove()


def test_a_starter_in_a_folder_with_any_letters_is_written_in_signs_of_every_code_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands between Python's quotes leads to the script, with its arguments and its exit status."""
    root = tmp_path / "视觉 助手 100% (新) 😀 it's"
    (root / "scripts").mkdir(parents=True)
    told = "import sys; print(ascii((__file__, __name__, sys.argv))); sys.exit(7)"
    (root / "scripts" / "run.py").write_text(told, encoding="utf-8")
    text = shortcuts.windows_starter(r"C:\Python311\python.exe", root)
    assert text.isascii()
    (line,) = (line for line in text.splitlines() if "run_path" in line)
    code = line.split('"')[3]
    assert line == rf'"C:\Python311\python.exe" -c "{code}" %*'
    assert "%" not in code
    ran = subprocess.run([sys.executable, "-c", code, "--port", "8777"], capture_output=True, text=True, check=False)
    script = str(root / "scripts" / "run.py")
    assert (ran.returncode, ran.stdout.strip()) == (7, ascii((script, "__main__", [script, "--port", "8777"])))


def test_a_python_in_an_account_s_own_folder_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's name may have letters that the console's code page lacks."""
    own = "C:\\Users\\张三\\AppData\\Local"
    monkeypatch.setenv("LOCALAPPDATA", own)
    monkeypatch.setenv("USERPROFILE", "C:\\Users\\张三")
    root = PureWindowsPath("C:\\visual")
    text = shortcuts.windows_starter(own + "\\Programs\\50% Python\\python.exe", root)
    assert '"%LOCALAPPDATA%\\Programs\\50%% Python\\python.exe" "C:\\visual\\scripts\\run.py" %*' in text
    assert "%USERPROFILE%\\python.exe" in shortcuts.windows_starter("c:\\users\\张三\\python.exe", root)
    elsewhere = "D:\\工具\\python.exe"
    assert f'"{elsewhere}"' in shortcuts.windows_starter(elsewhere, root)
