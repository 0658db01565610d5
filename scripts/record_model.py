"""Writes down the hashes of a model's files where they are known to be good: python scripts/record_model.py qwen2.5-vl-7b-instruct.

The same as `python -m qwen_vl_app models record`, for a machine that has nothing but Python: nothing is installed for it, and
the app's environment is not needed. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; recording a model needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/record_model.py".format(*sys.version_info[:2])
    )

import argparse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qwen_vl_app.engine.folders import inspect_folder, list_models, path_of
from qwen_vl_app.engine.manifest import MANIFEST_NAME, record_manifest
from qwen_vl_app.errors import ModelFolderError
from qwen_vl_app.texts import render
from scripts import children
from scripts.packages import speak_anywhere

MODELS = Path(__file__).resolve().parent.parent / "models"


def main(arguments: list[str] | None = None) -> int:
    """Record a model. Returns the exit status: 2 where there is no such folder, 1 where it cannot be recorded."""
    speak_anywhere()
    parser = argparse.ArgumentParser(description="Write the hashes of a model's files into its manifest.json.")
    parser.add_argument("model", help="the model's folder, or its name under models/")
    parser.add_argument("--again", action="store_true", help="write a new manifest over the one that is there")
    options = parser.parse_args(arguments)
    path = path_of(options.model)
    folder = MODELS / options.model if not path.is_dir() else path
    if not folder.is_dir():
        there = ", ".join(known.name for known in list_models(MODELS)) or "none"
        print(f"There is no model folder {options.model}. Under models/ there are: {there}", file=sys.stderr)
        return 2
    if (folder / MANIFEST_NAME).exists() and not options.again:
        print(f"{folder.name} has a manifest already; --again writes a new one over it.", file=sys.stderr)
        return 1
    found = inspect_folder(folder.resolve())
    if found.problem is not None:
        print(render(found.problem), file=sys.stderr)
        return 1
    print(f"Reading {found.weight_bytes / 1e9:.1f} GB ...", flush=True)
    try:
        manifest = record_manifest(found.path)
    except ModelFolderError as error:
        print(render(error.reason), file=sys.stderr)
        return 1
    print(f"Recorded {len(manifest.files)} files of {found.name}. Keep {MANIFEST_NAME} with the folder.")
    return 0


if __name__ == "__main__":
    sys.exit(children.calmly(main))
