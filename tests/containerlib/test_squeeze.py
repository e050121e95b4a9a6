"""Filters made small, beside what they were made of: followed as the kernel does, by other code than made them."""

import functools
import struct

import pytest
import seccomp as libseccomp
from hypothesis import given
from hypothesis import strategies as st

from containerlib import seccomp, squeeze
from containerlib.squeeze import Instruction, read, squeezed

parsed = functools.cache(read)  # a thousand times the same two


def answer(program: bytes, call: bytes) -> int:
    """`call`: a struct seccomp_data."""
    instructions, place, value = parsed(program), 0, 0
    while True:
        match instructions[place]:
            case Instruction(0x06, _, _, k):
                return k
            case Instruction(0x20, _, _, k):
                (value,) = struct.unpack_from("=I", call, k)
            case Instruction(0x54, _, _, k):
                value &= k
            case Instruction(0x05, _, _, k):
                place += k
            case Instruction(0x15, yes, no, k):
                place += yes if value == k else no
            case Instruction(0x25, yes, no, k):
                place += yes if value > k else no
            case Instruction(0x35, yes, no, k):
                place += yes if value >= k else no
            case other:
                raise AssertionError(other)
        place += 1


def compiled(*, squeeze_it: bool) -> bytes:
    made = seccomp.compile_filter
    with pytest.MonkeyPatch.context() as patch:
        if not squeeze_it:
            patch.setattr(seccomp, "squeezed", lambda program: program)
        return made()


OLD, NEW = compiled(squeeze_it=False), compiled(squeeze_it=True)
(NATIVE,) = {each.k for each in read(OLD)[1:2]}
INTERESTING = sorted({edge for each in read(OLD) if each.code in squeeze.TESTS for edge in (each.k, each.k + 1)})
words = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, 2, 8, 16, *(1 << bit for bit in range(64))])


def call(number: int, architecture: int = NATIVE, *arguments: int) -> bytes:
    return struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])


def test_it_is_small() -> None:
    assert len(NEW) <= 256 * 8 < len(OLD)


def test_every_call_has_the_same_answer() -> None:
    numbers = [*range(1200), *(edge for edge in INTERESTING if edge < 1 << 32), 0x40000000, 0x40000001, 0xFFFFFFFF]
    assert len({answer(OLD, call(number)) for number in numbers}) > 3
    for number in numbers:
        for argument in (0, 1, 2, 0x10, 0x20, 0x10000000, 0x02000000, 0xFFFFFFFF):
            made = call(number, NATIVE, *[argument] * 6)
            assert answer(NEW, made) == answer(OLD, made), (number, argument)


@given(st.integers(0, 500) | st.integers(0, (1 << 32) - 1), st.lists(words, min_size=6, max_size=6))
def test_whatever_the_arguments_are(number: int, arguments: list[int]) -> None:
    made = call(number, NATIVE, *arguments)
    assert answer(NEW, made) == answer(OLD, made)


@given(st.integers(0, 500), st.integers(0, (1 << 32) - 1))
def test_another_architecture_is_refused_as_before(number: int, architecture: int) -> None:
    made = call(number, architecture)
    assert answer(NEW, made) == answer(OLD, made)


def form(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        form((0x06, 0, 0, 1)),
        form((0x20, 0, 0, 0), (0x15, 0, 1, 5), (0x06, 0, 0, 1), (0x06, 0, 0, 2)),
        form((0x20, 0, 0, 4), (0x15, 1, 0, NATIVE), (0x06, 0, 0, 1), (0x06, 0, 0, 2)),
        form((0x20, 0, 0, 4), (0x15, 1, 0, NATIVE), (0x06, 0, 0, 1), (0x87, 0, 0, 0), (0x06, 0, 0, 2)),
    ],
    ids=["empty", "one answer", "no architecture", "one answer to all numbers", "unknown instruction"],
)
def test_what_cannot_be_made_small_stays_as_it_is(program: bytes) -> None:
    assert squeezed(program) == program


def test_two_architectures_are_left_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    rules = libseccomp.SyscallFilter(defaction=libseccomp.ALLOW)
    rules.add_arch(libseccomp.Arch.AARCH64)
    rules.add_rule(libseccomp.ERRNO(1), "mount")
    with (tmp_path_factory.mktemp("two") / "program").open("w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        program = file.read()
    assert squeezed(program) == program
