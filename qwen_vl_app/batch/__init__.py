"""Runs over folders of pictures: begun, paused, stopped, resumed after a kill, and taken away as files.

Stands in the hub above the assistant, whom it asks like everybody else, behind everybody else. Does not know models,
pages or how a picture is decoded. A folder that is run over is only ever read.
"""

from qwen_vl_app.batch.dropped import Dropped
from qwen_vl_app.batch.erasing import RunErasing
from qwen_vl_app.batch.exports import (
    DrawnPicture,
    Export,
    ExportKind,
    LeftOut,
    left_out_text,
    rounds_csv,
    rounds_pdf,
)
from qwen_vl_app.batch.plan import BatchPlan
from qwen_vl_app.batch.progress import BatchProgress, RunState
from qwen_vl_app.batch.rounds import FieldChange, RoundChange, RoundRow
from qwen_vl_app.batch.rows import BatchRow, RowOutcome
from qwen_vl_app.batch.runs import RUNS_NAME, BatchRuns, BatchSummary, RowPage, refuse_within

__all__ = [
    "RUNS_NAME",
    "BatchPlan",
    "BatchProgress",
    "BatchRow",
    "BatchRuns",
    "BatchSummary",
    "DrawnPicture",
    "Dropped",
    "Export",
    "ExportKind",
    "FieldChange",
    "LeftOut",
    "RoundChange",
    "RoundRow",
    "RowOutcome",
    "RowPage",
    "RunErasing",
    "RunState",
    "left_out_text",
    "refuse_within",
    "rounds_csv",
    "rounds_pdf",
]
