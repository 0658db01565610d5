"""What this machine offers the app and what is wrong with it: one finding after the other, each with a verdict.

Knows Python, installed packages, memory, folders and ports by itself; torch and models through a `Probe` that it is given.
"""

from qwen_vl_app.doctor.accelerator import torch_findings, torch_problem
from qwen_vl_app.doctor.browsers import find_browser
from qwen_vl_app.doctor.examination import examine
from qwen_vl_app.doctor.finding import Finding, Verdict
from qwen_vl_app.doctor.machine import (
    Memory,
    clock_finding,
    data_folder_findings,
    fonts_finding,
    measure_memory,
    memory_finding,
    packages_finding,
    python_finding,
)
from qwen_vl_app.doctor.models import (
    KnownQuestion,
    choice_findings,
    fit_findings,
    known_question,
    model_findings,
    running_finding,
)
from qwen_vl_app.doctor.network import APP_HEADER, browser_finding, offline_finding, port_finding
from qwen_vl_app.doctor.pictures import confinement_finding, decoder_finding
from qwen_vl_app.doctor.probe import Accelerator, Fit, Probe, RunningApp, TorchFacts
from qwen_vl_app.doctor.self_test import check_finding, examine_answers, run_known_answers
from qwen_vl_app.doctor.ticket import write_ticket
from qwen_vl_app.engine.driver import Driver

__all__ = [
    "APP_HEADER",
    "Accelerator",
    "Driver",
    "Finding",
    "Fit",
    "KnownQuestion",
    "Memory",
    "Probe",
    "RunningApp",
    "TorchFacts",
    "Verdict",
    "browser_finding",
    "check_finding",
    "choice_findings",
    "clock_finding",
    "confinement_finding",
    "data_folder_findings",
    "decoder_finding",
    "examine",
    "examine_answers",
    "find_browser",
    "fit_findings",
    "fonts_finding",
    "known_question",
    "measure_memory",
    "memory_finding",
    "model_findings",
    "offline_finding",
    "packages_finding",
    "port_finding",
    "python_finding",
    "run_known_answers",
    "running_finding",
    "torch_findings",
    "torch_problem",
    "write_ticket",
]
