"""The stages of training: how long each lasts, how fast the model may change in it, and what its losses weigh.

It knows numbers only; what is drawn and asked in a stage is `curriculum.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Rates stay until the part `hold` of the stage is done and then fall in a straight line to `last` times themselves. `guide` and `align` weigh guided attention and what visual
    tokens say; `letters` is the share of steps at its beginning that teach vision alone, and all do in the part `alone` of its time; `larger`
    is the share of larger grids with characters anywhere. Lessons of vision alone are of the kind `alone_kind`; where it `keeps_words`, they
    move nothing but vision, or a long row of them would move the words away from the language layers that know them. A stage `to_the_end` ends when the run's time is up instead of after `steps`.
    """

    name: str
    steps: int
    muon: float
    adam: float
    last: float
    guide: float
    align: float = 0.3
    letters: float = 0.0
    alone: float = 0.0
    alone_kind: str = "wide letters"
    keeps_words: bool = False
    larger: float = 0.0
    to_the_end: bool = False
    hold: float = 0.0

    def letters_share(self, progress: float) -> float:
        """Return the share of steps that teach vision alone when a part `progress` of the stage, 0 to 1, is done."""
        return 1.0 if progress < self.alone else self.letters * (1.0 - progress)

    def rate(self, progress: float) -> float:
        """Return what rates are multiplied by when a part `progress` of the stage, 0 to 1, is done."""
        return 1.0 + (self.last - 1.0) * max(0.0, progress - self.hold) / (1.0 - self.hold)


FIRST_STAGES = (
    Stage("letters", 170, muon=0.01, adam=0.002, last=1.0, guide=0.0, align=1.0),
    Stage("short panels", 90, muon=0.006, adam=0.002, last=1.0, guide=0.5),
    Stage("panels", 120, muon=0.006, adam=0.002, last=1.0, guide=0.5),
    Stage("everything", 1200, muon=0.006, adam=0.002, last=0.8, guide=0.3),
    Stage("all sizes", 700, muon=0.005, adam=0.0016, last=0.1, guide=0.2),
    Stage("asked labels", 450, muon=0.005, adam=0.0016, last=0.0, guide=0.3),
    Stage("surfaces", 900, muon=0.005, adam=0.0016, last=0.0, guide=0.3),
)
SKILL_STAGES = (
    Stage(
        "skills", 0, muon=0.0025, adam=0.0009, last=0.0, guide=0.3, align=0.5, letters=0.35, to_the_end=True, hold=0.4
    ),
)
"""All that may be asked, about plates of both scripts, tables and surfaces in many shapes, with the first domain's things."""
SCALE_STAGES = (
    Stage(
        "scales",
        0,
        muon=0.0025,
        adam=0.0009,
        last=0.0,
        guide=0.3,
        align=0.5,
        letters=0.5,
        alone=0.3,
        alone_kind="scales letters",
        keeps_words=True,
        to_the_end=True,
        hold=0.5,
    ),
)
"""The same, seen with up to four times as many visual tokens: first vision alone, until characters anywhere are read."""
SIZES_STAGES = (replace(SCALE_STAGES[0], name="sizes", letters=0.35, alone=0.06),)
"""Once characters anywhere are read: every rung alike, more surfaces, and little of vision alone."""
PARTS_STAGES = (replace(SIZES_STAGES[0], name="parts", alone_kind="parts letters"),)
"""The same with parts of plates among them, cut out of large files and seen alone."""
TURNS_STAGES = (replace(PARTS_STAGES[0], name="turns", letters=0.25, alone=0.03, alone_kind="turns letters"),)
"""The same with pictures among them that come later in a conversation, after others and what was said about those."""
WIDE_STAGES = (
    Stage(
        "wide", 0, muon=0.004, adam=0.0012, last=0.03, guide=0.3, align=0.5, letters=0.25, larger=0.1, to_the_end=True
    ),
)
"""Chinese plates, more kinds of things, other shapes and sizes as well. Two contended cores were not enough to finish it."""
LATER_STAGES = {
    "skills": SKILL_STAGES,
    "scales": SCALE_STAGES,
    "sizes": SIZES_STAGES,
    "parts": PARTS_STAGES,
    "turns": TURNS_STAGES,
    "wide": WIDE_STAGES,
}
"""What an earlier run may be taught."""
