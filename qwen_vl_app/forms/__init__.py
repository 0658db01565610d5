"""Forms: the same fields from many pictures, each value with its evidence, until a person has decided.

Stands in the hub above the assistant, whom it asks like everybody else. Does not know pages, models, or how a picture is
decoded.
"""

from qwen_vl_app.forms.acceptance import (
    AcceptanceReport,
    Change,
    Configuration,
    FieldMark,
    FieldResult,
    Verdict,
)
from qwen_vl_app.forms.desk import Erased, FormDesk, desk_of, named_values
from qwen_vl_app.forms.erasing import FORMS_NAME, form_erasing
from qwen_vl_app.forms.exports import FormExport, export_forms, forms_csv, forms_json
from qwen_vl_app.forms.fields import Checksum, Choice, FieldType, FormField, Looking, Names
from qwen_vl_app.forms.filled import Decision, DecisionKind, FieldReading, FilledForm, LookOutcome, SecondLook
from qwen_vl_app.forms.filling import Filling, FillPlan, FormFiller, LookAt, dump_fill_plan, load_fill_plan
from qwen_vl_app.forms.judging import FieldState, JudgedField, JudgedForm, judge
from qwen_vl_app.forms.prompt import form_question
from qwen_vl_app.forms.template import FormRule, FormTemplate, RuleKind, dump_template, load_template
from qwen_vl_app.forms.truth import TruthCase
from qwen_vl_app.forms.values import FieldValue, value_of

__all__ = [
    "FORMS_NAME",
    "AcceptanceReport",
    "Change",
    "Checksum",
    "Choice",
    "Configuration",
    "Decision",
    "DecisionKind",
    "Erased",
    "FieldMark",
    "FieldReading",
    "FieldResult",
    "FieldState",
    "FieldType",
    "FieldValue",
    "FillPlan",
    "FilledForm",
    "Filling",
    "FormDesk",
    "FormExport",
    "FormField",
    "FormFiller",
    "FormRule",
    "FormTemplate",
    "JudgedField",
    "JudgedForm",
    "LookAt",
    "LookOutcome",
    "Looking",
    "Names",
    "RuleKind",
    "SecondLook",
    "TruthCase",
    "Verdict",
    "desk_of",
    "dump_fill_plan",
    "dump_template",
    "export_forms",
    "form_erasing",
    "form_question",
    "forms_csv",
    "forms_json",
    "judge",
    "load_fill_plan",
    "load_template",
    "named_values",
    "value_of",
]
