"""Model folders: find them, say what is in them, refuse the damaged ones, and choose the best that fits.

Knows files in the Hugging Face layout: configs, safetensors headers, indexes. Does not know torch: nothing here loads a
weight or runs a line of code that came with a model (`auto_map` is never followed).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_vl_app.engine.contents import check_contents
from qwen_vl_app.engine.families import Family, Shape, family_of, shape_of
from qwen_vl_app.errors import ModelFolderError, Reason

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
ADAPTER_NAME = "adapter_config.json"
MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".gguf"})
"""By these a folder without a config is known as somebody's model, which is then told and not passed over."""
POINTER_HEAD = b"version "
"""How a file begins that git left in place of a large one: `version https://git-lfs...`. No weights begin so."""
DEMO_MARK = "demo.json"
"""A folder with a file of this name holds the small model that ships with the app."""
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""
MAX_JSON_BYTES = 64_000_000
FIXED_COST_BYTES = 256 * 2**20
"""What a loaded model needs beside its weights, at the least."""
DTYPE_NAMES = {"F32": "fp32", "BF16": "bf16", "F16": "fp16", "F64": "fp64"}


_THINKS = re.compile(r"assistant(?:\\n|\n)<think>(?:\\n|\n)?['\"]")
"""In a chat template: an answer begins within the model's own thoughts, which it writes down before what was asked for."""
BYTES_OF_TYPE = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
"""The number formats that weights may be stored in. Others were made for another program, with scales that it alone knows."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that holds a model, whole or not. `problem` says why it cannot be used, None where it can."""

    name: str
    path: Path = field(repr=False)
    family: Family | None = None
    shape: Shape | None = None
    parameters: int = 0
    vision_parameters: int = 0
    """Those of the vision tower, which are among the others."""
    weight_bytes: int = 0
    dtype: str = ""
    is_demo: bool = False
    problem: Reason | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    weight_files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def is_complete(self) -> bool:
        """True where it can be loaded."""
        return self.problem is None

    @property
    def needed_bytes(self) -> int:
        """Memory for the weights as they are on disk, and a little to work with."""
        return int(self.weight_bytes * 1.1) + (0 if self.is_demo else FIXED_COST_BYTES)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The folder that was chosen, and why."""

    folder: ModelFolder
    reason: Reason


def list_models(models_dir: Path) -> tuple[ModelFolder, ...]:
    """Return the model folders under `models_dir` by name; damaged ones with their problem. A missing folder is empty."""
    try:
        entries = sorted(entry for entry in models_dir.iterdir() if not entry.name.startswith(".") and _is_place(entry))
    except OSError:
        return ()
    return tuple(inspect_folder(entry) for entry in entries if _looks_like_model(entry))


def _is_place(entry: Path) -> bool:
    """Return whether an entry is a folder, or was one: a link whose disk is not there."""
    return entry.is_dir() or (entry.is_symlink() and not entry.exists())


def _looks_like_model(folder: Path) -> bool:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:  # whatever is in it, somebody put it among the models
        return True
    if CONFIG_NAME in names or ADAPTER_NAME in names:
        return True
    return any(Path(name).suffix.lower() in MODEL_SUFFIXES for name in names) or _inner_model(folder) is not None


def _inner_model(folder: Path) -> Path | None:
    """Return the folder within that holds a model, as an unpacked archive or a download's own store has it; None without."""
    configs = (config for depth in ("*", "*/*") for config in sorted(folder.glob(f"{depth}/{CONFIG_NAME}")))
    return next((config.parent for config in configs), None)


def inspect_folder(folder: Path) -> ModelFolder:
    """Return what `folder` holds, read from its config and the headers of its weights. Never raises: see `problem`."""
    name = folder.name
    try:
        return _inspect(folder)
    except ModelFolderError as error:
        problem = error.reason
    except OSError:  # a folder within it that this account may not read, a disk that fails
        problem = Reason("engine.folder.unreadable", model=name)
    return ModelFolder(name, folder, is_demo=_is_demo(folder), problem=problem)


def _is_demo(folder: Path) -> bool:
    try:
        return (folder / DEMO_MARK).is_file()
    except OSError:
        return False


def _inspect(folder: Path) -> ModelFolder:
    name = folder.name
    if not folder.is_dir():
        raise ModelFolderError(
            "engine.folder.lost_link" if folder.is_symlink() else "engine.folder.missing", model=name
        )
    _require_own_config(folder)
    config = read_json(folder / CONFIG_NAME, model=name)
    family = family_of(config)
    if family is None:
        raise ModelFolderError(
            "engine.folder.unknown_family", model=name, model_type=str(config.get("model_type", ""))[:40]
        )
    try:
        shape = shape_of(config)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ModelFolderError("engine.folder.bad_config", model=name) from error
    if config.get("quantization_config"):
        raise ModelFolderError("engine.folder.quantised", model=name)
    files = _weight_files(folder)
    check_contents(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelFolderError("engine.folder.no_tokenizer", model=name)
    if _THINKS.search(chat_template_of(folder) or ""):
        raise ModelFolderError("engine.folder.thinks", model=name)
    parameters = vision_parameters = weight_bytes = 0
    dtypes: dict[str, int] = {}
    headers = {file.name: read_safetensors_header(file, model=name) for file in files}
    _check_index(folder, headers)
    _check_layers(name, headers, "layers", promised=shape.layers)
    _check_layers(name, headers, "blocks", promised=shape.vision_depth)
    for file_name, header in headers.items():
        for tensor, entry in header.items():
            count = math.prod(entry["shape"])
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            if entry["dtype"] not in BYTES_OF_TYPE:
                dtype = entry["dtype"][:20]
                raise ModelFolderError("engine.folder.wrong_type", model=name, tensor=tensor[:80], dtype=dtype)
            if size != count * BYTES_OF_TYPE[entry["dtype"]]:
                raise ModelFolderError("engine.folder.bad_file", model=name, file=file_name)
            parameters += count
            vision_parameters += count if ".visual." in f".{tensor}" else 0
            weight_bytes += size
            dtypes[entry["dtype"]] = dtypes.get(entry["dtype"], 0) + count
    main = max(dtypes, key=lambda dtype: dtypes[dtype], default="")
    return ModelFolder(
        name=name,
        path=folder,
        family=family,
        shape=shape,
        parameters=parameters,
        vision_parameters=vision_parameters,
        weight_bytes=weight_bytes,
        dtype=DTYPE_NAMES.get(main, main.lower()),
        is_demo=_is_demo(folder),
        config=config,
        weight_files=files,
    )


def _require_own_config(folder: Path) -> None:
    """Raise ModelFolderError where a folder holds no model of its own, and say what it holds instead."""
    if (folder / ADAPTER_NAME).is_file():  # also beside a whole model, which would answer without it
        raise ModelFolderError("engine.folder.adapter", model=folder.name)
    if (folder / CONFIG_NAME).exists():
        return
    if any(folder.glob("*.gguf")):
        raise ModelFolderError("engine.folder.gguf", model=folder.name)
    inner = _inner_model(folder)
    if inner is not None:
        raise ModelFolderError("engine.folder.nested", model=folder.name, inner=inner.relative_to(folder).as_posix())


def _check_index(folder: Path, headers: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare the index with what the shards hold: a tensor that is promised and not there was lost on the way."""
    index = folder / INDEX_NAME
    if not index.is_file():
        return
    promised = read_json(index, model=folder.name)["weight_map"]
    lost = sorted(name for name, shard in promised.items() if name not in headers[str(shard)])
    if lost:
        raise ModelFolderError("engine.folder.missing_tensors", model=folder.name, tensor=lost[0][:80], count=len(lost))


def _check_layers(model: str, headers: Mapping[str, Mapping[str, Any]], word: str, *, promised: int) -> None:
    """Compare the layers that the config promises with those that there are weights of, before anything is built of them.

    A config that promises a thousand million would else be built until the memory is full.
    """
    pattern = re.compile(rf"\b{word}\.(\d{{1,9}})\.")
    named = (int(found[1]) for header in headers.values() for name in header if (found := pattern.search(name)))
    there = {number for number in named if number < promised}
    if len(there) < promised:
        first = next(number for number in range(promised) if number not in there)
        missing = promised - len(there)
        raise ModelFolderError("engine.folder.missing_tensors", model=model, tensor=f"{word}.{first}", count=missing)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / INDEX_NAME
    if index.is_file():
        weight_map = read_json(index, model=folder.name).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=INDEX_NAME)
        names = sorted({str(value) for value in weight_map.values()})
        # A shard's name comes from a file that anybody may have written: it names a neighbour or nothing.
        if any(Path(shard).name != shard for shard in names):
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=INDEX_NAME)
        missing = [shard for shard in names if not (folder / shard).is_file()]
        if missing:
            raise ModelFolderError(
                "engine.folder.missing_shards",
                model=folder.name,
                file=missing[0],
                missing=len(missing),
                total=len(names),
            )
        return tuple(folder / shard for shard in names)
    if (folder / SINGLE_NAME).is_file():
        return (folder / SINGLE_NAME,)
    if any(folder.glob("*.bin")):
        raise ModelFolderError("engine.folder.only_bin", model=folder.name)
    if any(folder.glob("*.gguf")):
        raise ModelFolderError("engine.folder.gguf", model=folder.name)
    raise ModelFolderError("engine.folder.no_weights", model=folder.name)


def chat_template_of(folder: Path) -> str | None:
    """Return the text of a folder's chat template, None where it brings none. Raises ModelFolderError for a damaged file."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except PermissionError as error:
            raise ModelFolderError("engine.folder.unreadable", model=folder.name) from error
        except (OSError, ValueError) as error:
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=jinja.name) from error
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            template: Any = read_json(folder / name, model=folder.name).get("chat_template")
            if isinstance(template, str):
                return template
    return None


def read_json(file: Path, *, model: str) -> dict[str, Any]:
    """Return a JSON object from a model's folder. Raises ModelFolderError where it is missing, too large or malformed."""
    try:
        # Of a pipe or a device the size is 0, and reading it has no end.
        if file.stat().st_size > MAX_JSON_BYTES or not file.is_file():
            raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name)
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ModelFolderError("engine.folder.missing_file", model=model, file=file.name) from error
    except PermissionError as error:
        raise ModelFolderError("engine.folder.unreadable", model=model) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name) from error
    if not isinstance(value, dict):
        raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name)
    return value


def read_safetensors_header(file: Path, *, model: str) -> dict[str, dict[str, Any]]:
    """Return name to `{dtype, shape, data_offsets}`, having checked that the file is as long as its header says.

    Raises ModelFolderError: a shard cut short by a broken copy would otherwise only be noticed, or not, in the middle of
    loading.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(8)
            if head == POINTER_HEAD:
                raise ModelFolderError("engine.folder.pointer", model=model, file=file.name)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= MAX_HEADER_BYTES or 8 + length > size:
                raise ModelFolderError("engine.folder.truncated", model=model, file=file.name)
            entries = json.loads(stream.read(length))
        entries.pop("__metadata__", None)
        end = 0
        for entry in entries.values():
            start, stop = entry["data_offsets"]
            is_shape = isinstance(entry["shape"], list) and all(
                type(side) is int and side >= 0 for side in entry["shape"]
            )
            if not 0 <= start <= stop or not isinstance(entry["dtype"], str) or not is_shape:
                raise ValueError("offsets")
            end = max(end, stop)
    except PermissionError as error:
        raise ModelFolderError("engine.folder.unreadable", model=model) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFolderError("engine.folder.bad_file", model=model, file=file.name) from error
    if 8 + length + end != size:
        raise ModelFolderError("engine.folder.truncated", model=model, file=file.name)
    return dict(entries)


def fingerprint(folder: ModelFolder) -> str:
    """Return a SHA-256 that changes when the model does, from its texts and the headers and sizes of its weights.

    A flipped byte within a weight is not noticed: that takes a hash over everything, which is made on request.
    """
    digest = hashlib.sha256()
    texts = (
        *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.json", "chat_template.jinja"),
    )
    for name in texts:
        file = folder.path / name
        if file.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    for file in folder.weight_files:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            digest.update(f"{file.name}\0{size}\0".encode() + hashlib.sha256(stream.read(length)).digest())
    return digest.hexdigest()


def choose_model(folders: Iterable[ModelFolder], memory_bytes: int, *, wanted: str = "") -> ModelChoice:
    """Return the model to load and why.

    `wanted` is a folder's name or a path and is taken as it is. Otherwise the largest real model that fits into
    `memory_bytes`, and the demo model only where there is no such. Raises ModelFolderError with the next step in its code.
    """
    known = tuple(folders)
    if wanted:
        return _choose_wanted(known, wanted)
    usable = [folder for folder in known if folder.is_complete]
    if not usable:
        if known and known[0].problem is not None:
            raise ModelFolderError(known[0].problem.code, **known[0].problem.facts)
        raise ModelFolderError("engine.model.none")
    real = [folder for folder in usable if not folder.is_demo]
    fitting = [folder for folder in real if folder.needed_bytes <= memory_bytes]
    if fitting:
        best = max(fitting, key=lambda folder: (folder.parameters, folder.name))
        code = "engine.choice.model.only" if len(real) == 1 else "engine.choice.model.largest_fitting"
        return ModelChoice(best, Reason(code, model=best.name, count=len(real)))
    demos = [folder for folder in usable if folder.is_demo]
    if demos and real:
        return ModelChoice(
            demos[0],
            Reason("engine.choice.model.demo_fits", model=demos[0].name, free=memory_bytes, needed=_least(real)),
        )
    if demos:
        return ModelChoice(demos[0], Reason("engine.choice.model.demo_alone", model=demos[0].name))
    raise ModelFolderError("engine.model.none_fits", free=memory_bytes, needed=_least(real))


def _least(folders: list[ModelFolder]) -> int:
    return min(folder.needed_bytes for folder in folders)


def path_of(wanted: str) -> Path:
    """Return the path that somebody typed, a leading `~` spelt out; as typed, and so not found, where nobody is called so."""
    try:
        return Path(wanted).expanduser()
    except RuntimeError:
        return Path(wanted)


def _is_model_at(path: Path) -> bool:
    try:
        return path.is_dir() and _looks_like_model(path)
    except OSError:  # behind a folder that this account may not enter
        return True


def _choose_wanted(known: tuple[ModelFolder, ...], wanted: str) -> ModelChoice:
    by_name = {folder.name.lower(): folder for folder in known}
    found = by_name.get(wanted.lower())
    if found is None and _is_model_at(path_of(wanted)):
        found = inspect_folder(path_of(wanted).resolve())
    if found is None:
        name = Path(wanted).name
        near = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.4)
        if near:
            raise ModelFolderError("engine.model.not_found_near", model=name, near=by_name[near[0]].name)
        raise ModelFolderError("engine.model.not_found", model=name)
    if found.problem is not None:
        raise ModelFolderError(found.problem.code, **found.problem.facts)
    return ModelChoice(found, Reason("engine.choice.model.wanted", model=found.name))
