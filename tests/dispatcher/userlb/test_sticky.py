"""The cookie, as HAProxy itself takes it."""

from dispatcher.userlb.lanes import Allow, Close, Open, Route, SlotId, Stick

FIRST, SECOND = SlotId("lane0", 0), SlotId("lane0", 1)


async def two(front, *, sticky: bool) -> None:
    addresses = [await front.site(name) for name in ("one", "two")]
    opened = [Open(slot, address, 8) for slot, address in zip((FIRST, SECOND), addresses, strict=True)]
    tokens = [Stick("lane0/s1", "aaaa", True), Stick("lane0/s2", "bbbb", True)] if sticky else []
    await front.runtime.do([*tokens, *opened, Allow("lane0", "9000:9", True), Route("blog.test", "lane0", True)])


async def test_the_cookie_leads_back_and_is_given_once(front) -> None:
    await two(front, sticky=True)
    first = await front.ask("blog.test")
    slot, token = {b"one": ("s1", "aaaa"), b"two": ("s2", "bbbb")}[first.body]
    assert first.headers["set-cookie"] == f"fastcontainer={slot}.{token}; Path=/; HttpOnly; SameSite=Lax"
    for _ in range(6):
        again = await front.ask("blog.test", cookie=f"a=b; fastcontainer={slot}.{token}")
        assert (again.body, again.headers.get("set-cookie")) == (first.body, None)


async def test_a_cookie_of_another_life_or_a_closed_slot_is_replaced(front) -> None:
    await two(front, sticky=True)
    for cookie in ("s1.old", "s2.aaaa", "s9.aaaa", "nonsense", "", "../../s1.aaaa"):
        answer = await front.ask("blog.test", cookie=f"fastcontainer={cookie}")
        assert answer.status == 200 and "set-cookie" in answer.headers, cookie
    assert {(await front.ask("blog.test", cookie="fastcontainer=s1.old")).body for _ in range(8)} == {b"one", b"two"}
    await front.runtime.do([Close(FIRST)])
    answer = await front.ask("blog.test", cookie="fastcontainer=s1.aaaa")
    assert (answer.body, answer.headers["set-cookie"][:20]) == (b"two", "fastcontainer=s2.bbb")


async def test_who_did_not_ask_for_it_gets_none(front) -> None:
    await two(front, sticky=False)
    answers = [await front.ask("blog.test", cookie="fastcontainer=s1.aaaa") for _ in range(6)]
    assert {answer.body for answer in answers} == {b"one", b"two"}
    assert not [answer for answer in answers if "set-cookie" in answer.headers]
