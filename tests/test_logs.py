"""The log: rotating files that tell what went wrong and where, and never a word of what anybody said."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from qwen_vl_app import bootstrap, logs
from qwen_vl_app.chat import Question
from qwen_vl_app.engine.fake import FakeEngine, PiecesThen
from qwen_vl_app.errors import HistoryError, InferenceError
from qwen_vl_app.logs import LOG_NAME, keep_words_out, where, write_to
from tests.hub_parts import WAIT_S, a_file, an_assistant, replace_settings

CANARY = "Canary-Zq9"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A guarded process that writes its log; returns what all its files hold."""
    former = logging.getLogRecordFactory(), sys.excepthook, threading.excepthook
    # Whoever imported the app has guarded this process, and pytest may have taken its threads back since.
    logging.setLogRecordFactory(logging.LogRecord)
    ends = [keep_words_out(), write_to(tmp_path / "logs")]

    def read() -> str:
        return "".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "logs").iterdir()))

    yield read
    for end in reversed(ends):
        end()
    logging.setLogRecordFactory(former[0])
    sys.excepthook, threading.excepthook = former[1:]


def fail(text: str = CANARY) -> None:
    """Raise a stranger's error that quotes, from one that does as well."""
    try:
        int(text)
    except ValueError as error:
        raise RuntimeError(f"cannot read {text}") from error


def test_an_error_is_told_by_its_kind_and_its_places() -> None:
    """Cause first, our own errors with their code, no message anywhere."""
    with pytest.raises(RuntimeError) as failed:
        fail()
    told = where(failed.value).splitlines()
    assert told[0].endswith("in fail")
    assert told[1] == "ValueError"
    assert told[-1] == "RuntimeError"
    assert all(CANARY not in line for line in told)
    assert where(HistoryError("history.closed", name=CANARY)) == "HistoryError history.closed"


def test_groups_circles_and_deep_errors_are_told_as_well() -> None:
    """Whatever strangers raise, telling it ends."""
    group = ExceptionGroup(CANARY, [ValueError(CANARY), KeyError(CANARY)])
    assert sorted(where(group).splitlines()) == ["ExceptionGroup", "KeyError", "ValueError"]
    one, two = ValueError(CANARY), KeyError(CANARY)
    one.__cause__, two.__cause__ = two, one
    assert sorted(where(one).splitlines()) == ["KeyError", "ValueError"]

    def deep(count: int) -> None:
        if not count:
            raise ValueError(CANARY)
        deep(count - 1)

    with pytest.raises(ValueError, match=CANARY) as failed:
        deep(500)
    assert len(where(failed.value).splitlines()) < 70


@pytest.mark.parametrize("logger", ["qwen_vl_app.somewhere", "streamlit.runtime", ""])
def test_no_handler_gets_an_exceptions_message(written: Callable[[], str], logger: str) -> None:
    """Neither ours nor a stranger's: as the exception of a record, as its argument or as its message."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        try:
            fail()
        except RuntimeError as error:
            logging.getLogger(logger).exception("it broke")
            logging.getLogger(logger).error("it broke: %s", error)
            logging.getLogger(logger).error(error)
    finally:
        logging.getLogger().removeHandler(handler)
    for told in (stream.getvalue(), written()):
        assert CANARY not in told
        assert "in fail" in told
        assert "RuntimeError" in told


def test_strangers_say_only_who_they_are_in_the_file(written: Callable[[], str]) -> None:
    """Their sentences may hold anything; ours hold codes and numbers."""
    logging.getLogger("somebody").warning("cannot open %s", CANARY)
    logging.getLogger("somebody").info("opened %s", CANARY)
    logging.getLogger("qwen_vl_app.history").info("erased %d rows", 3)
    assert CANARY not in written()
    assert "WARNING somebody: test_logs.py:" in written()
    assert "erased 3 rows" in written()
    assert "INFO somebody" not in written()


def test_what_nobody_caught_is_told_the_same_way(written: Callable[[], str], capfd: pytest.CaptureFixture[str]) -> None:
    """In the main thread and in others, instead of being printed with its message."""
    thread = threading.Thread(target=fail, name="unlucky")
    thread.start()
    thread.join()
    try:
        fail()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert written().count("an error that nobody caught") == 2
    assert CANARY not in written() + "".join(capfd.readouterr())


def test_the_files_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an app runs, there are a few files of a bounded size."""
    monkeypatch.setattr(logs, "LOG_BYTES", 2000)
    end = write_to(tmp_path)
    for number in range(500):
        logging.getLogger("qwen_vl_app").info("line %d", number)
    end()
    files = list(tmp_path.iterdir())
    assert len(files) == logs.LOG_FILES
    assert all(file.stat().st_size <= 2000 for file in files)
    assert "line 499" in (tmp_path / LOG_NAME).read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor does it print what it could not write."""
    folder = tmp_path / "logs"
    end = write_to(folder)
    (folder / LOG_NAME).mkdir()
    logging.getLogger("somebody").warning("cannot open %s", CANARY)
    end()
    assert CANARY not in "".join(capfd.readouterr())


def test_no_question_answer_or_file_name_is_ever_in_it(written: Callable[[], str], tmp_path: Path) -> None:
    """Success, failures of every kind, a broken answer, a stop, refusals, searching, exporting, erasing; at the loudest."""
    root = logging.getLogger()
    stream = io.StringIO()
    handler, level = logging.StreamHandler(stream), root.level
    own = [logging.getLogger("qwen_vl_app"), logging.getLogger("sqlalchemy"), root]
    levels = [each.level for each in own]
    root.addHandler(handler)
    for each in own:
        each.setLevel(logging.DEBUG)
    engine = FakeEngine(
        [
            f'{{"{CANARY}": [1, 2}}',
            RuntimeError(CANARY),
            InferenceError("app.unexpected"),
            PiecesThen([CANARY], ValueError(CANARY)),
            CANARY,
        ]
    )
    folder = tmp_path / "data"
    try:
        with an_assistant(engine, folder) as assistant:
            assistant.wait_until_loaded(WAIT_S)
            picture = replace(assistant.stage(a_file(), f"{CANARY}.png"), upload=CANARY.encode())
            with suppress(Exception):
                assistant.stage(CANARY.encode(), f"{CANARY}.{CANARY}")
            for number in range(5):
                job = assistant.ask(Question(f"{CANARY} {number}?", (picture,)), owner="a-browser")
                assert job.wait(WAIT_S) is not None
            assert assistant.records.search("a-browser", CANARY).hits
            assistant.rename("a-browser", assistant.conversations("a-browser")[0].id, CANARY)
            assistant.records.export(io.BytesIO(), owner="a-browser")
            with pytest.raises(HistoryError):
                assistant.records.import_archive(io.BytesIO(CANARY.encode()), owner="a-browser")
            assert assistant.records.erase_everything("a-browser").is_complete
    finally:
        root.removeHandler(handler)
        for each, former in zip(own, levels, strict=True):
            each.setLevel(former)
        assert root.level == level
    told = written() + stream.getvalue()
    assert "a question failed" in told
    assert CANARY.lower() not in told.lower()


class TestTheApp:
    def test_it_writes_a_log_beside_what_it_keeps(self, tmp_path: Path) -> None:
        """Until it is closed."""
        bootstrap._begin_log(replace_settings(data_dir=tmp_path / "data"))
        logging.getLogger("qwen_vl_app").warning("something")
        bootstrap.close_current()
        logging.getLogger("qwen_vl_app").warning("something else")
        told = (tmp_path / "data" / "logs" / LOG_NAME).read_text(encoding="utf-8")
        assert "something" in told
        assert "else" not in told

    def test_a_site_that_keeps_nothing_has_none(self, tmp_path: Path) -> None:
        """Not even a folder."""
        bootstrap._begin_log(replace_settings(data_dir=tmp_path / "data", keep="nothing"))
        bootstrap.close_current()
        assert not (tmp_path / "data").exists()

    def test_a_folder_that_cannot_be_written_stops_nothing(self, tmp_path: Path) -> None:
        """The history says what is wrong with it."""
        (tmp_path / "data").write_text("no folder")
        bootstrap._begin_log(replace_settings(data_dir=tmp_path / "data"))
        bootstrap.close_current()
