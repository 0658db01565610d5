"""What a wheel tells of itself, what a kit's bill of materials says, and how a target is worked out."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from scripts import build_kit, packages
from scripts.kit import resolving
from scripts.kit.sbom import make_sbom
from scripts.kit.wheels import flash_attention_misfit, parse_wheel, read_metadata, sha256_of, torch_cuda
from tests.setup.house import make_wheel


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = '13.0'", "13.0"),
        ('cuda = "12.6"', "12.6"),
        ("cuda: str | None = None", ""),
        ("cuda = None", ""),
    ],
)
def test_a_torch_wheel_tells_what_it_was_built_for(tmp_path: Path, line: str, expected: str) -> None:
    """It is read from within: the file's name means one thing on one index and another on the next."""
    wheel = make_wheel(tmp_path, "torch", "2.13.0", {"torch/version.py": f"debug = False\n{line}\nhip = None\n"})
    assert torch_cuda(wheel) == expected


def test_a_file_that_is_no_torch_is_said_to_be_none(tmp_path: Path) -> None:
    """A cut-off download, and a wheel of something else."""
    with pytest.raises(ValueError, match="not torch"):
        torch_cuda(make_wheel(tmp_path, "tiny", "1.0", {"tiny.py": ""}))
    (tmp_path / "torch-1-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged"):
        torch_cuda(tmp_path / "torch-1-py3-none-any.whl")
    with pytest.raises(ValueError, match="damaged"):
        read_metadata(tmp_path / "torch-1-py3-none-any.whl")


def test_a_wheels_name_is_taken_apart() -> None:
    """Local versions, build numbers and compressed tags included; an archive of sources is no wheel."""
    wheel = parse_wheel(Path("Qwen_VL.utils-1.0+cu130-1-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"))
    assert wheel is not None
    assert (wheel.name, wheel.version, wheel.local) == ("qwen-vl-utils", "1.0+cu130", "cu130")
    assert wheel.platform_tags == {"manylinux_2_17_x86_64", "manylinux2014_x86_64"}
    assert parse_wheel(Path("flash_attn-2.8.3.tar.gz")) is None


FLASH = "flash_attn-2.8.3+cu13torch2.13cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(
    ("name", "cuda", "expected"),
    [
        (FLASH, "13.0", ""),
        (FLASH.replace("cu13", "cu130"), "13.0", ""),
        (FLASH.replace("cp311", "cp312"), "13.0", "cp312"),
        (FLASH.replace("linux", "win_amd64_").replace("_x86_64", ""), "13.0", "win_amd64"),
        (FLASH.replace("2.13", "2.1"), "13.0", "torch 2.1"),
        (FLASH.replace("cu13", "cu12"), "13.0", "CUDA 12"),
        (FLASH.replace("TRUE", "FALSE"), "13.0", "C++"),
        (FLASH, "", "the processor"),
        ("flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl", "13.0", "does not say"),
        (FLASH.replace("linux", "manylinux_2_28"), "13.0", ""),
        (FLASH.replace("linux", "manylinux_2_34"), "13.0", "manylinux_2_34"),
        (FLASH.replace("linux", "macosx_11_0"), "13.0", "macosx_11_0"),
    ],
)
def test_a_prebuilt_flash_attention_comes_along_only_where_all_of_it_fits(name: str, cuda: str, expected: str) -> None:
    """Python, platform, torch, CUDA and the C++ interface; what does not fit is named."""
    wheel = parse_wheel(Path(name))
    assert wheel is not None
    platforms = resolving.TARGETS["linux-cuda"].platforms
    told = flash_attention_misfit(wheel, python="3.11", platforms=platforms, torch_version="2.13.0", cuda=cuda)
    assert expected in told
    assert bool(told) is bool(expected)


def test_the_bill_of_materials_has_every_wheel_with_its_hash_licence_and_needs(tmp_path: Path) -> None:
    """CycloneDX, checked against its schema."""
    wheels = [
        make_wheel(tmp_path, "tiny", "1.0", {"tiny.py": ""}, requires="grown>=1; python_version>'3'"),
        make_wheel(tmp_path, "grown", "1.0", {"grown.py": ""}),
    ]
    with zipfile.ZipFile(wheels[1]) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["grown-1.0.dist-info/METADATA"] += b"License-Expression: MIT\n"
    with zipfile.ZipFile(wheels[1], "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    bill = json.loads(make_sbom(tmp_path, name="app", version="1.2"))
    parts = {part["name"]: part for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert set(parts) == {"tiny", "grown"}
    assert parts["grown"]["licenses"][0]["license"]["id"] == "MIT"
    assert parts["tiny"]["hashes"] == [{"alg": "SHA-256", "content": sha256_of(wheels[0])}]
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert needs["tiny==1.0"] == ["grown==1.0"]


def test_the_tools_look_where_pip_looks(tmp_path: Path) -> None:
    """Addresses go through the environment, where a password is not seen by everybody; folders that are not there do not."""
    told = resolving.uv_environment(
        {
            "index-url": "https://me:secret@index.example/simple",
            "find-links": f"{tmp_path} /not/there",
            "cert": "/c.pem",
        },
        brought=tmp_path / "brought",
    )
    assert told["UV_DEFAULT_INDEX"] == "https://me:secret@index.example/simple"
    assert told["UV_FIND_LINKS"] == f"{tmp_path / 'brought'},{tmp_path}"
    assert told["SSL_CERT_FILE"] == "/c.pem"
    assert "UV_INDEX" not in told


def test_pips_settings_are_read_as_pip_ranks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over the file."""
    import sys

    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://one.example/simple\ncert = /a b.pem\n", encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.example/simple")
    told = resolving.pip_settings(sys.executable)
    assert told["index-url"] == "https://two.example/simple"
    assert told["cert"] == "/a b.pem"


def order(tmp_path: Path, target: str) -> build_kit.Order:
    """An order for a target."""
    return build_kit.Order(resolving.TARGETS[target], "3.11", tmp_path, None, has_tests=False)


def test_a_torch_of_the_other_kind_stops_the_build_and_names_the_file_to_bring(tmp_path: Path) -> None:
    """A Windows index has no CUDA build, a Linux one often no other."""
    with pytest.raises(packages.SetupError, match=r"torch-2\.13\.0\+cu130-cp311-cp311-win_amd64\.whl.*--bring"):
        build_kit._require_build(order(tmp_path, "windows-cuda"), "2.13.0", "")
    with pytest.raises(packages.SetupError, match=r"torch-2\.13\.0\+cpu-cp311-cp311-manylinux_2_28_x86_64\.whl"):
        build_kit._require_build(order(tmp_path, "linux-cpu"), "2.13.0", "13.0")
    build_kit._require_build(order(tmp_path, "linux-cuda"), "2.13.0", "13.0")
    build_kit._require_build(order(tmp_path, "windows-cpu"), "2.13.0", "")


def test_torchvision_comes_along_only_as_the_pair_of_its_torch(tmp_path: Path) -> None:
    """On Linux an index's plain pair is a CUDA pair; on Windows its plain torchvision would break every import."""
    plain, brought = (
        {"torch": "2.13.0", "torchvision": "0.28.0"},
        {"torch": "2.13.0+cu130", "torchvision": "0.28.0+cu130"},
    )
    mixed = {"torch": "2.13.0+cu130", "torchvision": "0.28.0"}
    assert build_kit._is_torchvision_fit(order(tmp_path, "linux-cuda"), plain)
    assert build_kit._is_torchvision_fit(order(tmp_path, "windows-cuda"), brought)
    assert not build_kit._is_torchvision_fit(order(tmp_path, "windows-cuda"), plain)
    assert not build_kit._is_torchvision_fit(order(tmp_path, "windows-cuda"), mixed)


def test_a_new_kit_takes_the_place_of_the_old_one_and_leaves_the_page_of_words(tmp_path: Path) -> None:
    """Wheels of the kit before would otherwise be strangers in the new one."""
    made = order(tmp_path, "linux-cpu")
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    (tmp_path / "old-1.0-py3-none-any.whl").write_bytes(b"")
    made.stage.mkdir()
    for name in ("new-1.0-py3-none-any.whl", "KIT.json", "SHA256SUMS"):
        (made.stage / name).write_text(name, encoding="utf-8")
    build_kit._replace(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "KIT.json",
        "README.md",
        "SHA256SUMS",
        "new-1.0-py3-none-any.whl",
    ]
