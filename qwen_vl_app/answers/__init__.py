"""From a model's text to structure: data, boxes, tables, code, and files to take away. Never raises on any text.

Does not know pictures, models or pages.
"""

from qwen_vl_app.answers.checks import checks
from qwen_vl_app.answers.coco import to_coco
from qwen_vl_app.answers.code import PAGES, CodeBlock, code_blocks, ending_of, page_of, parts_of
from qwen_vl_app.answers.confidence import ValueScore, confidence_of, sureness, value_scores
from qwen_vl_app.answers.exports import (
    names_beside,
    regions_as_answer,
    regions_to_json,
    to_csv,
    to_fields,
    to_markdown,
    to_records,
    unique_names,
)
from qwen_vl_app.answers.joined_lines import JoinedAnswer
from qwen_vl_app.answers.joining import joined_answers, say_more_than_places, says_something
from qwen_vl_app.answers.json_blocks import data_stretches, without_data
from qwen_vl_app.answers.json_text import Path
from qwen_vl_app.answers.links import without_remote_links
from qwen_vl_app.answers.parse import parse_answer
from qwen_vl_app.answers.placed import Move
from qwen_vl_app.answers.places import Place, PlacedPicture, PlaceSource, places_of, places_table
from qwen_vl_app.answers.schemas import canonical_schema, is_schema, nullable_schema, with_absent
from qwen_vl_app.answers.tables import AnswerTable, says_values, table_from_json, tables_in, values_of, without_tables
from qwen_vl_app.answers.workbook import to_xlsx

__all__ = [
    "PAGES",
    "AnswerTable",
    "CodeBlock",
    "JoinedAnswer",
    "Move",
    "Path",
    "Place",
    "PlaceSource",
    "PlacedPicture",
    "ValueScore",
    "canonical_schema",
    "checks",
    "code_blocks",
    "confidence_of",
    "data_stretches",
    "ending_of",
    "is_schema",
    "joined_answers",
    "names_beside",
    "nullable_schema",
    "page_of",
    "parse_answer",
    "parts_of",
    "places_of",
    "places_table",
    "regions_as_answer",
    "regions_to_json",
    "say_more_than_places",
    "says_something",
    "says_values",
    "sureness",
    "table_from_json",
    "tables_in",
    "to_coco",
    "to_csv",
    "to_fields",
    "to_markdown",
    "to_records",
    "to_xlsx",
    "unique_names",
    "value_scores",
    "values_of",
    "with_absent",
    "without_data",
    "without_remote_links",
    "without_tables",
]
