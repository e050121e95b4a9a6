"""Each attack, and every protection that holds it: each of them would do so alone."""

from collections.abc import Iterator
from dataclasses import dataclass

# Who has no capability, whose capabilities end with a user namespace, whose calls are filtered.
THREE = ("no capabilities", "user namespace", "filter")
# Files of root's: a user of one's own, who is not root on the host either.
TWO = ("no capabilities", "user namespace")


@dataclass(frozen=True, slots=True)
class Case:
    attack: str  # a function of attacks.py
    layers: tuple[str, ...]  # names of launcher.WITHOUT
    needs: str = ""  # a file that not every kernel has

    @property
    def variants(self) -> dict[frozenset[str], bool]:
        """Protections that are missing -> whether the attack succeeds; the success first, for what never succeeds shows nothing."""
        every = frozenset(self.layers)
        alone = [every - {layer} for layer in self.layers]
        return {every: True, **{removed: False for removed in alone if removed}, frozenset(): False}


CASES = (
    Case("environ_of_init", TWO),  # first: it looks at how a program begins
    Case("environ", ("pid namespace", *TWO)),
    Case("mount", THREE),
    Case("release_agent", THREE),
    Case("unshare_user", ("filter",)),
    Case("clone_user", ("filter",)),
    Case("clone3_user", ("filter",)),
    Case("disk", ("nodev", *TWO)),
    Case("core_pattern", ("read-only proc", *TWO)),
    Case("sysrq", ("masks", *TWO), needs="/proc/sysrq-trigger"),
    Case("keys", ("masks", "user namespace")),
    Case("kcore", ("masks", *TWO), needs="/proc/kcore"),
    Case("timer_list", ("masks", *TWO)),
    Case("sys_write", ("read-only sys", *TWO)),
    Case("chroot", ("pivot_root", "no capabilities")),
    Case("handle", THREE),
    Case("ptrace", ("pid namespace", *THREE)),
    Case("kill", ("pid namespace", *TWO)),
    Case("shared_memory", ("ipc namespace",)),
    Case("keyring", ("session keyring", "filter")),
    Case("io_uring", ("filter",)),
    Case("bpf", THREE),
    Case("userfaultfd", ("filter",)),
    Case("perf", THREE),
    Case("setuid", ("nosuid", "no new privileges", "user namespace")),
    Case("raw", TWO),
    Case("arp", THREE),
    Case("abstract", ("net namespace",)),
    Case("loopback", ("net namespace",)),
    Case("etcd", ("net namespace",)),
)


def rows() -> Iterator[tuple[str, Case, frozenset[str], bool]]:
    """With a name each."""
    for case in CASES:
        for removed, succeeds in case.variants.items():
            kept = " and ".join(layer for layer in case.layers if layer not in removed)
            yield (
                f"{case.attack} with {kept if removed else 'all'}" if kept else f"{case.attack} without",
                case,
                removed,
                succeeds,
            )
