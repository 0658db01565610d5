"""Located places as a COCO document, the form in which other programs for pictures take boxes.

Knows COCO's fields: boxes as x, y, width, height in pixels of the upright original. Does not know where the file goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen_vl_app.answers.places import Place, PlacedPicture
from qwen_vl_app.chat import JsonValue

UNNAMED = "object"
"""The category of places without a label: COCO has none without a name."""
_ABOUT = (
    "Pixels of the upright original: a picture with an EXIF orientation was turned before. "
    "Found by a model, to be verified by a person."
)


def to_coco(places: Sequence[Place], pictures: Sequence[PlacedPicture], *, model: str = "") -> dict[str, JsonValue]:
    """Return the places as COCO. A point becomes one keypoint; `attributes.source` tells who put a place where it is."""
    names = list(dict.fromkeys(place.region.label or UNNAMED for place in places))
    pointed = {place.region.label or UNNAMED for place in places if place.region.is_point}
    categories: list[JsonValue] = []
    for number, name in enumerate(names, 1):
        category: dict[str, JsonValue] = {"id": number, "name": name, "supercategory": ""}
        categories.append({**category, "keypoints": ["point"], "skeleton": []} if name in pointed else category)
    annotations: list[JsonValue] = []
    for place in places:
        index = place.region.picture_index
        if not 0 <= index < len(pictures):
            continue
        x1, y1, x2, y2 = place.region.box.to_pixels(pictures[index].size)
        annotation: dict[str, JsonValue] = {
            "id": len(annotations) + 1,
            "image_id": index + 1,
            "category_id": names.index(place.region.label or UNNAMED) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "segmentation": [],
            "iscrowd": 0,
            "attributes": {"source": place.source.value},
        }
        if place.region.is_point:
            annotation |= {"keypoints": [x1, y1, 2], "num_keypoints": 1}
        annotations.append(annotation)
    return {
        "info": {"description": _ABOUT, "contributor": model},
        "images": [
            {"id": number, "file_name": picture.name, "width": picture.size.width, "height": picture.size.height}
            for number, picture in enumerate(pictures, 1)
        ],
        "categories": categories,
        "annotations": annotations,
    }
