"""The app of `served_app.py` after an update: every script of the page is another file. `python served_newer.py PORT FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from qwen_vl_app.ui import browser_part

_text = browser_part._text
browser_part._text = lambda name: f"{_text(name)}\n// a newer version\n" if name.endswith(".js") else _text(name)

if __name__ == "__main__":
    from tests.ui.served_app import main  # the scripts are read when the app is imported

    main(int(sys.argv[1]), Path(sys.argv[2]))
