"""Models for measuring: random weights of true shape, made on the spot, for machines that hold no real one.

Knows shapes of both families and how a model's folder is laid out. What such a model says means nothing; how long it
takes is what a real one of that shape would take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from qwen_vl_app.engine.families import FAMILIES
from qwen_vl_app.engine.local.prompt import FRAME

ENDS = ("<|endoftext|>",)
WORDS = (
    "system\nuser\nassistant\n", "Read all the text in the image.", "How many are there?", "Which one is the largest?",
    "What is in Picture 1: and Picture 2: ?",
)  # fmt: skip
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SHARD_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class RandomShape:
    """The sizes of a model of a family, by the names that its `config.json` has for them."""

    model_type: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool
    """Whether the head is the embedding, as in the smaller published models."""


def _qwen2_5(text: Mapping[str, int], vision: Mapping[str, Any], *, tied: bool) -> RandomShape:
    # The sections of the positions are those of `Qwen2_5_VLConfig`'s published files: 16, 24 and 24 of a head's 64 pairs.
    pairs = text["hidden_size"] // text["num_attention_heads"] // 2
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    sections = [pairs // 4, pairs * 3 // 8, pairs * 3 // 8]
    words = {"max_position_embeddings": 128_000, "rms_norm_eps": 1e-6}
    return RandomShape(
        "qwen2_5_vl",
        {**words, **text, "rope_parameters": {**rope, "mrope_section": sections}},
        {"patch_size": 14, "window_size": 112, **vision},
        tied,
    )


def _qwen2_5_text(hidden: int, intermediate: int, layers: int, heads: int, shared: int) -> Mapping[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
    }


def _qwen2_5_vision(out: int) -> Mapping[str, Any]:
    # The same tower in every published size but for what it gives. All but `hidden_size` are transformers' defaults for
    # this family; that one has there what is `out_hidden_size` in the published files, and 1280 in them.
    return {
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "depth": 32,
        "num_heads": 16,
        "out_hidden_size": out,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }


def _qwen3(text: Mapping[str, Any], vision: Mapping[str, Any], *, tied: bool) -> RandomShape:
    pairs = text["head_dim"] // 2
    sections = [pairs - 2 * (pairs * 5 // 16), pairs * 5 // 16, pairs * 5 // 16]
    rope = {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_section": sections, "mrope_interleaved": True}
    return RandomShape("qwen3_vl", {**text, "rope_parameters": rope}, {"patch_size": 16, **vision}, tied)


def _qwen3_text(hidden: int, intermediate: int, layers: int, heads: int) -> Mapping[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
    }


def _qwen3_vision(
    hidden: int, intermediate: int, depth: int, heads: int, *, out: int, deepstack: tuple[int, ...]
) -> Mapping[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "depth": depth,
        "num_heads": heads,
        "out_hidden_size": out,
        "deepstack_visual_indexes": list(deepstack),
    }


SHAPES: Mapping[str, RandomShape] = {
    # One of each family to try things with, in seconds.
    "tiny": _qwen2_5(
        {**_qwen2_5_text(128, 128, 2, 8, 2), "vocab_size": 2048, "max_position_embeddings": 32768},
        {
            **{"hidden_size": 64, "intermediate_size": 96, "depth": 3, "num_heads": 4, "out_hidden_size": 128},
            **{"window_size": 56, "fullatt_block_indexes": [2]},
        },
        tied=True,
    ),
    "qwen3-tiny": _qwen3(
        {**_qwen3_text(128, 128, 2, 8), "vocab_size": 2048, "head_dim": 16},
        _qwen3_vision(64, 96, 3, 4, out=128, deepstack=(1,)),
        tied=True,
    ),
    # For a processor: a small one after Qwen3-VL's pattern, which nobody published, and Qwen3-VL-2B.
    "0.4b": _qwen3(
        _qwen3_text(1024, 3072, 10, 16),
        _qwen3_vision(768, 3072, 12, 12, out=1024, deepstack=(3, 6, 9)),
        tied=True,
    ),
    "2b": _qwen3(
        _qwen3_text(2048, 6144, 28, 16),
        _qwen3_vision(1024, 4096, 24, 16, out=2048, deepstack=(5, 11, 17)),
        tied=True,
    ),
    # Qwen2.5-VL-3B and 7B, what a card's owners have. Their text models are those of Qwen2.5, from the published
    # `config.json`: 3,754,622,976 and 8,292,166,656 parameters with the tower, as their files have.
    "3b": _qwen2_5({**_qwen2_5_text(2048, 11008, 36, 16, 2), "vocab_size": 151936}, _qwen2_5_vision(2048), tied=True),
    "7b": _qwen2_5({**_qwen2_5_text(3584, 18944, 28, 28, 4), "vocab_size": 152064}, _qwen2_5_vision(3584), tied=False),
    # Qwen3-VL-4B and 8B, from the published `config.json`; the larger tower's sizes are transformers' defaults.
    "qwen3-4b": _qwen3(
        _qwen3_text(2560, 9728, 36, 32),
        _qwen3_vision(1024, 4096, 24, 16, out=2560, deepstack=(5, 11, 17)),
        tied=True,
    ),
    "qwen3-8b": _qwen3(
        _qwen3_text(4096, 12288, 36, 32),
        _qwen3_vision(1152, 4304, 27, 16, out=4096, deepstack=(8, 16, 24)),
        tied=False,
    ),
}
PIXELS: Mapping[str, tuple[list[float], list[float]]] = {
    "qwen2_5_vl": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "qwen3_vl": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}
"""Mean and deviation that pictures are brought to, of each family."""


def config_of(shape: str, specials: Mapping[str, int] | None = None) -> Any:
    """Return the library's config of a shape, with the ids that a tokenizer has for the frame's tokens, or the published ones."""
    sizes = SHAPES[shape]
    ids: dict[str, int] = {}
    text = {**sizes.text, "tie_word_embeddings": sizes.tied}
    if specials is not None:
        text |= {"bos_token_id": specials["<|endoftext|>"], "eos_token_id": specials["<|im_end|>"]}
        ids = {
            f"{name}_token_id": specials[token]
            for name, token in (
                *(("image", "<|image_pad|>"), ("video", "<|video_pad|>")),
                *(("vision_start", "<|vision_start|>"), ("vision_end", "<|vision_end|>")),
            )
        }
    config_class = _model_class(sizes).config_class
    return config_class(text_config=text, vision_config=dict(sizes.vision), tie_word_embeddings=sizes.tied, **ids)


def tensors_of(config: Any, shape: str) -> Mapping[str, torch.Size]:
    """Return the names and sizes of the tensors that the files of such a model have."""
    sizes = SHAPES[shape]
    with torch.device("meta"):
        names = {name: tensor.shape for name, tensor in _model_class(sizes)(config).state_dict().items()}
    if sizes.tied:
        names.pop("lm_head.weight")
    return names


def _model_class(sizes: RandomShape) -> Any:
    return getattr(transformers, FAMILIES[sizes.model_type].architecture)


def make_model(shape: str, folder: Path) -> None:
    """Write a model of a shape into `folder`: bf16 weights, a small tokenizer, the settings a published folder has."""
    folder.mkdir(parents=True)
    config = config_of(shape, _write_tokenizer(folder))
    family = FAMILIES[SHAPES[shape].model_type]
    (folder / "config.json").write_text(
        json.dumps({**config.to_dict(), "architectures": [family.architecture], "dtype": "bfloat16"}),
        encoding="utf-8",
    )
    _write_weights(folder, tensors_of(config, shape))
    mean, deviation = PIXELS[family.model_type]
    image = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 4 * family.factor**2, "longest_edge": 16384 * family.factor**2},
        "patch_size": family.patch,
        "merge_size": family.merge,
        "temporal_patch_size": 2,
        "image_mean": mean,
        "image_std": deviation,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(image), encoding="utf-8")


def _write_weights(folder: Path, names: Mapping[str, torch.Size]) -> None:
    # One block of noise, begun at another place for each tensor: billions of fresh numbers would take minutes.
    noise = (torch.randn(2**22, generator=torch.Generator().manual_seed(11)) * 0.02).to(torch.bfloat16)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    number = 1

    def write() -> None:
        nonlocal number
        file = f"model-{number:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
        shard.clear()
        number += 1

    for name, size in names.items():
        tensor = torch.empty(size, dtype=torch.bfloat16)
        if "norm" in name or "ln_q" in name:  # the second is one family's name for a norm
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            flat, start = tensor.view(-1), (len(weight_map) + len(shard)) * 7919 % 2**20
            for at in range(0, flat.shape[0], 2**21):
                piece = flat[at : at + 2**21]
                piece.copy_(noise[start : start + piece.shape[0]])
        shard[name] = tensor
        if sum(part.nbytes for part in shard.values()) > SHARD_BYTES:
            write()
    if shard:
        write()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_tokenizer(folder: Path) -> dict[str, int]:
    names = (*ENDS, *FRAME, "<|video_pad|>")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # Every word of the questions becomes one token, as in the published vocabulary.
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.add_special_tokens(list(names))
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return {name: vocabulary[name] for name in names}
