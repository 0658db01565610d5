"""Measures everything that only a graphics card can tell, in under ten minutes: python scripts/card.py --json card.json.

Speed of random models of the shapes of Qwen2.5-VL-7B and 3B, captured steps against plain ones, follow-ups read in one captured step, ways to attend over long
memories, the vision tower's ways, several callers, memory predicted against taken, and faults under a cap: a file each in
`card_parts/`. Single parts run on a processor as well: `--device cpu --parts callers --shapes 0.4b`. `--dry` does the same in
small on the processor, to see that it would run: its figures mean nothing. Each part has a process of its own and a time of its
own; one that fails or hangs says so, with what the engine said meanwhile, and leaves the others standing. The report is written
anew after each part, so that whoever ends this keeps the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from qwen_vl_app.engine.local.bench_models import SHAPES
from scripts import children
from scripts.card_parts.plan import PARTS, measure


def told(report: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the report as lines for a terminal, without the long lists."""
    for name, value in report.items():
        if isinstance(value, Mapping):
            flat = {key: one for key, one in value.items() if not isinstance(one, Mapping | list)}
            yield f"{indent}{name}: " + ", ".join(f"{key} {_short(one)}" for key, one in flat.items())
            yield from told({key: one for key, one in value.items() if isinstance(one, Mapping)}, indent + "  ")
            for arm in value.get("arms", ()) if isinstance(value.get("arms"), list) else ():
                yield from told({arm["name"]: arm["sizes"]}, indent + "  ")
        elif not indent and not isinstance(value, list):
            yield f"{name}: {_short(value)}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, measure, and write the report. Returns 1 where there is no card or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", default="7b,3b", help=f"random models of these shapes, the main one first: {', '.join(SHAPES)}"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--precision", default="", help="of the parts that do not compare precisions; bf16 if not given"
    )
    parser.add_argument("--threads", type=int, default=0, help="on a processor; 0 takes its cores")
    parser.add_argument("--parts", default="", help=f"only these, with commas: {', '.join(PARTS)}")
    parser.add_argument("--dry", action="store_true", help="in small on the processor, to see that everything runs")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="no part begins after so long, or on a card is waited for"
    )
    parser.add_argument("--json", type=Path, help="where to write the report")
    given = parser.parse_args(arguments)
    device = "cpu" if given.dry else given.device
    if device == "cuda" and not torch.cuda.is_available():
        print("There is no graphics card that torch can use here. Try --dry.", file=sys.stderr)
        return 1
    shapes = ("tiny", "qwen3-tiny") if given.dry else tuple(given.shapes.split(","))
    if unknown := [shape for shape in shapes if shape not in SHAPES]:
        print(f"There is no shape called {unknown[0]}. There are: {', '.join(SHAPES)}.", file=sys.stderr)
        return 1
    if wrong := [part for part in given.parts.split(",") if part and part not in PARTS]:
        print(f"There is no part called {wrong[0]}. There are: {', '.join(PARTS)}.", file=sys.stderr)
        return 1
    parent = Path(tempfile.mkdtemp(prefix="qwen-vl-card-"))

    def keep(report: Mapping[str, Any]) -> None:
        if given.json is not None:
            given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    with children.heard():
        try:
            report = measure(
                shapes,
                parent,
                is_dry=given.dry,
                limit_s=given.minutes * 60,
                device=device,
                precision=given.precision,
                threads=given.threads,
                parts=tuple(part for part in given.parts.split(",") if part),
                keep=keep,
            )
        finally:
            shutil.rmtree(parent, ignore_errors=True)
    keep(report)
    for line in told(report):
        print(line)
    return 1 if any(isinstance(part, dict) and "failed" in part for part in report.values()) else 0


if __name__ == "__main__":
    sys.exit(children.calmly(main))
