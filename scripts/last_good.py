"""The environment from before an update: put aside, brought back where the update fails, kept for going back where it does not.

Knows three places on the disk. Does not know what an environment is. A virtual environment does not work elsewhere than
where it was made; it waits elsewhere, and works again once it is back. Standard library only.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts.packages import SetupError


@dataclass(frozen=True)
class LastGood:
    """`environment` is where the one in use stands, `aside` where the one before waits.

    While the file `mark` is there, an update has begun and has not been shown to work: what waits aside is then the good one.
    """

    environment: Path
    aside: Path
    mark: Path

    @property
    def exists(self) -> bool:
        """True where there is something to go back to."""
        return self.aside.is_dir()

    @property
    def is_awaited(self) -> bool:
        """True while the update that was begun has not succeeded yet, also by an earlier process."""
        return self.exists and self.mark.is_file()

    def put_aside(self) -> None:
        """Take the good environment out of the way. Raises SetupError where something still runs from it."""
        shutil.rmtree(self.aside, ignore_errors=True)
        self._move(self.environment, self.aside)
        # The mark after the move: between the two an environment is missing, which the next run makes.
        self.mark.write_text(
            "An update is at work. The environment from before waits in the folder beside this file.\n"
        )

    def bring_back(self) -> None:
        """Put the good environment back into the place of what was begun. Raises SetupError."""
        shutil.rmtree(self.environment, ignore_errors=True)
        self._move(self.aside, self.environment)
        self.mark.unlink(missing_ok=True)

    def is_replaced(self) -> None:
        """Note that the new environment works; the one before stays for going back."""
        self.mark.unlink(missing_ok=True)

    def swap(self) -> None:
        """Let the two change places; what was only begun is dropped. Raises SetupError."""
        if self.is_awaited or not self.environment.is_dir():
            self.bring_back()
            return
        between = self.aside.with_name("between")
        shutil.rmtree(between, ignore_errors=True)
        self._move(self.environment, between)
        self._move(self.aside, self.environment)
        self._move(between, self.aside)

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        try:
            source.replace(target)
        except OSError as error:
            raise SetupError(
                f"{source.name} cannot be moved. End the app and whatever else uses it, then run this again."
            ) from error
