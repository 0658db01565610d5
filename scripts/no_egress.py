"""Runs the app where the system itself lets nothing out: in a network of its own that has loopback and no route.

    python scripts/no_egress.py PORT -- command of the app ...

The browser's side of the port is opened first, in this machine's network; then this process moves into an empty network,
starts the app there, and carries bytes from the port to it. Needs no rights, but a Linux that lets a user make namespaces.
Knows ports and processes; does not know what it carries. Standard library only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
NOT_ALLOWED = 71
"""The exit status where the system lets this account make no network of its own."""
CHUNK_BYTES = 1 << 16


def main(arguments: list[str]) -> int:
    """Run the command behind the port until it ends; return its exit status."""
    if sys.platform != "linux" or len(arguments) < 3 or not arguments[0].isdecimal() or arguments[1] != "--":
        print("python scripts/no_egress.py PORT -- COMMAND, on Linux", file=sys.stderr)
        return 2
    port = int(arguments[0])
    outside = socket.create_server(("127.0.0.1", port), backlog=128)
    try:
        enter_empty_network()
    except OSError as error:
        print(
            f"This system lets no user make a network of its own ({error.strerror}). Ask its administrator to allow user "
            "namespaces (on Ubuntu 24.04: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0), or start the app "
            "without --no-egress.",
            file=sys.stderr,
        )
        return NOT_ALLOWED
    return asyncio.run(_serve(outside, port, arguments[2:]))


def enter_empty_network() -> None:
    """Move this process into a new network that has loopback alone. Raises OSError where the system does not allow it."""
    if sys.platform == "win32":
        raise OSError(0, "Windows has no such networks")
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # The same account inside as outside: files keep their owners.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _raise_loopback()


def _raise_loopback() -> None:
    if sys.platform != "linux":
        return
    import fcntl  # noqa: PLC0415 - does not exist on Windows

    with socket.socket() as control:
        name = b"lo".ljust(16, b"\0")
        flags = struct.unpack_from("16sh", fcntl.ioctl(control, SIOCGIFFLAGS, name + b"\0" * 24))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", name, flags | IFF_UP))


async def _serve(outside: socket.socket, port: int, command: list[str]) -> int:
    with subprocess.Popen(command) as app:
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            for ending in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                loop.add_signal_handler(ending, app.send_signal, ending)
        carrying: set[asyncio.Task[None]] = set()  # the loop itself holds tasks by a weak reference only

        def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(_carry(reader, writer, port=port))
            carrying.add(task)
            task.add_done_callback(carrying.discard)

        server = await asyncio.start_server(carry, sock=outside)
        status = await asyncio.to_thread(app.wait)
        server.close()  # and not `async with`: from Python 3.12.1 on, that waits for every browser to let go of its connection
    if status < 0:  # so that whoever started this sees what the app died of
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, port: int) -> None:
    """Carry one connection to the app and back, until both sides have ended."""
    try:
        from_app, app_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:  # the app does not listen yet, or no longer
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, app_writer), _pump(from_app, writer))
    finally:  # an end that was passed on closes one half alone, and the connection counts as open until both are
        app_writer.close()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on, and then their end: whoever sends no more may still be waiting for its answer."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:  # either side is gone; so is the other then
        writer.transport.abort()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
