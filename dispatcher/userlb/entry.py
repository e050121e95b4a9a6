"""HAProxy's rules for what needs no container: challenges of certificate authorities, redirects, limits, files. Pure.

They stand before the choice of a lane and go for all requests, cold ones too. `txn.host` is the host name where it is a plain one,
`req.rules` what fronts.py put into the maps for it.
"""

from dispatcher.problems import Code
from dispatcher.userlb import answers
from dispatcher.userlb.fronts import ANY, NOTHING, PERIOD_S

CHALLENGES = "/.well-known/acme-challenge/"
CLIENTS_MAX, APPS_MAX = 200_000, 50_000  # rows of the tables that count; the oldest goes when they are full

_APP, _HTTPS, _HSTS, _RATE, _CLIENT_RATE, _IN_FLIGHT, _BODY, _STATIC = range(1, 9)


def _field(number: int) -> str:
    return f"var(req.rules),field({number},:)"


def tables() -> str:
    """Counters live here; a reload begins them anew."""
    return f"""backend clients
    stick-table type ipv6 size {CLIENTS_MAX} expire 2m store conn_cur,gpc0_rate({PERIOD_S}s)

backend apps
    stick-table type string len 64 size {APPS_MAX} expire 2m store conn_cur,gpc0_rate({PERIOD_S}s)

backend visits
    stick-table type string len 112 size {CLIENTS_MAX} expire 2m store gpc0_rate({PERIOD_S}s)
"""


def odd_heads() -> list[str]:
    """What HAProxy's parser lets through and another server may read differently; the UserProxies refuse the same."""
    return [
        r"    acl odd_head req.hdrs -m reg '[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'",
        "    acl odd_head req.fhdr(content-length) -m reg '^.{19}'",  # near or beyond 64 bits
        answers.refusal(Code.INVALID, "if odd_head"),
    ]


def challenges(path: str) -> list[str]:
    return [
        f"    acl challenge path_beg {CHALLENGES}",
        f"    http-request set-var(req.authorization) path,field(4,/),map({path}) if challenge",
        '    http-request return status 200 content-type text/plain lf-string "%[var(req.authorization)]" '
        "if challenge { var(req.authorization) -m found }",
        # Nobody's visitor asks for one: it would wake the site for whoever looks for certificates in the making.
        answers.refusal(Code.UNKNOWN_HOST, "if challenge"),
    ]


def clients(requests_per_s: float | None, connections: int | None) -> list[str]:
    """Of one client's address over all apps. A load balancer in front has to tell it by the PROXY protocol, or all are one."""
    if requests_per_s is None and connections is None:
        return []
    lines = ["    tcp-request connection track-sc0 src table clients"]
    if connections is not None:
        lines.append(f"    tcp-request connection reject if {{ sc0_conn_cur gt {connections} }}")
    return lines


def client_rate(requests_per_s: float | None) -> list[str]:
    if requests_per_s is None:
        return []
    limit = max(1, round(requests_per_s * PERIOD_S))
    return [
        answers.refusal(Code.TOO_MANY_REQUESTS, f"if {{ sc0_gpc0_rate ge {limit} }}"),
        "    http-request sc-inc-gpc0(0)",
    ]


def rules_of_host(hosts: str, wildcards: str, labels_max: int) -> list[str]:
    lines = [
        f"    http-request set-var(req.rules) var(txn.host),map({hosts}) if plain_host",
        f"    http-request set-var(req.wild) str({ANY}),map({wildcards}) if plain_host !{{ var(req.rules) -m found }}",
        "    acl looks_further var(req.wild) -m found",
        "    acl ruled var(req.rules) -m found",
        "    http-request set-var(req.below) var(txn.host) if looks_further",
    ]
    for _ in range(labels_max):
        lines += [
            "    http-request set-var(req.below) var(req.below),regsub('^[^.]*[.]?','') if looks_further !ruled",
            f"    http-request set-var(req.rules) var(req.below),map({wildcards}) if looks_further !ruled",
        ]
    return [*lines, f"    http-request unset-var(req.rules) if {{ var(req.rules) -m str {NOTHING} }}"]


def redirect() -> list[str]:
    return [
        f"    http-request redirect code 308 location https://%[var(txn.host)]%[pathq] "
        f"if ruled {{ {_field(_HTTPS)} -m str https }} !{{ var(txn.proto) -m str https }}",
        f"    http-request set-var(txn.hsts) {_field(_HSTS)},add(0) if ruled {{ var(txn.proto) -m str https }}",
        '    http-after-response set-header Strict-Transport-Security "max-age=%[var(txn.hsts)]" '
        "if { var(txn.hsts) -m int gt 0 }",
    ]


def app_limits() -> list[str]:
    """Only what is let through counts against a rate, so that who asks too often gets as much as is allowed, and not nothing."""
    return [
        f"    http-request set-var(req.app) {_field(_APP)} if ruled",
        f"    http-request set-var(req.rate_max) {_field(_RATE)},add(0) if ruled",
        f"    http-request set-var(req.client_rate) {_field(_CLIENT_RATE)},add(0) if ruled",
        f"    http-request set-var(req.in_flight) {_field(_IN_FLIGHT)},add(0) if ruled",
        f"    http-request set-var(req.body_max) {_field(_BODY)},add(0) if ruled",
        "    acl has_rate var(req.rate_max) -m int gt 0",
        "    acl has_client_rate var(req.client_rate) -m int gt 0",
        "    acl has_in_flight var(req.in_flight) -m int gt 0",
        "    acl has_body_max var(req.body_max) -m int gt 0",
        "    http-request set-var(req.body_over) req.fhdr(content-length),sub(req.body_max) if has_body_max",
        answers.refusal(Code.BODY_TOO_LARGE, "if has_body_max { var(req.body_over) -m int gt 0 }"),
        # Of what says no length the UserProxies count the bytes.
        "    acl unsized req.fhdr(transfer-encoding) -m found",
        "    acl unsized fc_http_major 2",
        "    acl sized req.fhdr(content-length) -m found",
        "    http-request set-var(req.uncounted) bool(true) if has_body_max unsized !sized !METH_GET !METH_HEAD",
        "    http-request set-var(req.visit) src,concat(-,req.app) if has_client_rate",
        "    http-request track-sc2 var(req.visit) table visits if has_client_rate",
        "    http-request set-var(req.client_over) sc2_gpc0_rate,sub(req.client_rate) if has_client_rate",
        answers.refusal(Code.TOO_MANY_REQUESTS, "if has_client_rate { var(req.client_over) -m int ge 0 }"),
        "    http-request track-sc1 var(req.app) table apps if has_rate or has_in_flight",
        "    http-request set-var(req.over) sc1_gpc0_rate,sub(req.rate_max) if has_rate",
        answers.refusal(Code.TOO_MANY_REQUESTS, "if has_rate { var(req.over) -m int ge 0 }"),
        "    http-request set-var(req.crowd) sc1_conn_cur,sub(req.in_flight) if has_in_flight",
        answers.refusal(Code.TOO_MANY_REQUESTS, "if has_in_flight { var(req.crowd) -m int gt 0 }"),
        "    http-request sc-inc-gpc0(2) if has_client_rate",
        "    http-request sc-inc-gpc0(1) if has_rate",
    ]


def static(files: str, trees: str) -> list[str]:
    """Which requests go to `fastcontainer files`: paths that are files, and all that begin as a tree does."""
    return [
        f"    http-request set-var(req.static) {_field(_STATIC)} if ruled METH_GET",
        f"    http-request set-var(req.static) {_field(_STATIC)} if ruled METH_HEAD",
        "    acl has_static var(req.static) -m str static",
        "    http-request set-var(req.path) path if has_static",
        "    http-request set-var(req.place) var(req.app),concat(,req.path) if has_static",
        f"    http-request set-var(req.kind) var(req.place),map({files}) if has_static",
        "    acl is_file var(req.kind) -m found",
        f"    http-request set-var(req.kind) var(req.place),map_beg({trees}) if has_static !is_file",
    ]


def files_backend(socket: str) -> str:
    return f"""backend files
    http-response del-header '^x[-_]fastcontainer[-_]' -m reg
    http-request set-header X-FastContainer-App %[var(req.app)]
    http-request set-header X-Request-Id %[unique-id]
    server files {socket} check inter 1s fall 1 rise 1
"""
