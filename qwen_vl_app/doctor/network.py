"""Findings about ports, browsers and the outside. Knows sockets on loopback; what it tries outside is refused by design."""

from __future__ import annotations

import http.client
import socket
import sys
from pathlib import Path

from qwen_vl_app import offline
from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.errors import Reason

APP_HEADER = "X-Qwen-VL-App"
"""What the app's guard puts on every reply."""
OUTSIDE = ("192.0.2.1", 9)
"""An address that by its standard belongs to nobody."""


def port_finding(port: int) -> Finding:
    """Tell a free port from the app itself and from a stranger."""
    if _can_bind(port):
        return Finding("port", Verdict.OK, Reason("doctor.port.free", port=port))
    if _answers_as_this_app(port):
        return Finding("port", Verdict.OK, Reason("doctor.port.ours", port=port))
    return Finding(
        "port", Verdict.NOTE, Reason("doctor.port.taken", port=port, other=port + 1 if port < 65535 else 8502)
    )


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":  # there, this option would let two listen to one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers_as_this_app(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().getheader(APP_HEADER) is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def offline_finding() -> Finding:
    """Prove that this process can reach nothing outside, by trying."""
    offline.go_offline()
    try:
        with socket.socket() as outside:
            outside.settimeout(0.5)
            outside.connect(OUTSIDE)
    except offline.RefusedConnectionError:
        return Finding("offline", Verdict.OK, Reason("doctor.offline.fine"))
    except OSError:
        pass
    return Finding("offline", Verdict.PROBLEM, Reason("doctor.offline.open"))


def browser_finding(browser: Path | None, *, port: int) -> Finding:
    """Tell which browser would show the page."""
    if browser is None:
        return Finding("browser", Verdict.NOTE, Reason("doctor.browser.none", port=port))
    return Finding("browser", Verdict.OK, Reason("doctor.browser.fine", name=browser.stem))
