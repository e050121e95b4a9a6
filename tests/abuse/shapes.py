"""What hostile clients send, and what has to come back: at the UserLB, and at a UserProxy without one in front.

An answer of 200 is the site's own: what it then got was one request, framed in one way (test_abuse.py looks at each). `python -m
tests.abuse.table` writes the table of docs/abuse.md from this.
"""

from typing import NamedTuple

GET = b"GET /%s HTTP/1.1\r\nHost: blog.test\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: blog.test\r\n"
CL, TE = b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"
ROUTE, CLIENT = b"X-FastContainer-Route: forged\r\n", b"X-Forwarded-For: forged\r\n"
OTHER = b"GET http://blog.test@other.test/%s HTTP/1.1\r\nHost: blog.test\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
INNER = b"GET /smuggled HTTP/1.1\r\nHost: blog.test\r\n\r\n"


class Shape(NamedTuple):
    """`sent` has %s where its own mark goes. Statuses with a blank between are of several answers; `cut` is a connection that ends
    without one."""

    name: str
    sent: bytes
    userlb: str
    userproxy: str


def body(data: bytes) -> bytes:
    return CL % len(data) + b"\r\n" + data


SMUGGLING = [
    Shape("CL.TE: both, the length longer", POST + CL % 4 + TE + b"\r\n0\r\n\r\n" + INNER, "200", "400"),
    Shape("TE.CL: both, the length shorter", POST + TE + CL % 3 + b"\r\n2b\r\n" + INNER + b"\r\n0\r\n\r\n", "200", "400"),
    Shape("two lengths that differ", POST + CL % 0 + CL % len(INNER) + b"\r\n" + INNER, "400", "400"),
    Shape("two lengths that are alike", POST + CL % 2 + CL % 2 + b"\r\nhi", "200", "400"),
    Shape("a list of lengths", POST + b"Content-Length: 2, 2\r\n\r\nhi", "200", "400"),
    Shape("a length with a sign", POST + b"Content-Length: +2\r\n\r\nhi", "400", "400"),
    Shape("a length below nothing", POST + b"Content-Length: -2\r\n\r\nhi", "400", "400"),
    Shape("a length in hexadecimal", POST + b"Content-Length: 0x2\r\n\r\nhi", "400", "400"),
    Shape("a length beyond 64 bits", POST + b"Content-Length: 18446744073709551618\r\n\r\nhi", "400", "400"),
    Shape("a blank before the colon", POST + b"Content-Length : 40\r\n\r\n" + INNER, "400", "400"),
    Shape("TE.TE: a second encoding", POST + TE + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400", "400"),
    Shape("TE.TE: chunked twice", POST + TE + TE + b"\r\n0\r\n\r\n", "400", "400"),
    Shape("an unknown encoding", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400", "400"),
    Shape("chunked not last", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400", "400"),
    Shape("a vertical tab before chunked", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400", "400"),
    Shape("chunked in capitals", POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "200", "200"),
    Shape("chunked in HTTP/1.0", POST.replace(b"1.1", b"1.0") + TE + b"\r\n0\r\n\r\n" + INNER, "200", "400"),
    Shape("a header continued on the next line", POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n", "200", "400"),
    Shape("an encoding continued on the next line", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "200", "400"),
    Shape("lines that end in bare LF", b"GET /%s HTTP/1.1\nHost: blog.test\n\n", "200", "200"),
    Shape("a bare CR in a value", GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n", "400", "400"),
    Shape("NUL in a value", GET + b"X: a\0b\r\n\r\n", "400", "400"),
    Shape("a header without a name", GET + b": x\r\n\r\n", "400", "400"),
    Shape("a header without a colon", GET + b"Transfer-Encoding chunked\r\n\r\n", "400", "400"),
    Shape("chunk extensions", POST + TE + b"\r\n2;a=b;c=\"d\"\r\nhi\r\n0\r\n\r\n", "200", "200"),
    Shape("a line feed in a chunk extension", POST + TE + b"\r\n2;a\nxx\r\nhi\r\n0\r\n\r\n", "400", "400"),
    Shape("chunk sizes that end in bare LF", POST + TE + b"\r\n2\nhi\n0\n\n", "200", "waits"),
    Shape("a chunk size beyond 64 bits", POST + TE + b"\r\n10000000000000002\r\nhi\r\n0\r\n\r\n", "400", "waits"),
    Shape("a chunk size with a sign", POST + TE + b"\r\n+2\r\nhi\r\n0\r\n\r\n", "400", "400"),
    Shape("a chunk longer than its size", POST + TE + b"\r\n2\r\nhiGET /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n", "400", "400"),
    Shape("a trailer that names a length", POST + TE + b"\r\n0\r\nContent-Length: 40\r\n\r\n", "200", "200"),
    Shape("a body with GET that is a request", GET + body(INNER), "200", "200"),
    Shape("two requests at once", GET + b"\r\n" + GET.replace(b"%s", b"again") + b"\r\n", "200 200", "200 200"),
]  # fmt: skip

HOSTS = [
    Shape("no Host", b"GET /%s HTTP/1.1\r\n\r\n", "400", "400"),
    Shape("two Hosts that differ", GET + b"Host: other.test\r\n\r\n", "400", "400"),
    Shape("two Hosts that are alike", GET + b"Host: blog.test\r\n\r\n", "200", "400"),
    Shape("a target that names another host", b"GET http://other.test/%s HTTP/1.1\r\nHost: blog.test\r\n\r\n", "400", "400"),
    Shape("a target that names the same host", b"GET http://blog.test/%s HTTP/1.1\r\nHost: blog.test\r\n\r\n", "200", "200"),
    Shape("user and password in the target", OTHER, "400", "400"),
    Shape("user and password in Host", b"GET /%s HTTP/1.1\r\nHost: other.test@blog.test\r\n\r\n", "404", "404"),
    Shape("capitals, a dot at the end and a port", b"GET /%s HTTP/1.1\r\nHost: BLOG.Test.:8080\r\n\r\n", "200", "200"),
    Shape("two dots at the end", b"GET /%s HTTP/1.1\r\nHost: blog.test..\r\n\r\n", "404", "404"),
    Shape("a port that is none", b"GET /%s HTTP/1.1\r\nHost: blog.test:x\r\n\r\n", "404", "404"),
    Shape("two ports", b"GET /%s HTTP/1.1\r\nHost: blog.test:80:81\r\n\r\n", "404", "404"),
    Shape("a list of hosts", b"GET /%s HTTP/1.1\r\nHost: blog.test, other.test\r\n\r\n", "404", "404"),
    Shape("a path in Host", b"GET /%s HTTP/1.1\r\nHost: blog.test/x\r\n\r\n", "404", "404"),
    Shape("an empty Host", b"GET /%s HTTP/1.1\r\nHost: \r\n\r\n", "404", "404"),
    Shape("another host in X-Forwarded-Host", GET + b"X-Forwarded-Host: other.test\r\n\r\n", "200", "200"),
    Shape("a target that is no path", b"GET blog.test/%s HTTP/1.1\r\nHost: blog.test\r\n\r\n", "400", "400"),
    Shape("CONNECT", b"CONNECT blog.test:80 HTTP/1.1\r\nHost: blog.test:80\r\nX: /%s\r\n\r\n", "501", "501"),
]  # fmt: skip

FORGED = [
    Shape("our routing header", GET + ROUTE + b"\r\n", "200", "200"),
    Shape("the same with _", GET + b"X_FastContainer_Route: forged\r\n\r\n", "200", "200"),
    Shape("the app for the files' process", GET + b"X-FastContainer-App: forged\r\n\r\n", "200", "200"),
    Shape("the routing header named by Connection", GET + b"Connection: X-FastContainer-Route\r\n" + ROUTE + b"\r\n", "200", "200"),
    Shape("X-Forwarded-For named by Connection", GET + b"Connection: X-Forwarded-For\r\n" + CLIENT + b"\r\n", "200", "200"),
    Shape("a client's address", GET + CLIENT + b"Forwarded: for=forged\r\nX-Real-IP: forged\r\n\r\n", "200", "200"),
    Shape("Proxy, which CGI reads as HTTP_PROXY", GET + b"Proxy: forged\r\n\r\n", "200", "200"),
    Shape("an upgrade to h2c", GET + H2C, "200", "200"),
]  # fmt: skip

SIZES = [
    Shape("a header of 40 kB", GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", "400", "431"),
    Shape("200 headers", GET + b"X: a\r\n" * 200 + b"\r\n", "400", "431"),
    Shape("a target of 40 kB", b"GET /%s" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: blog.test\r\n\r\n", "400", "431"),
    Shape("a header of 12 kB", GET + b"X: " + b"a" * 12_000 + b"\r\n\r\n", "200", "200"),
]  # fmt: skip

GROUPS = {"Smuggling": SMUGGLING, "Hosts": HOSTS, "Forged headers": FORGED, "Sizes": SIZES}
