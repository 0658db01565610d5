"""Model folders are found, read without loading a weight, and refused in a sentence when they are damaged."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from qwen_vl_app import model_files
from qwen_vl_app.chat import EngineState
from qwen_vl_app.engine import contents, folders
from qwen_vl_app.engine.folders import DEMO_MARK, ModelFolder, choose_model, fingerprint, inspect_folder, list_models
from qwen_vl_app.engine.local.engine import LocalEngine
from qwen_vl_app.engine.manifest import record_manifest
from qwen_vl_app.errors import ModelError, ModelFolderError, Reason
from tests.engine.tiny_models import make_qwen2_5_vl, make_qwen3_vl
from tests.links import make_link


@pytest.fixture
def whole(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may damage."""
    return Path(shutil.copytree(models_dir / "qwen2_5_vl", tmp_path / "models" / "tiny"))


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    file.write_text(json.dumps(value), encoding="utf-8")


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return a copy of the weights: Windows lets nobody write a file that is still mapped."""
    return load((folder / "model.safetensors").read_bytes())


def test_a_whole_folder_is_read(whole: Path) -> None:
    """Family, parameters, bytes and precision come from the config and the headers."""
    folder = inspect_folder(whole)
    tensors = tensors_of(whole)
    assert folder.problem is None
    assert folder.family is not None and folder.family.display_name == "Qwen2.5-VL"
    assert folder.parameters == sum(tensor.numel() for tensor in tensors.values())
    assert folder.weight_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert folder.dtype == "fp32"
    assert not folder.is_demo
    (whole / DEMO_MARK).write_text("{}")
    assert inspect_folder(whole).is_demo


def remove(name: str) -> Callable[[Path], None]:
    """Return a damage: this file is gone."""
    return lambda folder: (folder / name).unlink()


def truncate(folder: Path) -> None:
    """Cut the weights short by one byte."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def only_bin(folder: Path) -> None:
    """Leave only a pickled file."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def foreign_type(folder: Path) -> None:
    """Name a family the app does not know."""
    edit_json(folder / "config.json", lambda config: config.update(model_type="llava"))


def escaping_index(folder: Path) -> None:
    """Let the index name a file outside of the folder."""
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def missing_shard(folder: Path) -> None:
    """Let the index name a shard that is not there."""
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (remove("config.json"), "engine.folder.missing_file"),
        (remove("tokenizer.json"), "engine.folder.no_tokenizer"),
        (remove("model.safetensors"), "engine.folder.no_weights"),
        (truncate, "engine.folder.truncated"),
        (only_bin, "engine.folder.only_bin"),
        (foreign_type, "engine.folder.unknown_family"),
        (missing_shard, "engine.folder.missing_shards"),
        (escaping_index, "engine.folder.bad_file"),
        (lambda folder: (folder / "config.json").write_text("{"), "engine.folder.bad_file"),
        (lambda folder: (folder / "config.json").write_text("[]"), "engine.folder.bad_file"),
        (lambda folder: (folder / "config.json").write_text("[" * 100000), "engine.folder.bad_file"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "engine.folder.truncated"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "engine.folder.truncated"),
        (
            lambda folder: edit_json(folder / "config.json", lambda config: config.pop("vision_config")),
            "engine.folder.bad_config",
        ),
    ],
)
def test_damage_is_noticed_before_loading(whole: Path, damage: Callable[[Path], None], code: str) -> None:
    """Each damage has its own sentence, and a loading engine fails with it."""
    damage(whole)
    problem = inspect_folder(whole).problem
    assert problem is not None and problem.code == code
    engine = LocalEngine(whole.parent, model="tiny")
    with pytest.raises(ModelFolderError) as caught:
        engine.load()
    assert caught.value.reason == problem
    assert engine.status.state is EngineState.FAILED
    assert engine.status.error == problem


def drop_tensor(folder: Path) -> None:
    """Leave one tensor out of the weights."""
    tensors = tensors_of(folder)
    tensors.pop(min(name for name in tensors if "mlp" in name))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def cut_tensor(folder: Path) -> None:
    """Give one tensor another shape."""
    tensors = tensors_of(folder)
    name = min(name for name in tensors if "mlp" in name)
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def add_tensor(folder: Path) -> None:
    """Add a tensor that belongs to no part of the model."""
    tensors = tensors_of(folder)
    save_file({**tensors, "model.adapter.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})


def more_layers(folder: Path) -> None:
    """Let the config promise more layers than there are weights."""

    def change(config: dict[str, object]) -> None:
        text = config["text_config"]
        assert isinstance(text, dict)
        text.update(num_hidden_layers=5, layer_types=["full_attention"] * 5)

    edit_json(folder / "config.json", change)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (drop_tensor, "engine.folder.missing_tensors"),
        (cut_tensor, "engine.folder.wrong_shape"),
        (add_tensor, "engine.folder.foreign_tensor"),
        (more_layers, "engine.folder.missing_tensors"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(whole: Path, damage: Callable[[Path], None], code: str) -> None:
    """Nothing is ever filled with random numbers."""
    damage(whole)
    engine = LocalEngine(whole.parent, model="tiny", device="cpu")
    with pytest.raises(ModelFolderError) as caught:
        engine.load()
    assert caught.value.code == code
    assert engine.status.state is EngineState.FAILED


def asks_for_code(folder: Path) -> None:
    """Let a config name a class of the folder's own."""
    edit_json(
        folder / "tokenizer_config.json", lambda config: config.update(auto_map={"AutoTokenizer": ["evil.T", None]})
    )


def add(name: str) -> Callable[[Path], None]:
    """Return a damage: this file lies there as well."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"open('ran', 'w')")

    return change


def as_integers(folder: Path) -> None:
    """Store one tensor the way quantised weights are stored."""
    tensors = tensors_of(folder)
    name = min(name for name in tensors if "mlp" in name)
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def promise_more(folder: Path) -> None:
    """Let the index promise a tensor that its shard does not hold."""
    names = dict.fromkeys([*tensors_of(folder), "model.lost.weight"], "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (add("modeling_evil.py"), "engine.folder.program"),
        (add("extra/Run.EXE"), "engine.folder.program"),
        (add("training_args.bin"), "engine.folder.pickle"),
        (add("optimizer.pt"), "engine.folder.pickle"),
        (add("model-00002-of-00002.safetensors.incomplete"), "engine.folder.unfinished"),
        (asks_for_code, "engine.folder.auto_map"),
        (as_integers, "engine.folder.wrong_type"),
        (promise_more, "engine.folder.missing_tensors"),
        (
            lambda folder: edit_json(
                folder / "config.json", lambda config: config.update(quantization_config={"bits": 4})
            ),
            "engine.folder.quantised",
        ),
    ],
)
def test_what_has_no_place_in_a_model_is_refused_before_loading(
    whole: Path, damage: Callable[[Path], None], code: str
) -> None:
    """Programs, pickles, half files and foreign weights: none would be run, and none is trusted."""
    damage(whole)
    problem = inspect_folder(whole).problem
    assert problem is not None and problem.code == code


def test_a_download_s_own_notes_are_no_part_of_a_model(whole: Path) -> None:
    """Folders behind a dot are left alone, whatever is in them."""
    add(".cache/evil.py")(whole)
    assert inspect_folder(whole).problem is None


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "samples/Desktop.ini"])
def test_what_windows_leaves_in_a_folder_that_was_looked_at_is_no_part_of_a_model(whole: Path, name: str) -> None:
    """A look into the folder on the stick must not make its manifest wrong."""
    record_manifest(whole)
    add(name)(whole)
    folder = inspect_folder(whole)
    assert folder.problem is None
    assert model_files.verify(folder).problem is None


def test_a_link_to_a_folder_is_not_followed_and_one_to_nothing_is_refused(whole: Path) -> None:
    """One may lead back to where it stands; the other is what is left of a file that was not copied."""
    try:
        make_link(whole / "again", whole, is_folder=True)
    except OSError:
        pytest.skip("no links can be made here")
    assert model_files.record(inspect_folder(whole)).problem is None
    make_link(whole / "lost.json", whole / "nowhere")
    problem = inspect_folder(whole).problem
    assert problem == Reason("engine.folder.bad_file", model="tiny", file="lost.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_among_the_files_is_refused_and_never_read(whole: Path) -> None:
    """Reading one waits for ever for somebody to write."""
    os.mkfifo(whole / "pipe.json")
    assert model_files.record(inspect_folder(whole)).problem == Reason(
        "engine.folder.bad_file", model="tiny", file="pipe.json"
    )
    (whole / "config.json").unlink()
    os.mkfifo(whole / "config.json")
    problem = inspect_folder(whole).problem
    assert problem == Reason("engine.folder.bad_file", model="tiny", file="config.json")


def test_a_folder_that_cannot_be_read_is_told_beside_the_others(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One locked folder must not hide the models that are fine."""
    shutil.copytree(whole, whole.with_name("fine"))
    check = contents.check_contents

    def locked(folder: Path) -> None:
        if folder.name == "tiny":
            raise PermissionError(13, "not yours", str(folder))
        check(folder)

    monkeypatch.setattr(folders, "check_contents", locked)
    told = {folder.name: folder.problem for folder in list_models(whole.parent)}
    assert told == {"tiny": Reason("engine.folder.unreadable", model="tiny"), "fine": None}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such rights")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    whole: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator copied the model for himself alone: to copy it again would not help."""
    read = Path.open

    def refused(file: Path, *arguments: Any, **named: Any) -> Any:
        if file.name == name:
            raise PermissionError(13, "not yours", str(file))
        return read(file, *arguments, **named)

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "read_text", lambda file, **named: refused(file, **named).read())
    assert inspect_folder(whole).problem == Reason("engine.folder.unreadable", model="tiny")


def test_a_locked_folder_is_told_and_not_passed_over(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the list and by its path, at which somebody looks for the model that does not come."""

    def locked(folder: Path) -> Any:
        raise PermissionError(13, "not yours", str(folder))

    listed, stat = Path.iterdir, Path.stat
    monkeypatch.setattr(Path, "iterdir", lambda folder: locked(folder) if folder == whole else listed(folder))
    monkeypatch.setattr(Path, "stat", lambda file, **_: locked(file) if file.parent == whole else stat(file))
    problem = Reason("engine.folder.unreadable", model="tiny")
    assert [folder.problem for folder in list_models(whole.parent)] == [problem]
    monkeypatch.setattr(Path, "is_dir", locked)
    with pytest.raises(ModelFolderError) as caught:
        choose_model((), 2**40, wanted=str(whole))
    assert caught.value.reason == problem


def in_a_folder_of_its_own(inner: str) -> Callable[[Path], None]:
    """Return a way to bring a model: as an unpacked archive or a download's own store has it."""

    def change(folder: Path) -> None:
        target = folder / inner
        moved = folder.rename(folder.with_name("moved"))
        target.parent.mkdir(parents=True)
        moved.rename(target)

    return change


def as_gguf(folder: Path) -> None:
    """Leave only weights for llama.cpp."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model-q4_k_m.gguf").write_bytes(b"GGUF")


def as_adapter(folder: Path) -> None:
    """Leave only what a training of a few weights makes."""
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def as_pointer(folder: Path) -> None:
    """Leave what git does where nobody has fetched the large files."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def with_thoughts(folder: Path) -> None:
    """Bring the template of a Thinking model, in whose answers the thoughts are not set apart."""
    template = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))


@pytest.mark.parametrize(
    ("bring", "problem"),
    [
        (in_a_folder_of_its_own("Qwen"), Reason("engine.folder.nested", model="tiny", inner="Qwen")),
        (in_a_folder_of_its_own("snapshots/1a"), Reason("engine.folder.nested", model="tiny", inner="snapshots/1a")),
        (as_gguf, Reason("engine.folder.gguf", model="tiny")),
        (as_adapter, Reason("engine.folder.adapter", model="tiny")),
        (add("adapter_config.json"), Reason("engine.folder.adapter", model="tiny")),
        (as_pointer, Reason("engine.folder.pointer", model="tiny", file="model.safetensors")),
        (with_thoughts, Reason("engine.folder.thinks", model="tiny")),
    ],
)
def test_what_people_bring_in_place_of_the_model_is_told_by_its_kind(
    whole: Path, bring: Callable[[Path], None], problem: Reason
) -> None:
    """In the list and by its path: nothing that was put among the models is passed over without a word."""
    bring(whole)
    assert [folder.problem for folder in list_models(whole.parent)] == [problem]
    with pytest.raises(ModelFolderError) as caught:
        choose_model((), 2**40, wanted=str(whole))
    assert caught.value.reason == problem


def test_a_template_that_closes_the_thoughts_at_once_is_taken(whole: Path) -> None:
    """Such a model answers right away."""
    (whole / "chat_template.jinja").write_text("{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}")
    assert inspect_folder(whole).problem is None


def test_a_link_whose_disk_is_not_there_is_told(whole: Path) -> None:
    """The others stay."""
    try:
        make_link(whole.parent / "away", whole.parent / "nowhere", is_folder=True)
    except OSError:
        pytest.skip("no links can be made here")
    told = {folder.name: folder.problem for folder in list_models(whole.parent)}
    assert told == {"away": Reason("engine.folder.lost_link", model="away"), "tiny": None}


def with_shape(*sides: object) -> Callable[[Path], None]:
    """Return a damage: the header gives a tensor such a shape."""

    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        header[next(name for name in header if name != "__metadata__")]["shape"] = list(sides)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return change


@pytest.mark.parametrize("side", ["a", None, -1, 1.5, float("nan"), float("inf"), {}, True, 10**400])
def test_a_shape_that_is_none_is_a_damaged_file(whole: Path, side: object) -> None:
    """Whatever stands there, the folder is refused in a sentence and the others are listed."""
    with_shape(side)(whole)
    problem = inspect_folder(whole).problem
    assert problem == Reason("engine.folder.bad_file", model="tiny", file="model.safetensors")


@pytest.mark.parametrize(
    ("part", "key", "value", "code"),
    [
        ("text_config", "num_attention_heads", 0, "engine.folder.bad_config"),
        ("text_config", "num_hidden_layers", 10**9, "engine.folder.missing_tensors"),
        ("vision_config", "depth", 10**9, "engine.folder.missing_tensors"),
        ("vision_config", "hidden_size", [], "engine.folder.bad_config"),
        ("", "vision_config", None, "engine.folder.bad_config"),
        ("", "vision_config", "x", "engine.folder.bad_config"),
        ("text_config", "auto_map", {"AutoModel": "evil.Model"}, "engine.folder.auto_map"),
    ],
)
def test_a_config_that_lies_is_refused_before_anything_is_built_of_it(
    whole: Path, part: str, key: str, value: object, code: str
) -> None:
    """A thousand million layers would be built until the memory is full."""

    def lie(config: dict[str, Any]) -> None:
        (config[part] if part else config)[key] = value

    edit_json(whole / "config.json", lie)
    problem = inspect_folder(whole).problem
    assert problem is not None and problem.code == code


@pytest.mark.parametrize("make", [make_qwen2_5_vl, make_qwen3_vl])
def test_several_shards_and_an_untied_head(tmp_path: Path, make: Callable[..., Path]) -> None:
    """Weights over several files load whole, with progress in bytes, and with the plan there before the first byte."""
    make(tmp_path / "model", shards=3, tied=False)
    engine = LocalEngine(tmp_path, device="cpu", fault=lambda point: plans.append(engine.status.plan))
    plans: list[object] = []
    progress: list[int] = []
    note = engine._note_progress

    def spy(loaded: int) -> None:
        note(loaded)
        progress.append(engine.status.loaded_bytes)

    engine._note_progress = spy  # type: ignore[method-assign, assignment]
    engine.load()
    assert plans and plans[0] is not None
    assert len(inspect_folder(tmp_path / "model").weight_files) > 1
    assert progress == sorted(progress)
    assert progress[-1] == engine.status.weights_bytes


def test_a_failed_load_tells_why_in_our_words(whole: Path) -> None:
    """Whatever happens while loading becomes a ModelError, and the engine says FAILED."""

    def fail(point: str) -> None:
        raise MemoryError

    engine = LocalEngine(whole.parent, device="cpu", fault=fail)
    with pytest.raises(ModelError, match=r"engine\.load\.memory"):
        engine.load()
    assert engine.status.state is EngineState.FAILED


def folder(name: str, gigabytes: float, *, demo: bool = False) -> ModelFolder:
    """Return a folder of that size that exists nowhere."""
    size = int(gigabytes * 2**30)
    return ModelFolder(name, Path(name), parameters=size // 2, weight_bytes=size, is_demo=demo)


def test_the_largest_that_fits_is_chosen() -> None:
    """A real model before the demo, the largest before the smaller, each with its reason."""
    folders = (folder("demo", 0.01, demo=True), folder("qwen-3b", 7), folder("qwen-7b", 15))
    for free, name, code in (
        (40, "qwen-7b", "engine.choice.model.largest_fitting"),
        (10, "qwen-3b", "engine.choice.model.largest_fitting"),
        (2, "demo", "engine.choice.model.demo_fits"),
    ):
        choice = choose_model(folders, free * 2**30)
        assert (choice.folder.name, choice.reason.code) == (name, code)
    assert choose_model(folders[:1], 2**30).reason.code == "engine.choice.model.demo_alone"
    assert choose_model(folders, 0, wanted="QWEN-7B").folder.name == "qwen-7b"
    with pytest.raises(ModelFolderError, match=r"engine\.model\.none_fits"):
        choose_model(folders[1:], 2**30)
    with pytest.raises(ModelFolderError, match=r"engine\.model\.none \(|engine\.model\.none$"):
        choose_model((), 2**30)


def test_a_name_that_is_not_there_gets_the_near_one(whole: Path) -> None:
    """A misspelt model names the one that was meant; a path is taken as it is."""
    folders = (folder("qwen2.5-vl-7b-instruct", 15),)
    with pytest.raises(ModelFolderError) as caught:
        choose_model(folders, 2**40, wanted="qwen2.5-vl-7b")
    assert caught.value.facts["near"] == "qwen2.5-vl-7b-instruct"
    assert choose_model(folders, 2**40, wanted=str(whole)).folder.name == "tiny"


def test_listing_skips_what_is_no_model(whole: Path) -> None:
    """Files and other folders are not models; a missing folder is empty."""
    (whole.parent / "notes").mkdir()
    (whole.parent / "README.md").write_text("x")
    assert [found.name for found in list_models(whole.parent)] == ["tiny"]
    assert list_models(whole.parent / "nowhere") == ()


def test_the_fingerprint_follows_the_model(whole: Path) -> None:
    """It changes with the config and with the layout of the weights, and with nothing else."""
    before = fingerprint(inspect_folder(whole))
    (whole / "README.md").write_text("x")
    assert fingerprint(inspect_folder(whole)) == before
    edit_json(whole / "generation_config.json", lambda settings: settings.update(top_k=3))
    assert fingerprint(inspect_folder(whole)) != before
