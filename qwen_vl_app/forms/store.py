"""The templates of a site and those that ship: listed, saved as versions, taken in and given away as files.

Knows which version counts. Does not know what a template says. What ships is never changed: saving under its name makes the
site's first version of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from qwen_vl_app.errors import FormError
from qwen_vl_app.forms.cabinet import Cabinet
from qwen_vl_app.forms.fields import Names
from qwen_vl_app.forms.template import FormTemplate, checked, dump_template, load_template

log = logging.getLogger(__name__)

TEMPLATES_NAME = "templates"


class TemplateStore:
    """All templates of a data folder. Any thread."""

    def __init__(self, folder: Path) -> None:
        self._cabinet = Cabinet(folder / TEMPLATES_NAME)

    def list(self) -> tuple[FormTemplate, ...]:
        """Return the latest version of every template, a site's own first. Raises FormError."""
        own = [template for name in self._cabinet.drawers() if (template := self._latest(name)) is not None]
        taken = {template.name for template in own}
        return (*own, *(template for template in shipped() if template.name not in taken))

    def get(self, name: str, *, version: int | None = None) -> FormTemplate:
        """Return a template, the latest version unless one is named; 0 is what ships. Raises FormError `forms.no_template`."""
        name = name.strip()
        if version in (None, 0):
            found = None if version == 0 else self._latest(name)
            if found is None:
                found = next((template for template in shipped() if template.name == name), None)
        else:
            found = self._read(name, version)
        if found is None:
            raise self._unknown(name)
        return found

    def _unknown(self, name: str) -> FormError:
        known = ", ".join(template.name for template in self.list())
        return FormError("forms.no_template", name=name[:60], known=known)

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions that a site saved, oldest first."""
        return tuple(sorted(_version(file) for file in self._cabinet.names(name) if _version(file)))

    def save(self, template: FormTemplate) -> FormTemplate:
        """Keep a template as the next version of its name and return it; nothing is done where nothing changed."""
        template = checked(template)
        try:
            latest: FormTemplate | None = self.get(template.name)
        except FormError:
            latest = None
        if latest is not None and replace(latest, version=0) == replace(template, version=0):
            return latest
        number = max(self.versions(template.name), default=0) + 1
        kept = replace(template, version=number)
        self._cabinet.put(template.name, f"v{number}.json", dump_template(kept).encode("utf-8"))
        return kept

    def save_new(self, template: FormTemplate, *, joins_title: bool = False) -> FormTemplate:
        """Keep a template whose name was only made up from its title: it never becomes a version of another one.

        With `joins_title` it is the next version of a site's template that has the very same title. Raises FormError.
        """
        known = self.list()
        if joins_title and template.title != Names():
            for each in known:
                if each.version and each.title == template.title:
                    return self.save(replace(template, name=each.name))
        taken = {each.name for each in known}
        name, number = template.name, 1
        while name in taken:
            number += 1
            name = f"{template.name[:44]}_{number}"
        return self.save(replace(template, name=name))

    def remove(self, name: str) -> None:
        """Remove a site's template with all its versions. Raises FormError `forms.no_template`, `forms.shipped`."""
        if not self._cabinet.remove(name):
            if any(template.name == name for template in shipped()):
                raise FormError("forms.shipped", name=name[:60])
            raise self._unknown(name)

    def _latest(self, name: str) -> FormTemplate | None:
        versions = self.versions(name) if self._cabinet.has(name) else ()
        for version in reversed(versions):
            found = self._read(name, version)
            if found is not None:
                return found
        return None

    def _read(self, name: str, version: int) -> FormTemplate | None:
        if not self._cabinet.has(name):
            return None
        data = self._cabinet.get(name, f"v{version}.json")
        try:
            return None if data is None else replace(load_template(data), name=name, version=version)
        except FormError:
            log.warning("version %s of a template cannot be read", version)
            return None


@cache
def shipped() -> tuple[FormTemplate, ...]:
    """Return the templates that come with the app."""
    return tuple(sorted(_shipped(), key=lambda template: template.name))


def _shipped() -> Iterator[FormTemplate]:
    folder = resources.files(__package__) / "shipped"
    for file in folder.iterdir():
        if file.name.endswith(".json"):
            yield load_template(file.read_bytes())


def _version(file: str) -> int:
    number = file.removeprefix("v").removesuffix(".json")
    return int(number) if file.startswith("v") and number.isascii() and number.isdigit() else 0
