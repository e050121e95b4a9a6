import os
from pathlib import Path

import msgspec
import pytest

from bench.peers.isolation import Facts, address_space, facts, isolation, memory_limit

HOST = {"mnt": "mnt:[1]", "pid": "pid:[1]", "net": "net:[1]", "user": "user:[1]"}
PLAIN = Facts(90_000, HOST, 0, False, None, None)


def changed(**words: object) -> Facts:
    return msgspec.structs.replace(PLAIN, **words)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (PLAIN, changed(uid=90_001), {"user id": "own"}),
        (PLAIN, PLAIN, {"user id": "shared"}),
        (changed(uid=0), changed(uid=0), {"user id": "root"}),
        (PLAIN, changed(namespaces=HOST | {"pid": "pid:[2]"}), {"pid ns": "-"}),
        # One for all sites together keeps them from the host, not from each other.
        (changed(namespaces=HOST | {"mnt": "mnt:[2]"}), changed(namespaces=HOST | {"mnt": "mnt:[2]"}), {"mnt ns": "-"}),
        (changed(namespaces=HOST | {"mnt": "mnt:[2]"}), changed(namespaces=HOST | {"mnt": "mnt:[3]"}), {"mnt ns": "own"}),
        (changed(seccomp=2), PLAIN, {"seccomp": "filter"}),
        (changed(seccomp=1), PLAIN, {"seccomp": "-"}),
        (changed(no_new_privileges=True), PLAIN, {"no_new_privs": "yes"}),
        (changed(memory_bytes=256 << 20, address_space_bytes=1 << 30), PLAIN, {"memory limit": "cgroup 256 MiB"}),
        (changed(address_space_bytes=512 << 20), PLAIN, {"memory limit": "address space 512 MiB"}),
        (PLAIN, PLAIN, {"memory limit": "-"}),
    ],
)  # fmt: skip
def test_what_a_site_is_kept_from(one: Facts, other: Facts, words: dict[str, str]) -> None:
    assert isolation(one, other, PLAIN).words().items() >= words.items()


def test_a_limit_of_the_whole_bench_is_no_site_s() -> None:
    limited = changed(memory_bytes=1 << 30)
    assert isolation(limited, limited, limited).memory_limit == ""


def test_the_limit_of_a_group_above_counts(tmp_path: Path) -> None:
    group = tmp_path / "memory/a/b"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_limit("4:memory:/a/b\n3:pids:/x\n", tmp_path) is None
    (group.parent / "memory.limit_in_bytes").write_text("1048576\n")
    assert memory_limit("4:memory:/a/b\n3:pids:/x\n", tmp_path) == 1 << 20


def test_the_limit_of_cgroup_v2(tmp_path: Path) -> None:
    group = tmp_path / "a/b"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory_limit("0::/a/b\n", tmp_path) is None
    (group / "memory.max").write_text("4096\n")
    assert memory_limit("0::/a/b\n", tmp_path) == 4096


@pytest.mark.parametrize(("word", "limit"), [("unlimited", None), ("536870912", 536_870_912)])
def test_the_limit_of_the_address_space(word: str, limit: int | None) -> None:
    text = f"Limit                     Soft Limit\nMax cpu time   unlimited\nMax address space         {word}   unlimited  bytes\n"
    assert address_space(text) == limit


def test_our_own_process_has_the_host_s_namespaces() -> None:
    mine = facts(os.getpid())
    assert isolation(mine, mine, mine).namespaces == ()
