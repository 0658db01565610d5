"""The bill of materials of a folder of wheels, in CycloneDX: what is in it, under which licence, with which hash.

Knows wheels' metadata and CycloneDX's words. Runs where `cyclonedx-python-lib` is installed: in the environment of tools that
`build_kit` makes, as `python -m scripts.kit.sbom FOLDER NAME VERSION`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from scripts.kit.folder import SBOM_NAME
from scripts.kit.wheels import Wheel, list_wheels, normalised, read_metadata, sha256_of

SCHEMA = SchemaVersion.V1_6
LONGEST_LICENCE = 200
_licences = LicenseFactory()


def make_sbom(folder: Path, *, name: str, version: str) -> str:
    """Return the bill of materials of the wheels in a folder as JSON, checked against its schema. Raises ValueError."""
    wheels = list_wheels(folder)
    app = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref="app")
    bom = Bom()
    bom.metadata.component = app
    parts: dict[str, Component] = {}
    needs: dict[str, set[str]] = {}
    for wheel in wheels:
        metadata = read_metadata(wheel.path)
        parts[wheel.name] = _component(wheel, metadata)
        needs[wheel.name] = {_needed(line) for line in metadata.get_all("Requires-Dist") or ()}
        bom.components.add(parts[wheel.name])
    for wheel_name, part in parts.items():
        bom.register_dependency(
            part, [parts[need] for need in needs[wheel_name] if need in parts and need != wheel_name]
        )
    bom.register_dependency(app, list(parts.values()))
    text: str = make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string(indent=1)
    problem = JsonStrictValidator(SCHEMA).validate_str(text)
    if problem is not None:
        raise ValueError(f"the bill of materials does not follow its schema: {problem!r}")
    return text + "\n"


def _component(wheel: Wheel, metadata: Message) -> Component:
    homepage = metadata.get("Home-page") or ""
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{wheel.name}=={wheel.version}",
        description=metadata.get("Summary"),
        purl=PackageURL("pypi", name=wheel.name, version=wheel.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256_of(wheel.path))],
        licenses=list(_licence(metadata)),
        external_references=(
            [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(homepage))]
            if homepage.startswith("http")
            else []
        ),
    )


def _licence(metadata: Message) -> Iterator[License]:
    """Give the licence as the package declares it: an expression, or words, or what its classifiers say."""
    expression = metadata.get("License-Expression") or ""
    words = (metadata.get("License") or "").strip()
    classified = [
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::") and line.count("::") > 1
    ]
    if expression:
        yield _licences.make_from_string(expression, license_acknowledgement=LicenseAcknowledgement.DECLARED)
    elif words and "\n" not in words and len(words) <= LONGEST_LICENCE and words.upper() != "UNKNOWN":
        yield _licences.make_from_string(words, license_acknowledgement=LicenseAcknowledgement.DECLARED)
    else:
        for name in classified:
            yield _licences.make_with_name(name, acknowledgement=LicenseAcknowledgement.DECLARED)


def _needed(line: str) -> str:
    for end in ";[(<>=!~ ":
        line = line.partition(end)[0]
    return normalised(line.strip())


def main(arguments: list[str]) -> int:
    """Write the bill of materials into a folder of wheels."""
    folder, name, version = Path(arguments[0]), arguments[1], arguments[2]
    (folder / SBOM_NAME).write_text(make_sbom(folder, name=name, version=version), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
