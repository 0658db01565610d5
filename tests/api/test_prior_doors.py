"""The addresses of the systems that came before answer as they did: a form with a picture in, plain JSON out."""

from __future__ import annotations

import io
import tempfile
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import Serve


@pytest.mark.parametrize("path", ["/describe-image/", "/describe-image"])
def test_a_picture_is_described(serve: Serve, png: bytes, path: str) -> None:
    """`file` comes back as a description, with the seconds it took and the model that looked."""
    served = serve([["A teal ", "rectangle."]])
    response = served.client.post(path, files={"file": ("a.png", png, "image/png")})
    assert response.status_code == 200
    assert set(response.json()) == {"description", "inference_time", "model"}
    assert (response.json()["description"], response.json()["model"]) == ("A teal rectangle.", "fake")
    assert 0 <= response.json()["inference_time"] < 10
    assert len(served.engine.requests[0].messages[0].images) == 1


def test_a_question_about_a_picture_is_answered(serve: Serve, png: bytes) -> None:
    """`image` and `query` come back as `text`."""
    served = serve(["Teal."])
    response = served.client.post("/api/v1/analyze", files={"image": ("a.png", png)}, data={"query": "Which colour?"})
    assert response.json() == {"text": "Teal."}
    assert served.engine.requests[0].messages[0].text == "Which colour?"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/describe-image/", {"image": b"x"}, "image"),
        ("/describe-image/", {}, "file"),
        ("/api/v1/analyze", {"image": b"x"}, "query"),
        ("/api/v1/analyze", {"file": b"x", "query": "?"}, "file"),
    ],
)
def test_a_form_without_its_fields_is_told_which(
    serve: Serve, path: str, fields: dict[str, bytes | str], param: str
) -> None:
    """What is missing, or is not known, is named."""
    files = {name: (None, value) if isinstance(value, str) else ("a.png", value) for name, value in fields.items()}
    response = serve().client.post(path, files=files or {"": (None, "")})
    assert response.status_code == 400
    assert response.json()["error"]["param"] in (param, "")


def test_a_file_that_is_no_picture_is_refused(serve: Serve) -> None:
    """The file's own fault is 422, in the app's words."""
    response = serve().client.post("/describe-image/", files={"file": ("a.png", b"not a picture")})
    assert response.status_code == 422
    assert response.json()["error"]["code"].startswith("image.")


@pytest.mark.parametrize(("path", "field"), [("/describe-image/", "file"), ("/api/v1/analyze", "image")])
def test_a_large_picture_is_held_in_memory_alone(
    serve: Serve, path: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that programs send is kept, not even in the machine's temporary folder for as long as it is read."""
    written: list[Any] = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", written.append)
    stream = io.BytesIO()
    Image.effect_noise((1800, 1400), 90).save(stream, "PNG")
    assert len(stream.getvalue()) > 2 * 2**20
    served = serve(["Noise."])
    response = served.client.post(
        path, files={field: ("a.png", stream.getvalue())}, data={"query": "What?"} if field == "image" else {}
    )
    assert response.status_code == 200
    assert "Noise." in response.text
    assert not written
