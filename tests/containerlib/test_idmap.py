import itertools

import pytest

from containerlib import idmap

BASE = 300_000


def test_an_apps_ids_are_mapped_each_once_and_none_of_anybody_else() -> None:
    extents = idmap.extents(BASE)
    for side in ("inside", "outside"):
        ranges = sorted((getattr(each, side), getattr(each, side) + each.count) for each in extents)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    outside = [number for each in extents for number in range(each.outside, each.outside + each.count)]
    assert sorted(outside) == list(range(BASE, BASE + idmap.IDS))


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (idmap.APP_USER, BASE),
        (0, BASE + 1),
        (33, BASE + 34),
        (999, BASE + 1000),
        (65534, BASE + 1001),
        (1001, BASE + 1002),
    ],
)
def test_who_is_who(inside: int, outside: int) -> None:
    (found,) = [each for each in idmap.extents(BASE) if each.inside <= inside < each.inside + each.count]
    assert found.outside + inside - found.inside == outside


def test_the_text_is_what_the_kernel_wants() -> None:
    assert idmap.map_text(BASE).splitlines()[0] == "1000 300000 1"
    assert len(idmap.map_text(BASE).splitlines()) <= 340  # the kernel's limit


@pytest.mark.parametrize(
    ("inside", "expected"), [(1000, 70_000), (0, 70_001), (999, 71_000), (65534, 71_001), (1022, 71_023)]
)
def test_outside(inside: int, expected: int) -> None:
    assert idmap.outside(70_000, inside) == expected


@pytest.mark.parametrize("inside", [1023, -1, 65535])
def test_not_a_containers_id(inside: int) -> None:
    with pytest.raises(ValueError, match=f"id {inside} is not one of a container's"):
        idmap.outside(70_000, inside)
