"""The demo model's tokenizer: a Qwen2 tokenizer over a byte-level BPE of its own, trained on the lesson sentences.

Two things are kept out of the merges on purpose: capitals, so that labels and values are one token a character, and
pairs of Chinese characters, for the same reason. The result is pinned in `tokenizer.json`: training it again from other
sentences would change every id, and with them the meaning of the weights.
It knows nothing of pictures or weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from scripts.demo_model import phrases

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
ORDINARY_ADDED_TOKENS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
SYSTEM_PROMPT = "You are a helpful assistant."
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY_SIZE = 832
PINNED = Path(__file__).with_name("tokenizer.json")

_CHINESE = re.compile("[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f]")


def _sentences(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _sentences(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _sentences(item)


def all_sentences() -> list[str]:
    """Return every sentence of `phrases`, with the chat's own words and samples of structured answers."""
    found = [s for name, value in vars(phrases).items() if name.isupper() for s in _sentences(value)]
    found += [SYSTEM_PROMPT, "system\n", "user\n", "assistant\n", "Picture 1: ", "Picture 2: "] * 20
    boxes = (
        '```json\n[\n\t{"bbox_2d": [14, 28, 112, 56], "label": "lamp"},\n\t{"bbox_2d": [1, 2], "label": "灯"}\n]\n```'
    )
    spotted = (
        '```json\n[\n\t{"bbox_2d": [1, 2, 3, 4], "text_content": "1"},\n\t{"bbox_2d": [1], "text_content": "2"}\n]\n```'
    )
    found += [boxes] * 60 + [spotted] * 30 + ["```json\n[]\n```"] * 20
    found += ['{"1": "2", "3": "4"}', '{"1":"2","3":null}', '{\n    "1": "2",\n    "3": null\n}'] * 30
    found += ["| 1 | 2 |\n| --- | --- |\n| 3 | 4 |\n", '{"1": "", "2": ""}', "['1','2']", "1, 2, 3", "1: 2\n3: 4"] * 20
    return found


def chinese_characters() -> list[str]:
    """Return every Chinese character or full-width mark that a lesson may hold, sorted."""
    return sorted({c for s in all_sentences() for c in _CHINESE.findall(s)})


def _pieces() -> Iterator[str]:
    for sentence in all_sentences():
        plain = re.sub(r"\{(k|keys|list|one|many|a|b|n|m|things)\}", "\ue000", sentence)
        for piece in re.split("[A-Z\ue000]", plain):
            yield from (p for p in _CHINESE.split(piece) if p)
    for character in chinese_characters():
        for _ in range(2000):
            yield character


def train() -> Tokenizer:
    """Train the tokenizer afresh from the sentences."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    added = len(SPECIAL_TOKENS) + len(ORDINARY_ADDED_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - added,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ORDINARY_ADDED_TOKENS])
    return tokenizer


def load() -> Tokenizer:
    """Load the pinned tokenizer."""
    return Tokenizer.from_file(str(PINNED))


if __name__ == "__main__":
    if PINNED.exists():
        raise SystemExit(f"{PINNED.name} is pinned; remove it first, and train the model from zero afterwards")
    built = train()
    built.save(str(PINNED))
    print(json.dumps({"size": built.get_vocab_size(), "chinese": len(chinese_characters())}))
