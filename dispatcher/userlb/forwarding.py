"""What becomes of header fields at the UserLB: addons/headers.py in HAProxy's words. Pure.

A container sees the same whether its request came by a lane or through the UserProxies: those leave alone what a UserLB has written
(Settings.userlbs).
"""

from collections.abc import Sequence

_FORWARDED = "(for|proto|host|port|server|prefix)"
_TOLD = f"^(forwarded|x[-_]forwarded[-_]{_FORWARDED}|x[-_]real[-_]ip)$"
# CGI cannot tell `_` from `-`, and nobody but us needs these two.
_NEVER_BELIEVED = f"^(x_forwarded[-_]{_FORWARDED}|x-forwarded_{_FORWARDED}|x[-_]real[-_]ip|x[-_]forwarded[-_]server)$"
_OURS = "^x[-_]fastcontainer[-_]"
_HOP_BY_HOP = "keep-alive|proxy|proxy-connection|proxy-authorization|proxy-authenticate|te|trailer"


def cleaning(trusted: Sequence[str]) -> list[str]:
    """Before anything else: what only we may say, and what is said only from hop to hop. `trusted`: networks whose word counts."""
    return [
        *([f"    acl trusted src {' '.join(trusted)}"] if trusted else []),
        f"    http-request del-header '{_OURS}' -m reg",
        f"    http-request del-header '{_NEVER_BELIEVED}' -m reg",
        f"    http-request del-header '{_TOLD}' -m reg" + (" unless trusted" if trusted else ""),
        f"    http-request del-header '^({_HOP_BY_HOP})$' -m reg",
    ]


def proto() -> list[str]:
    """http or https, as the client sees it; what is left of X-Forwarded-Proto is believed."""
    return [
        "    http-request set-var(txn.proto) req.fhdr(x-forwarded-proto)",
        "    acl told_proto var(txn.proto) -m str http https",
        "    http-request set-var(txn.proto) str(https) if { ssl_fc } !told_proto",
        "    http-request set-var(txn.proto) str(http) if !told_proto",
    ]


def forwarded() -> list[str]:
    """As headers.with_forwarded does it; what is left of these headers is believed."""
    lines = [
        "    http-request set-header X-Forwarded-Proto %[var(txn.proto)]",
        *(
            f"    http-request set-header {name} %[req.fhdr({name})] if {{ req.fhdr({name}) -m found }}"
            for name in ("X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix")
        ),
        "    http-request set-header X-Forwarded-Host %[req.hdr(host)] unless { req.fhdr(X-Forwarded-Host) -m found }",
        "    http-request set-var(txn.for) src",
        "    http-request set-var-fmt(txn.element) for=%[src]",
        '    http-request set-var-fmt(txn.element) "for=\\"[%[src]]\\"" if { src -m sub : }',
        '    http-request set-var-fmt(txn.element) "%[var(txn.element)];host=\\"%[req.hdr(host)]\\"" if plain_host',
        '    http-request set-var-fmt(txn.element) "%[var(txn.element)];proto=%[var(txn.proto)]"',
    ]
    for name, own in (("X-Forwarded-For", "txn.for"), ("Forwarded", "txn.element")):
        count = f"req.fhdr_cnt({name})"
        lines += [
            f'    http-request set-header {name} "%[req.fhdr({name})], %[var({own})]" if {{ {count} eq 1 }}',
            f"    http-request add-header {name} %[var({own})] unless {{ {count} eq 1 }}",
        ]
    return lines


def of_responses() -> list[str]:
    """In a lane; the UserProxies do it themselves for what comes by them."""
    return [
        f"    http-response del-header '{_OURS}' -m reg",
        f"    http-response del-header '^({_HOP_BY_HOP}|upgrade)$' -m reg",
    ]
