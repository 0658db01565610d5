"""Weights from safetensors files straight to the device, every key and shape checked.

Knows files, names of tensors and the two model classes. Does not know a hub: nothing here looks up a name anywhere, and
code that came with a model is never run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from qwen_vl_app.engine.families import Family
from qwen_vl_app.engine.folders import ModelFolder, read_json
from qwen_vl_app.engine.local.attention import LinearPatchEmbed
from qwen_vl_app.engine.local.products import DENSE, ProductKind
from qwen_vl_app.errors import ModelFolderError

log = logging.getLogger(__name__)

_CLASSES: dict[str, tuple[Any, Any]] = {
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
}
TIED_WEIGHT = "lm_head.weight"
PRODUCT_WEIGHTS = tuple(
    f"{part}.weight"
    for part in (
        *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    )
)
"""The ends of the names of the decoder's products. In one family the vision tower calls its MLP the same."""
END_TOKENS = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in place. `module` is the library's, in eval mode, with weights that take no gradient."""

    module: Any
    device: torch.device
    dtype: torch.dtype
    products: ProductKind = DENSE
    """What the text model's products shall be; the weights here are still as they were read."""

    @property
    def text(self) -> Any:
        """The decoder."""
        return self.module.model.language_model

    @property
    def vocabulary(self) -> int:
        """How many numbers its logits have, padding included."""
        return int(self.module.config.text_config.vocab_size)

    @property
    def visual(self) -> Any:
        """The vision tower."""
        return self.module.model.visual


def load_model(
    folder: ModelFolder,
    *,
    device: torch.device,
    dtype: torch.dtype,
    products: ProductKind = DENSE,
    on_progress: Callable[[int], None] = lambda loaded: None,
) -> LoadedModel:
    """Return the model of a complete folder. `on_progress` gets the bytes of the files that are in place.

    What is to become smaller stays a view of its file until then: it neither lies on the device as it was published nor
    twice in memory. Raises ModelFolderError where a tensor is missing, has another shape than the config says, or cannot be read: the
    library would fill it with random numbers and say nothing.
    """
    family = folder.family
    if family is None:
        raise ModelFolderError("engine.folder.unknown_family", model=folder.name, model_type="")
    config_class, model_class = _CLASSES[family.model_type]
    try:
        config = config_class.from_dict(_without_remote_code(dict(folder.config)))
        config._attn_implementation = "sdpa"
        with torch.device("meta"):
            module = model_class(config)
    except Exception as error:  # the library's validation raises many kinds for one thing: a config it cannot build
        raise ModelFolderError("engine.folder.bad_config", model=folder.name) from error
    if "sliding_attention" in (getattr(module.config.text_config, "layer_types", None) or ()):
        raise ModelFolderError("engine.folder.sliding_window", model=folder.name)
    loaded = 0
    expected: dict[str, torch.Tensor] = module.state_dict()
    missing = set(expected)
    for file in folder.weight_files:
        try:
            with safe_open(file, framework="pt", device="cpu") as tensors:
                for stored in tensors.keys():  # noqa: SIM118 - not a dict
                    name = module_name(stored, family)
                    if name not in expected:
                        if name == TIED_WEIGHT or name.endswith("inv_freq"):
                            continue
                        raise ModelFolderError("engine.folder.foreign_tensor", model=folder.name, tensor=stored[:80])
                    tensor = tensors.get_tensor(stored)
                    if tensor.shape != expected[name].shape:
                        raise ModelFolderError("engine.folder.wrong_shape", model=folder.name, tensor=stored[:80])
                    loaded += tensor.nbytes
                    stays = products.is_compact and _is_product(name)
                    # `copy` because tensors of the same type would stay views of the mapped file.
                    placed = tensor.to(dtype=dtype) if stays else tensor.to(device=device, dtype=dtype, copy=True)
                    _place(module, name, placed)
                    missing.discard(name)
                    on_progress(loaded)
        except (OSError, SafetensorError) as error:
            raise ModelFolderError("engine.folder.bad_file", model=folder.name, file=file.name) from error
    if TIED_WEIGHT in missing and module.config.tie_word_embeddings:
        module.lm_head.weight = module.model.language_model.embed_tokens.weight
        missing.discard(TIED_WEIGHT)
    if missing:
        first = min(missing)
        raise ModelFolderError("engine.folder.missing_tensors", model=folder.name, tensor=first, count=len(missing))
    _make_buffers(module, device)
    module.model.visual.patch_embed = LinearPatchEmbed(module.model.visual.patch_embed.proj)
    module.eval()
    return LoadedModel(module, device, dtype, products)


def module_name(stored: str, family: Family) -> str:
    """Return the module's name of a tensor for its name in a file: published files use an older layout."""
    for before, after in family.renames:
        if stored.startswith(before):
            return after + stored.removeprefix(before)
    return stored


def _is_product(name: str) -> bool:
    return name.startswith("model.language_model.layers.") and name.endswith(PRODUCT_WEIGHTS)


def _without_remote_code(config: dict[str, Any]) -> dict[str, Any]:
    if config.pop("auto_map", None) is not None:
        log.warning("the model's folder brings code of its own; it is ignored")
    return config


def _place(module: Any, name: str, tensor: torch.Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def _make_buffers(module: Any, device: torch.device) -> None:
    # Frequencies of the rotary embeddings are in no file: their modules are built anew, on the real device.
    for name, part in list(module.named_modules()):
        if any(buffer.is_meta for buffer in part._buffers.values() if buffer is not None):
            owner_name, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner_name), leaf, type(part)(config=part.config).to(device))


def read_end_tokens(folder: Path, specials: dict[str, int]) -> frozenset[int]:
    """Return the tokens that end an answer: the chat's own two, and what the folder's generation settings name."""
    ends = {specials[name] for name in END_TOKENS if name in specials}
    if (folder / "generation_config.json").is_file():
        named = read_json(folder / "generation_config.json", model=folder.name).get("eos_token_id")
        ends.update(token for token in (named if isinstance(named, list) else [named]) if isinstance(token, int))
    return frozenset(ends)
