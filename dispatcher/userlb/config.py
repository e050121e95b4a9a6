"""HAProxy's configuration for the UserLB. Pure.

A fixed pool of lanes: backends whose server slots are empty until the controller fills them over the runtime socket. Which host
name has which lane stands in two maps that are changed the same way, so that nothing here changes while sites come and go. Only
what is plain may take a lane; everything else goes to the UserProxies, which decide: cold and unknown sites, upgrades, event
streams (a place in a lane is taken until the response has ended), `Expect`, odd hosts and odd Connection headers.

Lanes open one connection for each request, as the proxies do: a server with a single worker (site.py --one-at-a-time, many a
development server) is blocked by an idle connection that is kept.

A lane's slots follow `controller/alive`: when the controller has been gone for some seconds nobody takes dead containers out, and
an address may be another site's one day. Then all goes to the UserProxies until it is back.
"""

import hashlib
from dataclasses import dataclass

from dispatcher.userlb import answers, entry, forwarding, sticky

DICE = 10_000
LABELS_MAX = 8  # of a host name above which wildcards are looked for; deeper names go to the UserProxies
COLD = "cold"  # in a map, instead of a lane: the UserProxies
QUEUE_S = 30
CONNECT_MS, RETRIES = 500, 3  # a retry waits for CONNECT_MS, in which the agent's word of a death has long arrived
# CLIENT_S without a byte to or from it, as long as one of us is to send; IDLE_S: below the UserProxies' own, so that it is not
# they who close first. BODY_S: what fits into the buffer has to be here so soon, before it takes a place at a container.
CLIENT_S, HEAD_S, BODY_S, IDLE_S = 60, 10, 30, 60
# A request's head, or a response's, may have the difference; what we add to it the rest.
BUFFER_BYTES, REWRITE_BYTES = 20 << 10, 4 << 10
FIELDS_MAX = 128
FOR_EVER = "24d"  # near the longest time that HAProxy knows
BACKUP = "proxy"  # names of servers in a lane: the slots are SLOT1 and so on
SLOT = "s"
RESCUE = "rescue"  # comes up for a moment to take what waits in a lane whose last slot was closed: nothing else would notice it

_HOST = "^[a-z0-9_.-]*[a-z0-9_-][.]?(:[0-9]{1,5})?$"


@dataclass(frozen=True)
class Pool:
    """What the configuration depends on. `directory` is the UserLB's own, for sockets and maps."""

    listen: tuple[str, ...]  # HOST:PORT
    proxies: tuple[str, ...]  # HOST:PORT of the UserProxies
    trusted: tuple[str, ...]  # networks whose X-Forwarded-* are believed
    directory: str
    secure: tuple[str, ...] = ()  # HOST:PORT for TLS
    speak_proxy: tuple[str, ...] = ()  # networks of load balancers whose connections begin with the PROXY protocol
    files: str = ""  # socket of `fastcontainer files`
    client_requests_per_s: float | None = None  # of one client's address, over all apps
    client_connections: int | None = None
    lanes: int = 200
    slots: int = 8
    connections_max: int = 10_000
    lines_per_s: int = 2000  # of each lane; of more requests so many are logged, chosen by chance

    @property
    def configuration(self) -> str:
        return f"{self.directory}/haproxy.cfg"

    @property
    def socket(self) -> str:
        return f"{self.directory}/haproxy.sock"

    @property
    def log_socket(self) -> str:
        return f"{self.directory}/log.sock"

    @property
    def alive_socket(self) -> str:
        return f"{self.directory}/alive.sock"

    @property
    def hosts(self) -> str:
        """host name -> lane"""
        return f"{self.directory}/hosts.map"

    @property
    def wildcards(self) -> str:
        """example.com -> lane, for *.example.com"""
        return f"{self.directory}/wildcards.map"

    @property
    def policies(self) -> str:
        """lane -> milliseconds that a response may take, requests that may wait, and `timed` for Server-Timing; colons between"""
        return f"{self.directory}/policies.map"

    @property
    def tokens(self) -> str:
        """lane/slot -> what a cookie must carry to lead there"""
        return f"{self.directory}/tokens.map"

    @property
    def certificates(self) -> str:
        """Where their PEMs lie, by name."""
        return f"{self.directory}/certificates"

    @property
    def certificate_list(self) -> str:
        return f"{self.directory}/certificates.list"

    @property
    def challenges(self) -> str:
        """token -> key authorization"""
        return f"{self.directory}/challenges.map"

    @property
    def front_maps(self) -> tuple[str, str, str, str]:
        """fronts.py: rules of hosts, of wildcards; files and trees that are served without their app"""
        hosts, wildcards, files, trees = (
            f"{self.directory}/{name}.map" for name in ("rules", "wildrules", "files", "trees")
        )
        return hosts, wildcards, files, trees

    @property
    def maps(self) -> tuple[str, ...]:
        return self.hosts, self.wildcards, self.policies, self.tokens


def lane_name(number: int) -> str:
    return f"lane{number}"


def slot_name(number: int) -> str:
    return f"{SLOT}{number + 1}"


def text(pool: Pool) -> str:
    """The file. Its own hash is in it, for `show info` to tell which configuration a HAProxy runs."""
    body = "\n".join(
        [
            _defaults(pool),
            _frontend(pool),
            _userproxies(pool),
            entry.tables(),
            *([entry.files_backend(pool.files)] if pool.files else []),
            _controller(pool),
            *(_lane(pool, number) for number in range(pool.lanes)),
        ]
    )
    return _global(pool, hashlib.sha256(repr((pool, body)).encode()).hexdigest()[:16]) + "\n" + body


def description(configuration: str) -> str:
    """The word that `show info` has for this configuration."""
    return next(line.split()[1] for line in configuration.splitlines() if line.startswith("    description "))


def _global(pool: Pool, version: str) -> str:
    # One thread: a slot that was closed gets no further request, and its count is whole, as soon as the command is answered.
    return f"""global
    description fastcontainer-{version}
    stats socket {pool.socket} mode 600 level admin expose-fd listeners
    stats timeout {FOR_EVER}
    maxconn {pool.connections_max}
    nbthread 1
    log {pool.log_socket} len 8192 format raw local0
    tune.bufsize {BUFFER_BYTES}
    tune.maxrewrite {REWRITE_BYTES}
    tune.http.maxhdr {FIELDS_MAX}
    ssl-default-bind-options ssl-min-ver TLSv1.2
"""


def _defaults(pool: Pool) -> str:
    return f"""defaults
    mode http
    option abortonclose
    option redispatch 1
    retries {RETRIES}
    retry-on conn-failure empty-response
    timeout connect {CONNECT_MS}ms
    timeout client {CLIENT_S}s
    timeout server {FOR_EVER}
    timeout tunnel {FOR_EVER}
    timeout queue {QUEUE_S}s
    timeout http-request {HEAD_S}s
    timeout http-keep-alive {IDLE_S}s
    unique-id-format %[uuid,regsub(-,,g),bytes(16,16)]
"""


# One line for each request that had a lane; lines.py reads it. A plus before `tries` says that it ended elsewhere than it began.
_LOG = (
    '{"id":"%[unique-id]","at":%Ts.%ms,"lane":"%b","server":"%s","method":"%HM","status":%ST,"end":"%ts","ms":%Ta,'
    '"queue_ms":%Tw,"connect_ms":%Tc,"response_ms":%Tr,"bytes":%B,"tries":"%rc",'
    '"host":"%[var(txn.told_host),json(utf8s)]","path":"%[var(txn.told_path),json(utf8s)]"}'
)


def _frontend(pool: Pool) -> str:
    hosts, wildcards, files, trees = pool.front_maps
    lines = [
        "frontend web",
        "    log global",  # only here: backends would log the state of their servers
        *(f"    bind {address}" for address in pool.listen),
        *(f"    bind {address} ssl crt-list {pool.certificate_list} alpn h2,http/1.1" for address in pool.secure),
        *(
            [f"    tcp-request connection expect-proxy layer4 if {{ src {' '.join(pool.speak_proxy)} }}"]
            if pool.speak_proxy
            else []
        ),
        *entry.clients(pool.client_requests_per_s, pool.client_connections),
        f"    log-format '{_LOG}'",
        "    http-request set-var(txn.told_host) req.hdr(host)",
        "    http-request set-var(txn.told_path) pathq",
        f"    acl plain_host req.hdr(host) -m reg -i '{_HOST}'",
        *answers.errors(),
        *answers.preparation(),
        *entry.odd_heads(),
        *forwarding.cleaning(pool.trusted),
        *forwarding.proto(),
        "    http-request set-var(txn.host) req.hdr(host),field(1,:),rtrim(.),lower if plain_host",
        *entry.client_rate(pool.client_requests_per_s),
        *entry.challenges(pool.challenges),
        *entry.rules_of_host(hosts, wildcards, LABELS_MAX),
        *entry.redirect(),
        *entry.app_limits(),
        *(entry.static(files, trees) if pool.files else []),
        *forwarding.forwarded(),
        *_choice(pool),
    ]
    return "\n".join(lines) + "\n"


def _choice(pool: Pool) -> list[str]:
    lines = [
        "    acl plain_target url_beg /",
        "    acl plain_target fc_http_major 2",  # where HAProxy makes the target from :scheme, :authority and :path
        "    acl plain_connection req.fhdr(connection) -m str -i close keep-alive",
        "    acl has_connection req.fhdr(connection) -m found",
        "    acl special req.fhdr_cnt(connection) gt 1",
        "    acl special req.fhdr(upgrade) -m found",
        "    acl special req.fhdr(expect) -m found",
        "    acl special req.fhdr(accept) -m sub -i text/event-stream",
        "    acl special method CONNECT TRACE",
        "    acl special var(req.uncounted) -m bool",
        "    http-request set-var(txn.plain) bool(true) if plain_host plain_target !special !has_connection",
        "    http-request set-var(txn.plain) bool(true) if plain_host plain_target !special plain_connection",
        "    acl plain var(txn.plain) -m bool",
        "    acl chosen var(txn.lane) -m found",
        f"    http-request set-var(txn.lane) var(txn.host),map({pool.hosts}) if plain",
        "    http-request set-var(txn.above) var(txn.host) if !chosen plain",
    ]
    # The nearest wildcard, as CMCache.app_for finds it.
    for _ in range(LABELS_MAX):
        lines += [
            "    http-request set-var(txn.above) var(txn.above),regsub('^[^.]*[.]?','') if !chosen plain",
            f"    http-request set-var(txn.lane) var(txn.above),map({pool.wildcards}) if !chosen plain",
        ]
    return [
        *lines,
        "    http-request disable-l7-retry unless METH_GET or METH_HEAD or METH_OPTIONS or { method PUT DELETE }",
        *(["    use_backend files if { var(req.kind) -m found } { nbsrv(files) gt 0 }"] if pool.files else []),
        f"    use_backend %[var(txn.lane)] if chosen !{{ var(txn.lane) -m str {COLD} }}",
        "    default_backend userproxies",
    ]


def _userproxies(pool: Pool) -> str:
    # Each client's connection has one of its own, as if the client had made it: never shared, and closed with it.
    servers = [f"    server {BACKUP}{number} {address}" for number, address in enumerate(pool.proxies)]
    lines = [
        "backend userproxies",
        "    balance roundrobin",
        "    http-reuse never",
        "    http-request set-log-level silent  # they log it themselves",
        *servers,
    ]
    return "\n".join(lines) + "\n"


def _controller(pool: Pool) -> str:
    return f"""backend controller
    mode tcp
    option tcp-check
    tcp-check connect
    tcp-check expect string alive
    server alive {pool.alive_socket} check inter 1s fall 3 rise 1
"""


def _lane(pool: Pool, number: int) -> str:
    lines = [
        f"backend {lane_name(number)}",
        "    balance leastconn",
        "    option http-server-close",
        f"    http-request set-var(txn.policy) var(txn.lane),map({pool.policies})",
        "    http-request set-timeout server var(txn.policy),field(1,:),add(0)",
        f"    http-request wait-for-body time {BODY_S}s if {{ req.body_size gt 0 }} || {{ req.fhdr(transfer-encoding) -m found }}",
        "    http-request set-var(txn.queued) queue",
        "    http-request set-var(txn.room) var(txn.policy),field(2,:),sub(txn.queued)",
        "    http-request deny deny_status 503 if { var(txn.room) -m int le 0 }",
        # No more than about so many; the others are counted (`stot`), so that it is known how many a line stands for.
        f"    http-request set-var(txn.rate) be_sess_rate({lane_name(number)})",
        f"    http-request set-log-level silent if {{ var(txn.rate) -m int gt {pool.lines_per_s} }} "
        f"!{{ rand({DICE}),mul(txn.rate) -m int lt {DICE * pool.lines_per_s} }}",
        *forwarding.of_responses(),
        '    http-response add-header Server-Timing "queue;dur=%Tw, firstbyte;dur=%Tr" '
        "if { var(txn.policy),field(3,:) -m str timed }",
        *sticky.lines(pool.tokens),
        f"    server-template {SLOT} 1-{pool.slots} 127.0.0.1:1 weight 100 disabled track controller/alive",
        "    option allbackups",
        f"    server {RESCUE} {pool.proxies[0]} backup disabled",
        *(f"    server {BACKUP}{number} {address} backup" for number, address in enumerate(pool.proxies)),
    ]
    return "\n".join(lines) + "\n"
