"""The script that measures a graphics card runs on a processor in small, so that it will run where there is a card."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from qwen_vl_app.engine.local.bench_models import make_model
from scripts import card
from scripts.card_parts import plan
from scripts.card_parts.job import Job
from scripts.card_parts.projection import projected
from scripts.card_parts.speed import speed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job on the processor with the smallest model."""
    folder = tmp_path_factory.mktemp("card") / "random-tiny"
    make_model("tiny", folder)
    return Job(folder, "cpu", is_dry=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without telling it")
def test_a_run_that_is_told_to_end_leaves_no_model_behind(tmp_path: Path) -> None:
    """A random model is as large as a real one: the temporary folder would be full after a few tries."""
    command = [sys.executable, "scripts/card.py", "--device", "cpu", "--parts", "callers", "--shapes", "tiny"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "callers" in line:  # the model is made, and a process of its own measures it
                break
        assert list(tmp_path.glob("qwen-vl-card-*/random-tiny/*.safetensors"))
        run.terminate()
        assert run.wait(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("qwen-vl-card-*"))


def test_a_dry_run_does_every_part_and_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out or fails, and table and file say the same."""
    monkeypatch.setattr(plan, "speed", lambda job: {"arms": []})  # the benchmark has tests of its own
    file = tmp_path / "card.json"
    assert card.main(["--dry", "--json", str(file)]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    names = [
        "steps",
        "follow_up",
        "attending",
        "vision",
        "callers",
        "mixes",
        "faults at 24 GB",
        "faults at 12 GB",
        "speed tiny at 24 GB",
    ]
    assert [name for name in names if name not in report] == []
    assert not [name for name, part in report.items() if isinstance(part, dict) and {"failed", "left_out"} & set(part)
                and name != "projection"]  # fmt: skip
    for family in ("", " qwen3-tiny"):  # captured steps are tried in both
        told = report[f"steps{family}"]
        assert told["same_tokens"] == "24 of 24"
        assert told["auto"]["reasons"][-1] == "engine.choice.steps.wanted", "what a card would capture was run"
        follow_ups = {name: each for name, each in report[f"follow_up{family}"].items() if "new tokens" in name}
        assert len(follow_ups) == 4 and {each["same_first_token"] for each in follow_ups.values()} == {"3 of 3"}
        assert all(int(name.split()[0]) < 128 and each["times"] > 0 for name, each in follow_ups.items())
    assert all(each["kernel_ms"] > 0 and each["products_ms"] > 0 for each in list(report["attending"].values())[:2])
    assert report["vision"]["batched_windows"]["off"] < 1e-4
    assert report["vision"]["varlen"]["left_out"] == "engine.attention.not_here"
    assert set(report["callers"]) >= {"1", "2", "4", "8", "newcomer"}
    assert len(report["mixes"]["mixes"]) == 3
    for cap in ("24", "12"):
        told = report[f"faults at {cap} GB"]
        answered = [told[name]["next_answered"] for name in told if isinstance(told[name], dict)]
        assert answered == [True, True, True]
        assert told["a context too long"]["told"] == "engine.prompt_too_long"
        assert told["memory taken away"]["told"] == "engine.out_of_memory"
    said = capsys.readouterr().out
    assert "callers" in said and "tokens_per_s" in said


def test_the_benchmark_runs_as_a_part(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arms give their figures for the projection."""
    monkeypatch.setattr("qwen_vl_app.engine.local.bench.ARMS", card_arms())
    monkeypatch.setattr("qwen_vl_app.engine.local.bench.measure_bandwidth", lambda reading: 20.0)
    report = speed(job)
    (arm,) = report["arms"]
    onto = projected(report, "NVIDIA H100 80GB HBM3")
    figures, measured = onto["arms"][arm["name"]]["56x56"], arm["sizes"]["56x56"]
    assert figures["decode_tokens_per_s"] == pytest.approx(measured["decode_tokens_per_s"] * 1008 / 3350)
    assert figures["first_token_s"] == pytest.approx(measured["first_token_s"] * 989 / 165)
    assert len(onto["assumed"]) == 4


def card_arms() -> Any:
    """Return one arm of the benchmark."""
    from qwen_vl_app.engine.local.bench_arms import ARMS

    return ARMS[3:4]


def test_a_part_that_fails_is_told_and_the_others_run(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken part has its error in the report; with the time up, parts are left out by name."""

    def broken(job: Job) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for name in ("steps", "follow_up", "attending", "vision", "callers", "mixes", "faults", "speed"):
        monkeypatch.setattr(plan, name, broken)
    kept: list[list[str]] = []
    report = plan.measure(
        ("tiny",), job.folder.parent / "again", is_dry=True, limit_s=60, keep=lambda now: kept.append(list(now))
    )
    assert "illegal memory access" in report["mixes"]["failed"]
    assert any("broken" in line for line in report["mixes"]["where"])
    # Whoever ends it in the middle has what was found until then.
    assert [names[-1] for names in kept][:2] == ["steps", "speed tiny at 24 GB"] and len(kept) == 9
    late = plan.measure(("tiny",), job.folder.parent / "late", is_dry=True, limit_s=-1)
    assert late["steps"] == {"left_out": "the time was up"}
    assert projected({}, "an unknown card")["left_out"]


def test_what_the_engine_says_meanwhile_is_in_the_report(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a card's driver refused is in the log alone, and whoever measures has one chance to read it."""

    def steps(job: Job) -> dict[str, Any]:
        logging.getLogger("qwen_vl_app.engine.local.graphs").info("decode steps cannot be captured here: %s", "a mood")
        warnings.warn("a kernel was not used", stacklevel=1)
        return {"found": 1}

    monkeypatch.setattr(plan, "steps", steps)
    before = logging.getLogger("qwen_vl_app").level
    report = plan.measure(("tiny",), job.folder.parent / "said", is_dry=True, limit_s=60, parts=("steps",))
    said = report["steps"]["said"]
    assert report["steps"]["found"] == 1 and said[0] == "decode steps cannot be captured here: a mood"
    assert "a kernel was not used" in said[1]
    assert logging.getLogger("qwen_vl_app").level == before


def test_a_model_that_cannot_be_made_fails_its_parts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told, and another shape's parts still run."""

    def make(shape: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        if shape == "7b":
            raise OSError("No space left on device")

    monkeypatch.setattr(plan, "make_model", make)
    monkeypatch.setattr(plan, "speed", lambda job: {"arms": []})
    report = plan.measure(("7b", "tiny"), tmp_path, is_dry=True, limit_s=60, parts=("steps", "<lambda>"))
    assert "No space left" in report["steps"]["failed"] and "No space left" in report["speed 7b at 24 GB"]["failed"]
    assert report["speed tiny"]["arms"] == [] and not (tmp_path / "random-7b").exists()


def test_without_a_card_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence and a next step, for a missing card as for a misspelt shape."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert card.main([]) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert card.main(["--shapes", "9b"]) == 1
    assert card.main(["--dry", "--parts", "callers,everything"]) == 1
    said = capsys.readouterr().err
    assert "--dry" in said and "9b" in said and "everything" in said


def test_one_part_alone_on_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that a processor can tell as well is run alone, in the precision that is asked for."""
    jobs: list[Job] = []

    def callers(job: Job) -> dict[str, Any]:
        jobs.append(job)
        return {}

    monkeypatch.setattr(plan, "callers", callers)
    report = plan.measure(
        ("tiny",), tmp_path, is_dry=True, limit_s=60, device="cpu", precision="int8", parts=("callers",)
    )
    assert [(job.device, job.precision) for job in jobs] == [("cpu", "int8")]
    assert "callers" in report and "steps" not in report
