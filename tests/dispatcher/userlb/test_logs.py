import json
import socket

from dispatcher.accesslog import AccessLog
from dispatcher.userlb.digesting import Digests
from dispatcher.userlb.lanes import Memory, SlotId
from dispatcher.userlb.logs import LogReader

LINE = {
    "id": "1", "at": 1.5, "lane": "lane0", "server": "s2", "method": "GET", "status": 200, "end": "--", "ms": 2, "queue_ms": 0,
    "connect_ms": 0, "response_ms": 1, "bytes": 9, "tries": "0", "host": "blog.test", "path": "/",
}  # fmt: skip


async def test_a_line_belongs_to_what_had_the_slot_until_now(tmp_path) -> None:
    log = AccessLog(str(tmp_path / "access" / "userlb.log"))
    digests = Digests()
    reader = LogReader(str(tmp_path / "log.sock"), log, digests)
    reader.start()
    haproxy = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        haproxy.connect(str(tmp_path / "log.sock"))
        haproxy.send(json.dumps(LINE).encode())
        reader.memory = Memory({"lane0": "blog"}, {SlotId("lane0", 1): "blog/1.1"})
        reader.drain()
        haproxy.send(json.dumps(LINE).encode())
        haproxy.send(b"Proxy web stopped")
        haproxy.send(b"{}")
        haproxy.send(json.dumps(LINE | {"server": "proxy0"}).encode())  # which logs it itself
        haproxy.send(json.dumps(LINE | {"server": "<NOSRV>", "status": 503, "end": "PR"}).encode())
        reader.memory = Memory({"lane0": "shop"}, {SlotId("lane0", 1): "shop/1.1"})
        reader.drain()
        log.flush()
        lines = list(map(json.loads, (tmp_path / "access" / "userlb.log").read_text().splitlines()))
        assert [(line["app"], line["life"]) for line in lines] == [
            ("blog", "blog/1.1"),
            ("shop", "shop/1.1"),
            ("shop", ""),
        ]
        assert (reader.lines, reader.malformed) == (4, 1)
        assert {life: digest.measured for life, digest in digests.close({}, 0.0).items()} == {
            "blog/1.1": 1,
            "shop/1.1": 1,
        }
    finally:
        haproxy.close()
        reader.close()
        log.close()
