"""Downloads everything that a machine without network needs and makes a kit of it: python scripts/build_kit.py --target linux-cuda.

Run on a machine with a package index; the kit may be for another system than the one it is built on. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets a sentence, so this file must parse there
    sys.exit(
        "This is Python {}.{}; building a kit needs 3.11 or newer. Install one and start this script with it, "
        "for example: python3.11 scripts/build_kit.py".format(*sys.version_info[:2])
    )

import argparse
import datetime
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import children, environment
from scripts.kit import folder as kits
from scripts.kit import resolving
from scripts.kit.resolving import TARGETS, Target
from scripts.kit.wheels import Wheel, flash_attention_misfit, list_wheels, parse_wheel, torch_cuda, wheel_files
from scripts.packages import SetupError, clean_environment, say, speak_anywhere

OLDEST_DRIVERS = {"12": {"linux": "525.60", "windows": "528.33"}, "13": {"linux": "580.65", "windows": "580.88"}}
"""By CUDA's major version: the oldest driver that runs what was built for any of its minor versions."""
CPU_BUILD = "+cpu"
_TORCHS_OWN_INDEX = (
    "PyTorch's own index has it: set PIP_EXTRA_INDEX_URL to the address that PyTorch's install page shows behind --index-url for "
    "this kind of machine, and run this again."
)


@dataclass(frozen=True)
class Order:
    """What is to be built, and where."""

    target: Target
    python: str
    out: Path
    brought: Path | None
    has_tests: bool

    @property
    def requirement_names(self) -> tuple[str, ...]:
        """The files that say what goes in."""
        return (
            environment.REQUIREMENTS,
            *((environment.GPU_REQUIREMENTS,) if self.target.wants_cuda else ()),
            *((environment.DEV_REQUIREMENTS,) if self.has_tests else ()),
        )

    @property
    def stage(self) -> Path:
        """Where it is put together. A run that was cut off goes on with what is there."""
        return self.out / f".building-{self.target.name}-{self.python}"


def main(arguments: list[str] | None = None) -> int:
    """Build a kit. Returns the exit status."""
    speak_anywhere()
    options = _parser().parse_args(arguments)
    order = Order(TARGETS[options.target], options.python, options.out.absolute(), options.bring, options.with_tests)
    try:
        if order.brought is not None and not order.brought.is_dir():
            raise SetupError(f"There is no folder {order.brought}. --bring names a folder with wheels.")
        if options.list:
            for name, version in sorted(_resolve(order, resolving.make_tools(_tools_folder())).items()):
                print(f"{name}=={version}")
            return 0
        with children.heard():
            mark = build(order)
    except (SetupError, ValueError) as error:
        print(f"[kit] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as told:
        print("\n[kit] Stopped. Run this again; it goes on where it stopped.", file=sys.stderr)
        return children.status_of(told)
    size = kits.wheel_bytes(order.out) / (1 << 30)
    print(f"[kit] Done: {len(list_wheels(order.out))} wheels, {size:.1f} GB, in {order.out}")
    print(
        "[kit] Copy the whole project with this folder to the other machine and start it there: python scripts/run.py"
    )
    print(f"[kit] Write down its mark: {mark}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Build a kit: everything that a machine without network installs from."
    )
    parser.add_argument("--target", required=True, choices=sorted(TARGETS), help="the kind of machine it is for")
    parser.add_argument(
        "--python",
        type=_python_version,
        default=f"{sys.version_info.major}.{sys.version_info.minor}",
        help="the Python of that machine, such as 3.11 (this one's)",
    )
    parser.add_argument(
        "--bring", type=Path, metavar="FOLDER", help="a folder with wheels that the index does not have"
    )
    parser.add_argument("--out", type=Path, default=environment.KIT, metavar="FOLDER", help="where to (offline_pkgs)")
    parser.add_argument("--with-tests", action="store_true", help="also what scripts/test.py and scripts/check.py need")
    parser.add_argument(
        "--list", action="store_true", help="only say which packages it would hold; no wheels are downloaded"
    )
    return parser


def _python_version(text: str) -> str:
    if not re.fullmatch(r"3\.\d{1,2}", text) or int(text[2:]) < 11:
        raise argparse.ArgumentTypeError("3.11 or newer, such as 3.12")
    return text


def build(order: Order) -> str:
    """Make the kit and return its mark. An older kit in the folder stays until the new one is whole. Raises SetupError."""
    tools = resolving.make_tools(_tools_folder())
    say(f"Working out what {order.target.name} with Python {order.python} needs.")
    packages = _resolve(order, tools)
    stage = order.stage
    _drop_others(stage, packages)
    # torch first: where it is the wrong one, nothing else needs to be fetched.
    fetched = {"torch": packages["torch"]}
    _fetch(order, tools, fetched)
    cuda = torch_cuda(_wheel_of(stage, "torch").path)
    _require_build(order, packages["torch"], cuda)
    say(
        f"torch {packages['torch']} is built for {'CUDA ' + cuda if cuda else 'the processor alone'}; fetching the others."
    )
    if cuda and not _is_torchvision_fit(order, packages):
        for name in ("torchvision", "qwen-vl-utils", "av"):
            packages.pop(name, None)
        say(
            "The torchvision that the index has is not built for this torch: left out. Everything but some kinds of video works."
        )
    _fetch(order, tools, packages)
    flash = _flash_attention(order, packages, cuda)
    _require_whole(stage, packages)
    _describe(order, tools, packages, cuda=cuda, flash=flash)
    mark = kits.write_sums(stage)
    _replace(order)
    return mark


def _tools_folder() -> Path:
    return environment.ROOT / ".setup" / "tools"


def _resolve(order: Order, tools: Path) -> dict[str, str]:
    files = [environment.ROOT / name for name in order.requirement_names]
    pinned = _pinned_torch(environment.ROOT / environment.REQUIREMENTS)
    flash = _fitting_flash(order, pinned)
    wished = [f"flash-attn=={flash.version}"] if flash else []
    resolve = partial(
        resolving.resolve, tools, order.target, version=order.python, requirements=files, brought=order.brought
    )
    if order.target.wants_cuda:
        return resolve(lines=[f"torch!={pinned}{CPU_BUILD}", *wished])
    try:
        return resolve(lines=[f"torch=={pinned}{CPU_BUILD}"])
    except SetupError:  # the index has no build of that name; perhaps its plain one is for the processor
        return resolve(lines=[])


def _pinned_torch(requirements: Path) -> str:
    match = re.search(r"(?m)^torch==([\w.]+)", requirements.read_text(encoding="utf-8"))
    if match is None:
        raise SetupError(f"{requirements.name} does not pin torch.")
    return match[1]


def _fetch(order: Order, tools: Path, packages: dict[str, str]) -> None:
    resolving.fetch(tools, order.target, packages, version=order.python, into=order.stage, brought=order.brought)


def _drop_others(stage: Path, packages: dict[str, str]) -> None:
    """Take out what an earlier, cut-off run fetched in another version."""
    for wheel in list_wheels(stage):
        if packages.get(wheel.name) != wheel.version:
            wheel.path.unlink()


def _wheel_of(stage: Path, name: str) -> Wheel:
    found = [wheel for wheel in list_wheels(stage) if wheel.name == name]
    if not found:
        raise SetupError(f"The wheel of {name} was not downloaded.")
    return found[0]


def _require_build(order: Order, version: str, cuda: str) -> None:
    """Refuse a torch of the other kind, and say which file to bring."""
    if bool(cuda) == order.target.wants_cuda:
        return
    tag, platform = "cp" + order.python.replace(".", ""), order.target.platforms[0]
    plain = version.partition("+")[0]
    if order.target.wants_cuda:
        raise SetupError(
            f"The index has no CUDA build of torch {plain} for {order.target.system_name} and Python {order.python}: what it has "
            f"is for the processor alone. {_TORCHS_OWN_INDEX} Or bring the CUDA build as a file, "
            f"torch-{plain}+cu130-{tag}-{tag}-{platform}.whl or one for another CUDA, and the torchvision of the same build: put "
            f"both into one folder and run this again with --bring FOLDER."
        )
    raise SetupError(
        f"The index gives the CUDA build of torch {plain} for {order.target.system_name}, which is far larger and not needed here. "
        f"{_TORCHS_OWN_INDEX} Or bring the build for the processor as a file, torch-{plain}+cpu-{tag}-{tag}-{platform}.whl, and "
        f"run this again with --bring FOLDER; or build --target {order.target.system}-cuda, which works without a card as well."
    )


def _is_torchvision_fit(order: Order, packages: dict[str, str]) -> bool:
    """Return whether torch and torchvision are of one build: of one local version, and on Windows not of none."""
    if "torchvision" not in packages:
        return False
    locals_ = {packages[name].partition("+")[2] for name in ("torch", "torchvision")}
    # On Linux an index's plain pair is a CUDA pair. On Windows its plain torchvision is for the processor.
    return len(locals_) == 1 and (order.target.system == "linux" or locals_ != {""})


def _fitting_flash(order: Order, torch: str) -> Wheel | None:
    """Return a flash-attn wheel among those brought whose name fits the target and torch; which CUDA is looked at later."""
    for wheel in _brought_flash(order):
        cuda = re.match(r"cu(\d+)", wheel.local)
        fits = not flash_attention_misfit(
            wheel,
            python=order.python,
            platforms=order.target.platforms,
            torch_version=torch,
            cuda=cuda[1] if cuda else "",
        )
        if fits and order.target.wants_cuda:
            return wheel
    return None


def _brought_flash(order: Order) -> list[Wheel]:
    if order.brought is None:
        return []
    wheels = (parse_wheel(path) for path in reversed(wheel_files(order.brought)))
    return [wheel for wheel in wheels if wheel is not None and wheel.name == "flash-attn"]


def _flash_attention(order: Order, packages: dict[str, str], cuda: str) -> str:
    """Return the version of flash-attn that came along, empty for none; say why those brought did not."""
    for wheel in _brought_flash(order):
        why = flash_attention_misfit(
            wheel, python=order.python, platforms=order.target.platforms, torch_version=packages["torch"], cuda=cuda
        )
        if why:
            say(f"{wheel.path.name} is left out: {why}.")
            if packages.get("flash-attn") == wheel.version:
                del packages["flash-attn"]
                _drop_others(order.stage, packages)
    if order.brought is not None:
        for archive in order.brought.glob("flash[_-]attn*.tar.gz"):
            say(f"{archive.name} is left out: it would have to be compiled where it is installed.")
    return packages.get("flash-attn", "")


def _require_whole(stage: Path, packages: dict[str, str]) -> None:
    there = {wheel.name: wheel.version for wheel in list_wheels(stage)}
    if there != packages:
        name = sorted(set(there.items()) ^ set(packages.items()))[0][0]
        raise SetupError(
            f"The wheels are not those that are needed; the first that differs is {name}. Delete {stage} and run this again."
        )


def _describe(order: Order, tools: Path, packages: dict[str, str], *, cuda: str, flash: str) -> None:
    stage = order.stage
    kit = kits.Kit(
        target=order.target.name,
        system=order.target.system,
        machine="x86_64",
        python=order.python,
        glibc=order.target.glibc,
        torch=packages["torch"],
        cuda=cuda,
        driver=OLDEST_DRIVERS.get(cuda.partition(".")[0], {}).get(order.target.system, ""),
        flash_attn=flash,
        has_tests=order.has_tests,
        packages=len(packages),
        wheel_bytes=kits.wheel_bytes(stage),
        built_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        requirements={name: kits.digest_of(environment.ROOT / name) for name in order.requirement_names},
    )
    kits.write_kit(stage, kit)
    kits.write_lock(stage)
    write_bill(tools, stage)


def write_bill(tools: Path, stage: Path) -> None:
    """Write the bill of materials of a folder's wheels. Raises SetupError."""
    command = [str(tools), "-m", "scripts.kit.sbom", str(stage), "qwen-vl-app", _app_version()]
    done = subprocess.run(
        command,
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=clean_environment(),
        check=False,
    )
    if done.returncode:
        raise SetupError(f"The bill of materials could not be written.\n{done.stderr.strip()[-800:]}")


def _app_version() -> str:
    text = (environment.ROOT / "qwen_vl_app" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'__version__ = "([^"]+)"', text)
    return match[1] if match else "0"


def _replace(order: Order) -> None:
    """Put the new kit in the place of an older one. SHA256SUMS goes first and comes last: without it nothing is installed."""
    (order.out / kits.SUMS_NAME).unlink(missing_ok=True)
    for path in _parts_of(order.out):
        path.unlink()
    parts = _parts_of(order.stage)
    for path in [*parts, order.stage / kits.SUMS_NAME]:
        path.replace(order.out / path.name)
    shutil.rmtree(order.stage, ignore_errors=True)


def _parts_of(folder: Path) -> Sequence[Path]:
    return [path for path in folder.iterdir() if path.is_file() and kits.is_listed(path)]


if __name__ == "__main__":
    sys.exit(main())
