"""What a run of a folder shall do: the folder, the questions and how much detail.

Knows how a plan is kept as JSON. Does not know what has been done of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import BatchError, FormError
from qwen_vl_app.forms import FillPlan, dump_fill_plan, load_fill_plan

PLAN_NAME = "plan.json"


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One or several questions for each picture of a folder. `task` is the ready-made task's name, where there is one."""

    folder: Path
    questions: tuple[str, ...]
    task: str = ""
    detail: Detail | None = None
    """None takes what the settings say."""
    is_recursive: bool = False
    is_watching: bool = False
    """Go on looking for new pictures until somebody stops it."""
    max_new_tokens: int = 1024
    owner: str = LOCAL_OWNER
    """Whose run it is: a browser's profile, or the local owner of the command line."""
    form: FillPlan | None = None
    """The form that is filled from each picture, in the place of questions of one's own."""


def dump_plan(plan: BatchPlan) -> str:
    """Return the plan as a JSON document in ASCII, whatever bytes the folder's name has."""
    return json.dumps(
        {
            "folder": str(plan.folder),
            "questions": plan.questions,
            "task": plan.task,
            "detail": None if plan.detail is None else plan.detail.value,
            "is_recursive": plan.is_recursive,
            "is_watching": plan.is_watching,
            "max_new_tokens": plan.max_new_tokens,
            "owner": plan.owner,
            "form": None if plan.form is None else dump_fill_plan(plan.form),
        }
    )


def load_plan(document: str) -> BatchPlan:
    """Return the plan of a document. Raises BatchError `batch.plan_damaged` where it is none."""
    try:
        kept = json.loads(document)
        return BatchPlan(
            folder=Path(kept["folder"]),
            questions=tuple(map(str, kept["questions"])),
            task=str(kept["task"]),
            detail=None if kept["detail"] is None else Detail(kept["detail"]),
            is_recursive=bool(kept["is_recursive"]),
            is_watching=bool(kept["is_watching"]),
            max_new_tokens=int(kept["max_new_tokens"]),
            owner=str(kept.get("owner", LOCAL_OWNER)),  # plans of before had none
            form=None if kept.get("form") is None else load_fill_plan(kept["form"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, FormError) as error:
        raise BatchError("batch.plan_damaged") from error
