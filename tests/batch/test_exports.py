"""What is taken away: files that Excel, programs and people open, about pictures that were really decoded."""

from __future__ import annotations

import csv
import errno
import gc
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from qwen_vl_app.assistant import Assistant
from qwen_vl_app.batch import BatchPlan, BatchRuns, ExportKind, left_out_text
from qwen_vl_app.batch.columns import columns_of
from qwen_vl_app.engine.base import GenerationRequest
from qwen_vl_app.errors import BatchError, UsageError
from qwen_vl_app.history import HistoryStore
from qwen_vl_app.imaging import PictureDecoder
from qwen_vl_app.imaging.report import PAGES_AT_ONCE, ReportEntry, write_report
from qwen_vl_app.texts import Language
from tests.batch.parts import AnsweringEngine
from tests.hub_parts import WAIT_S, replace_settings
from tests.links import make_link

WIDTH, HEIGHT = 560, 280
FIELDS = '```json\n{"tag": "=1+1", "serial": "00427", "bar": 4.5, "kWh": 12345678901.25, "note": "阀门正常"}\n```'
BOXES = '```json\n[{"bbox_2d": [56, 28, 280, 140], "label": "valve"}]\n```'


@dataclass
class Ended:
    """A finished run, and the folders around it."""

    runs: BatchRuns
    run_id: str
    photos: Path
    out: Path

    def export(self, kind: ExportKind, name: str, language: Language = Language.ENGLISH) -> Path:
        export = self.runs.export(self.run_id, kind, self.out / name, language=language)
        assert export.path.exists()
        return export.path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Three pictures, one of them damaged, two questions each: fields and boxes."""
    folder = tmp_path_factory.mktemp("exports")
    photos = folder / "photos"
    (photos / "below").mkdir(parents=True)
    for number, name in enumerate(("a.png", "below/a.jpg")):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * number, 90, 160)).save(photos / name)
    (photos / "=cmd.png").write_bytes(b"no picture")

    def answer(request: GenerationRequest) -> str:
        return BOXES if "Where" in request.messages[-1].text else FIELDS

    settings = replace_settings(data_dir=folder / "data")
    decoder = PictureDecoder(max_bytes=2**24, max_pixels=10**8, timeout_s=30.0)
    assistant = Assistant(
        engine=AnsweringEngine(answer), decoder=decoder, history=HistoryStore(settings.data_dir), settings=settings
    )
    with assistant:
        runs = BatchRuns(assistant)
        run_id = runs.start(BatchPlan(photos, ("What?", "Where?"), is_recursive=True))
        assert runs.wait(run_id, WAIT_S)
        yield Ended(runs, run_id, photos, folder / "out")
        runs.close()


def test_csv_opens_right_in_excel(ended: Ended) -> None:
    """A byte-order mark, a column for each field, Chinese whole, and nothing that runs as a formula."""
    data = ended.export(ExportKind.CSV, "rows.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert len(rows) == 5
    first = next(row for row in rows if row["File"] == "a.png" and row["Question"] == "What?")
    assert (first["tag"], first["serial"], first["bar"], first["note"]) == ("'=1+1", "00427", "4.5", "阀门正常")
    assert first["kWh"] == "12345678901.25"  # no digit is lost, none becomes an exponent
    where = next(row for row in rows if row["File"] == "a.png" and row["Question"] == "Where?")
    assert json.loads(where["Boxes (pixels)"]) == [{"label": "valve", "picture": 1, "bbox": [56, 28, 280, 140]}]
    failed = next(row for row in rows if row["File"] == "'=cmd.png")
    assert failed["Outcome"] == "failed" and failed["Notes"]


def test_no_two_columns_have_one_title(ended: Ended) -> None:
    """What is read off a plate is often called like something that the app tells of its own."""
    for language, model in ((Language.ENGLISH, "Model"), (Language.CHINESE, "模型")):
        titles = [column.title for column in columns_of((model, "bar", "", f"{model} (2)", "Picture"), language)]
        assert len(set(titles)) == len(titles)
        assert titles[5:8] == [f"{model} (2)", "bar", "?"] and titles.index(model) > 8


def test_json_lines_are_for_programs(ended: Ended) -> None:
    """One object a line; boxes in pixels of the original, codes beside sentences."""
    lines = ended.export(ExportKind.JSONL, "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    where = next(row for row in rows if row["question"] == "Where?")
    assert where["regions"] == [{"label": "valve", "picture": 1, "bbox": [56, 28, 280, 140]}]
    assert (where["width"], where["height"], where["outcome"]) == (WIDTH, HEIGHT, "answered")
    (failed,) = (row for row in rows if row["outcome"] == "failed")
    assert failed["error"]["code"].startswith("image.") and failed["text"] is None


def test_a_workbook_has_thumbnails_and_no_formula(ended: Ended) -> None:
    """Each answered row shows its picture; text stays text, numbers are numbers."""
    openpyxl = pytest.importorskip("openpyxl", reason="reads the workbook back")
    file = ended.export(ExportKind.XLSX, "rows.xlsx", Language.CHINESE)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        sheet = archive.read("xl/worksheets/sheet1.xml")
        assert b"<f>" not in sheet
        pictures = [name for name in archive.namelist() if name.startswith("xl/media/")]
        assert len(pictures) == 2  # two pictures, shown on two rows each
        assert Image.open(io.BytesIO(archive.read(pictures[0]))).format == "JPEG"
    sheet = openpyxl.load_workbook(file).active
    titles = [cell.value for cell in sheet[1]]
    rows = [dict(zip(titles, (cell.value for cell in row), strict=True)) for row in sheet.iter_rows(min_row=2)]
    first = next(row for row in rows if row["文件"] == "a.png" and row["问题"] == "What?")
    assert (first["tag"], first["serial"], first["bar"], first["note"]) == ("=1+1", "00427", 4.5, "阀门正常")
    assert sheet.cell(2, titles.index("tag") + 1).data_type != "f"


def test_annotated_pictures_show_the_boxes(ended: Ended) -> None:
    """Full size, in one folder, whatever subfolder they came from; only those that have boxes."""
    export = ended.runs.export(ended.run_id, ExportKind.ANNOTATED, ended.out / "annotated")
    names = sorted(file.name for file in export.path.iterdir())
    assert (export.count, export.left_out) == (2, ())
    assert names == ["a.png", "below__a.jpg"]
    with Image.open(export.path / "a.png") as drawn:
        assert drawn.size == (WIDTH, HEIGHT)
        colours = drawn.convert("RGB")
        assert colours.getpixel((56, 84)) != (0, 90, 160)  # the left edge of the box
        assert colours.getpixel((500, 250)) == (0, 90, 160)


def test_a_picture_that_changed_since_is_not_annotated(ended: Ended) -> None:
    """Boxes of one picture are never drawn on another."""
    file = ended.photos / "a.png"
    before = file.read_bytes()
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(file)
    try:
        export = ended.runs.export(ended.run_id, ExportKind.ANNOTATED, ended.out / "changed")
    finally:
        file.write_bytes(before)
    assert [(each.name, each.reason.code) for each in export.left_out] == [("a.png", "batch.file.changed")]
    assert left_out_text(export.left_out, Language.ENGLISH)[0].startswith("a.png: ")
    assert export.count == 1


def test_the_report_is_a_pdf_with_pages(ended: Ended) -> None:
    """It opens, its first page has the pictures' colours on it."""
    file = ended.export(ExportKind.PDF, "report.pdf")
    document = pypdfium2.PdfDocument(file)
    assert len(document) == 1
    assert document[0].get_size() == pytest.approx((595, 842), abs=2)
    page = document[0].render(scale=1).to_pil().convert("RGB")
    document.close()
    blueish = sum(1 for red, green, blue in page.get_flattened_data() if blue > 130 and red < 80 and green < 130)
    assert blueish > 2000


def test_a_long_report_keeps_all_its_pages(tmp_path: Path) -> None:
    """Pages that are written in several goes are all there, and a long answer goes on overleaf."""
    entries = (ReportEntry(f"photo {number}.jpg", ("很长的回答。" * 120, "word " * 200)) for number in range(40))
    count = write_report(tmp_path / "long.pdf", entries, title="Report", footer="To be verified.")
    assert count > 2 * PAGES_AT_ONCE
    document = pypdfium2.PdfDocument(tmp_path / "long.pdf")
    assert len(document) == count
    document.close()


def test_nothing_is_written_into_the_folder(ended: Ended) -> None:
    """An export into the folder of pictures is refused, also through a link."""
    (ended.out).mkdir(exist_ok=True)
    link = ended.out / "link"
    try:
        make_link(link, ended.photos, is_folder=True)
    except OSError:  # without one there is none to follow
        link = ended.photos
    for target in (ended.photos / "rows.csv", link / "rows.csv", ended.photos / "below" / "new" / "rows.csv"):
        with pytest.raises(UsageError, match="target_within_folder"):
            ended.runs.export(ended.run_id, ExportKind.CSV, target)


def test_half_an_export_is_never_seen(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file keeps its former content until the new one is whole."""
    target = ended.out / "kept.csv"
    target.write_bytes(b"former")

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qwen_vl_app.batch.exports.to_csv", full)
    with pytest.raises(Exception, match="target_unwritable"):
        ended.runs.export(ended.run_id, ExportKind.CSV, target)
    assert target.read_bytes() == b"former"
    assert not list(ended.out.glob("*.part"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("kind", [ExportKind.CSV, ExportKind.JSONL, ExportKind.XLSX, ExportKind.PDF])
def test_a_full_disk_is_one_sentence(ended: Ended, monkeypatch: pytest.MonkeyPatch, kind: ExportKind) -> None:
    """Nothing is left behind, and nothing complains once more when it is collected as rubbish."""
    complaints: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: complaints.append(told.exc_value))
    ended.out.mkdir(exist_ok=True)
    (ended.out / f".full.{kind.value}.part").symlink_to("/dev/full")
    with pytest.raises(BatchError, match="target_unwritable"):
        ended.runs.export(ended.run_id, kind, ended.out / f"full.{kind.value}")
    gc.collect()  # also what other tests left, of which nothing was written to a full disk
    assert not [each for each in complaints if isinstance(each, OSError) and each.errno == errno.ENOSPC]
    assert not list(ended.out.glob("*full*"))
