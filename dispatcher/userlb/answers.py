"""What the UserLB says in its own name, in the words of dispatcher/pages.py, HTML or JSON by Accept. Pure.

HAProxy makes such a page when it has to, from one log-format string for each status; both forms are in it, percent-encoded because
an argument of `iif` may hold neither commas nor brackets. What is no HTTP at all gets HAProxy's own short 400 or 408: its
parser answers there, and in 2.6 not even an errorfile changes what it says.
"""

from urllib.parse import quote

from dispatcher import pages
from dispatcher.pages import Page
from dispatcher.problems import Code, Problem

_NUMBER = "%[unique-id]"
_MARK = "NUMBER"
_PLAIN = " /:;=-_.!?#"  # needs no encoding; a quote would end the string
_KIND = "X-FastContainer-Page"  # tells our own answers from a container's, for their Content-Type; it goes no further

# What befalls a request in a lane, and what the UserProxies call it.
BROKEN = {
    500: Code.INTERNAL,
    502: Code.CONTAINER_DIED,
    503: Code.QUEUE_FULL,
    504: Code.DEADLINE,
}


def preparation() -> list[str]:
    return [
        "    http-request set-var(txn.html) bool(false)",
        "    http-request set-var(txn.html) bool(true) if { req.fhdr(accept) -m sub text/html application/xhtml+xml }",
        f"    http-after-response set-header Content-Type application/problem+json "
        f"if {{ res.fhdr({_KIND}) -m found }} !{{ var(txn.html) -m bool }}",
        f"    http-after-response del-header {_KIND}",
    ]


def errors() -> list[str]:
    return [f"    http-error status {status} {answer(code)}" for status, code in BROKEN.items()]


def refusal(code: Code, condition: str, *, retry_after: str = "") -> str:
    """The rule that answers so. `retry_after`: a log-format string, instead of the page's own seconds."""
    status = Problem(code, "").http_status
    return f"    http-request return status {status} {answer(code, retry_after)} {condition}"


def answer(code: Code, retry_after: str = "") -> str:
    """The words after `status NNN` of http-error and return."""
    html, json = (pages.problem_page(Problem(code, ""), _MARK, accept) for accept in ("text/html", ""))
    body = _NUMBER.join(
        f"%[var(txn.html),iif({_encoded(ours)},{_encoded(theirs)}),url_dec]"
        for ours, theirs in zip(_parts(html), _parts(json), strict=True)
    )
    fields = {"Cache-Control": "no-store", "X-Request-Id": _NUMBER, _KIND: "ours"}
    retry_after = retry_after or (str(html.retry_after_s) if html.retry_after_s is not None else "")
    if retry_after:
        fields["Retry-After"] = retry_after
    more = "".join(f" hdr {name} {value}" for name, value in fields.items())
    # Outside of quotes \n is a line feed; url_dec leaves one that ends its argument as it is.
    return f"content-type \"text/html; charset=utf-8\" lf-string '{body}'\\n{more}"


def _parts(page: Page) -> list[str]:
    return page.body.decode().removesuffix("\n").split(_MARK)


def _encoded(text: str) -> str:
    return quote(text, safe=_PLAIN)
