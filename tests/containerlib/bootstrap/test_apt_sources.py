"""Which of a host's apt sources are for a suite."""

from pathlib import Path

import pytest

from containerlib.bootstrap import apt_sources

DEBIAN = """\
Types: deb deb-src
# a comment in between
URIs: http://deb.example.org/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
uris: http://security.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYxyz
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
URIs: http://sources.example.org
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://off.example.org
Suites: bookworm
Components: main
"""


def test_deb822() -> None:
    assert apt_sources.for_suite({"debian.sources": DEBIAN}, "bookworm") == (
        "Types: deb\nURIs: http://deb.example.org/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        "\n"
        "Types: deb\nURIs: http://security.example.org/debian-security\nSuites: bookworm-security\nComponents: main\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEYxyz\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )


@pytest.mark.parametrize(
    ("line", "stanza"),
    [
        (
            "deb http://x.example/debian trixie main contrib",
            "URIs: http://x.example/debian\nSuites: trixie\nComponents: main contrib\n",
        ),
        (
            "  deb  http://x.example/ trixie   main # note",
            "URIs: http://x.example/\nSuites: trixie\nComponents: main\n",
        ),
        (
            "deb [ arch=amd64,arm64 signed-by=/k.gpg foo=1 ] http://x.example trixie-updates main",
            "URIs: http://x.example\nSuites: trixie-updates\nComponents: main\nArchitectures: amd64 arm64\nSigned-By: /k.gpg\n",
        ),
        ("# deb http://x.example trixie main", ""),
        ("deb-src http://x.example trixie main", ""),
        ("deb http://x.example nodistro main", ""),
    ],
)
def test_one_line(line: str, stanza: str) -> None:
    wanted = f"Types: deb\n{stanza}" if stanza else ""
    assert apt_sources.for_suite({"sources.list": line}, "trixie") == wanted


def test_other_files_are_not_read() -> None:
    assert apt_sources.for_suite({"x.list.save": "deb http://x.example trixie main"}, "trixie") == ""


def test_of_a_host(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEBIAN)
    (tmp_path / "sources.list").write_text("deb http://one.example bookworm main\n")
    found = apt_sources.of_host("bookworm", tmp_path)
    assert found.count("URIs:") == 3 and "http://one.example" in found and "off.example" not in found
    with pytest.raises(LookupError, match=r"suite 'trixie' is not in this host's apt sources \(.*\): name a mirror"):
        apt_sources.of_host("trixie", tmp_path)


def test_a_host_without_apt(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="name a mirror"):
        apt_sources.of_host("trixie", tmp_path)
