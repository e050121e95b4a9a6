from msgspec import structs

from dispatcher.compute.digest import bucket
from dispatcher.compute.protocol import Digest
from dispatcher.userlb.digesting import Digests
from dispatcher.userlb.lines import Line

LINE = Line("1", 1.5, "lane0", "s1", "GET", 200, "--", 12, 0, 1, 9, 120, "0", "blog.test", "/")


def test_a_second_of_each_life() -> None:
    digests = Digests()
    digests.take(LINE, "blog/1.1")
    digests.take(structs.replace(LINE, queue_ms=5), "blog/1.1")
    digests.take(structs.replace(LINE, end="SH", response_ms=-1), "shop/1.1")
    digests.take(structs.replace(LINE, end="CD", response_ms=-1), "shop/1.1")
    digests.take(structs.replace(LINE, end="SD"), "shop/1.1")
    assert digests.close({"blog/1.1": 500, "wiki/1.1": 3, "idle/1.1": 0}, 7.0) == {
        "blog/1.1": Digest(7.0, 500, 2, 1, 0, 20, {bucket(10): 2}),
        "shop/1.1": Digest(7.0, 3, 3, 0, 2, 10, {bucket(10): 1}),
        "wiki/1.1": Digest(7.0, 3),
    }
    assert digests.close({}, 8.0) == {}
