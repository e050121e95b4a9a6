"""What a definition on an image comes to, once it is known which version: where it says nothing, the image does.

    image, spec = resolve(spec, store)

The image's own files are data that nobody has checked: its /etc/passwd may be a link, a pipe, without end or nonsense.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from containerlib.checks import SpecError
from containerlib.images import Image, Store
from containerlib.images.manifest import Config
from containerlib.spec import ContainerSpec, User
from containerlib.spec import Image as Root
from containerlib.starting import number_of

TABLE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int
    home: str


def resolve(spec: ContainerSpec, store: Store) -> tuple[Image, ContainerSpec]:
    """Raises SpecError for what the image does not allow, ImageError for one that is not there or damaged."""
    assert isinstance(spec.root, Root)
    image = _find(spec.root, store)
    config = image.manifest.config
    command = spec.command or config.command
    if not command:
        raise SpecError("command", (), f"is neither in the definition nor in image {spec.root.reference}")
    user, own_env = _user(spec.user, config, image.root)
    workdir = spec.workdir or config.workdir or "/"
    env = {**own_env, **config.env, **spec.env}
    return image, replace(spec, command=tuple(command), user=user, workdir=workdir, env=env)


def named_user(words: str, image: Path | None) -> tuple[int, int | None]:
    """User and group, as numbers, of USER or USER:GROUP; `image`: root of the one whose names count. Raises SpecError."""
    name, _, group_name = words.partition(":")
    found = User(_word(name), _word(group_name) if group_name else None)
    if image is not None:
        found, _ = _user(found, Config(), image)
    group = None if found.group is None else number_of("group", found.group)
    return number_of("user", found.user or 0), group


def _find(root: Root, store: Store) -> Image:
    name, _, version = root.reference.partition("@")
    try:
        if version:
            return store.get(name, version)
        newest = store.newest(name)
    except ValueError as error:
        raise SpecError("bootstrap.image", root.reference, str(error)) from error
    if newest is None:
        raise SpecError("bootstrap.image", name, "has not been built; fastcontainer container create FILE builds it")
    return newest


def _user(asked: User, config: Config, root: Path) -> tuple[User, Mapping[str, str]]:
    """By numbers, and what its environment is to say of it."""
    user, group = asked.user, asked.group
    if user is None:
        name, _, own_group = config.user.partition(":")
        user = _word(name or "0")
        group = _word(own_group) if group is None and own_group else group
    accounts, groups = _Tables(root).read()
    env: dict[str, str] = {}
    account = None
    if isinstance(user, str):
        if (account := accounts.get(user)) is None:
            raise SpecError("user", user, "is nobody whom the image's /etc/passwd knows")
        env = {"USER": user, "HOME": account.home}
        user, group = account.uid, account.gid if group is None else group
    numbers = tuple(_group(groups, "groups", each) for each in asked.groups)
    return User(user, None if group is None else _group(groups, "group", group), numbers), env


def _word(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _group(groups: Mapping[str, int], field: str, word: int | str) -> int:
    if not isinstance(word, str):
        return word
    if word not in groups:
        raise SpecError(field, word, "is none that the image's /etc/group knows")
    return groups[word]


@dataclass(frozen=True, slots=True)
class _Tables:
    root: Path

    def read(self) -> tuple[Mapping[str, Account], Mapping[str, int]]:
        """The first line of a name counts, as for C libraries; what is no line is none."""
        accounts: dict[str, Account] = {}
        groups: dict[str, int] = {}
        for words in self._lines("passwd", 7):
            with suppress(ValueError):
                accounts.setdefault(words[0], Account(int(words[2]), int(words[3]), words[5] or "/"))
        for words in self._lines("group", 4):
            with suppress(ValueError):
                groups.setdefault(words[0], int(words[2]))
        return accounts, groups

    def _lines(self, name: str, fields: int) -> Iterator[list[str]]:
        for line in self._text(name).splitlines():
            words = line.split(":")
            if len(words) == fields and words[0]:
                yield words

    def _text(self, name: str) -> str:
        """Empty where it is no file of the image's own /etc: a link could lead to one of the host."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            etc = os.open(self.root / "etc", flags | os.O_DIRECTORY)
        except OSError:
            return ""
        try:
            fd = os.open(name, flags | os.O_NONBLOCK, dir_fd=etc)
        except OSError:
            return ""
        finally:
            os.close(etc)
        try:
            return os.read(fd, TABLE_BYTES_MAX).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
        finally:
            os.close(fd)
