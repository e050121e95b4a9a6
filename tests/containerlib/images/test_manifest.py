"""A manifest survives the disk, and what is none is refused by name."""

import pytest

from containerlib.images.manifest import Config, Manifest

MANIFEST = Manifest(
    name="php",
    version="20261124-101010-0123abcd",
    recipe="0123abcd",
    contents="ff",
    built=1_795_000_000,
    size_bytes=5,
    files=2,
    bootstrap="Oci",
    steps=("tools",),
    config=Config(("php", "-a"), {"A": "1"}, "/srv", "web:web"),
)


def test_the_way_there_and_back() -> None:
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"format": 1', '"format": 2', "format 2: must be 1"),
        ('"built": 1795000000', '"built": "x"', r"\$.built"),
        ('"workdir": "/srv"', '"workdir": 5', r"\$.config.workdir"),
        ('"recipe"', '"recipes"', "recipe"),
        ("{", "", "Expected `object`"),
    ],
)
def test_what_is_no_manifest(old: str, new: str, words: str) -> None:
    text = MANIFEST.to_bytes().decode()
    assert old in text
    with pytest.raises(ValueError, match=words):
        Manifest.from_bytes(text.replace(old, new, 1).encode())
