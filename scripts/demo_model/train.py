"""Train the demo model from nothing: `python scripts/demo_model/train.py --out DIR`.

It knows the steps and files of a run in progress; it starts again where the last checkpoint in DIR ended.
What is taught is in `curriculum.py`, in which stages in `stages.py`, how it is graded in `losses.py`; turning a run into a folder that can be shipped is `export.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, the project's root is not on the path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from scripts.demo_model import relative
from scripts.demo_model.checkpoint import grown, new_model, new_relative_model
from scripts.demo_model.curriculum import PICTURES_PER_SHARE, SHARES, make_lessons
from scripts.demo_model.families import FAMILIES, PIXELS, RELATIVE, Family
from scripts.demo_model.forward import AnyModel
from scripts.demo_model.lessons import Batch, pack
from scripts.demo_model.losses import TrainingHeads, step_losses
from scripts.demo_model.muon import Muon
from scripts.demo_model.stages import FIRST_STAGES, LATER_STAGES, Stage

SAVE_EVERY_S = 120.0
SAVING_S = 20.0
"""Kept free before the end of a run's time."""
HEADS_FIRST = 80
"""Steps in which the heads of a run grown from an exported folder, which has none, learn alone: what they say at first is noise, and would move the rest."""
HEADS_RATE = 0.004
LETTER_STAGES = ("letters",)
"""Stages that teach vision alone."""


class Run:
    """One training run in one of the processes: model, optimisers, and where it stands."""

    def __init__(
        self, out: Path, seed: int, *, family: Family = PIXELS, grow_from: Path | None = None, drawers: int = 0
    ) -> None:
        """Begin. `drawers` further processes draw what the next steps take; without any, each step draws its own."""
        self.out, self.seed, self.family = out, seed, family
        self.device = torch.get_default_device()
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.model: AnyModel
        if family is RELATIVE:
            self.model = new_relative_model(seed)
        else:
            self.model = new_model(seed) if grow_from is None else grown(read_state(grow_from), seed)
        self.heads = TrainingHeads(self.model.config.text_config.hidden_size)
        self.has_new_heads = grow_from is not None and grow_from.is_dir()
        if grow_from is not None:
            self.keep_heads(grow_from)
        named = dict(self.model.named_parameters())
        is_matrix = {n: p.dim() >= 2 and "embed_tokens" not in n and "pos_embed" not in n for n, p in named.items()}
        # What deepstack adds is learned with the language that it is added to, not by vision alone.
        is_vision = {n: "visual" in n and "deepstack" not in n for n in named}
        self.words = [p for n, p in named.items() if not is_vision[n]]
        self.parameters = [*named.values(), *self.heads.parameters()]
        self.muons = {
            "visual": Muon([p for n, p in named.items() if is_matrix[n] and is_vision[n]]),
            "language": Muon([p for n, p in named.items() if is_matrix[n] and not is_vision[n]]),
        }
        rest = [p for n, p in named.items() if not is_matrix[n]] + list(self.heads.parameters())
        self.adam = torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0)
        self.stage, self.step, self.drawn, self.spent, self.pictures = 0, 0, 0, 0.0, 0
        self.limit_s = 3600.0
        self.started = self.saved = time.monotonic()
        spawned = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(drawers, mp_context=spawned, initializer=_draw_alone) if drawers else None
        self.ahead: deque[tuple[bool, list[Future[list[Batch]]]]] = deque()
        self.depth = max(1, 2 * drawers)

    def save(self) -> None:
        """Write the checkpoint, complete or not at all."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "muons": {k: m.state_dict() for k, m in self.muons.items()},
            "adam": self.adam.state_dict(),
            "stage": self.stage,
            "step": self.step,
            "drawn": self.drawn,
            "spent": self.spent,
        }
        fresh = self.out / "run.pt.new"
        torch.save(state, fresh)
        fresh.replace(self.out / "run.pt")
        self.saved = time.monotonic()

    def begin_from(self, path: Path, stage: int) -> None:
        """Begin a stage with the weights of another run, its optimisers fresh."""
        self.model.load_state_dict(read_state(path))
        self.keep_heads(path)
        self.stage = stage

    def keep_heads(self, path: Path) -> None:
        """Take over the training heads of another run; an exported folder has none, and they begin anew."""
        if path.is_file():
            # A run from before a head was thought of has none of it: that head begins anew, as does what a wider one has more.
            fresh, earlier = self.heads.state_dict(), torch.load(path, map_location="cpu", weights_only=True)["heads"]
            for name, value in earlier.items():
                edges = 4 if name.startswith("box.") else 1
                of_edge = value.view(edges, -1, *value.shape[1:])
                fresh[name].view(edges, -1, *value.shape[1:])[:, : of_edge.shape[1]].copy_(of_edge)

    def load(self, path: Path) -> None:
        """Take over a checkpoint and the place where it stood."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for name, muon in self.muons.items():
            muon.load_state_dict(state["muons"][name])
        self.adam.load_state_dict(state["adam"])
        self.stage, self.step, self.drawn, self.spent = (state[k] for k in ("stage", "step", "drawn", "spent"))

    def drawn_next(self, stage: Stage) -> tuple[bool, list[Batch]]:
        """Return whether the next step teaches vision alone, and this process's share of it on the run's device.

        With further processes it was asked for some steps ago, and told by where the stage stood then.
        """
        while len(self.ahead) < (self.depth if self.pool else 1):
            self.ahead.append(self._asked(stage))
        letters, asked = self.ahead.popleft()
        return letters, [batch.to(self.device) for share in asked for batch in share.result()]

    def _asked(self, stage: Stage) -> tuple[bool, list[Future[list[Batch]]]]:
        letters = stage.name in LETTER_STAGES
        if stage.letters and not self.heads_alone():
            # Drawn from what every process knows, so that all take the same kind of step.
            chance = stage.letters_share(self.progress(stage))
            letters = np.random.default_rng((self.seed, self.drawn)).random() < chance
        kind = stage.alone_kind if letters and stage.letters else stage.name
        most = relative.PICTURES_A_STEP if self.family is RELATIVE else PICTURES_PER_SHARE
        asked: list[Future[list[Batch]]] = []
        for _ in range(1 if self.family is RELATIVE else max(1, SHARES // self.world)):
            share = (kind, self.seed, self.drawn + self.rank * most, stage.larger, self.family is RELATIVE)
            if self.pool is not None:
                asked.append(self.pool.submit(drawn_share, *share))
            else:
                asked.append(Future())
                asked[-1].set_result(drawn_share(*share))
            self.drawn += most * self.world
        return letters, asked

    def heads_alone(self) -> bool:
        """Say whether this step teaches the training heads alone."""
        return self.has_new_heads and self.stage == 0 and self.step < HEADS_FIRST

    def close(self) -> None:
        """End the processes that draw."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def progress(self, stage: Stage) -> float:
        """Return how much of a stage is done, 0 to 1."""
        return min(1.0, self.spent / self.limit_s if stage.to_the_end else self.step / stage.steps)

    def exchange_gradients(self) -> None:
        """Average the gradients over the processes."""
        if self.world == 1:
            return
        used = [p for p in self.parameters if p.grad is not None]
        grads = [p.grad for p in used if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def train_step(self, stage: Stage) -> dict[str, float]:
        """Run one step and return its figures, those of this process."""
        letters, parts = self.drawn_next(stage)
        self.pictures = sum(len(batch.patches) for batch in parts)
        figures: dict[str, float] = {}
        for batch in parts:
            losses = step_losses(self.model, self.heads, batch, stage, letters=letters)
            (losses["loss"] / len(parts)).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                figures[name] = figures.get(name, 0.0) + float(value.detach()) / len(parts)
        self.exchange_gradients()
        if self.heads_alone():
            self._move_heads()
            return figures
        if letters and stage.keeps_words:
            for p in self.words:
                p.grad = None
        factor = min(1.0, (self.step + 1) / 10 if self.stage == 0 else 1.0) * stage.rate(self.progress(stage))
        self.muons["visual"].step(stage.muon * factor)
        if not letters:
            self.muons["language"].step(stage.muon * factor)
        for group in self.adam.param_groups:
            group["lr"] = stage.adam * factor
        self.adam.step()
        for p in self.parameters:
            p.grad = None
        return figures

    def _move_heads(self) -> None:
        """Let the heads take a step, and nothing else."""
        for p in self.model.parameters():
            p.grad = None
        for group in self.adam.param_groups:
            group["lr"] = HEADS_RATE
        self.adam.step()
        for p in self.heads.parameters():
            p.grad = None


def drawn_share(kind: str, seed: int, first: int, larger: float, is_relative: bool) -> list[Batch]:
    """Draw one share of a step, in parts that are packed each by itself; `first` is the number of its first picture."""
    parts = (
        relative.make_lessons(kind, seed, first) if is_relative else [make_lessons(kind, seed, first, larger=larger)]
    )
    with torch.device("cpu"):
        return [pack(lessons) for lessons in parts]


def _draw_alone() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends them


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the weights of a run's checkpoint, or those of an exported folder."""
    if path.is_dir():
        exported = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
        folder: dict[str, Tensor] = exported.state_dict()
        return folder
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return state


class Journal:
    """The run's log: means over ten steps, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._count, self._pictures, self._since = 0, 0, time.monotonic()

    def note(self, run: Run, stages: tuple[Stage, ...], figures: dict[str, float]) -> None:
        """Add a step; write a line after every tenth."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._count, self._pictures = self._count + 1, self._pictures + run.pictures * run.world
        if self._count < 10:
            return
        stage, now = stages[run.stage], time.monotonic()
        pace = (now - self._since) / self._count
        left = (1 - run.progress(stage)) * (run.limit_s if stage.to_the_end else pace * stage.steps)
        left += sum(run.limit_s if s.to_the_end else pace * s.steps for s in stages[run.stage + 1 :])
        line = {"stage": stage.name, "step": run.step, "elapsed_s": round(now - run.started), "left_s": round(left)}
        line |= {k: round(v / self._counts[k], 4) for k, v in self._sums.items()}
        line["pictures_per_s"] = round(self._pictures / (now - self._since), 1)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._sums, self._counts, self._count, self._pictures, self._since = {}, {}, 0, 0, now


def agreed(seconds: float, world: int) -> float:
    """Return the first process's value in every process: one clock for all, so that rates and ends of stages agree."""
    value = torch.tensor([seconds])
    if world > 1:
        dist.broadcast(value, 0)
    return float(value)


def train(
    rank: int,
    world: int,
    out: Path,
    seed: int,
    store: str,
    stop_at: float,
    start_from: Path | None,
    grow_from: Path | None,
    later: str,
    family: Family,
    device: str = "cpu",
    drawers: int = 0,
) -> None:
    """Run the stages in one of `world` processes: the first ones, or the later ones when growing an earlier run."""
    torch.set_num_threads(1)
    torch.set_default_device(device)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    stages: tuple[Stage, ...] = FIRST_STAGES if grow_from is None else LATER_STAGES[later]
    if family is RELATIVE:
        stages = relative.RELATIVE_STAGES
    run = Run(out, seed, family=family, grow_from=grow_from, drawers=drawers)
    try:
        _go_through(run, stages, stop_at=stop_at, start_from=start_from)
    finally:
        run.close()


def _go_through(run: Run, stages: tuple[Stage, ...], *, stop_at: float, start_from: Path | None) -> None:
    """Go on where a run stands, through all stages or until the time is up."""
    out, rank, world = run.out, run.rank, run.world
    if (out / "run.pt").exists():
        run.load(out / "run.pt")
    elif start_from is not None:
        run.begin_from(start_from, len(stages) - 1)
    journal = Journal(out / "log.jsonl") if rank == 0 else None
    while run.stage < len(stages):
        stage = stages[run.stage]
        if stop_at < float("inf"):
            # Counted from now, so that a run that was begun again still ends in time with rates at zero.
            run.limit_s = run.spent + max(60.0, agreed(stop_at - time.time() - SAVING_S, world))
        while run.progress(stage) < 1.0:
            began = time.monotonic()
            figures = run.train_step(stage)
            run.step += 1
            run.spent += agreed(time.monotonic() - began, world)
            if journal is not None:
                journal.note(run, stages, figures)
            if rank == 0 and time.monotonic() - run.saved > SAVE_EVERY_S:
                run.save()
            if run.step % 10 == 0 and agreed(stop_at - time.time(), world) < 0:
                if rank == 0:
                    run.save()
                return
        run.stage, run.step, run.spent = run.stage + 1, 0, 0.0
        run.ahead.clear()  # lessons of the stage that is over
        if rank == 0:
            run.save()


def main() -> None:
    """Read the command line and start the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint and log")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop-at", type=float, default=float("inf"), help="Unix time at which to save and stop")
    parser.add_argument(
        "--start-from", type=Path, help="checkpoint whose weights a first run begins with, at its last stage"
    )
    parser.add_argument(
        "--grow-from",
        type=Path,
        help="checkpoint of a finished first run or an exported folder, to be taught the wider domain",
    )
    parser.add_argument(
        "--teach",
        choices=sorted(LATER_STAGES),
        default="skills",
        help="with --grow-from: skills near the first domain, the same at several scales or, once those are read, sizes, also with parts of plates, also with turns that bring a new picture, or the widest domain",
    )
    parser.add_argument(
        "--family",
        choices=sorted(FAMILIES),
        default=PIXELS.name,
        help="architecture: boxes in pixels, or in thousandths",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="a graphics card where there is one"
    )
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # A card takes all of a step, and waits for drawing: that is what the processors are for there.
    processes, drawers = (arguments.processes, 0) if device == "cpu" else (1, max(1, (os.cpu_count() or 2) - 1))
    if arguments.family == RELATIVE.name and (arguments.grow_from or arguments.teach != "skills"):
        parser.error(f"{RELATIVE.name} has one row of stages; --start-from begins with the last of them")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the processes it started would go on without it
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out.resolve() / f"store-{os.getpid()}"
    shared = (
        arguments.out,
        arguments.seed,
        str(store),
        arguments.stop_at,
        arguments.start_from,
        arguments.grow_from,
        arguments.teach,
        FAMILIES[arguments.family],
        device,
        drawers,
    )
    if processes == 1:
        train(0, 1, *shared)
        return
    context = multiprocessing.get_context("spawn")
    ranks = range(processes)
    workers = [context.Process(target=train, args=(rank, processes, *shared), daemon=True) for rank in ranks]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        wait([worker.sentinel for worker in workers if worker.is_alive()])
        if any(worker.exitcode for worker in workers):
            for worker in workers:  # the others would wait for the lost one for ever
                worker.terminate()
            sys.exit("a training process ended with an error; start again, and it goes on from the last checkpoint")
    store.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
