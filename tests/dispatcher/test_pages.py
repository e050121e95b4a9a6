import html.parser
import json

import pytest

from dispatcher import pages
from dispatcher.problems import HTTP_STATUS, Code, Problem

SECRET = "100.96.0.5:80 </p><script>alert(1)</script>"


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*", ""])
def test_no_page_shows_the_inside(code, accept):
    page = pages.problem_page(Problem(code, SECRET, hint=SECRET, retry_after_s=0.2), "id1", accept)
    assert page.status == HTTP_STATUS[code]
    assert page.retry_after_s == 1
    assert b"100.96" not in page.body
    assert b"<script" not in page.body
    assert b"id1" in page.body
    if accept == "text/html":
        html.parser.HTMLParser().feed(page.body.decode())
    else:
        assert json.loads(page.body)["code"] == code


def test_everything_is_escaped():
    assert b"<b>" not in pages.refusal_page(400, "<b>", "<b>").body


def test_the_waiting_page_loads_itself_again():
    page = pages.waiting_page("id1")
    assert (page.status, page.retry_after_s) == (503, 1)
    assert b'http-equiv="refresh"' in page.body
    assert b"noindex" in page.body
