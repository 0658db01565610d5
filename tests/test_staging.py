"""Pictures that wait for their question: whose they are, how many fit, when they are let go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qwen_vl_app.chat import Detail, SeenSize, Size, StagedPicture
from qwen_vl_app.errors import UsageError
from qwen_vl_app.staging import StagingArea


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _picture(staged_id: str, *, byte_count: int = 100) -> StagedPicture:
    size = Size(28, 28)
    return StagedPicture(
        staged_id=staged_id,
        picture_id=staged_id,
        name="a.png",
        format="PNG",
        size=size,
        seen=SeenSize(size, 1, Detail.FAST),
        upload=b"x" * byte_count,
        view=b"",
        view_mime="image/png",
        thumbnail=b"",
        seen_png=b"",
    )


def test_a_picture_is_its_owners_alone() -> None:
    """Another owner's id is as good as none, for looking and for discarding."""
    area = StagingArea()
    area.put("ann", _picture("1"))
    area.discard("bob", ["1"])
    assert area.get("ann", "1").staged_id == "1"
    with pytest.raises(UsageError, match="gone"):
        area.get("bob", "1")


def test_an_owner_makes_room_only_among_their_own() -> None:
    """Over an owner's limit the picture that was longest untouched goes; other owners' stay."""
    area = StagingArea(bytes_per_owner=250, bytes_in_all=1000)
    area.put("bob", _picture("b"))
    for name in ("1", "2"):
        area.put("ann", _picture(name))
    area.get("ann", "1")
    area.put("ann", _picture("3"))
    assert area.get("ann", "1").staged_id == "1"
    assert area.get("bob", "b").staged_id == "b"
    with pytest.raises(UsageError, match="gone"):
        area.get("ann", "2")


def test_nobody_pushes_out_another_owners_pictures() -> None:
    """Where the area is full of other people's pictures, the newcomer is refused."""
    area = StagingArea(bytes_per_owner=250, bytes_in_all=300)
    area.put("bob", _picture("b", byte_count=250))
    with pytest.raises(UsageError, match="too_much"):
        area.put("ann", _picture("1"))
    assert area.get("bob", "b").staged_id == "b"


def test_what_nobody_touches_is_let_go() -> None:
    """A picture lives on while it is looked at, and goes when its time is up."""
    clock = Clock()
    area = StagingArea(lifetime_s=10, clock=clock)
    area.put("ann", _picture("1"))
    area.put("ann", _picture("2"))
    clock.now = 8
    area.get("ann", "1")
    clock.now = 15
    assert area.get("ann", "1").staged_id == "1"
    with pytest.raises(UsageError, match="gone"):
        area.get("ann", "2")


def test_a_period_lets_go_of_what_arrived_in_it() -> None:
    """An owner's own alone, however often it was looked at since."""
    area = StagingArea()
    before = datetime.now(UTC)
    for owner in ("ann", "bob"):
        area.put(owner, _picture("1"))
    after = datetime.now(UTC) + timedelta(seconds=1)
    area.discard_period("ann", before - timedelta(days=2), before)
    area.discard_period("ann", after, after + timedelta(days=2))
    assert area.get("ann", "1")
    area.discard_period("ann", before, after)
    assert area.get("bob", "1")
    with pytest.raises(UsageError):
        area.get("ann", "1")
