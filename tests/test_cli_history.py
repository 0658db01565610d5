"""`history` on the command line: what it prints, what it asks before erasing, and what it says of a folder in use."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app import bootstrap
from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Question, SamplingParams
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.history import HistoryStore
from tests.hub_parts import WAIT_S, FakeProbe, a_file, an_assistant

BROWSER = "0123456789abcdef0123456789abcdef"


class Ended:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command; only `replay` and `ask` get an engine. The temporary folder is the test's own, and so is the empty stdin."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    def ran(arguments: Sequence[str], engine: FakeEngine | None = None, **settings: str) -> Ended:
        used = engine or FakeEngine()
        parts = Parts(
            build_assistant=lambda settings: an_assistant(used, settings.data_dir, settings=settings),
            build_records=bootstrap.build_records,
            probe=lambda settings: FakeProbe(settings, used),
            settings_file=tmp_path / "config.toml",
            environment={
                "QWEN_VL_DATA_DIR": str(folder),
                "QWEN_VL_MODELS_DIR": str(tmp_path / "models"),
                "QWEN_VL_LANGUAGE": "en",
                **settings,
            },
        )
        capsys.readouterr()
        status = main(arguments, parts=parts)
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    return ran


@pytest.fixture(scope="module")
def a_history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Two turns of the command line in two conversations, one with a picture, and one of a browser; and their ids."""
    folder = tmp_path_factory.mktemp("history") / "data"
    ids = []
    with an_assistant(FakeEngine(["It reads 00427.5", "Second answer", "For the browser"]), folder) as assistant:
        assistant.wait_until_loaded(WAIT_S)
        picture = assistant.stage(a_file(), "panel.png")
        for question, owner in (
            (Question("What does the meter read?", (picture,)), LOCAL_OWNER),
            (Question("Second \x1b[31mquestion"), LOCAL_OWNER),
            (Question("Private to a browser"), BROWSER),
        ):
            job = assistant.ask(question, owner=owner)
            assert job.wait(WAIT_S) is not None
            assert job.turn_id is not None
            ids.append(job.turn_id)
    return folder, ids


@pytest.fixture
def kept(folder: Path, a_history: tuple[Path, list[int]]) -> list[int]:
    """A copy of that history in the test's data folder; the ids of its turns."""
    shutil.copytree(a_history[0], folder)
    return a_history[1]


def the_ids(run: Run, *arguments: str) -> list[int]:
    return [line["id"] for line in run(["history", "list", "--json", *arguments]).json]


class TestReading:
    def test_list_shows_the_own_conversations_the_latest_first(self, run: Run, kept: list[int]) -> None:
        """A line each; control characters of a title command no terminal."""
        ended = run(["history", "list"])
        assert ended.status == 0
        first, second = ended.out.splitlines()
        assert "Second \\x1b[31mquestion" in first
        assert "turns: 1  What does the meter read?" in second

    def test_an_empty_list_says_so(self, run: Run, tmp_path: Path) -> None:
        """And where the others are; a program gets nothing."""
        ended = run(["history", "list"])
        assert (ended.status, ended.out) == (0, "")
        assert "--all-owners" in ended.err
        told = run(["history", "list", "--json"])
        assert (told.status, told.out, told.err) == (0, "", "")

    def test_another_profile_and_everybody(self, run: Run, kept: list[int]) -> None:
        """A browser's records are there for the person who names its profile, or everybody's."""
        (line,) = run(["history", "list", "--owner", BROWSER, "--json"]).json
        assert (line["title"], line["owner"], line["turn_count"]) == ("Private to a browser", BROWSER, 1)
        assert len(run(["history", "list", "--all-owners"]).out.splitlines()) == 3

    def test_show_prints_questions_answers_and_corrections(self, run: Run, kept: list[int], folder: Path) -> None:
        """As text, and as one JSON object with what answered."""
        store = HistoryStore(folder)
        store.open()
        store.correct(LOCAL_OWNER, kept[0], "It reads 00427.6")
        store.close()
        (conversation,) = the_ids(run)[1:]
        out = run(["history", "show", str(conversation)]).out
        for words in (
            f"[{kept[0]}]",
            "panel.png",
            "> What does the meter read?",
            "It reads 00427.5",
            "It reads 00427.6",
        ):
            assert words in out
        (told,) = run(["history", "show", str(conversation), "--json"]).json
        (turn,) = told["turns"]
        assert (turn["answer"], turn["precision"], turn["state"]) == ("It reads 00427.5", "fp32", "done")
        assert [each["text"] for each in turn["corrections"]] == ["It reads 00427.6"]

    def test_show_of_somebody_elses_is_not_found(self, run: Run, kept: list[int]) -> None:
        """A sentence on stderr and status 1."""
        (theirs,) = the_ids(run, "--owner", BROWSER)
        ended = run(["history", "show", str(theirs)])
        assert (ended.status, ended.out) == (1, "")
        assert "no longer in the history" in ended.err

    @pytest.mark.parametrize("number", [2**63, 10**40])
    def test_a_number_beyond_all_rows_is_not_found(self, run: Run, kept: list[int], number: int) -> None:
        """As any other that nobody has."""
        ended = run(["history", "show", str(number), "--json"])
        assert (ended.status, ended.json[0]["error"]["code"]) == (1, "history.not_found")

    def test_search_marks_what_was_found(self, run: Run, kept: list[int]) -> None:
        """All words must be there; nothing found is said and no failure."""
        out = run(["history", "search", "meter", "read"]).out
        assert f"[{kept[0]}]" in out
        assert "[meter]" in out
        (hit,) = run(["history", "search", "00427.5", "--json"]).json
        assert hit["turn"] == kept[0]
        nothing = run(["history", "search", "browser"])
        assert (nothing.status, nothing.out) == (0, "")
        assert "Nothing was found" in nothing.err
        assert run(["history", "search", "browser", "--all-owners"]).out


class TestTakingAway:
    def test_export_and_import(self, run: Run, kept: list[int], tmp_path: Path) -> None:
        """One conversation or all; what is brought in stands beside what there is."""
        file = tmp_path / "all.zip"
        assert run(["history", "export", str(file)]).out.endswith(": 2.\n")
        one = tmp_path / "one.zip"
        assert run(["history", "export", str(the_ids(run)[0]), str(one)]).out.endswith(": 1.\n")
        assert run(["history", "import", str(file), "--owner", "another"]).status == 0
        assert len(the_ids(run, "--owner", "another")) == 2
        assert sorted(entry.name for entry in tmp_path.glob("*.zip*")) == ["all.zip", "one.zip"]

    def test_an_existing_file_is_not_replaced(self, run: Run, kept: list[int], tmp_path: Path) -> None:
        """Neither by an export nor by a backup; a folder that is not there is told as well."""
        file = tmp_path / "mine.zip"
        file.write_bytes(b"mine")
        for command in ("export", "backup"):
            ended = run(["history", command, str(file)])
            assert ended.status == 2
            assert "not replaced" in ended.err
        assert file.read_bytes() == b"mine"
        assert run(["history", "export", str(tmp_path / "absent" / "a.zip")]).status == 2

    def test_half_a_download_beside_an_export_stays(self, run: Run, kept: list[int], tmp_path: Path) -> None:
        """A browser calls what it has not finished so."""
        other = tmp_path / "all.zip.part"
        other.write_bytes(b"somebody's")
        assert run(["history", "export", str(tmp_path / "all.zip")]).status == 0
        assert other.read_bytes() == b"somebody's"
        assert sorted(entry.name for entry in tmp_path.glob("*.zip*")) == ["all.zip", "all.zip.part"]

    def test_backup_and_restore(self, run: Run, kept: list[int], tmp_path: Path) -> None:
        """Everybody's records come back; what was there is set aside, and said."""
        file = tmp_path / "backup.zip"
        assert run(["history", "backup", str(file)]).status == 0
        assert run(["history", "erase", "--everything", "--yes"]).status == 0
        ended = run(["history", "restore", str(file)])
        assert ended.status == 0
        assert "replaced-1" in ended.err
        assert len(the_ids(run, "--all-owners")) == 3

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    @pytest.mark.parametrize("command", ["import", "restore"])
    @pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
    def test_what_has_no_end_is_never_begun(self, run: Run, tmp_path: Path, command: str, kind: str) -> None:
        """A device would fill the memory, and nobody writes to a pipe."""
        file = Path("/dev/zero") if kind == "device" else tmp_path / kind
        if kind == "pipe":
            os.mkfifo(file)
        elif kind == "folder":
            file.mkdir()
        ended = run(["history", command, str(file), "--json"])
        assert (ended.status, ended.json[0]["error"]["code"]) == (
            2,
            "file.is_folder" if kind == "folder" else "file.not_regular",
        )

    @pytest.mark.parametrize("command", ["import", "restore"])
    def test_files_that_are_none_of_ours(self, run: Run, tmp_path: Path, command: str) -> None:
        """A missing file is the person's mistake, another program's file too, and nothing changes."""
        assert run(["history", command, str(tmp_path / "absent.zip")]).status == 2
        file = tmp_path / "letter.txt"
        file.write_text("Dear Sir")
        ended = run(["history", command, str(file)])
        assert ended.status == 1
        assert ended.err


class TestReplay:
    def test_the_same_answer(self, run: Run, kept: list[int]) -> None:
        """Status 0 and a sentence."""
        ended = run(["history", "replay", str(kept[0])], FakeEngine(["It reads 00427.5"]))
        assert (ended.status, ended.out) == (0, f"Turn {kept[0]}: the answer is the same.\n")

    def test_another_answer_of_another_model(self, run: Run, kept: list[int]) -> None:
        """Status 1, the place, the answer of now, and that the weights differ."""
        engine = FakeEngine(["It reads 00421.5"], model="large")
        ended = run(["history", "replay", str(kept[0])], engine)
        assert ended.status == 1
        assert "from character 14 on" in ended.out
        assert "It reads 00421.5" in ended.out
        assert "Other weights" in ended.err
        (told,) = run(["history", "replay", str(kept[0]), "--json"], FakeEngine(["It reads 00427.5"])).json
        assert (told["is_same"], told["is_same_model"], told["differs_at"]) == (True, True, None)

    def test_a_turn_of_chance_is_refused(self, run: Run, folder: Path) -> None:
        """It is the person's to choose another one."""
        with an_assistant(FakeEngine(["one"]), folder) as assistant:
            job = assistant.ask(Question("Say.", sampling=SamplingParams(temperature=1.0)))
            job.wait(WAIT_S)
        ended = run(["history", "replay", str(job.turn_id)])
        assert ended.status == 2
        assert "left to chance" in ended.err


class TestErasing:
    @pytest.mark.parametrize("what", [["--turn", "1"], ["--conversation", "1"], ["--day", "TODAY"], ["--everything"]])
    def test_each_thing_with_a_receipt(self, run: Run, kept: list[int], what: list[str]) -> None:
        """Of the own profile; the browser's stay."""
        today = f"{datetime.now().astimezone():%Y-%m-%d}"
        ended = run(["history", "erase", *(today if word == "TODAY" else word for word in what), "--yes"])
        assert ended.status == 0
        assert "Erased (receipt 1)" in ended.out
        assert "No app can promise" in ended.err
        left = 0 if what[0] in ("--day", "--everything") else 1
        assert len(the_ids(run)) == left
        assert len(the_ids(run, "--owner", BROWSER)) == 1

    def test_nobody_to_ask_is_a_no(self, run: Run, kept: list[int]) -> None:
        """Without --yes and without a terminal nothing goes."""
        ended = run(["history", "erase", "--everything"])
        assert ended.status == 2
        assert "Nothing was erased" in ended.err
        assert len(the_ids(run)) == 2

    @pytest.mark.parametrize(("word", "left"), [("no\n", 2), ("\n", 2), ("yes\n", 0), ("是\n", 0)])
    def test_a_person_is_asked(
        self, run: Run, kept: list[int], monkeypatch: pytest.MonkeyPatch, word: str, left: int
    ) -> None:
        """Only a yes is a yes."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stdin", Terminal(word))
        ended = run(["history", "erase", "--everything"])
        assert "cannot be brought back" in ended.err
        assert ended.status == (2 if left else 0)
        assert len(the_ids(run)) == left

    def test_exactly_one_thing_is_erased(self, run: Run, kept: list[int]) -> None:
        """None, two, or one person's thing for everybody: refused."""
        for what in ([], ["--turn", "1", "--everything"], ["--turn", "1", "--all-owners"]):
            assert run(["history", "erase", *what, "--yes"]).status == 2
        assert len(the_ids(run, "--all-owners")) == 3

    def test_everybody(self, run: Run, kept: list[int]) -> None:
        """One receipt, of the site's."""
        (receipt,) = run(["history", "erase", "--everything", "--all-owners", "--yes", "--json"]).json
        assert receipt["turns"] == 3
        assert receipt["is_complete"]
        assert the_ids(run, "--all-owners") == []

    def test_records_are_kept(self, run: Run, kept: list[int]) -> None:
        """A site that keeps records gets a sentence, also with --yes."""
        ended = run(["history", "erase", "--everything", "--yes"], QWEN_VL_KEEP="records")
        assert ended.status == 1
        assert "records" in ended.err
        assert len(the_ids(run)) == 2

    def test_a_thing_that_is_not_there(self, run: Run, kept: list[int]) -> None:
        """It is told before anybody is asked."""
        ended = run(["history", "erase", "--turn", str(kept[2])])
        assert ended.status == 1
        assert "no longer in the history" in ended.err


class TestChecking:
    def test_verify(self, run: Run, kept: list[int], folder: Path) -> None:
        """Status 0 and a sentence; with a changed line, status 1 and what to do."""
        assert "All is well" in run(["history", "verify"]).out
        audit = folder / "audit.jsonl"
        audit.write_bytes(audit.read_bytes().replace(b'"characters":25', b'"characters":26'))
        ended = run(["history", "verify"])
        assert ended.status == 1
        assert "was changed" in ended.out
        (told,) = run(["history", "verify", "--json"]).json
        assert [each["code"] for each in told["problems"]] == ["history.audit_changed"]

    def test_prove_erased_before_and_after(self, run: Run, kept: list[int], tmp_path: Path) -> None:
        """Named files before, none after; also while another instance holds the folder."""
        store = HistoryStore(tmp_path / "data")
        store.open()
        ended = run(["history", "prove-erased", "METER READ", "absent marker"])
        assert str(tmp_path / "temporary") in ended.err
        store.close()
        assert ended.status == 1
        assert "METER READ: " in ended.out
        assert "absent marker" not in ended.out
        run(["history", "erase", "--everything", "--yes"])
        ended = run(["history", "prove-erased", "METER READ", "00427.5"])
        assert (ended.status, len(ended.err.splitlines())) == (0, 1)
        assert "No trace" in ended.out

    def test_prove_erased_looks_into_the_temporary_folder_and_for_bytes(self, run: Run, tmp_path: Path) -> None:
        """UTF-16 too; bytes are given in hexadecimal digits, and what is none is refused."""
        file = tmp_path / "temporary" / "left.bin"
        file.write_bytes(b"\x00" + "Leftover".encode("utf-16-le") + bytes.fromhex("deadbeef0102"))
        (told,) = run(["history", "prove-erased", "leftOVER", "--json"]).json
        assert told == {"found": [{"marker": "leftOVER", "file": str(file)}], "unread": 0}
        assert run(["history", "prove-erased", "--hex", "DEADBEEF0102"]).status == 1
        assert run(["history", "prove-erased", "--hex", "deadbeef0103"]).status == 0
        assert run(["history", "prove-erased", "--hex", "no hex"]).status == 2
        assert "at least 6" in run(["history", "prove-erased", "ab"]).err


@pytest.mark.parametrize(
    "command",
    [["import", "FILE"], ["erase", "--everything", "--yes"], ["verify"], ["restore", "FILE"], ["replay", "1"]],
)  # fmt: skip
def test_a_folder_in_use_is_told_with_what_to_do(
    run: Run, kept: list[int], folder: Path, tmp_path: Path, command: list[str]
) -> None:
    """Which process and port hold it, status 1, and nothing is changed."""
    (tmp_path / "file.zip").write_bytes(b"x")
    names = {"FILE": str(tmp_path / "file.zip"), "NEW": str(tmp_path / "new.zip")}
    store = HistoryStore(folder)
    store.open(port=8501)
    try:
        ended = run(["history", *(names.get(word, word) for word in command)])
    finally:
        store.close()
    assert (ended.status, ended.out) == (1, "")
    assert "port 8501" in ended.err
    assert not (tmp_path / "new.zip").exists()


def test_a_folder_in_use_is_read_all_the_same(run: Run, kept: list[int], folder: Path, tmp_path: Path) -> None:
    """With what was asked last; no reader stays, nothing is left behind, and who took something away is written down."""
    before = sorted(each.name for each in folder.iterdir())
    with closing(HistoryStore(folder)) as store:
        store.open(port=8501)
        store.begin_turn(LOCAL_OWNER, Question("asked while it runs"), title="while it runs")
        listed = run(["history", "list", "--json"])
        assert (listed.status, listed.err) == (0, "") and "while it runs" in listed.out
        assert run(["history", "search", "asked while", "--json"]).json
        (newest,) = (each["id"] for each in listed.json if each["title"] == "while it runs")
        assert "asked while it runs" in run(["history", "show", str(newest)]).out
        assert run(["history", "export", str(tmp_path / "new.zip")]).status == 0
        assert store.erase_conversation(LOCAL_OWNER, newest).is_complete
        assert run(["history", "search", "asked while", "--json"]).json == []
        assert store.verify_audit().is_sound
    assert zipfile.is_zipfile(tmp_path / "new.zip")
    assert '"exported"' in (folder / "audit.jsonl").read_text(encoding="utf-8")
    assert sorted(each.name for each in folder.iterdir()) == before


def test_a_folder_in_use_is_backed_up_all_the_same(run: Run, kept: list[int], folder: Path, tmp_path: Path) -> None:
    """While the app goes on; what it was asked last is in the copy."""
    store = HistoryStore(folder)
    store.open(port=8501)
    try:
        store.begin_turn(LOCAL_OWNER, Question("asked while it runs"), title="t")
        ended = run(["history", "backup", str(tmp_path / "copy.zip")])
        assert (ended.status, ended.err) == (0, "")
        assert store.begin_turn(LOCAL_OWNER, Question("and later"), title="t")
        assert store.verify_audit().is_sound
    finally:
        store.close()
    assert run(["history", "restore", str(tmp_path / "copy.zip")]).status == 0
    assert run(["history", "search", "asked while it runs", "--json"]).json
    assert run(["history", "search", "and later", "--json"]).json == []
    assert run(["history", "verify"]).status == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_command_and_flag_has_its_help(run: Run, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """In both languages, without a code that was left as it is."""
    monkeypatch.setattr("qwen_vl_app.cli.usage.system_language", lambda: language)
    commands = (
        "list",
        "show",
        "search",
        "export",
        "import",
        "backup",
        "restore",
        "replay",
        "erase",
        "verify",
        "prove-erased",
    )
    for command in ((), *((each,) for each in commands)):
        ended = run(["history", *command, "--help"])
        assert ended.status == 0
        assert "cli.help" not in ended.out


def test_asking_again_says_that_the_answer_is_stored(run: Run) -> None:
    """On stderr, in a pipe as well; --anew asks the model."""
    assert run(["ask", "Say hello"], FakeEngine(["Hello."])).out == "Hello.\n"
    again = run(["ask", "Say hello"], FakeEngine())
    assert (again.status, again.out) == (0, "Hello.\n")
    assert "asked exactly this before" in again.err
    assert run(["ask", "--anew", "Say hello"], FakeEngine(["Hi."])).out == "Hi.\n"
