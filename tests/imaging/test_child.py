"""A file that crashes, hangs or fills memory costs one child and one sentence; the next picture is read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from PIL import Image

from qwen_vl_app.chat import Size
from qwen_vl_app.errors import PictureError, UnreadableImageError
from qwen_vl_app.imaging import PictureDecoder, child_process
from qwen_vl_app.imaging import decoder as decoder_module
from qwen_vl_app.imaging.frames import Frame

from .conftest import MAX_PIXELS, encode, same

PICTURE = encode(Image.new("RGB", (64, 48), (200, 30, 30)), "PNG")
ROOMY = {"max_bytes": 64 * 2**20, "max_pixels": MAX_PIXELS}


def child_of(decoder: PictureDecoder) -> psutil.Process:
    """The process that the decoder has now."""
    assert decoder._child is not None
    return psutil.Process(decoder._child.pid)


def what_the_system_adds() -> set[str]:
    """Return the variables that a process has whom nobody gave any: none on most systems, some under Wine."""
    bare = {name: value for name, value in os.environ.items() if name.upper() == "SYSTEMROOT"}
    told = [child_process._interpreter(), "-I", "-c", "import os; print(*os.environ)"]
    return set(subprocess.run(told, env=bare, capture_output=True, text=True, check=True).stdout.upper().split())


def test_the_child_is_a_fresh_isolated_interpreter_with_an_empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never a fork, reads nobody's settings and carries nobody's secrets."""
    monkeypatch.setenv("A_SECRET", "of somebody's")
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)
    child = child_of(decoder)
    command = child.cmdline()
    assert command[:3] == [child_process._interpreter(), "-I", "-c"]
    assert {name.upper() for name in child.environ()} - what_the_system_adds() <= {
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "LC_ALL", "LC_CTYPE", "SYSTEMROOT")
    }
    decoder.close()
    assert not child.is_running()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no address space limit")
def test_the_child_has_its_memory_limit() -> None:
    """The limit is the system's own, not a habit."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30, memory_bytes=700 * 2**20)
    decoder.inspect(PICTURE)
    if hasattr(psutil, "RLIMIT_AS"):
        assert child_of(decoder).rlimit(psutil.RLIMIT_AS) == (700 * 2**20, 700 * 2**20)
    decoder.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the address space is limited on Linux")
def test_a_picture_over_the_memory_is_refused_and_the_next_is_read() -> None:
    """Within the limit of pixels and over that of memory: a sentence, a new child, and on."""
    decoder = PictureDecoder(**ROOMY, timeout_s=60, memory_bytes=400 * 2**20)
    large = encode(Image.new("RGB", (9500, 9500)), "PNG", compress_level=1)
    with pytest.raises(PictureError) as error:
        decoder.inspect(large)
    assert error.value.code == "image.memory"
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


@pytest.mark.parametrize("in_fit", [False, True])
def test_a_killed_child_is_replaced(in_fit: bool) -> None:
    """Killed between pictures nobody notices; killed over one, that one fails and the next works."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)
    if not in_fit:
        victim = child_of(decoder)
        victim.kill()
        psutil.wait_procs([victim], timeout=60)
        assert decoder.inspect(PICTURE).size == Size(64, 48)
    else:

        def kill(size: Size) -> Size:
            victim = child_of(decoder)
            victim.kill()
            psutil.wait_procs([victim], timeout=60)
            return size

        with pytest.raises(UnreadableImageError) as error:
            decoder.render(PICTURE, fit=kill)
        assert error.value.code == "image.child_failed"
    assert decoder.render(PICTURE, fit=same).size == Size(64, 48)
    decoder.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a child without a window has a console, and so keys, of its own")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_app_spoils_no_picture(name: str) -> None:
    """Ctrl-C and a service's stop are meant for the app, which ends its child by itself; the picture is not damaged."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)

    def interrupt(size: Size) -> Size:
        child_of(decoder).send_signal(getattr(signal, name))
        return size

    child = child_of(decoder)
    assert os.getpgid(child.pid) != os.getpgid(0)
    assert decoder.render(PICTURE, fit=interrupt).size == Size(64, 48)
    assert child_of(decoder).pid == child.pid
    decoder.close()
    assert not child.is_running()


def test_a_child_killed_at_its_work_fails_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that crashes in the middle of a large picture is noticed at once, not by the clock."""
    decoder = PictureDecoder(**ROOMY, timeout_s=60)
    decoder.inspect(PICTURE)
    victim = child_of(decoder)
    victim.suspend()  # so that it cannot be done before it is killed
    assert decoder._child is not None
    receive = decoder._child.receive

    def receive_from_the_dead() -> Frame:
        victim.kill()  # it has its picture by now
        return receive()

    monkeypatch.setattr(decoder._child, "receive", receive_from_the_dead)
    with pytest.raises(UnreadableImageError) as error:
        decoder.inspect(PICTURE)
    assert error.value.code == "image.child_failed"
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


def test_a_child_that_hangs_is_killed_on_time_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is named in the sentence, and the next picture is read."""
    decoder = PictureDecoder(**ROOMY, timeout_s=60)
    decoder.inspect(PICTURE)
    hanging = child_of(decoder)
    hanging.suspend()
    monkeypatch.setattr(decoder, "_timeout_s", 1.5)
    started = time.monotonic()
    with pytest.raises(UnreadableImageError) as error:
        decoder.inspect(PICTURE)
    assert (error.value.code, dict(error.value.facts)) == ("image.timeout", {"limit": 1.5})
    assert time.monotonic() - started >= 1.4
    assert not hanging.is_running()
    monkeypatch.setattr(decoder, "_timeout_s", 60)
    assert decoder.render(PICTURE, fit=same).size == Size(64, 48)
    decoder.close()


def test_a_child_that_hangs_while_it_renders_is_killed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands while `fit` thinks, and runs again after."""
    decoder = PictureDecoder(**ROOMY, timeout_s=1.5)

    def stall(size: Size) -> Size:
        child_of(decoder).suspend()
        time.sleep(1.6)  # longer than the limit: this is the caller's time, not the child's
        return size

    with pytest.raises(UnreadableImageError) as error:
        decoder.render(PICTURE, fit=stall)
    assert error.value.code == "image.timeout"
    monkeypatch.setattr(decoder, "_timeout_s", 60)
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


def test_several_threads_share_one_child() -> None:
    """Each gets its own picture back."""
    decoder = PictureDecoder(**ROOMY, timeout_s=60)
    wrong: list[object] = []

    def work(width: int) -> None:
        data = encode(Image.new("RGB", (width, 30)), "PNG")
        for _ in range(5):
            got = decoder.render(data, fit=same).size
            if got != Size(width, 30):
                wrong.append((width, got))

    threads = [threading.Thread(target=work, args=(40 + at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)
    decoder.close()


def test_a_closed_decoder_leaves_no_process_and_says_so_until_it_is_started_again() -> None:
    """`close` may be called twice; a call after it starts no process behind the app's back."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.start()
    decoder.start()
    first = child_of(decoder)
    decoder.close()
    decoder.close()
    assert not first.is_running()
    with pytest.raises(PictureError) as error:
        decoder.inspect(PICTURE)
    assert error.value.code == "image.decoder_closed" and decoder._child is None
    decoder.start()
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


def test_closing_does_not_wait_for_a_picture_that_hangs() -> None:
    """The caller in flight and the one behind it are told that the app is closing, and no process is left."""
    decoder = PictureDecoder(**ROOMY, timeout_s=120)
    decoder.inspect(PICTURE)
    hanging = child_of(decoder)
    hanging.suspend()
    told: list[str] = []

    def ask() -> None:
        try:
            decoder.inspect(PICTURE)
        except PictureError as error:
            told.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    decoder.close()
    for thread in threads:
        thread.join(60)
    assert told == ["image.decoder_closed"] * 2, "a picture that was waited for would have run out of its time"
    assert decoder._child is None and not hanging.is_running()


def test_closing_and_asking_at_once_leaves_no_process() -> None:
    """Whoever comes first, at every moment of a child's start and work."""
    for wait_s in (0.0, 0.02, 0.1, 0.25):
        decoder = PictureDecoder(**ROOMY, timeout_s=60)
        before = {child.pid for child in psutil.Process().children()}

        def ask(decoder: PictureDecoder = decoder) -> None:
            with contextlib.suppress(PictureError):
                decoder.render(PICTURE, fit=same)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        threads[0].join(wait_s)
        decoder.close()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert {child.pid for child in psutil.Process().children()} <= before


def test_a_decoder_that_cannot_start_does_not_blame_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence speaks of the picture reader, not of damage."""
    monkeypatch.setattr(child_process, "_BOOTSTRAP", "raise SystemExit(1)")
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    with pytest.raises(PictureError) as error:
        decoder.inspect(PICTURE)
    assert error.value.code == "image.decoder_failed"
    decoder.close()


def test_a_machine_that_needs_its_environment_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some Pythons do not start without a library path: a second start inherits what this process has."""
    monkeypatch.setenv("NEEDED_TO_START", "yes")
    needing = "import os\nif 'NEEDED_TO_START' not in os.environ: raise SystemExit(1)\n"
    monkeypatch.setattr(child_process, "_BOOTSTRAP", needing + child_process._BOOTSTRAP)
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


def test_an_interrupt_does_not_hand_the_next_caller_a_stale_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is interrupted between question and answer leaves a child whose next words belong to nobody."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)
    assert decoder._child is not None

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoder._child, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder.inspect(PICTURE)
    assert decoder.inspect(encode(Image.new("RGB", (33, 22)), "PNG")).size == Size(33, 22)
    decoder.close()


def test_a_picture_that_computes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a library's C code; a small picture after it is read."""
    decoder = PictureDecoder(**ROOMY, timeout_s=0.15)
    large = encode(Image.new("RGB", (9500, 9500)), "PNG", compress_level=1)
    decoder._ready_child()
    with pytest.raises(UnreadableImageError) as error:
        decoder.inspect(large)
    assert (error.value.code, error.value.facts["limit"]) == ("image.timeout", 0.15)
    monkeypatch.setattr(decoder, "_timeout_s", 60)
    assert decoder.inspect(PICTURE).size == Size(64, 48)
    decoder.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the limit as Linux tells it")
def test_the_child_can_write_no_file() -> None:
    """Whatever a file makes a library do, the disk stays as it is."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)
    assert child_of(decoder).rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    decoder.close()


@pytest.mark.skipif(sys.platform == "win32", reason="speaks of POSIX signals")
def test_the_child_ends_with_its_parent() -> None:
    """When the pipe closes nobody will ask again."""
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    decoder.inspect(PICTURE)
    child = child_of(decoder)
    assert decoder._child is not None
    decoder._child._process.stdin.close()  # type: ignore[union-attr]  # what the end of the parent looks like
    assert decoder._child._process.wait(60) == 0
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    decoder.close()


def test_a_child_is_replaced_before_it_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries in C leak a little over every file; nobody notices the change."""
    monkeypatch.setattr(decoder_module, "MESSAGES_PER_CHILD", 6)
    decoder = PictureDecoder(**ROOMY, timeout_s=30)
    pids = []
    for _ in range(7):
        assert decoder.render(PICTURE, fit=same).size == Size(64, 48)
        pids.append(child_of(decoder).pid)
    assert pids == [pids[0]] * 3 + [pids[3]] * 3 + [pids[6]] and len({*pids}) == 3
    decoder.close()


def test_the_parent_stays_small() -> None:
    """Pictures of 24 megapixels pass through, and this process grows by none of them."""
    decoder = PictureDecoder(**ROOMY, timeout_s=60)
    data = encode(Image.effect_noise((600, 400), 50).resize((6000, 4000)), "JPEG", quality=60)
    decoder.render(data, fit=lambda _: Size(560, 420))
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        decoder.render(data, fit=lambda _: Size(560, 420))
    assert psutil.Process().memory_info().rss - before < 24 * 2**20
    decoder.close()
