"""`bench`: how long this machine takes, in a table, and as JSON and a chart where they are asked for.

Knows how figures look. Does not know how they are measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vl_app.chat import Size
from qwen_vl_app.cli.bench_chart import draw_chart
from qwen_vl_app.cli.parts import Parts
from qwen_vl_app.cli.status import DONE, FAILED, WRONG_INPUT, status_of
from qwen_vl_app.cli.terminal import Terminal, language_of
from qwen_vl_app.errors import AppError, Reason, UsageError

ARMS = ("all", "ends", "ours")
LEAST_SIDE, MOST_SIDE = 64, 4096
COLUMNS = (
    ("first", "first_token_s", "{:.2f} s"),
    ("decode", "decode_tokens_per_s", "{:.1f}/s"),
    ("follow_up", "follow_up_first_token_s", "{:.3f} s"),
    ("mixed", "mixed_s", "{:.2f} s"),
    ("load", "load_s", "{:.1f} s"),
    ("peak", "peak_bytes", "{:.2f} GB"),
    ("gb_per_s", "gb_per_s", "{:.1f}"),
    ("share", "share_of_limit", "{:.0%}"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure, and where to put it beside the terminal."""

    shape: str = "0.4b"
    model: Path | None = None
    sizes: str = "512,1024"
    tokens: int = 32
    rounds: int = 2
    arms: str = "all"
    json_file: Path | None = None
    chart_file: Path | None = None


def bench(parts: Parts, request: Request, *, overrides: Mapping[str, Any]) -> int:
    """Measure, print the table, write the files, and return the exit status."""
    terminal = Terminal(language=language_of(overrides))
    try:
        settings = parts.settings(overrides)
        terminal.language = language_of({"language": settings.language})
        report = parts.bench(
            shape=request.shape,
            model=request.model,
            sizes=_sizes(request.sizes),
            arms=_arms(request.arms),
            tokens=request.tokens,
            rounds=request.rounds,
            threads=settings.threads,
            device=settings.device,
            on_progress=terminal.note,
        )
    except AppError as error:
        terminal.fail(error)
        return WRONG_INPUT if error.code == "engine.bench.no_shape" else status_of(error)
    _print(report, terminal)
    try:
        if request.json_file is not None:
            request.json_file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if request.chart_file is not None:
            request.chart_file.write_bytes(draw_chart(report))
    except OSError:
        terminal.note(Reason("cli.bench.not_written"))
        return FAILED
    return DONE


def _arms(text: str) -> str:
    if text not in ARMS:
        raise UsageError("cli.bench.arms", given=text[:40], known=", ".join(ARMS))
    return text


def _sizes(written: str) -> tuple[Size, ...]:
    """Return the sizes of `512,1920x1080`: one number is a square's side."""
    sizes = []
    for each in written.lower().split(","):
        width, cross, height = each.partition("x")
        try:
            size = Size(int(width), int(height if cross else width))
        except ValueError as error:
            raise UsageError("cli.bench.sizes", least=LEAST_SIDE, most=MOST_SIDE) from error
        if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (size.width, size.height)):
            raise UsageError("cli.bench.sizes", least=LEAST_SIDE, most=MOST_SIDE)
        sizes.append(size)
    return tuple(sizes)


def _print(report: Mapping[str, Any], terminal: Terminal) -> None:
    machine = report["machine"]
    terminal.line(
        terminal.say(
            "cli.bench.head",
            model=report["model"],
            parameters=report["parameters"] / 1e9,
            processor=machine["processor"],
            threads=report["threads"],
            torch=machine["torch"],
            transformers=machine["transformers"],
            limit=report["limit_gb_per_s"],
            measured_at=report["measured_at"],
        )
    )
    names = [arm["name"] for arm in report["arms"]]
    heads = [terminal.say(f"cli.bench.column.{column}") for column, _, _ in COLUMNS]
    for size in report["arms"][0]["sizes"] if names else ():
        rows = [[size, *heads]]
        for arm in report["arms"]:
            figures = dict(arm["sizes"][size])
            figures["peak_bytes"] /= 1e9
            rows.append([arm["name"], *(form.format(figures[name]) for _, name, form in COLUMNS)])
        for row in rows:
            terminal.line(f"{row[0]:<32}" + "".join(f"{cell:>14}" for cell in row[1:]))
        told = report["ratios"].get(size, {})
        if "decode_faster" in told:
            terminal.line(
                terminal.say(
                    "cli.bench.ratios",
                    first=told["first_token_sooner"],
                    decode=told["decode_faster"],
                    follow_up=told["follow_up_sooner"],
                    loop=told["loop_share"],
                )
            )
    for graded in report.get("quality", ()):
        terminal.line(terminal.say("cli.bench.quality", **graded))
    for name in report["left_out"]:
        terminal.note(Reason("cli.bench.left_out", arm=name))
