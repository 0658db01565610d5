"""The command line: what goes to which stream, what JSON looks like, and what an end is worth."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qwen_vl_app import __version__
from qwen_vl_app.answer_job import AnswerJob
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.chat import FinishReason, Question
from qwen_vl_app.cli import files, main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.terminal import harmless, one_line
from qwen_vl_app.config import ROOT
from qwen_vl_app.engine.base import GenerationRequest, Step, TokenStep
from qwen_vl_app.engine.fake import FakeEngine
from qwen_vl_app.errors import ModelFolderError, OutOfMemoryError
from qwen_vl_app.history import HistoryStore
from scripts import cli_reference
from tests.hub_parts import FakeProbe, a_file, an_assistant, wait_until


class Ended:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a fake engine, with a data folder and settings of its own."""

    def ran(arguments: Sequence[str], engine: FakeEngine | None = None) -> Ended:
        engine = engine or FakeEngine()
        parts = Parts(
            build_assistant=lambda settings: an_assistant(engine, settings.data_dir, settings=settings),
            probe=lambda settings: FakeProbe(settings, engine),
            settings_file=tmp_path / "config.toml",
            environment={
                "QWEN_VL_DATA_DIR": str(tmp_path / "data"),
                "QWEN_VL_MODELS_DIR": str(tmp_path / "models"),
                "QWEN_VL_LANGUAGE": "en",
            },
        )
        status = main(arguments, parts=parts)
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    return ran


@pytest.fixture
def panel(tmp_path: Path) -> str:
    """The path of a picture of 5600 x 2800."""
    file = tmp_path / "panel.png"
    file.write_bytes(a_file(5600, 2800))
    return str(file)


class TestAsk:
    def test_the_answer_goes_to_stdout_and_nothing_else(self, run: Run, panel: str) -> None:
        """What a pipe gets is the answer and one line end."""
        ended = run(["ask", panel, "What does it read?"], FakeEngine([["00427", ".5"]]))
        assert (ended.status, ended.out, ended.err) == (0, "00427.5\n", "")

    def test_words_alone_are_a_question(self, run: Run) -> None:
        """Pictures are not required."""
        engine = FakeEngine(["Hello."])
        ended = run(["ask", "Say hello"], engine)
        assert (ended.status, ended.out) == (0, "Hello.\n")
        assert [message.text for message in engine.requests[0].messages] == ["Say hello"]

    def test_json_has_the_answer_its_data_and_its_boxes_in_pixels_of_the_original(self, run: Run, panel: str) -> None:
        """One object; boxes are whole pixels of the upright picture, not of what the model saw."""
        engine = FakeEngine(['```json\n[{"bbox_2d": [28, 28, 280, 140], "label": "meter"}]\n```'])
        ended = run(["ask", "--json", panel, panel, "Where?"], engine)
        assert ended.status == 0
        told = ended.json
        assert set(told) == {
            *("text", "data", "regions", "moments", "pictures", "model", "finish_reason", "usage", "seconds", "notes"),
        }
        assert told["data"] == [{"bbox_2d": [28, 28, 280, 140], "label": "meter"}]
        picture = told["pictures"][0]
        assert (picture["name"], picture["width"], picture["height"]) == ("panel.png", 5600, 2800)
        assert picture["tokens"] == picture["seen_width"] * picture["seen_height"] // 784
        (region,) = told["regions"]
        scale = 5600 / picture["seen_width"], 2800 / picture["seen_height"]
        expected = [round(28 * scale[0]), round(28 * scale[1]), round(280 * scale[0]), round(140 * scale[1])]
        assert region == {"label": "meter", "bbox": expected, "picture": 0}
        assert all(isinstance(value, int) for value in region["bbox"])
        assert (told["model"], told["finish_reason"], len(told["pictures"])) == ("fake", "stop", 2)
        assert told["usage"]["completion_tokens"] == 1
        assert told["usage"]["picture_tokens"] == 2 * picture["tokens"]
        assert told["seconds"] >= 0

    def test_an_answer_without_json_has_null_data(self, run: Run) -> None:
        """No data is null, and no list of regions is an empty list."""
        told = run(["ask", "--json", "Hi"], FakeEngine(["Hello."])).json
        assert (told["data"], told["regions"], told["pictures"]) == (None, [], [])

    def test_after_out_of_memory_json_tells_the_size_that_was_really_seen(self, run: Run, panel: str) -> None:
        """The seen size is the one of the retry, and the note says why."""
        told = run(["ask", "--json", panel, "?"], FakeEngine([OutOfMemoryError("inference.out_of_memory"), "Ok."])).json
        assert told["pictures"][0]["tokens"] <= 256
        assert [note["code"] for note in told["notes"]] == ["inference.smaller_after_out_of_memory"]

    def test_flags_reach_the_question(self, run: Run, panel: str) -> None:
        """The limit of tokens, the detail and the page (counted from 1) are meant as typed."""
        engine = FakeEngine(["."])
        Path(panel).write_bytes(a_file(4000, 4000, pages=3))
        ended = run(["ask", panel, "?", "--max-tokens", "7", "--detail", "low_memory", "--page", "3"], engine)
        assert ended.status == 0
        (request,) = engine.requests
        assert request.sampling.max_new_tokens == 7
        assert request.messages[0].images[0].size.pixels <= 256 * 784
        assert run(["ask", panel, "?", "--page", "4"]).status == 2

    def test_a_cut_answer_says_so_beside_the_answer(self, run: Run) -> None:
        """The text stays clean on stdout; the note with the next step is on stderr."""
        ended = run(["ask", "?"], FakeEngine(["Half an"], finish_reason=FinishReason.LENGTH))
        assert (ended.status, ended.out) == (0, "Half an\n")
        assert "--max-tokens" in ended.err

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["ask", "   "], "question.empty"),
            (["ask", "nowhere.png", "?"], "file.missing"),
            (["ask", ".", "?"], "file.is_folder"),
            (["ask", "?", "--device", "tpu"], "settings.bad_choice"),
            (["ask", *["x.png"] * 9, "?"], "question.too_many_pictures"),
        ],
    )
    def test_bad_input_is_one_sentence_and_status_2(self, run: Run, arguments: list[str], code: str) -> None:
        """Nothing is loaded; with `--json` the code is on stdout too."""
        engine = FakeEngine()
        plain = run(arguments, engine)
        assert (plain.status, plain.out) == (2, "")
        assert len(plain.err.splitlines()) == 1
        told = run([*arguments, "--json"], engine)
        assert (told.status, told.json["error"]["code"]) == (2, code)
        assert told.json["error"]["message"] in told.err
        assert engine.requests == []

    def test_a_forgotten_question_is_noticed(self, run: Run, panel: str) -> None:
        """`ask photo.png` does not ask the model about the words "photo.png"."""
        ended = run(["ask", panel, "--json"])
        assert (ended.status, ended.json["error"]["code"]) == (2, "cli.ask.question_is_a_file")

    def test_a_bad_picture_is_named(self, run: Run, panel: str, tmp_path: Path) -> None:
        """Of several pictures, the person learns which one it was."""
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no picture")
        ended = run(["ask", panel, str(broken), "?", "--json"])
        assert (ended.status, ended.json["error"]["file"]) == (2, str(broken))
        assert "broken.png" in ended.err

    def test_an_unknown_model_is_wrong_input_and_a_broken_one_a_failure(self, run: Run, panel: str) -> None:
        """A misspelt name can be typed again; a damaged folder cannot."""
        unknown = FakeEngine(load_error=ModelFolderError("engine.model.not_found", model="qwen"))
        assert run(["ask", "?", "--model", "qwen"], unknown).status == 2
        # Nor is the picture to blame that was to be looked at.
        told = run(["ask", panel, "?", "--model", "qwen", "--json"], unknown)
        assert (told.status, told.json["error"].get("file")) == (2, None)
        broken = FakeEngine(load_error=ModelFolderError("model.not_loaded"))
        ended = run(["ask", "?", "--json"], broken)
        assert (ended.status, ended.json["error"]["code"]) == (1, "model.not_loaded")

    def test_a_failure_in_the_middle_is_told_with_what_was_said(self, run: Run) -> None:
        """Status 1, a sentence, and in JSON the partial text."""
        from qwen_vl_app.engine.fake import PiecesThen

        ended = run(["ask", "?", "--json"], FakeEngine([PiecesThen(["Half"], ValueError("secret"))]))
        assert (ended.status, ended.json["error"]["code"], ended.json["text"]) == (1, "app.unexpected", "Half")
        assert "secret" not in ended.out + ended.err
        assert "Traceback" not in ended.err

    def test_another_instance_on_the_data_folder_does_not_stop_the_answer(self, run: Run, tmp_path: Path) -> None:
        """Nothing is kept, which `--verbose` tells; without it the answer is all there is."""
        store = HistoryStore(tmp_path / "data")
        store.open()
        try:
            quiet = run(["ask", "?"], FakeEngine(["Yes."]))
            loud = run(["ask", "?", "--verbose"], FakeEngine(["Yes."]))
        finally:
            store.close()
        assert (quiet.status, quiet.out, quiet.err) == (0, "Yes.\n", "")
        assert (loud.status, loud.out) == (0, "Yes.\n")
        assert "history" in loud.err

    def test_the_question_is_kept_for_the_local_owner(self, run: Run, tmp_path: Path) -> None:
        """The history has it, out of every browser's sight."""
        assert run(["ask", "Kept?"], FakeEngine(["Yes."])).status == 0
        store = HistoryStore(tmp_path / "data")
        store.open()
        try:
            (conversation,) = store.conversations("local")
        finally:
            store.close()
        assert conversation.title == "Kept?"

    def test_ctrl_c_stops_the_answer_and_prints_what_there_is(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Status 130, the text so far, and a turn that says it was stopped."""
        jobs: list[AnswerJob] = []
        ask = Assistant.ask

        def ask_and_note(assistant: Assistant, question: Question, **how: Any) -> AnswerJob:
            jobs.append(ask(assistant, question, **how))
            return jobs[-1]

        def has_read() -> bool:
            """Whether who reads the answer has all there is, and waits for more."""
            return bool(jobs) and bool(jobs[-1]._changed._waiters)  # type: ignore[attr-defined]

        monkeypatch.setattr(Assistant, "ask", ask_and_note)

        class Interrupting(FakeEngine):
            """Presses Ctrl-C once the first words are said."""

            def generate(self, request: GenerationRequest, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
                yield TokenStep("The first words", 1)
                wait_until(has_read)
                signal.raise_signal(signal.SIGINT)
                yield from FakeEngine.generate(self, request, should_stop=lambda: waited(should_stop))

        def waited(should_stop: Callable[[], bool]) -> bool:
            wait_until(should_stop)
            return True

        ended = run(["ask", "?"], Interrupting(["never said"]))
        assert (ended.status, ended.out) == (130, "The first words\n")
        jobs.clear()
        told = run(["ask", "?", "--json"], Interrupting(["never said"]))
        assert (told.status, told.json["finish_reason"], told.json["text"]) == (130, "stopped", "The first words")

    def test_an_attempt_begun_anew_starts_on_a_new_line(self, run: Run, panel: str) -> None:
        """On a stream that cannot take words back, the second beginning is at least apart from the first."""
        from qwen_vl_app.engine.fake import PiecesThen

        gate = threading.Semaphore(0)
        engine = FakeEngine(
            [PiecesThen(["First try"], OutOfMemoryError("inference.out_of_memory")), "Second try."], gate=gate
        )
        timer = threading.Timer(0.3, gate.release)
        gate.release()
        timer.start()
        ended = run(["ask", panel, "?"], engine)
        assert ended.out.endswith("Second try.\n")
        assert ended.out in ("Second try.\n", "First try\nSecond try.\n")
        assert "smaller" in ended.err


class TestLook:
    def test_every_file_gets_its_line_whatever_it_is(self, run: Run, panel: str, tmp_path: Path) -> None:
        """Pictures, folders, devices, pipes, missing and damaged files: a line each, in order, and status 2."""
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no picture")
        empty = tmp_path / "empty.png"
        empty.touch()
        files = [panel, str(tmp_path), str(tmp_path / "missing.png"), str(broken), str(empty), panel]
        ended = run(["look", *files, "--json"])
        lines = [json.loads(line) for line in ended.out.splitlines()]
        assert ended.status == 2
        assert [line["file"] for line in lines] == files
        assert [line.get("error") for line in lines] == [
            *(None, "file.is_folder", "file.missing", "queue.full", "file.empty", None)
        ]
        assert all(line["message"] for line in lines if "error" in line)
        first = lines[0]
        assert (first["format"], first["width"], first["height"], first["pages"]) == ("PNG", 5600, 2800, 1)
        assert first["tokens"] == first["seen_width"] * first["seen_height"] // 784
        assert first["notes"] == []

    def test_stars_stand_for_files_also_where_no_shell_says_so(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On Windows a program gets `*.png` as it was typed; a question may end with its mark all the same."""
        monkeypatch.setattr(files, "SHELL_EXPANDS", False)
        monkeypatch.chdir(tmp_path)
        for name in ("b.png", "a.png", "c [1].png", "W"):
            Path(name).write_bytes(a_file(40, 30))
        ended = run(["look", "*.png", "c [1].png", "none*.jpg", "--json"])
        named = [json.loads(line) for line in ended.out.splitlines()]
        assert [line["file"] for line in named] == ["a.png", "b.png", "c [1].png", "c [1].png", "none*.jpg"]
        assert ["error" in line for line in named] == [False, False, False, False, True]
        for folder in ("scans [2024]", "scans 4"):
            Path(folder).mkdir()
            Path(folder, "a.png").write_bytes(a_file(40, 30))
        ended = run(["look", "scans [2024]/*.png", "--json"])
        assert [Path(json.loads(line)["file"]).parent.name for line in ended.out.splitlines()] == ["scans [2024]"]
        told = run(["ask", "--json", "[ab].png", "?.png", "?"], FakeEngine(["Yes."]))
        assert told.json["error"]["file"] == "[ab].png"
        told = run(["ask", "--json", "?.png", "?"], FakeEngine(["Yes."]))
        assert [picture["name"] for picture in told.json["pictures"]] == ["a.png", "b.png"]

    def test_good_files_alone_are_status_0_and_nothing_is_loaded_or_kept(
        self, run: Run, panel: str, tmp_path: Path
    ) -> None:
        """The plan of sizes is enough."""
        engine = FakeEngine()
        ended = run(["look", panel], engine)
        assert ended.status == 0
        assert ended.out.startswith(f"{panel}: PNG, 5600 x 2800, seen as ")
        assert engine.requests == []
        assert not (tmp_path / "data").exists()

    def test_refusals_in_plain_text_carry_their_code(self, run: Run) -> None:
        """A person reads the sentence, a script finds the code."""
        ended = run(["look", "missing.png"])
        assert (ended.status, ended.out.split(": ")[1]) == (2, "file.missing")

    def test_a_name_cannot_command_the_terminal_or_fake_a_line(self, run: Run, tmp_path: Path) -> None:
        """Control characters of a file's name are shown, not obeyed."""
        if sys.platform == "win32":
            pytest.skip("Windows allows no such names")
        evil = tmp_path / "a\x1b[2J\nfine.png: PNG"
        evil.write_bytes(a_file())
        ended = run(["look", str(evil)])
        assert ended.status == 0
        assert len(ended.out.splitlines()) == 1
        assert "\x1b" not in ended.out
        assert "\\x1b[2J\\nfine.png" in ended.out

    def test_without_a_model_there_is_a_sentence(self, run: Run, panel: str) -> None:
        """No plan, no look: status 1 and the engine's reason."""
        ended = run(["look", panel, "--json"], FakeEngine(load_error=ModelFolderError("model.not_loaded")))
        assert (ended.status, ended.json["error"]["code"]) == (1, "model.not_loaded")


class TestTerminal:
    def test_escape_sequences_are_shown_and_line_breaks_stay(self) -> None:
        """Colours, titles, bells, overwriting and reversed text all become visible or vanish."""
        assert harmless("a\x1b[31mb\x07\n\tc") == "a\\x1b[31mb\\x07\n\tc"
        assert harmless("\x9b31m\u202etxt") == "\\x9b31m\\u202etxt"
        assert harmless("one\r\ntwo\rthree") == "one\ntwothree"
        assert harmless("读数：42 °C 😀") == "读数：42 °C 😀"
        assert one_line("a\nb\rc") == "a\\nb\\rc"

    def test_an_answer_is_harmless_on_a_terminal_and_untouched_in_a_pipe(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A person is protected; a program gets what the model said."""
        reply = "\x1b]0;owned\x07red"
        assert run(["ask", "?"], FakeEngine([reply])).out == reply + "\n"

        class Screen(io.StringIO):
            def isatty(self) -> bool:
                return True

        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        assert run(["ask", "?"], FakeEngine([reply])).status == 0
        assert screen.getvalue() == "\\x1b]0;owned\\x07red\n"


CUT_OFF = re.compile(r"\w\.\.\.$", re.MULTILINE)
"""What typer does with a sentence that is too long for its list; `[ARGS]...` is none."""


class TestProgram:
    def test_version(self, run: Run) -> None:
        """One line."""
        ended = run(["--version"])
        assert (ended.status, ended.out) == (0, f"qwen_vl_app {__version__}\n")

    @pytest.mark.parametrize("command", ["ask", "look", "batch", "models", "doctor", "serve"])
    def test_every_command_and_flag_has_help(self, run: Run, command: str) -> None:
        """No flag is left unexplained, no code shows through."""
        ended = run([command, "--help"])
        assert ended.status == 0
        assert "cli.help" not in ended.out
        for line in ended.out.splitlines():
            if line.strip().startswith("--"):
                assert len(line.split("  ")) > 1, line

    @pytest.mark.parametrize(
        "arguments",
        [
            ["ask"],
            ["look"],
            ["dance"],
            ["ask", "?", "--page", "0"],
            ["ask", "?", "--max-tokens", "x"],
            ["ask", "?", "--nonsense"],
        ],
    )
    def test_wrong_usage_is_status_2(self, run: Run, arguments: list[str]) -> None:
        """As every command line has it."""
        ended = run(arguments)
        assert ended.status == 2
        assert "Traceback" not in ended.err

    def test_wrong_usage_is_json_as_well(self, run: Run) -> None:
        """A program that asked for JSON gets it also where it mistyped a flag; the sentence stays where people look."""
        ended = run(["ask", "?", "--json", "--nonsense"])
        assert ended.status == 2
        assert ended.json["error"]["code"] == "cli.usage"
        assert "--nonsense" in ended.json["error"]["message"]
        assert "--nonsense" in ended.err

    @pytest.mark.parametrize(
        ("typed", "english", "chinese"),
        [
            ("ask ? --nonsense", "There is no --nonsense here.", "没有 --nonsense"),
            ("ask ? --max-token 3", "Did you mean --max-tokens?", "--max-tokens"),
            ("ask ? --page 0", "--page takes a number, 1 or more.", "不小于 1"),
            ("ask ? --max-tokens x", "--max-tokens takes a number from 1 to 32768.", "1 到 32768"),
            ("look", "FILE is missing.", "缺少 FILE"),
            ("look a.png --detail huge", "low_memory, fast, balanced, detail, document", "只能是以下之一"),
            ("look a.png --json=3", "--json takes no value.", "--json 后面不带值"),
            ("look a.png --page", "--page needs a value behind it.", "--page 后面需要一个值"),
            ("dance", "There is no command dance.", "没有 dance"),
            ("history dance", "There is no command dance.", "没有 dance"),
            ("it's", "There is no command it's.", "没有 it's"),
            ("prove-offlin", "There is no command prove-offlin. Did you mean prove-offline?", "prove-offline"),
            ("mode", "There is no command mode. Did you mean models?", "models"),
            ("history erase --day 31.12.", "--day takes a day such as 2026-03-14.", "2026-03-14"),
            ("doctor now or never", "more than the command takes: now or never", "now or never"),
        ],
    )
    def test_what_was_mistyped_is_told_in_the_language_that_was_asked_for(
        self, run: Run, typed: str, english: str, chinese: str
    ) -> None:
        """One sentence and where to look it up, nothing of the parser's own."""
        first, *others = typed.split()
        for language, sentence in (("en", english), ("zh", chinese)):
            asked = [f"--language={language}"]
            for ended in (run([first, *asked, *others]), run([*asked, first, *others])):
                assert ended.status == 2
                assert sentence in ended.err
                assert "Error" not in ended.err and "Input" not in ended.err

    @pytest.mark.parametrize("path", ["", "history", "forms", "models", "ask", "history list", "accept"])
    def test_help_is_whole_and_in_the_language_that_was_asked_for(self, run: Run, path: str) -> None:
        """`--language` stands in front of a command, behind it and behind --help; no line of the list is cut off."""
        words = path.split()
        own = {
            "Usage:": "用法：",
            "Options:": "选项：",
            "Commands:": "命令：",
            "default: ": "默认：",
            "[required]": "[必填]",
        }
        for asked in (["--language", "zh"], ["--language=zh"]):
            pages = [run([*words, "--help", *asked]), run([*words, *asked, "--help"]), run([*asked, *words, "--help"])]
            assert {page.status for page in pages} == {0}, pages
            assert len({page.out for page in pages}) == 1
            assert not [word for word in (*own, "Show this message") if word in pages[0].out]
            assert not re.search(CUT_OFF, pages[0].out), "a sentence was cut off"
            assert "显示帮助并退出。" in pages[0].out
        english = run([*words, "--help", "--language", "en"]).out
        assert english.startswith("Usage: ") and "Show this and end." in english
        assert not re.search(CUT_OFF, english), "a sentence was cut off"

    @pytest.mark.parametrize("path", ["", "history", "forms"])
    def test_a_language_alone_is_no_command(self, run: Run, path: str) -> None:
        """It says what is missing, in that language, and where to look."""
        ended = run([*path.split(), "--language", "zh"])
        assert (ended.status, ended.err.splitlines()[0]) == (2, "缺少命令。")

    def test_a_mistake_of_ours_is_calm(self, run: Run, panel: str) -> None:
        """Status 1 and a sentence that says how to see more."""

        class Broken(FakeEngine):
            def seen_size(self, *_: object, **__: object) -> Any:
                raise RuntimeError("a mistake")

        ended = run(["look", panel], Broken())
        assert ended.status == 1
        assert "--verbose" in ended.err
        assert "Traceback" not in ended.err
        assert run(["look", panel, "--json"], Broken()).json["error"]["code"] == "app.unexpected_command"

    def test_broken_settings_are_status_2(self, run: Run, tmp_path: Path) -> None:
        """The sentence names the file."""
        (tmp_path / "config.toml").write_text("port = ", encoding="utf-8")
        ended = run(["ask", "?"])
        assert ended.status == 2
        assert "config.toml" in ended.err

    def test_serving_with_settings_that_cannot_be_meant_starts_nothing(self, run: Run) -> None:
        """An address beyond loopback is no setting, and a device that does not exist is refused before any start."""
        ended = run(["serve", "--device", "tpu"])
        assert (ended.status, len(ended.err.splitlines())) == (2, 1)

    def test_serving_from_a_file_starts_nothing(self, run: Run, panel: str) -> None:
        """An app that could keep nothing is not what was meant."""
        ended = run(["serve", "--data-dir", panel])
        assert (ended.status, len(ended.err.splitlines())) == (2, 1)
        assert "panel.png" in ended.err

    def test_folders_are_meant_from_where_the_command_was_typed(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative folder is beside the person, not beside the app."""
        monkeypatch.chdir(tmp_path)
        assert run(["ask", "?", "--data-dir", "here"], FakeEngine(["."])).status == 0
        assert (tmp_path / "here").is_dir()

    @pytest.mark.parametrize("value", ["", " ", *(() if sys.platform == "win32" else ("~nobody-of-this-name/x",))])
    def test_a_folder_that_is_none_is_refused_and_nothing_is_made(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        """A script's empty variable must not turn the folder it stands in into the app's; the same goes for a model."""
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        for words, key in (
            (["history", "list", "--data-dir", value], "--data-dir"),
            (["models", "--models-dir", value], "--models-dir"),
            (["serve", "--data-dir", value], "--data-dir"),
        ):
            ended = run(words)
            assert (ended.status, len(ended.err.splitlines())) == (2, 1), words
            assert key in ended.err
        assert not list(Path().iterdir())
        if value.strip():
            assert run(["models", "verify", value]).status == 2
            ended = run(["look", "x.png", "--model", value])
            assert ended.status == 2 and "--verbose" not in ended.err

    def test_models_are_listed_whole_or_damaged(self, run: Run, tmp_path: Path) -> None:
        """A damaged folder is listed with what is wrong; no folder at all is a note."""
        assert run(["models"]).err != ""
        folder = tmp_path / "models" / "half-a-model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "strange"}', encoding="utf-8")
        told = run(["models", "--json"]).json
        assert (told["name"], told["is_complete"]) == ("half-a-model", False)
        assert told["error"].startswith("engine.folder.")
        assert stat.S_ISDIR(folder.stat().st_mode)

    def test_a_model_is_recorded_and_checked(self, run: Run, tmp_path: Path) -> None:
        """Recorded once, whole afterwards; a changed byte is named and the status is 1, for a program as well."""
        folder = shutil.copytree(ROOT / "models" / "demo", tmp_path / "models" / "mine")
        assert run(["models", "verify", "mine"]).status == 1, "nothing to check it against is no yes"
        assert run(["models", "record", "mine"]).status == 0
        assert run(["models", "record", "mine"]).status == 1, "a manifest is not written over by mistake"
        assert run(["models", "verify", "mine", "--json"]).json["is_checked"] is True
        weights = folder / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        told = run(["models", "verify", "--json"])
        assert told.status == 1
        assert told.json["code"] == "engine.manifest.changed"
        assert "model.safetensors" in told.json["message"]
        assert run(["models", "verify", "nobody"]).status == 2


def test_the_document_has_every_command_and_every_flag() -> None:
    """`docs/cli.md` ends with what `scripts/cli_reference.py` writes; run it after a change of a command."""
    document = cli_reference.DOCUMENT.read_text(encoding="utf-8")
    assert document == cli_reference.written(document)
    assert "--retry-failed" in document and "### `ask`" in document
