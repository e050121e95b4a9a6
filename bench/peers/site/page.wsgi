"""The same page in Python: what PHP's does, line by line, for Passenger runs no PHP."""

import hashlib
import html


def page(heading, rows):
    yield f"<!doctype html><title>{html.escape(heading)}</title><h1>{html.escape(heading)}</h1><ul>"
    for row in rows:
        yield f'<li id="{html.escape(row["mark"])}">{html.escape(row["title"])}</li>'
    yield "</ul>"


def application(environ, start_response):
    rows = []
    for number in range(1, 51):
        title = f"Entry {number} of <{{name}}>"
        rows.append({"title": title, "mark": hashlib.md5(title.encode()).hexdigest()[:8]})
    body = "".join(page("{{marker}}", rows)).encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
