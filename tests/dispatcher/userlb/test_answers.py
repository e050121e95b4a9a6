"""A visitor gets the same page in a lane as from a UserProxy: HAProxy is compared with the addon that answers there."""

import json

import pytest

from addons.exchange import own_response
from dispatcher import pages
from dispatcher.problems import Code, Problem
from dispatcher.userlb.lanes import Allow, Open, Route, SlotId

SLOT = SlotId("lane0", 0)
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


def by_addon(page: pages.Page, id: str) -> dict[str, str]:
    response = own_response(page, id, None)
    return {name.lower(): value for name, value in response.headers.items() if name.lower() != "connection"}


@pytest.mark.parametrize(
    ("code", "policy", "answer"),
    [
        (Code.QUEUE_FULL, "9000:0", None),
        (Code.CONTAINER_DIED, "9000:9", b""),
        (Code.CONTAINER_DIED, "9000:9", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        (Code.DEADLINE, "100:9", None),
    ],
    ids=["queue", "died", "nonsense", "late"],
)
async def test_a_visitor_gets_the_same_page(front, code, policy, answer) -> None:
    address = await front.site("warm", takes_s=1.0 if answer is None else 0.0, answers=False, says=answer or b"")
    routes = [Route("blog.test", "lane0", True)]
    await front.runtime.do([Open(SLOT, address, 8), Allow("lane0", policy, True), *routes])
    for accept in (HTML, "application/json", "*/*", ""):
        response = await front.ask("blog.test", method="POST", content_length="0", accept=accept)
        id = response.headers["x-request-id"]
        assert len(id) == 16
        page = pages.problem_page(Problem(code, ""), id, accept)
        assert (response.status, response.body) == (page.status, page.body)
        got = {name: value for name, value in response.headers.items() if name != "connection"}
        assert got == by_addon(page, id), accept
        if "text/html" not in accept:
            assert json.loads(response.body)["code"] == code
