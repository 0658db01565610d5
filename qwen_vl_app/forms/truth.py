"""The site's truth set: pictures with values that a person has confirmed, from reviews.

Knows how a case is kept. Does not know models; `truth_folder` reads cases that somebody wrote down in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from qwen_vl_app.assistant import LOCAL_OWNER
from qwen_vl_app.chat import JsonValue
from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.template import FormTemplate, as_document, template_from

CASE_NAME = "case.json"
PICTURE_NAME = "upload"


@dataclass(frozen=True, slots=True)
class TruthCase:
    """A picture and what is on it. `values` are by field keys, as a person wrote them; None says that nothing is there.

    `filled_at` is when its form was filled; None where that is not known any more.
    """

    case_id: str
    template: FormTemplate
    language: str
    picture_name: str
    values: Mapping[str, JsonValue]
    page: int = 0
    who: str = ""
    owner: str = LOCAL_OWNER
    filled_at: datetime | None = None


def dump_case(case: TruthCase) -> bytes:
    """Return the case as a JSON document."""
    document = {
        "case_id": case.case_id,
        "template": as_document(case.template),
        "language": case.language,
        "picture_name": case.picture_name,
        "values": dict(case.values),
        "page": case.page,
        "who": case.who,
        "owner": case.owner,
        "filled_at": None if case.filled_at is None else case.filled_at.isoformat(),
    }
    return json.dumps(document).encode("ascii")


def load_case(document: bytes) -> TruthCase:
    """Return the case of a document. Raises FormError `forms.damaged`."""
    try:
        kept = json.loads(document)
        return TruthCase(
            case_id=str(kept["case_id"]),
            template=template_from(kept["template"]),
            language=str(kept["language"]),
            picture_name=str(kept["picture_name"]),
            values=dict(kept["values"]),
            page=int(kept["page"]),
            who=str(kept["who"]),
            owner=str(kept["owner"]),
            filled_at=datetime.fromisoformat(told) if (told := kept.get("filled_at")) else None,
        )
    except (ValueError, KeyError, TypeError, RecursionError, FormError) as error:
        raise FormError("forms.damaged") from error
