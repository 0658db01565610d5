"""What the commands are made with: settings and an assistant, the real ones or a test's.

Knows bootstrap. Does not know commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_vl_app import bootstrap
from qwen_vl_app.assistant import Assistant
from qwen_vl_app.config import Settings, load_settings
from qwen_vl_app.doctor import Probe
from qwen_vl_app.records import Records


@dataclass(frozen=True, slots=True)
class Parts:
    """How a command comes by its settings (`file` None is `config.toml` beside the app) and its assistant."""

    build_assistant: Callable[[Settings], Assistant] = bootstrap.build_command_assistant
    build_records: Callable[[Settings], Records] = bootstrap.build_records
    build_records_beside: Callable[[Settings], Records] = bootstrap.build_records_beside
    probe: Callable[[Settings], Probe] = bootstrap.probe
    bench: Callable[..., Mapping[str, Any]] = bootstrap.bench
    settings_file: Path | None = None
    environment: Mapping[str, str] | None = None

    def settings(self, overrides: Mapping[str, Any]) -> Settings:
        """Return the settings with a command's flags over them. Raises SettingsError."""
        return load_settings(overrides, file=self.settings_file, environment=self.environment)
