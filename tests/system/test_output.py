"""What a container writes, and whose death it survives."""

import pytest

from tests.plugins.compute import Host, fetch, python

pytestmark = pytest.mark.system


async def test_both_streams_are_kept(host: Host) -> None:
    await host.app("blog", *python("print('one'); print('two', file=sys.stderr); os.write(1, b'no newline'); serve()"))
    await host.wake("blog")
    await host.until_line("blog", "err two")
    await (await host.proxy()).stop("blog")
    assert sorted(host.lines("blog")) == ["err two", "out no newline", "out one"]


async def test_the_last_words_of_a_program_that_dies_stand_in_its_failure(host: Host) -> None:
    await host.app("blog", *python("raise SystemExit('no database')"))
    refused = await host.refused("blog")
    assert "it exited with code 1" in refused.message
    assert "no database" in refused.message


WRITER = """
def write():
    for number in range(10_000):
        print("line", number, "x" * 100)
        sys.stdout.flush()
        time.sleep(0.002)
threading.Thread(target=write, daemon=True).start()
serve()
"""


async def test_a_program_survives_the_death_of_the_reader_of_its_output_and_no_line_is_lost(host: Host) -> None:
    await host.app("blog", *python(WRITER))
    live = await host.wake("blog")
    await host.until_line("blog", "out line 20 " + "x" * 100)
    await host.detach()
    host.kill_agent()
    before = len(host.lines("blog"))
    # As long as nobody reads, the FIFO keeps what it writes.
    assert (await fetch(live.address)).endswith(b"ok")
    await host.start_agent()
    await host.until_line("blog", f"out line {before + 200} " + "x" * 100)
    numbers = [int(line.split()[2]) for line in host.lines("blog") if line.startswith("out line")]
    # What the dead reader had taken from the FIFO and not yet written is lost: at most one read of each stream.
    missing = set(range(numbers[-1])) - set(numbers)
    assert len(missing) <= 2
    assert (await fetch(live.address)).endswith(b"ok")


async def test_output_is_reopened_by_name(host: Host) -> None:
    await host.app(
        "blog", "sh", "-c", "echo by name > /dev/stdout; echo by error > /dev/stderr; exec busybox httpd -f -p 80"
    )
    await host.wake("blog")
    await host.until_line("blog", "out by name")
    await host.until_line("blog", "err by error")
