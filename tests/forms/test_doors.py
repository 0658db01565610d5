"""Forms through the command line, and by a run over a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from qwen_vl_app.batch import BatchPlan, BatchRuns
from qwen_vl_app.cli import main
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms import FillPlan, desk_of, dump_template
from tests.forms.parts import TEMPLATE, PlateModel, form_assistant
from tests.hub_parts import WAIT_S
from tests.ui.fakes import png

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model() -> PlateModel:
    return PlateModel()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        (folder / f"plate {number}.png").write_bytes(png(width=280 + number, height=140))
    return folder


# 1. The command line


@pytest.fixture
def run(tmp_path: Path, model: PlateModel, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a model behind a fake engine and returns its status, output and errors."""

    def ran(*arguments: object) -> tuple[int, str, str]:
        parts = Parts(
            build_assistant=lambda settings: form_assistant(
                tmp_path, model, **settings.model_dump(exclude_defaults=True)
            ),
            settings_file=tmp_path / "config.toml",
            environment={"QWEN_VL_DATA_DIR": str(tmp_path / "data"), "QWEN_VL_LANGUAGE": "en"},
        )
        status = main(list(map(str, arguments)), parts=parts)
        out, err = capsys.readouterr()
        return status, out, err

    return ran


def ids(run: Run, *arguments: object) -> list[str]:
    """The ids of the forms there are, the worst first."""
    _, out, _ = run("forms", "list", "--json", *arguments)
    return [json.loads(line)["form_id"] for line in out.splitlines()]


def test_a_form_on_the_command_line(run: Run, photos: Path, tmp_path: Path, model: PlateModel) -> None:
    """Take a template in, fill, look, correct, confirm, export: nothing but the terminal is needed."""
    (tmp_path / "plate.json").write_text(dump_template(TEMPLATE), encoding="utf-8")
    assert run("forms", "add", tmp_path / "plate.json")[0] == 0
    model.again["Load"] = "80"
    status, out, _ = run("forms", "fill", photos / "plate 0.png", "--template", "plate")
    assert status == 0 and "Read again on the crop alone, it was “80”." in out
    (form,) = ids(run)
    assert run("forms", "correct", form, "load", "80 kg")[0] == 2  # nobody said who
    assert run("forms", "correct", form, "load", "80 kg", "--who", "Ann")[0] == 0
    status, out, _ = run("forms", "confirm", form, "--who", "Ann", "--json")
    assert status == 0 and json.loads(out)["is_reviewed"] is True
    assert run("forms", "export", tmp_path / "out.csv")[0] == 0
    (row,) = csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8-sig"))
    assert (row["Load"], row["State"], row["Reviewed by"]) == ("80", "reviewed", "Ann")
    assert run("accept")[0] == 0  # what the model got wrong stays wrong, and nothing got worse
    status, out, _ = run("accept", "--json")
    assert json.loads(out.splitlines()[0])["wrong"] == 1
    assert run("forms", "delete", form)[0] == 0 and ids(run) == []


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("forms", "show", "nothing"), 2, "There is no form nothing"),
        (("forms", "template", "nothing"), 2, "There is no template nothing"),
        (("forms", "export", "forms.doc"), 2, "Choose one of csv, xlsx, json, pdf"),
        (("forms", "delete"), 2, "--everything"),
        (("accept",), 1, "The truth set is empty"),
        (("accept", "no-such-folder"), 1, "There is no folder"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(run: Run, arguments: Sequence[str], status: int, words: str) -> None:
    """And a status."""
    found, _, err = run(*arguments)
    assert found == status and words in err


# 2. A run over a folder


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_a_run_fills_forms(tmp_path: Path, photos: Path, model: PlateModel, at_a_time: int) -> None:
    """Rows carry values, the lowest confidence and the form; the worst come first; a second run's forms are its own."""
    model.again["Load"] = "80"
    with form_assistant(tmp_path, model, at_a_time=at_a_time) as assistant:
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, (), form=FillPlan(TEMPLATE)))
        assert runs.wait(run_id, WAIT_S)
        rows = runs.current_rows(run_id, worst_first=True)
        assert [dict(row.values or {}) for row in rows] == [{"Serial": "AB-123", "Load": 50, "Note": None}] * 2
        assert all(row.badness >= 100 for row in rows)
        desk = desk_of(assistant)
        assert {row.form_id for row in rows} == {each.form.form_id for each in desk.list(source=run_id)}
        # Resumed, it asks nothing twice; a form that somebody decided about stays as it is.
        asked = len(model.asked)
        runs.resume(run_id)
        assert runs.wait(run_id, WAIT_S) and len(model.asked) == asked
        runs.close()


def test_a_run_with_a_model_that_got_worse_ends_with_the_reason(
    tmp_path: Path, photos: Path, model: PlateModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first picture."""
    with form_assistant(tmp_path, model) as assistant:

        def refuse() -> None:
            raise FormError("forms.accept.refused", model="m")

        monkeypatch.setattr(desk_of(assistant).acceptance, "refuse_worse", refuse)
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, (), form=FillPlan(TEMPLATE)))
        assert runs.wait(run_id, WAIT_S)
        error = runs.progress(run_id).error
        assert error is not None and error.code == "forms.accept.refused"
        assert model.asked == []
        runs.close()
