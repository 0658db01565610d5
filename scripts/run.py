"""Sets everything up (downloading packages the first time) and opens the app: python scripts/run.py.

Knows the port, the browser, and what to do when the app falls over; what is installed and how is `environment`'s knowledge.
Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the app needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/run.py".format(*sys.version_info[:2])
    )

import os
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Within an import, Ctrl-C can become any error.
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))

import argparse
import contextlib
import http.client
import json
import math
import socket
import subprocess
import time
import tomllib
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment, shortcuts
from scripts.packages import SetupError, speak_anywhere

APP_HEADER = "x-qwen-vl-app"
"""The app's guard marks every reply with it, so that a taken port can be told from a running app."""
DEFAULT_PORT = 8501
DATA_MARK = "history.lock"
"""The file by which the history's folder is known, and in which whoever works in it says at which port."""
DATA_LOCKED_BYTE = 1 << 30
"""Where that file is locked on Windows; a test holds these two against the history's own."""
START_TIMEOUT_S = 900.0
"""The first start from a slow disk, where a virus scanner reads every library as well, takes minutes."""
END_TIMEOUT_S = 20.0
"""How long the app may take to put its things in order, once it was told to end."""
LOOK_S = 0.2
PORTS_TRIED = 20
RESTART_STATUS = 75
"""The app ends with it where only a new process can help: the graphics card's driver has fallen over."""
CONSOLE_CLOSED = 0xC000013A
RESTARTS, RESTARTS_WITHIN_S = 3, 600.0


def main(arguments: list[str] | None = None) -> int:
    """Set up, start, open the browser. Returns the exit status."""
    speak_anywhere()
    options, further = _parser().parse_known_args(arguments)
    try:
        port = options.port or configured_port()
        python = environment.roll_back() if options.rollback else environment.ensure()
        is_alone = _hold_the_start()
        place = find_place(port, is_fixed=options.port is not None, is_alone=is_alone)
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as told:
        print("\n[setup] Stopped. Run this again; it goes on where it stopped.", file=sys.stderr)
        return children.status_of(told)
    for path in shortcuts.follow():
        print(f"{path} leads here now.")
    if place.is_running:
        print(f"The app is running already at {place.address}")
        if not options.no_browser:
            webbrowser.open(place.address)
        return 0
    if place.port != port:
        print(f"Port {port} is taken by another program or another copy of the app; taking {place.port}.")
    command = app_command(python, port=place.port, further=further)
    if options.no_egress:
        command = [str(python), str(environment.ROOT / "scripts" / "no_egress.py"), str(place.port), "--", *command]
    surroundings = app_environment(os.environ, port=place.port, model=options.model)
    os.chdir(environment.ROOT)  # Streamlit looks for .streamlit/config.toml here
    print(f"The app starts at {place.address}. Ctrl-C here ends it; closing its page does not.", flush=True)
    note = _running_file()
    try:
        with contextlib.suppress(OSError):  # on a full disk the app itself may be wanted, to make room
            note.write_text(json.dumps({"port": place.port, "data": str(data_folder())}), encoding="utf-8")
        return _keep_running(command, surroundings, port=place.port, opens_browser=not options.no_browser)
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Set everything up and open the app at http://127.0.0.1:8501",
        epilog="Further arguments go to Streamlit as they are.",
    )
    parser.add_argument("--port", type=_port, help="port on this machine (8501, or what config.toml says)")
    parser.add_argument("--model", help="folder of the model to load, or its name under models/")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--rollback", action="store_true", help="go back to the environment from before the last update"
    )
    parser.add_argument(
        "--no-egress", action="store_true", help="let the system itself cut the app off from every network (Linux)"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a number from 1 to 65535")
    return int(text)


def configured_port() -> int:
    """Return the port that the environment or config.toml name; 8501 otherwise. Raises SetupError for an impossible one.

    A config.toml that cannot be read is left for the app, which says what is wrong with it.
    """
    given: object = os.environ.get("QWEN_VL_PORT")
    source = "QWEN_VL_PORT"
    if given is None:
        source = "config.toml"
        try:
            text = (environment.ROOT / source).read_text(encoding="utf-8-sig")
            given = tomllib.loads(text).get("port", DEFAULT_PORT)
        except (OSError, ValueError):
            given = DEFAULT_PORT
    if not str(given).isdecimal() or not 1 <= int(str(given)) <= 65535:
        raise SetupError(f"The port in {source} must be a number from 1 to 65535.")
    return int(str(given))


def data_folder() -> Path:
    """Return where the app keeps its data, as the environment or config.toml say; what cannot be read counts as not said."""
    given: object = os.environ.get("QWEN_VL_DATA_DIR")
    if not given:
        try:
            text = (environment.ROOT / "config.toml").read_text(encoding="utf-8-sig")
            given = tomllib.loads(text).get("data_dir")
        except (OSError, ValueError):
            given = None
    # Path's own raises where nobody of a name has a home.
    folder = Path(os.path.expanduser(str(given))) if given else Path("data")  # noqa: PTH111
    return folder if folder.is_absolute() else environment.ROOT / folder


def holder_port() -> int | None:
    """Return the port of whoever works in the data folder, 0 where that cannot be known; None where nobody does."""
    try:
        descriptor = os.open(data_folder() / DATA_MARK, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError:  # another account's
        return 0
    try:
        if environment.try_lock(descriptor, at=DATA_LOCKED_BYTE):
            return None
        os.lseek(descriptor, 0, os.SEEK_SET)
        return int(json.loads(os.read(descriptor, 1024))["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Place:
    """A port on this machine, and whether the app runs at it already."""

    port: int
    is_running: bool

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://127.0.0.1:{self.port}"


def find_place(port: int, *, is_fixed: bool, is_alone: Callable[[], bool] = lambda: True) -> Place:
    """Return where the app runs, or the first free port from `port` on; with `is_fixed`, that port or none.

    `is_alone` says whether nobody else is about to start it here; where somebody is, that one's app is waited for. Raises
    SetupError where everything is taken by other programs.
    """
    running = None if is_fixed else _running_one(is_alone)
    if running is not None:
        return running
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        if not is_taken(candidate):
            return Place(candidate, is_running=False)
        if is_this_app(candidate) and holder_port() in (candidate, 0):
            return Place(candidate, is_running=True)
        if is_fixed:
            raise SetupError(
                f"Port {port} is taken by another program or another copy of the app. Try another one: --port {port + 1}"
            )
    raise SetupError(
        f"The ports from {port} on are all taken by other programs. Try one far away: --port {port % 30000 + 20000}"
    )


def _running_one(is_alone: Callable[[], bool]) -> Place | None:
    deadline = time.monotonic() + START_TIMEOUT_S
    is_told = False
    while True:
        is_last = is_alone() or time.monotonic() > deadline  # asked before the note is read, which is then no older
        for noted in noted_ports():
            if is_this_app(noted):  # this folder's; it may have been started for another data folder
                return Place(noted, is_running=True) if _is_noted_for_here() else None
        held = holder_port()
        if held and is_this_app(held):  # started in another way
            return Place(held, is_running=True)
        if is_last:
            return None
        if not is_told:
            is_told = True
            print("The app is being started here already; waiting for it.", flush=True)
        time.sleep(0.5)


def _hold_the_start() -> Callable[[], bool]:
    """Return what tells whether this process is the one that starts the app here; the system lets go of it with the process."""
    try:
        environment.SETUP.mkdir(exist_ok=True)
        file = (environment.SETUP / "running.lock").open("a+b")
    except OSError:  # a folder that is only read: whoever starts the app there notes nothing either
        return lambda: True
    is_alone = False

    def ask() -> bool:
        nonlocal is_alone
        is_alone = is_alone or environment.try_lock(file.fileno())  # Windows grants no lock twice
        return is_alone

    ask()
    return ask


def _running_file() -> Path:
    return environment.SETUP / "running.json"


def noted_ports() -> list[int]:
    """Return the port that a running app was started at, which may be another than the usual one."""
    try:
        return [int(json.loads(_running_file().read_text(encoding="utf-8"))["port"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_noted_for_here() -> bool:
    here = str(data_folder())
    try:
        return bool(json.loads(_running_file().read_text(encoding="utf-8")).get("data", here) == here)
    except (OSError, ValueError, AttributeError):
        return True


def app_command(python: Path, *, port: int, further: list[str]) -> list[str]:
    """Return the command that starts the app: `streamlit run app.py`, on loopback alone."""
    return [
        str(python),
        *("-m", "streamlit", "run", str(environment.ROOT / "app.py")),
        *("--server.address", "127.0.0.1", "--server.port", str(port)),
        *("--server.headless", "true", "--browser.gatherUsageStats", "false"),
        *further,
    ]


def app_environment(inherited: "Mapping[str, str]", *, port: int, model: str | None) -> dict[str, str]:
    """Return the environment for the app. A model given as a folder is made absolute; a name stays a name."""
    surroundings = dict(inherited) | {"QWEN_VL_PORT": str(port), "QWEN_VL_EXIT_ON_DRIVER_LOSS": "true"}
    if model:
        folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path's own raises where nobody of a name has a home
        surroundings["QWEN_VL_MODEL"] = str(folder.resolve()) if folder.is_dir() else model
    return surroundings


def is_taken(port: int) -> bool:
    """Return whether something on this machine answers at the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_this_app(port: int) -> bool:
    """Return whether what answers at the port is this app, ready to be used."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().getheader(APP_HEADER) is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _keep_running(command: list[str], surroundings: dict[str, str], *, port: int, opens_browser: bool) -> int:
    """Run the app; start it again where it fell over in a way that a new process mends. Returns its exit status."""
    falls: list[float] = []
    while True:
        status = _run(command, surroundings, port=port, opens_browser=opens_browser and not falls)
        if not is_crash(status):
            return status
        falls = [*(fall for fall in falls if time.monotonic() - fall < RESTARTS_WITHIN_S), time.monotonic()]
        if len(falls) > RESTARTS:
            print("The app fell over again and again; it is not started any more. Run the doctor:", file=sys.stderr)
            print(f"  {command[0]} -m qwen_vl_app doctor", file=sys.stderr)
            return status
        what = "The graphics driver fell over" if status == RESTART_STATUS else f"The app fell over (status {status})"
        print(f"{what}; starting it again. Questions that were under way are kept and say so.", file=sys.stderr)


def is_crash(status: int) -> bool:
    """Return whether an exit status means that the process was torn down rather than ended: by itself or by the system."""
    if status == RESTART_STATUS:
        return True
    if sys.platform == "win32":
        return status & 0xFFFFFFFF >= 0xC0000000 and status & 0xFFFFFFFF != CONSOLE_CLOSED
    return status < 0 and -status in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def _run(command: list[str], surroundings: dict[str, str], *, port: int, opens_browser: bool) -> int:
    # A group of its own: Ctrl-C reaches the app once, from here; twice would make it fall over its own clean-up.
    app: subprocess.Popen[bytes] | None = None
    try:
        with children.heard():
            app = subprocess.Popen(command, env=surroundings, process_group=None if sys.platform == "win32" else 0)
            if opens_browser and _becomes_ready(app, port):
                webbrowser.open(f"http://127.0.0.1:{port}")
            return _wait(app)
    except KeyboardInterrupt as told:
        return children.status_of(told) if app is None else _end(app, told)


def _wait(app: "subprocess.Popen[bytes]", timeout_s: float | None = None) -> int:
    """Return the app's exit status. Raises TimeoutExpired; Ctrl-C is heard meanwhile, on every system."""
    if sys.platform != "win32":
        return app.wait(timeout=timeout_s)
    # Nothing interrupts a wait for a process on Windows: a key would be heard only after the app's end. A sleep is interrupted.
    limit_s = math.inf if timeout_s is None else timeout_s
    deadline = time.monotonic() + limit_s
    status = app.poll()
    while status is None:
        if time.monotonic() >= deadline:
            raise subprocess.TimeoutExpired(app.args, limit_s)
        time.sleep(LOOK_S)
        status = app.poll()
    return status


def _becomes_ready(app: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while app.poll() is None and time.monotonic() < deadline:
        if is_taken(port) and is_this_app(port):
            return True
        time.sleep(0.2)
    return False


def _end(app: subprocess.Popen[bytes], told: KeyboardInterrupt) -> int:
    """Let the app put its things in order. A second Ctrl-C, or END_TIMEOUT_S, end it at once."""
    try:
        if sys.platform != "win32":  # on Windows the console has told it already
            # What told this process may have told the app as well: SIGTERM twice is harmless, and SIGINT after it is not.
            app.send_signal(signal.SIGTERM if isinstance(told, children.ToldToEnd) else signal.SIGINT)
        with children.heard():
            _wait(app, timeout_s=END_TIMEOUT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        app.kill()
        app.wait()
    return 0


def _from_the_command_line() -> int:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on each part ends in its own way
    return children.calmly(main)


if __name__ == "__main__":
    sys.exit(_from_the_command_line())
