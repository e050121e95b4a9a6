import os
import pty
import subprocess
import termios
import threading

from containerlib.terminal import raw, relay


def ended(command: list[str], stdin: int, stdout: int) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout)
    return process, os.pidfd_open(process.pid)


def carried(data: bytes, command: list[str]) -> bytes:
    """What `command` answers to `data` through two relayed pipes, while a reader of ours takes it at its own pace."""
    feed, feeding = os.pipe()
    taken, taking = os.pipe()
    inside, into = os.pipe()
    out_of, outside = os.pipe()
    process, pidfd = ended(command, inside, outside)
    os.close(inside)
    os.close(outside)
    answer: list[bytes] = []

    def write() -> None:
        with open(feeding, "wb") as file:
            file.write(data)

    def read() -> None:
        with open(taken, "rb") as file:
            answer.append(file.read())

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    relay({feed: into, out_of: taking}, pidfd, [into])
    for fd in (taking, feed, out_of, pidfd):
        os.close(fd)
    for thread in threads:
        thread.join()
    assert process.wait() == 0
    return answer[0]


def test_everything_arrives_in_both_directions_and_the_end_too() -> None:
    data = os.urandom(1 << 20)
    assert carried(data, ["cat"]) == data


def test_the_last_words_of_a_program_that_does_not_read_are_heard() -> None:
    assert carried(b"", ["sh", "-c", "exec echo last words"]) == b"last words\n"


def test_raw_is_undone_and_the_size_is_passed_on() -> None:
    master, terminal = pty.openpty()
    inner, inner_terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (33, 99))
    before = termios.tcgetattr(terminal)
    with raw(terminal, inner):
        assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert termios.tcgetwinsize(inner_terminal) == (33, 99)
    assert termios.tcgetattr(terminal) == before
    for fd in (master, terminal, inner, inner_terminal):
        os.close(fd)
