"""Sets everything up (downloading packages the first time) and runs the tests: python scripts/test.py [pytest arguments].

The whole suite is shared between two processes where the machine has two cores and 6 GB free; `-n0` keeps it in one.
Standard library only; what is installed and how is `environment`'s knowledge.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the tests need 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/test.py".format(*sys.version_info[:2])
    )

import os
import subprocess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment
from scripts.packages import SetupError, speak_anywhere

DECIDED = {"-s", "--capture", "--numprocesses", "--dist", "--tx", "--pdb", "--trace", "--co", "--collect-only"}
"""Whoever gives one of these has decided it already, or wants to see one test at a time."""

SHARED_MEMORY = Path("/dev/shm")
LEAST_ROOM_BYTES = 12 * 2**30
"""Free memory from which the tests' files may lie in it, beside two processes that hold models."""


def shared_out(arguments: list[str]) -> list[str]:
    """Return what lets pytest share the whole suite between two processes where the machine carries them.

    Nothing is shared where a part of the suite was named, or where the arguments say how it is to run.
    """
    is_whole = all(word.startswith("-") for word in arguments)
    is_decided = any(word.startswith("-n") or word.partition("=")[0] in DECIDED for word in arguments)
    return ["-n", "auto", "--dist", "loadfile"] if is_whole and not is_decided else []


def quick_room() -> dict[str, str]:
    """Return the environment that puts the tests' files into memory, where the machine has such a place with room enough.

    Thousands of tests each wait for a disk to have written what nobody will read. A folder from which nothing can be
    started is of no use: some tests set up environments of their own.
    """
    if sys.platform == "win32":
        return {}
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or "TMPDIR" in os.environ or not SHARED_MEMORY.is_dir():
        return {}
    try:
        state = os.statvfs(SHARED_MEMORY)
        has_room = min(state.f_bavail * state.f_frsize, _free_memory()) >= LEAST_ROOM_BYTES
        is_usable = os.access(SHARED_MEMORY, os.W_OK | os.X_OK) and not state.f_flag & os.ST_NOEXEC
    except OSError:
        return {}
    return {"PYTEST_DEBUG_TEMPROOT": str(SHARED_MEMORY)} if has_room and is_usable else {}


def _free_memory() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def main(arguments: list[str]) -> int:
    """Set up and run pytest with the given arguments. Returns its exit status."""
    speak_anywhere()
    if {"-h", "--help"} & set(arguments):  # before anything is downloaded
        print(__doc__)
        return 0
    try:
        python = environment.ensure(dev=True)
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as told:
        print("\n[setup] Stopped. Run this again; it goes on where it stopped.", file=sys.stderr)
        return children.status_of(told)
    command = [str(python), "-m", "pytest", *shared_out(arguments), *arguments]
    # Paths among the arguments are meant from where the user stands; the settings are found through the root.
    command += ["--rootdir", str(environment.ROOT), "-c", str(environment.ROOT / "pyproject.toml")]
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(command[0], command, os.environ | quick_room())
    with subprocess.Popen(command) as tests:
        while True:
            try:
                return tests.wait()
            except KeyboardInterrupt:  # the console has told pytest as well, which ends with what it has found so far
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
