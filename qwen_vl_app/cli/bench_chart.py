"""The benchmark as a picture: bars for each arm, one panel for each figure that people compare.

Knows pixels. Does not know how anything was measured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PANELS = (
    ("first_token_s", "cold first token, s", "{:.2f}"),
    ("follow_up_first_token_s", "follow-up first token, s", "{:.3f}"),
    ("decode_tokens_per_s", "decode, tokens/s", "{:.1f}"),
)
WIDTH, MARGIN, LABELS, BAR, GAP, TITLE = 1200, 24, 300, 20, 6, 40
STOCK, OURS, INK, PAPER = "#9aa5b1", "#2563eb", "#1f2933", "#ffffff"


def draw_chart(report: Mapping[str, Any]) -> bytes:
    """Return a PNG."""
    arms = report["arms"]
    sizes = list(arms[0]["sizes"]) if arms else []
    panel_height = TITLE + len(arms) * (BAR + GAP) + GAP
    image = Image.new("RGB", (WIDTH, MARGIN * 3 + len(PANELS) * len(sizes) * panel_height), PAPER)
    draw = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(size=17), ImageFont.load_default(size=14)
    machine = report["machine"]
    head = f"{report['model']} on {machine['processor']}, {report['threads']} threads, torch {machine['torch']}"
    draw.text((MARGIN, MARGIN // 2), f"{head}, {report['measured_at'][:10]}", fill=INK, font=small)
    top = MARGIN * 2
    for size in sizes:
        for name, title, form in PANELS:
            draw.text((MARGIN, top + 8), f"{size}: {title}", fill=INK, font=font)
            values = [float(arm["sizes"][size][name]) for arm in arms]
            longest = max([*values, 1e-9])
            room = WIDTH - LABELS - 2 * MARGIN - 90
            for place, (arm, value) in enumerate(zip(arms, values, strict=True)):
                y = top + TITLE + place * (BAR + GAP)
                draw.text((MARGIN, y + 1), arm["name"], fill=INK, font=small)
                end = LABELS + max(2, round(room * value / longest))
                draw.rectangle((LABELS, y, end, y + BAR), fill=STOCK if arm["is_stock"] else OURS)
                draw.text((end + 8, y + 1), form.format(value), fill=INK, font=small)
            top += panel_height
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
