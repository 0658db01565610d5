"""Settings: defaults, then `config.toml`, then the environment, then the command line.

The only reader of the environment (with `offline`, which writes to it). Knows names and values; does not know what they
switch. A misspelt key or `QWEN_VL_*` variable is an error that names the near one, never silence.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from qwen_vl_app.chat import Detail
from qwen_vl_app.errors import SettingsError

ENVIRONMENT_PREFIX = "QWEN_VL_"
ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds `app.py`."""
ADDRESS = "127.0.0.1"
"""Where the app listens. It is no setting: the commands, the doctor and the start script look for the app there."""
LOOPBACK_HOSTS = (ADDRESS, "localhost", "::1")
"""The names that a request may have asked for."""
MOST_PORT = 65535
MODEL_ALIASES = (
    "qwen-vl",
    "qwen2.5-vl",
    "qwen2.5-vl-7b",
    "qwen2.5-vl-7b-instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen2.5vl",
    "qwen2.5vl:7b",
)
"""The names that clients of earlier systems have in their settings."""
_FORMER_HOST = "host"
"""A setting of earlier versions. Files that say with it what holds anyway stay good."""
_LOOPBACK_ADDRESS = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})(/[\w./-]*)?")
_TOML_LINE = re.compile(r"\(at line ([0-9]+)")
"""Where tomllib says what it stumbled over."""
_CONTROL_SIGN = re.compile(r"[\x00-\x1f\x7f]")
_UNSEEN = "unseen"
"""The kind of a refusal for a sign that cannot be seen."""
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


class Settings(BaseModel):
    """Everything a site may set. Frozen; sizes in the unit that the name says."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = ""
    """Name of a folder under `models_dir`, or a path; empty lets the app choose the best that fits."""
    models_dir: Path = ROOT / "models"
    data_dir: Path = ROOT / "data"
    port: int = Field(default=8501, ge=1, le=MOST_PORT)
    language: Literal["auto", "en", "zh"] = "auto"

    exit_on_driver_loss: bool = False
    """Whether the app ends with status 75 when the graphics driver has fallen over: for who starts it again, as run.py does."""
    switch_models: bool = True
    """Whether people may change the model on the page while the app runs, for everybody who uses it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8", "fp8", "nf4"] = "auto"
    attention: Literal["auto", "flash_attn", "varlen", "batched_windows", "sdpa"] = "auto"
    decode: Literal["auto", "graph", "compiled", "plain"] = "auto"
    """How the steps of an answer, and short follow-up questions, are run on a graphics card."""
    decode_batch: int = Field(default=1, ge=1, le=8)
    """Answers that the model makes at a time, sharing each reading of its weights."""
    run_batch: int = Field(default=0, ge=0, le=8)
    """Answers that a run over a folder has made at a time; 0 takes as many as were measured to gain."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads for the model; 0 takes the physical cores this process may use."""
    detail: Detail | Literal["auto"] = "auto"
    max_new_tokens: int = Field(default=1024, ge=1, le=32768)
    memory_reserve_mb: int = Field(default=1024, ge=0)
    """Memory of the device left to everything else."""

    max_upload_mb: int = Field(default=64, ge=1, le=2048)
    max_picture_megapixels: int = Field(default=100, ge=1, le=1000)
    max_clip_mb: int = Field(default=256, ge=1, le=2048)
    max_clip_minutes: int = Field(default=20, ge=1, le=240)
    """Longer clips are refused; of a long one few frames are seen."""
    decode_timeout_s: float = Field(default=5.0, gt=0, le=120)
    """Processor seconds for opening a picture, and again for making its renditions; the clock on the wall ends at four times.
    A clip may take twelve times as long."""
    max_pictures: int = Field(default=8, ge=1, le=64)
    """Pictures in one question."""

    keep: Literal["until_erased", "days", "nothing", "records"] = "until_erased"
    """How long questions and answers are kept; "nothing" keeps them in memory alone, "records" refuses to erase."""
    keep_days: int = Field(default=30, ge=1, le=36500)
    """For `keep = "days"`."""
    cache_answers: bool = True
    """Whether the very same question is answered from what is kept."""
    cache_days: int = Field(default=0, ge=0, le=36500)
    """How old such an answer may be; 0 sets no limit."""
    cache_task_days: Mapping[str, Annotated[int, Field(ge=0, le=36500)]] = Field(default_factory=dict)
    """The same for ready-made tasks by their names, in place of `cache_days`."""
    cache_mb: int = Field(default=64, ge=1, le=4096)

    batch_folders: tuple[Path, ...] = ()
    """The only folders of this machine that runs of the page may go over; empty allows any where `public_origins` is
    empty, too, since then whoever sees the page sits at this machine, and none otherwise."""

    queue_limit: int = Field(default=32, ge=1)
    queue_limit_per_owner: int = Field(default=8, ge=1)

    remote_address: str = ""
    """An OpenAI-compatible server on loopback that answers instead of a model of the app's own; empty for none."""
    remote_model: str = ""
    """Its model's name there; empty takes its first."""
    remote_key: str = Field(default="", repr=False)
    remote_family: Literal["auto", "qwen2_5_vl", "qwen3_vl"] = "auto"
    """What its boxes mean; `auto` reads it from the model's name."""
    remote_lanes: int = Field(default=4, ge=1, le=64)
    """How many questions it is asked at a time."""

    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    """Keys for programs, one for each; empty lets every program on this machine in. At least 16 characters each."""
    public_origins: tuple[str, ...] = ()
    """Addresses under which a reverse proxy on this machine offers the app, such as `https://vision.site.example`."""
    api_max_body_mb: int = Field(default=96, ge=1, le=4096)
    """The largest request; pictures in JSON are a third larger than their files."""
    api_file_folder: Path | Literal[""] = ""
    """The only folder that `file:` addresses in requests may name; empty refuses them all."""
    model_aliases: tuple[str, ...] = MODEL_ALIASES
    """Names under which programs may ask for the one loaded model, whichever it is."""

    @property
    def largest_upload_bytes(self) -> int:
        """The most that any file may have, before it is known what it is."""
        return max(self.max_upload_mb, self.max_clip_mb) * 2**20

    @field_validator("remote_address")
    @classmethod
    def _is_on_loopback(cls, address: str) -> str:
        found = _LOOPBACK_ADDRESS.fullmatch(address)
        if address and (found is None or not 1 <= int(found[2]) <= MOST_PORT):
            raise ValueError("loopback only, at a port that there is")
        return address

    @field_validator("remote_key")
    @classmethod
    def _fits_a_header(cls, key: str) -> str:
        if not key.isascii():
            raise ValueError("ASCII only")
        return key

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_yes(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` for a number, which would count as 1."""
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("a switch, where none is")
        return value

    @field_validator("*")
    @classmethod
    def _can_be_seen(cls, value: object) -> object:
        """Refuse line breaks and their like: in double quotation marks, the `\\n` of `D:\\new` is one."""
        texts = value if isinstance(value, tuple) else (value,)
        if any(_CONTROL_SIGN.search(str(text)) for text in texts):
            raise PydanticCustomError(_UNSEEN, "a sign that cannot be seen")
        return value

    @field_validator("api_keys", "public_origins", "model_aliases", "batch_folders", mode="before")
    @classmethod
    def _from_commas(cls, value: object) -> object:
        """Take `a, b` from the environment for what is a list in the file, or the list as it stands there."""
        if not isinstance(value, str):
            return value
        if value.strip().startswith("["):
            return _as_in_the_file(value)
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("cache_task_days", mode="before")
    @classmethod
    def _from_pairs(cls, value: object) -> object:
        """Take `describe=7, table=0` from the environment for what is a table in the file."""
        if not isinstance(value, str):
            return value
        if value.strip().startswith("{"):
            return _as_in_the_file(value)
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): days.strip() for name, _, days in pairs}

    @field_validator("api_keys")
    @classmethod
    def _are_long(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key for key in keys):
            raise ValueError("at least 16 characters, ASCII, no spaces")
        return keys

    @field_validator("public_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not all(_ORIGIN.fullmatch(origin.lower()) for origin in origins):
            raise ValueError("scheme, host and port only")
        if origins and not info.data.get("api_keys"):
            raise ValueError("api_keys must be set first")
        return tuple(origin.lower() for origin in origins)

    @field_validator("batch_folders")
    @classmethod
    def _are_absolute(cls, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        expanded = [_at_home(folder) for folder in folders]
        if not all(folder.is_absolute() for folder in expanded):
            raise ValueError("whole paths only")
        return tuple(expanded)

    @field_validator("models_dir", "data_dir", mode="before")
    @classmethod
    def _is_named(cls, folder: object) -> object:
        if isinstance(folder, str) and not folder.strip():
            raise ValueError("a folder, not nothing")  # an empty path means the app's own folder, which nobody meant
        return folder

    @field_validator("models_dir", "data_dir", "api_file_folder")
    @classmethod
    def _is_absolute(cls, folder: Path | Literal[""]) -> Path | Literal[""]:
        if folder == "":
            return ""
        return ROOT / _at_home(folder)


def _at_home(folder: Path) -> Path:
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise ValueError("nobody of this name has a home here") from error


def with_home(path: Path) -> Path:
    """Return a path with a leading `~` spelt out; as it stands, and so not found, where nobody of that name has a home here."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of this machine.

    `overrides` come from the command line; None values in it mean "not given". `file` defaults to `config.toml` beside
    `app.py` and may be absent. Raises SettingsError, naming the key, where it came from, and what is near it.
    """
    file = file or ROOT / "config.toml"
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in (
        (file.name, _read_file(file)),
        ("environment", _read_environment(os.environ if environment is None else environment)),
        ("command line", {key: value for key, value in (overrides or {}).items() if value is not None}),
    ):
        for key, value in values.items():
            if key == _FORMER_HOST:
                if value not in (ADDRESS, "localhost"):
                    raise SettingsError("settings.host", key=_shown(key, source), source=source)
                continue
            if key not in Settings.model_fields:
                raise _unknown_key(key, source)
            given[key], origin[key] = value, source
    if "keep_days" in given and "keep" not in given:  # whoever sets it believes that something is erased
        source = origin["keep_days"]
        raise SettingsError(
            "settings.keep_days_alone",
            key=_shown("keep_days", source),
            other=_shown("keep", source),
            source=source,
        )
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        code, takes = ("settings.unseen", {}) if first["type"] == _UNSEEN else _what_it_takes(key)
        source = origin.get(key, "")
        raise SettingsError(code, key=_shown(key, source), source=source, **takes) from error


def pass_on(overrides: Mapping[str, Any]) -> None:
    """Write a command line's settings into the environment, for the app that this process is about to start."""
    for key, value in overrides.items():
        if value is not None:
            os.environ[f"{ENVIRONMENT_PREFIX}{key.upper()}"] = str(value)


def environment_for(settings: Settings, **changes: Any) -> dict[str, str]:
    """Return this process's environment with what an app of these settings, and of some changes, has to be told."""
    told = {"model": settings.model, "models_dir": settings.models_dir, "device": settings.device}
    told |= {"precision": settings.precision, "language": settings.language, **changes}
    return dict(os.environ) | {f"{ENVIRONMENT_PREFIX}{key.upper()}": str(value) for key, value in told.items()}


def program_folders() -> tuple[Path, ...]:
    """Return the folders that Windows keeps programs in, this account's own first; none on other systems."""
    names = ("LOCALAPPDATA", "ProgramW6432", "ProgramFiles", "ProgramFiles(x86)")
    told = dict.fromkeys(os.environ[name] for name in names if os.environ.get(name))
    return tuple(Path(folder) for folder in told)


def configured_port() -> int:
    """Return the port that the settings name; the default where they cannot be read, since the page then says why."""
    try:
        return load_settings().port
    except SettingsError:
        return Settings().port


def _read_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("settings.unreadable", file=file.name) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(file.name, text, str(error)) from error


def _not_toml(name: str, text: str, message: str) -> SettingsError:
    """Return what to say of a file that tomllib does not read: the line, and what is most often wrong in such a one."""
    lines = text.splitlines()
    found = _TOML_LINE.search(message)
    line = int(found[1]) if found else max(len(lines), 1)
    if message.startswith(("Cannot overwrite", "Cannot declare")):
        return SettingsError("settings.named_twice", file=name, line=line)
    if "\\" in "".join(lines[line - 1 : line]):
        return SettingsError("settings.backslash", file=name, line=line)
    return SettingsError("settings.not_toml", file=name, line=line)


def _what_it_takes(key: str) -> tuple[str, dict[str, str | int | float]]:
    """Return the code and facts of the sentence about a value that a setting cannot have: it says which ones it can."""
    described = Settings.model_json_schema()
    wanted = described["properties"].get(key, {})
    choices = [
        str(choice)
        for part in wanted.get("anyOf", [wanted])
        for taken in [described["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part]
        for choice in taken.get("enum", [taken["const"]] if taken.get("const") else [])
    ]
    if choices:
        return "settings.bad_choice", {"choices": ", ".join(choices)}
    match wanted:
        case {"type": "boolean"}:
            return "settings.bad_switch", {}
        case {"type": "integer", "minimum": least, "maximum": most}:
            return "settings.bad_number", {"least": least, "most": most}
        case {"type": "integer", "minimum": least}:
            return "settings.bad_least", {"least": least}
        case {"type": "number", "maximum": most}:
            return "settings.bad_positive", {"most": most}
    return "settings.bad_value", {}


def _as_in_the_file(value: str) -> object:
    """Read a value of the environment that is written as the file has it. Raises ValueError."""
    return tomllib.loads(f"value = {value.strip()}")["value"]


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        name.upper().removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.upper().startswith(ENVIRONMENT_PREFIX)
    }


def _unknown_key(key: str, source: str) -> SettingsError:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
    if near:
        return SettingsError(
            "settings.unknown_key_near", key=_shown(key, source), near=_shown(near[0], source), source=source
        )
    return SettingsError("settings.unknown_key", key=_shown(key, source), source=source)


def _shown(key: str, source: str) -> str:
    """Return a setting's name as a person types it there."""
    match source:
        case "environment":
            return f"{ENVIRONMENT_PREFIX}{key.upper()}"
        case "command line":
            return f"--{key.replace('_', '-')}"
    return key
