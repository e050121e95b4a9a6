"""Strategy `git`: the files of one commit, without history and without .git. Submodules are not fetched.

A branch or tag is looked up when the recipe is asked for, so a branch that moved makes a new version.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from containerlib import programs
from containerlib.images import recipe
from containerlib.images.bench import Bench
from containerlib.images.fields import require, require_time

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"[\w][\w./+-]*")
_LOOK_UP_S = 60.0
# Nobody is there to answer a question, and hooks or filters of root's own configuration are no business of an image.
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "core.hooksPath",
    "GIT_CONFIG_VALUE_0": "/dev/null",
    "GIT_CONFIG_KEY_1": "protocol.ext.allow",
    "GIT_CONFIG_VALUE_1": "never",
}


@dataclass(frozen=True, slots=True)
class Git:
    """`url`: anything that git fetches from, or an absolute path; `ref`: a branch, a tag or a whole commit id."""

    url: str
    ref: str = "HEAD"
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        require(self, "url", self.url and not self.url.startswith("-"), "must be a URL or an absolute path")
        # It would be shown with every failed command.
        rule = "must hold no password: use a key or a credential helper of git"
        if "://" in self.url and urlsplit(self.url).password is not None:
            raise ValueError(f"Git.url: {rule}")
        require(self, "ref", _REF.fullmatch(self.ref) and ".." not in self.ref, "must be a branch, tag or commit id")
        require_time(self)

    def commit(self) -> str:
        """Raises programs.ProgramError; LookupError if there is no such branch or tag."""
        if _COMMIT.fullmatch(self.ref):
            return self.ref
        remedy = f"check that git can reach {self.url} as root without a password being asked for"
        found = programs.run(
            ("git", "ls-remote", "--", self.url, self.ref, f"{self.ref}^{{}}"),
            timeout_s=_LOOK_UP_S,
            env=_ENV,
            remedy=remedy,
        )
        commit = choose(found, self.ref)
        if commit is None:
            raise LookupError(f"{self.url} has no branch or tag {self.ref!r}")
        return commit

    def recipe(self) -> str:
        return recipe.of(self, omit=("ref", "url"), commit=self.commit())

    def build(self, root: Path, bench: Bench) -> None:
        def git(*words: str) -> None:
            bench.run("git", "-c", "init.defaultBranch=main", *words, cwd=root, timeout_s=self.timeout_s, env=_ENV)

        git("init", "--quiet")
        git("fetch", "--quiet", "--depth", "1", "--no-tags", "--", self.url, self.commit())
        git("checkout", "--quiet", "--detach", "FETCH_HEAD")
        shutil.rmtree(root / ".git")


def choose(listing: str, ref: str) -> str | None:
    """From what `git ls-remote` wrote: an annotated tag's commit, not the tag; a branch rather than a tag of its name. Pure."""
    found = {name: commit for commit, _, name in (line.partition("\t") for line in listing.splitlines())}
    wanted = (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/{ref}^{{}}", f"refs/{ref}")
    return next((found[name] for name in wanted if name in found), None)
