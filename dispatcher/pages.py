"""What a proxy or the UserLB says in its own name: error pages, the waiting page. Pure. No address, path or reason of the inside is
shown."""

import html
import json
import math
from typing import NamedTuple

from dispatcher.problems import HTTP_STATUS, Code, Problem


class Page(NamedTuple):
    status: int
    content_type: bytes
    body: bytes
    retry_after_s: int | None = None


class _Words(NamedTuple):
    title: str
    detail: str
    retry_after_s: int | None = None


_DIED = "The site stopped while it worked on this request."

# What a visitor may know of each problem. The whole story is in the access log and the app's events, under the request id.
_WORDS: dict[Code, _Words] = {
    Code.UNKNOWN_HOST: _Words(
        "No such site", "There is no site with this name here. Is the address spelled correctly?"
    ),
    Code.UNKNOWN_APP: _Words("No such site", "There is no site with this name here."),
    Code.UNKNOWN_CONTAINER: _Words("The site is moving", "The site is being moved. Please try again.", 2),
    Code.SWITCHED_OFF: _Words("Switched off", "This site is switched off.", 3600),
    Code.MAINTENANCE: _Words("Back soon", "This site is being worked on and will be back soon.", 300),
    Code.QUEUE_FULL: _Words("Too many visitors", "More requests wait for this site than it can take.", 5),
    Code.TOO_MANY_REQUESTS: _Words("Too many requests", "More requests came than this site allows.", 5),
    Code.BODY_TOO_LARGE: _Words("Too large", "What was sent is larger than this site takes."),
    Code.START_TIMEOUT: _Words("Slow start", "The site takes too long to start. Please try again.", 10),
    Code.START_FAILED: _Words("Cannot start", "The site does not start. Its owner finds the reason in its events.", 30),
    Code.BACKING_OFF: _Words("Cannot start", "The site failed to start a moment ago and is tried again soon.", 30),
    Code.CONTAINER_DIED: _Words("Interrupted", _DIED),
    Code.DEADLINE: _Words("Too slow", "The site took too long to answer."),
    Code.NO_COMPUTE: _Words("No room", "Nobody can start the site at the moment. Please try again.", 5),
    Code.FORBIDDEN: _Words("Not allowed", "This address is not for visitors."),
    Code.CMDB_DOWN: _Words("Not ready", "The service is starting. Please try again.", 5),
    Code.INVALID: _Words("Bad request", "The request cannot be understood."),
}
_INTERNAL = _Words("Our mistake", "Something went wrong here. It is logged under the number below.")

# Refusals of the parser: the sentence is ours, so it may be shown.
TITLES = {400: "Bad request", 408: "Too slow", 431: "Headers too large", 501: "Not supported", 505: "Not supported"}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#234;background:#f6f8fa;margin:0;display:grid;min-height:100vh}"
    "main{max-width:32rem;padding:2rem;margin:auto}h1{font-size:1.5rem;margin:0 0 .5rem}small{color:#678}"
    "@media(prefers-color-scheme:dark){body{color:#dde;background:#14181c}}"
)


def problem_page(problem: Problem, request_id: str, accept: str) -> Page:
    words = _WORDS.get(problem.code, _INTERNAL)
    retry_after_s = words.retry_after_s
    if problem.retry_after_s is not None:
        retry_after_s = max(1, math.ceil(problem.retry_after_s))
    return _page(HTTP_STATUS[problem.code], words.title, words.detail, problem.code, request_id, accept, retry_after_s)


def maintenance_page(own: str) -> Page:
    """An app's own HTML, for browsers."""
    words = _WORDS[Code.MAINTENANCE]
    return Page(HTTP_STATUS[Code.MAINTENANCE], b"text/html; charset=utf-8", own.encode(), words.retry_after_s)


def not_a_file(status: int, request_id: str, accept: str) -> Page:
    """404, or 405 for what is no question."""
    if status == 405:
        return _page(status, "Not possible", "Files can only be read.", "not_allowed", request_id, accept, None)
    return _page(status, "Not found", "There is no such file here.", "not_found", request_id, accept, None)


def asleep_for_bots(request_id: str, accept: str) -> Page:
    detail = "This site sleeps until a visitor comes. Crawlers and monitors do not wake it."
    return _page(503, "Asleep", detail, "asleep", request_id, accept, 3600)


def refusal_page(status: int, detail: str, request_id: str) -> Page:
    """Of a request that could not be parsed, so that nothing is known of what the client accepts."""
    return _page(status, TITLES.get(status, "Refused"), detail, "refused", request_id, "text/html", None)


def waiting_page(request_id: str) -> Page:
    """Shown instead of holding. 503 with Retry-After: a crawler that got 200 would index this page as the site's, and a cache keep
    it, while browsers show the body of a 503 all the same. It reloads without a script, so that no CSP or blocker stops it."""
    body = _html("Just a moment", "The site wakes up and will be here in a moment.", request_id, refresh_s=1)
    return Page(503, b"text/html; charset=utf-8", body, 1)


def prefers_html(accept: str) -> bool:
    """A browser that loads a page says text/html; an API client, an image or a script does not."""
    return "text/html" in accept or "application/xhtml+xml" in accept


def _page(
    status: int, title: str, detail: str, code: str, request_id: str, accept: str, retry_after_s: int | None
) -> Page:
    if prefers_html(accept):
        return Page(status, b"text/html; charset=utf-8", _html(title, detail, request_id), retry_after_s)
    told: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    told |= {"code": str(code), "request_id": request_id}
    if retry_after_s is not None:
        told["retry_after_s"] = retry_after_s
    return Page(status, b"application/problem+json", json.dumps(told).encode() + b"\n", retry_after_s)


def _html(title: str, detail: str, request_id: str, *, refresh_s: int | None = None) -> bytes:
    refresh = "" if refresh_s is None else f'<meta http-equiv="refresh" content="{refresh_s}">'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">{refresh}'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{html.escape(title)}</h1>"
        f"<p>{html.escape(detail)}</p><p><small>Request {html.escape(request_id)}</small></p></main></body></html>\n"
    ).encode()
