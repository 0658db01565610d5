"""Models for measuring: random weights of true shape, made on the spot, for machines that hold no real one.

Knows shapes and how a model's folder is laid out. What such a model says means nothing; how long it takes is what a real
one of that shape would take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from qwen_vl_app.engine.local.prompt import FRAME

ENDS = ("<|endoftext|>",)
WORDS = (
    "system\nuser\nassistant\n", "Read all the text in the image.", "How many are there?", "Which one is the largest?",
    "What is in Picture 1: and Picture 2: ?",
)  # fmt: skip
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SHARD_BYTES = 2_000_000_000


def _shape(text: Mapping[str, int], vision: Mapping[str, Any], *, tied: bool) -> Mapping[str, Any]:
    return {"text": text, "vision": vision, "tied": tied}


def _text(hidden: int, intermediate: int, layers: int, heads: int) -> Mapping[str, int]:
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


def _vision(hidden: int, intermediate: int, depth: int, out: int, deepstack: tuple[int, ...]) -> Mapping[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "depth": depth,
        "num_heads": hidden // 64,
        "out_hidden_size": out,
        "deepstack_visual_indexes": list(deepstack),
    }


SHAPES: Mapping[str, Mapping[str, Any]] = {
    # One to try the benchmark with, in seconds; a small one after the family's pattern; then the published 2B, one between, and the published 8B.
    "tiny": _shape(
        {**_text(128, 128, 2, 8), "vocab_size": 2048, "head_dim": 16},
        {**_vision(64, 96, 3, 128, (1,)), "num_heads": 4},
        tied=True,
    ),
    "0.4b": _shape(_text(1024, 3072, 10, 16), _vision(768, 3072, 12, 1024, (3, 6, 9)), tied=True),
    "2b": _shape(_text(2048, 6144, 28, 16), _vision(1024, 4096, 24, 2048, (5, 11, 17)), tied=True),
    "3b": _shape(_text(2560, 8192, 30, 20), _vision(1024, 4096, 24, 2560, (5, 11, 17)), tied=True),
    "7b": _shape(_text(4096, 12288, 32, 32), _vision(1152, 4304, 27, 4096, (8, 16, 24)), tied=False),
}


def make_model(shape: str, folder: Path) -> None:
    """Write a model of a shape into `folder`: bf16 weights, a small tokenizer, the settings a published folder has."""
    folder.mkdir(parents=True)
    specials = _write_tokenizer(folder)
    sizes = SHAPES[shape]
    config = Qwen3VLConfig(
        text_config={
            **sizes["text"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
            "bos_token_id": specials["<|endoftext|>"],
            "eos_token_id": specials["<|im_end|>"],
            "tie_word_embeddings": sizes["tied"],
        },
        vision_config=dict(sizes["vision"]),
        tie_word_embeddings=sizes["tied"],
        image_token_id=specials["<|image_pad|>"],
        video_token_id=specials["<|video_pad|>"],
        vision_start_token_id=specials["<|vision_start|>"],
        vision_end_token_id=specials["<|vision_end|>"],
    )
    (folder / "config.json").write_text(
        json.dumps({**config.to_dict(), "architectures": ["Qwen3VLForConditionalGeneration"], "dtype": "bfloat16"}),
        encoding="utf-8",
    )
    with torch.device("meta"):
        names = {name: tensor.shape for name, tensor in Qwen3VLForConditionalGeneration(config).state_dict().items()}
    if sizes["tied"]:
        names.pop("lm_head.weight")
    _write_weights(folder, names)
    image = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 4 * 32 * 32, "longest_edge": 16384 * 32 * 32},
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
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
        if "norm" in name:
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
