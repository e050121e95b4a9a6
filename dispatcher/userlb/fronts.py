"""What apps ask of the UserLB (AppSpec.front) as HAProxy looks it up: host name -> rules, in two maps as the lanes have them. Pure.

Only apps that ask for something are in the maps, and below a wildcard that is, the names of others with NOTHING.

    blog:https:31536000:200:20:50:1048576:static
    app, redirect, HSTS seconds, requests and requests of one client in PERIOD_S, in flight, body bytes, files
"""

from collections.abc import Mapping

from dispatcher.domain import Front

PERIOD_S = 10  # over which rates are averaged, so that a page with its images is no burst
NOTHING = "nothing"
ANY = "*"  # stands in the map of wildcards when there are any, for HAProxy to look further


def rules(app: str, front: Front) -> str:
    """NOTHING if it asks for nothing."""
    words = (
        "https" if front.https else "",
        _number(front.hsts_s),
        _number(None if front.requests_per_s is None else front.requests_per_s * PERIOD_S),
        _number(None if front.client_requests_per_s is None else front.client_requests_per_s * PERIOD_S),
        _number(front.in_flight_max),
        _number(front.body_bytes_max),
        "static" if front.static else "",
    )
    return ":".join((app, *words)) if any(words) else NOTHING


def _number(value: float | None) -> str:
    return "" if value is None else str(max(1, round(value)))


def maps(domains: Mapping[str, str], fronts: Mapping[str, Front]) -> tuple[dict[str, str], dict[str, str]]:
    """`domains`: domain -> app. Exact names, and wildcards without their `*.`."""
    wanted = {app: word for app, front in fronts.items() if (word := rules(app, front)) != NOTHING}
    wildcards = {
        domain.removeprefix("*."): wanted[app]
        for domain, app in domains.items()
        if domain.startswith("*.") and app in wanted
    }
    hosts = {domain: wanted[app] for domain, app in domains.items() if not domain.startswith("*.") and app in wanted}
    if wildcards:
        for domain, app in domains.items():
            if app not in wanted and _is_below(domain, wildcards):
                (wildcards if domain.startswith("*.") else hosts)[domain.removeprefix("*.")] = NOTHING
        wildcards[ANY] = ANY
    return hosts, wildcards


def _is_below(domain: str, wildcards: Mapping[str, str]) -> bool:
    labels = domain.removeprefix("*.").split(".")
    return any(".".join(labels[count:]) in wildcards for count in range(1, len(labels)))


def static_paths(fronts: Mapping[str, Front]) -> tuple[dict[str, str], dict[str, str]]:
    """APP and path of files, and of trees: what ends with `/` stands for all that begins so."""
    places = [(app + path, path.endswith("/")) for app, front in fronts.items() for path in front.static]
    return {place: "file" for place, is_tree in places if not is_tree}, {
        place: "tree" for place, is_tree in places if is_tree
    }


def commands(path: str, actual: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """That make one map of HAProxy's another. What is more comes first and ANY last: a name below a wildcard is never without its
    own rules."""
    changed = [
        f"{'set' if key in actual else 'add'} map {path} {key} {value}"
        for key, value in sorted(wanted.items(), key=lambda item: (item[0] == ANY, -item[0].count("."), item[0]))
        if actual.get(key) != value
    ]
    return changed + [f"del map {path} {key}" for key in sorted(actual) if key not in wanted]


def text(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
