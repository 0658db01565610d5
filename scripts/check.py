"""Checks form, types and import laws in the tests' environment (downloading packages the first time): python scripts/check.py.

Prints one line a tool; what a tool found follows its line. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the checks need 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/check.py".format(*sys.version_info[:2])
    )

import argparse
import os
import subprocess
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment
from scripts.packages import SetupError, speak_anywhere

CODE = ("app.py", "qwen_vl_app", "scripts", "tests")
TIMEOUT_S = 900


def tools() -> dict[str, list[str]]:
    """Return the command of every check by the name that its line carries."""
    code = [name for name in CODE if (environment.ROOT / name).exists()]
    ruff, mypy, contracts = (str(environment.environment_program(name)) for name in ("ruff", "mypy", "lint-imports"))
    return {
        "format": [ruff, "format", "--check", *code],
        "lint": [ruff, "check", *code],
        "types": [mypy, *code],
        "types on Windows": [mypy, "--platform", "win32", "qwen_vl_app", "scripts"],
        "import contracts": [contracts],
    }


def main(arguments: list[str]) -> int:
    """Set up and run every check, also after one has failed. Returns 1 where any failed."""
    speak_anywhere()
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)  # there are none: before anything is downloaded
    try:
        environment.ensure(dev=True)
        failed = [name for name, command in tools().items() if not _passes(name, command)]
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as told:
        return children.status_of(told)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def _passes(name: str, command: list[str]) -> bool:
    started = time.monotonic()
    surroundings = os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=environment.ROOT,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
        passes, output = done.returncode == 0, done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        passes, output = False, str(error)
    print(f"{name:<18} {time.monotonic() - started:6.1f} s  {'ok' if passes else 'FAILED'}", flush=True)
    if not passes:
        print(output.rstrip(), flush=True)
    return passes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
