"""Whether this system tells to which process a connection belongs. Wine 8 lists connections as nobody's."""

from __future__ import annotations

import os
import socket
import sys

import psutil
import pytest


def skip_where_owners_are_not_told() -> None:
    """Skip the test on a Windows whose table of connections names no owner for a socket of this very process."""
    if sys.platform != "win32":
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listed = [each.pid for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port]
    if os.getpid() not in listed:
        pytest.skip("this system does not tell whose a connection is")
