"""Labels in lists to choose from are told from each other."""

from __future__ import annotations

from qwen_vl_app.ui.labels import key_of, labels_of


def test_no_two_labels_are_alike() -> None:
    """Also where a person wrote what would be made up."""
    labels = labels_of([(1, "pump"), (2, "pump"), (3, "pump (2)"), (4, "tank")])
    assert labels[1] == "pump" and labels[4] == "tank"
    assert len(set(labels.values())) == 4


def test_other_labels_are_another_list() -> None:
    """And the same are the same one, in any process."""
    assert key_of("list", ["a", "b"]) == key_of("list", ["a", "b"])
    assert key_of("list", ["a", "b"]) != key_of("list", ["a", "c"])
