"""A filter of system calls made small: the same answer to every call, in a third of the instructions.

libseccomp asks for each call by itself. Most answers hang on the call's number alone, and neighbours mostly have the same: so they
become ranges, found by a binary search, and only calls whose arguments matter keep the instructions that look at these. Every
container holds its filter three times (as it came, translated, and as machine code).

Pure. A program is an array of struct sock_filter (linux/bpf_common.h, linux/seccomp.h); its jumps only lead forward.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LOAD, AND, RETURN, JUMP, EQUAL, ABOVE, AT_LEAST = 0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35
TESTS: dict[int, Callable[[int, int], bool]] = {
    EQUAL: lambda value, k: value == k,
    ABOVE: lambda value, k: value > k,
    AT_LEAST: lambda value, k: value >= k,
}
NUMBER, ARCHITECTURE = 0, 4  # where struct seccomp_data has them
_FORM = struct.Struct("=HBBI")
_FAR = 255  # a conditional jump leads no further
_NUMBERS = 1 << 32


@dataclass(frozen=True, slots=True)
class Instruction:
    code: int
    yes: int  # instructions to skip
    no: int
    k: int


Program = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call's number decides: what to return, or where in the old program to go on with the arguments."""

    value: int = 0
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """Among the ranges from `first` to before `last`."""

    first: int
    last: int


Label = Answer | Search


def read(program: bytes) -> Program:
    return tuple(Instruction(*fields) for fields in _FORM.iter_unpack(program))


def squeezed(program: bytes) -> bytes:
    """The program as it was where it does what libseccomp's do not, or would not become smaller."""
    try:
        small = b"".join(_FORM.pack(each.code, each.yes, each.no, each.k) for each in _Small(read(program)).build())
    except ValueError:
        return program
    return min(small, program, key=len)


class _Small:
    def __init__(self, old: Program) -> None:
        if len(old) < 2 or (old[0].code, old[0].k, old[1].code) != (LOAD, ARCHITECTURE, EQUAL):
            raise ValueError("it does not begin with the architecture")
        self._old = old
        self._native = old[1].k
        self._starts, self._answers = self._ranges()
        # In their order, each with the labels of where its jumps lead; and where each label is.
        self._items: list[tuple[Instruction, Label | None, Label | None]] = []
        self._places: dict[Label, int] = {}

    def _ranges(self) -> tuple[list[int], list[Answer]]:
        starts: list[int] = []
        answers: list[Answer] = []
        for number in _edges(self._old):
            answer = self._follow(number)
            if not answers or answers[-1] != answer:
                starts.append(number)
                answers.append(answer)
        return starts, answers

    def _follow(self, number: int) -> Answer:
        place, value = 0, 0
        while (each := self._old[place]).code != RETURN:
            if each.code == LOAD and each.k not in (NUMBER, ARCHITECTURE):
                return Answer(at=place)
            if each.code == LOAD:
                value = number if each.k == NUMBER else self._native
            elif each.code == AND:
                value &= each.k
            place = next(_next(each, place, value))
        return Answer(each.k)

    def build(self) -> Iterator[Instruction]:
        foreign = self._foreign()
        root = Search(0, len(self._answers))
        if len(self._answers) < 2:
            raise ValueError("it has one answer to all")
        self._items = [
            (Instruction(LOAD, 0, 0, ARCHITECTURE), None, None),
            (Instruction(EQUAL, 0, 0, self._native), None, foreign),
            (Instruction(LOAD, 0, 0, NUMBER), None, None),
        ]
        self._add_search(root)
        self._add_tails()
        for answer in dict.fromkeys([*self._answers, foreign]):
            if answer.at is None:
                self._add(answer, Instruction(RETURN, 0, 0, answer.value))
        return (self._resolved(place) for place in range(len(self._items)))

    def _foreign(self) -> Answer:
        """To calls of every other architecture."""
        answer = self._old[2 + self._old[1].no]
        if answer.code != RETURN or any((each.code, each.k) == (LOAD, ARCHITECTURE) for each in self._old[1:]):
            raise ValueError("it knows another architecture")
        return Answer(answer.k)

    def _add(self, label: Label, instruction: Instruction, yes: Label | None = None, no: Label | None = None) -> None:
        self._places[label] = len(self._items)
        self._items.append((instruction, yes, no))

    def _add_search(self, search: Search) -> None:
        if search.last - search.first == 1:
            return
        middle = (search.first + search.last) // 2
        below, rest = Search(search.first, middle), Search(middle, search.last)
        self._add(search, Instruction(AT_LEAST, 0, 0, self._starts[middle]), self._led(rest), self._led(below))
        self._add_search(below)
        self._add_search(rest)

    def _led(self, search: Search) -> Label:
        return self._answers[search.first] if search.last - search.first == 1 else search

    def _add_tails(self) -> None:
        """In their old order: what comes after an instruction that does not jump comes after it here, too."""
        places = {answer.at for answer in self._answers if answer.at is not None}
        ahead = list(places)
        while ahead:
            place = ahead.pop()
            new = set(_next(self._old[place], place)) - places
            places |= new
            ahead += new
        for place in sorted(places):
            each = self._old[place]
            if each.code in TESTS:
                self._add(Answer(at=place), each, Answer(at=place + 1 + each.yes), Answer(at=place + 1 + each.no))
            elif each.code == JUMP:
                self._add(Answer(at=place), each, Answer(at=place + 1 + each.k))
            else:
                self._add(Answer(at=place), each)

    def _resolved(self, place: int) -> Instruction:
        each, *labels = self._items[place]
        yes, no = (0 if label is None else self._places[label] - place - 1 for label in labels)
        if each.code == JUMP:
            return Instruction(JUMP, 0, 0, yes)
        if not 0 <= yes <= _FAR or not 0 <= no <= _FAR:
            raise ValueError("a jump leads too far")
        return Instruction(each.code, yes, no, each.k)


def _edges(program: Iterable[Instruction]) -> list[int]:
    """Numbers at which the answer may become another."""
    found = {0}
    for each in program:
        if each.code in TESTS:
            found |= {each.k, each.k + 1}
    return sorted(edge for edge in found if edge < _NUMBERS)


def _next(each: Instruction, place: int, value: int | None = None) -> Iterator[int]:
    """Where it leads: with `value`, or at all. Raises ValueError at what libseccomp does not write."""
    if each.code in TESTS:
        if value is None:
            yield from (place + 1 + each.yes, place + 1 + each.no)
        else:
            yield place + 1 + (each.yes if TESTS[each.code](value, each.k) else each.no)
    elif each.code == JUMP:
        yield place + 1 + each.k
    elif each.code in (LOAD, AND):
        yield place + 1
    elif each.code != RETURN:
        raise ValueError(f"instruction {each.code:#x} is not known here")
