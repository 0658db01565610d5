"""From a model's text to structure: data, boxes, tables, code, and files to take away. Never raises on any text.

Does not know pictures, models or pages.
"""

from qwen_vl_app.answers.code import CodeBlock, code_blocks
from qwen_vl_app.answers.confidence import ValueScore, value_scores
from qwen_vl_app.answers.exports import regions_to_json, to_csv
from qwen_vl_app.answers.json_text import Path
from qwen_vl_app.answers.links import without_remote_links
from qwen_vl_app.answers.parse import parse_answer
from qwen_vl_app.answers.schemas import canonical_schema, nullable_schema
from qwen_vl_app.answers.tables import table_from_json

__all__ = [
    "CodeBlock",
    "Path",
    "ValueScore",
    "canonical_schema",
    "code_blocks",
    "nullable_schema",
    "parse_answer",
    "regions_to_json",
    "table_from_json",
    "to_csv",
    "value_scores",
    "without_remote_links",
]
