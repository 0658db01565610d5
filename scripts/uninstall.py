"""Takes away what the app made on this machine: its environment, its shortcuts, and on request its data. Never a model or a kit.

    python scripts/uninstall.py                 the environment, the tools and the shortcuts
    python scripts/uninstall.py --with-data     the history and the pictures as well, after asking

What was copied here, the project's own folder, the models and the wheels, is left for the person who copied it. Standard
library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the app needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/uninstall.py".format(*sys.version_info[:2])
    )

import argparse
import shutil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment, run, shortcuts
from scripts.packages import speak_anywhere

CACHES = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".import_linter_cache")


def main(arguments: list[str] | None = None) -> int:
    """Take away what was made. Returns the exit status."""
    speak_anywhere()
    parser = argparse.ArgumentParser(description="Take away what the app made on this machine.")
    parser.add_argument("--with-data", action="store_true", help="also the history and the pictures, for good")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    if Path(sys.prefix).resolve() == environment.FOLDER.resolve():
        print("Start this script with the Python outside of .venv, which it is about to remove.", file=sys.stderr)
        return 1
    if any(run.is_this_app(port) for port in run.noted_ports()) or run.holder_port() is not None:
        print("The app is running. End it first.", file=sys.stderr)
        return 1
    data = run.data_folder()
    if options.with_data and data.exists() and not is_own_data(data):
        print(f"{data} does not look like this app's own data folder; nothing was removed.", file=sys.stderr)
        return 1
    if options.with_data and data.exists() and not options.yes and not _confirmed(data):
        print("Nothing was removed.")
        return 1
    for path in shortcuts.remove():
        print(f"Removed {path}")
    folders = [environment.FOLDER, environment.SETUP, *(environment.ROOT / name for name in CACHES)]
    failed = [folder for folder in [*folders, *([data] if options.with_data else [])] if not _remove(folder)]
    for folder in failed:
        print(f"{folder} could not be removed completely. End what uses it, or delete it by hand.", file=sys.stderr)
    if not options.with_data and data.exists():
        print(f"The history stays in {data}. To remove it as well: python scripts/uninstall.py --with-data")
    print("The project's folder, the models and offline_pkgs are as they were.")
    return 1 if failed else 0


def is_own_data(folder: Path) -> bool:
    """Return whether a folder is the app's data and nothing more: it has the history's lock, and nobody lives in or above it."""
    folder = folder.resolve()
    lived_in = {Path.home().resolve(), environment.ROOT.resolve(), Path(folder.anchor)}
    holds_others = any(folder == place or folder in place.parents for place in lived_in)
    return (folder / run.DATA_MARK).is_file() and not holds_others


def _confirmed(data: Path) -> bool:
    print(f"This removes every conversation and every picture in {data}, for good.")
    try:
        return input("Type yes to go on: ").strip().lower() in ("yes", "是")
    except EOFError:
        return False


def _remove(folder: Path) -> bool:
    if not folder.exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        print(f"Removed {folder}")
    return not folder.exists()


if __name__ == "__main__":
    sys.exit(children.calmly(main))
