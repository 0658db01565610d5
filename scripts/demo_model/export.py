"""Turn a training run into a checkpoint folder: `python scripts/demo_model/export.py RUN.pt FOLDER`.

It writes what the transformers library and the app open without help: weights, configuration, tokenizer, chat template,
picture limits. It draws nothing and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, the project's root is not on the path

import torch
from transformers import GenerationConfig, Qwen2Tokenizer

from scripts.demo_model import vocabulary
from scripts.demo_model.checkpoint import is_relative, new_model, new_relative_model, shape_of
from scripts.demo_model.families import RELATIVE, of_model_type
from scripts.demo_model.forward import AnyModel

CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The template that Qwen2.5-VL is published with, word for word."""
RELATIVE_CHAT_TEMPLATE = CHAT_TEMPLATE.replace(
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}",
    "",
)
"""The frame of Qwen3-VL: the same turns without a system turn of its own. What its published template says of tools is left out."""
MIN_PIXELS, MAX_PIXELS = 43_008, 50_960
RELATIVE_MIN_PIXELS, RELATIVE_MAX_PIXELS = 56_320, 66_560
"""The same 55 to 65 visual tokens of 32 pixels: 320x192 for every picture of that shape."""


def load_run(path: Path, *, mean_with: Sequence[Path] = ()) -> AnyModel:
    """Return the model of a training run. The heads that serve training only are left behind.

    With others, its weights are the mean of all of them: of runs that one grew out of the other, the mean errs less than either.
    """
    states = [torch.load(each, map_location="cpu", weights_only=True)["model"] for each in (path, *mean_with)]
    if any(state.keys() != states[0].keys() for state in states):
        raise ValueError("only runs of one shape have a mean")
    state = {name: torch.stack([each[name].float() for each in states]).mean(0) for name in states[0]}
    model: AnyModel = new_relative_model(0) if is_relative(state) else new_model(0, shape_of(state))
    model.load_state_dict(state)
    return model.eval()


def write_folder(
    model: AnyModel,
    folder: Path,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    rungs: Sequence[int] = (),
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a complete checkpoint folder; files in it that belong to no checkpoint are left alone.

    A picture is shown at `min_pixels` to `max_pixels`, those that the family's lessons were drawn for when None. With two `rungs`,
    in visual tokens, the app offers them above that, as "detail" and "document".
    """
    folder.mkdir(parents=True, exist_ok=True)
    family = of_model_type(model.config.model_type)
    least, most = (RELATIVE_MIN_PIXELS, RELATIVE_MAX_PIXELS) if family is RELATIVE else (MIN_PIXELS, MAX_PIXELS)
    min_pixels, max_pixels = min_pixels or least, max_pixels or most
    tokenizer = vocabulary.load()
    end, begin = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    model.generation_config = GenerationConfig(
        bos_token_id=begin, pad_token_id=begin, eos_token_id=[end, begin], do_sample=False, repetition_penalty=1.0
    )
    model.to(dtype).save_pretrained(folder)
    _write_tokenizer(folder, RELATIVE_CHAT_TEMPLATE if family is RELATIVE else CHAT_TEMPLATE)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen3VLProcessor" if family is RELATIVE else "Qwen2_5_VLProcessor",
        "size": {"shortest_edge": min_pixels, "longest_edge": max_pixels},
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "patch_size": family.patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": list(family.mean),
        "image_std": list(family.deviation),
    }
    if rungs:
        areas = (max_pixels, *(tokens * family.cell**2 for tokens in rungs))
        processor["rungs"] = dict(zip(("balanced", "detail", "document"), areas, strict=True))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o644)  # safetensors creates its files readable by their owner only


def _write_tokenizer(folder: Path, template: str) -> None:
    """Write the tokenizer in all the forms that readers of Qwen2 tokenizers look for."""
    tokenizer = vocabulary.load()
    state = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(state["model"]["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    merges = [" ".join(m) if isinstance(m, list) else m for m in state["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {
        str(entry["id"]): {k: entry[k] for k in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
        for entry in state["added_tokens"]
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(vocabulary.SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def same_ids(folder: Path, sentences: list[str]) -> bool:
    """Say whether the folder's tokenizer, opened by the library, gives the ids that training used."""
    opened = Qwen2Tokenizer.from_pretrained(folder)
    mine = vocabulary.load()
    return all(opened(s, add_special_tokens=False)["input_ids"] == mine.encode(s).ids for s in sentences)


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="checkpoint that train.py wrote")
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument(
        "--mean-with", type=Path, nargs="+", default=(), help="further runs; what is written is the mean of all"
    )
    parser.add_argument("--min-pixels", type=int)
    parser.add_argument("--max-pixels", type=int)
    parser.add_argument(
        "--rungs", type=int, nargs=2, default=(), metavar="TOKENS", help="larger sizes that the run was taught as well"
    )
    arguments = parser.parse_args()
    write_folder(
        load_run(arguments.run, mean_with=arguments.mean_with),
        arguments.folder,
        min_pixels=arguments.min_pixels,
        max_pixels=arguments.max_pixels,
        rungs=arguments.rungs,
    )
    if not same_ids(arguments.folder, vocabulary.all_sentences()):
        raise SystemExit("the exported tokenizer does not give the ids of training")


if __name__ == "__main__":
    main()
