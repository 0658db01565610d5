"""Sets everything up (downloading packages the first time) and opens the app: python scripts/run.py.

Knows the port and the browser; what is installed and how is `environment`'s knowledge. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; the app needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/run.py".format(*sys.version_info[:2])
    )

import argparse
import http.client
import os
import signal
import socket
import subprocess
import time
import tomllib
import webbrowser
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import environment
from scripts.packages import SetupError

APP_HEADER = "x-qwen-vl-app"
"""The app's guard marks every reply with it, so that a taken port can be told from a running app."""
DEFAULT_PORT = 8501
START_TIMEOUT_S = 120.0


def main(arguments: list[str] | None = None) -> int:
    """Set up, start, open the browser. Returns the exit status."""
    options, further = _parser().parse_known_args(arguments)
    try:
        port = options.port or configured_port()
        python = environment.ensure()
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[setup] Stopped. Run this again; it goes on where it stopped.", file=sys.stderr)
        return 130
    address = f"http://127.0.0.1:{port}"
    if is_taken(port):
        if not is_this_app(port):
            print(f"Port {port} is taken by another program. Try another one: --port {port + 1}", file=sys.stderr)
            return 1
        print(f"The app is running already at {address}")
        if not options.no_browser:
            webbrowser.open(address)
        return 0
    command = app_command(python, port=port, further=further)
    surroundings = app_environment(os.environ, port=port, model=options.model)
    os.chdir(environment.ROOT)  # Streamlit looks for .streamlit/config.toml here
    return _run(command, surroundings, port=port, opens_browser=not options.no_browser)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Set everything up and open the app at http://127.0.0.1:8501",
        epilog="Further arguments go to Streamlit as they are.",
    )
    parser.add_argument("--port", type=_port, help="port on this machine (8501, or what config.toml says)")
    parser.add_argument("--model", help="folder of the model to load, or its name under models/")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
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
    surroundings = dict(inherited) | {"QWEN_VL_PORT": str(port)}
    if model:
        folder = Path(model).expanduser()
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


def _run(command: list[str], surroundings: dict[str, str], *, port: int, opens_browser: bool) -> int:
    # A group of its own: Ctrl-C reaches the app once, from here; twice would make it fall over its own clean-up.
    with subprocess.Popen(command, env=surroundings, process_group=None if sys.platform == "win32" else 0) as app:
        if sys.platform != "win32":
            for ending in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(ending, lambda *_: app.terminate())
        try:
            if opens_browser and _becomes_ready(app, port):
                webbrowser.open(f"http://127.0.0.1:{port}")
            return app.wait()
        except KeyboardInterrupt:
            return _end(app)


def _becomes_ready(app: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while app.poll() is None and time.monotonic() < deadline:
        if is_taken(port) and is_this_app(port):
            return True
        time.sleep(0.2)
    return False


def _end(app: subprocess.Popen[bytes]) -> int:
    """Let the app put its things in order. A second Ctrl-C, or 20 seconds, end it at once."""
    try:
        if sys.platform != "win32":  # on Windows the console has told it already
            app.send_signal(signal.SIGINT)
        app.wait(timeout=20)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        app.kill()
        app.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
