"""The configurations of what is compared. Pure."""

from dispatcher.userlb import config
from dispatcher.userlb.config import Pool

_TEMPORARY = ("client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path")
CONNECTIONS_MAX = 4096


def _nginx(directory: str, access_log: str, http: str) -> str:
    temporary = "\n    ".join(f"{name} {directory}/{name};" for name in _TEMPORARY)
    return f"""daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections {CONNECTIONS_MAX}; }}
http {{
    {temporary}
    default_type text/html;
    keepalive_requests 1000000;
    access_log {access_log};
{http}
}}
"""


def nginx_site(content: str) -> str:
    """The site in the container: one file. No log, so that it is none of what is compared that waits for it."""
    return _nginx("/tmp", "off", f"    server {{ listen 80 backlog={CONNECTIONS_MAX}; root {content}; }}")


def nginx_proxy(directory: str, listen: str, backend: str) -> str:
    """As its documentation has it for a backend with keep-alive."""
    return _nginx(
        directory,
        f"{directory}/access.log",
        f"""    upstream site {{ server {backend}; keepalive 32; }}
    server {{
        listen {listen} backlog={CONNECTIONS_MAX};
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}""",
    )


_LOOKS_UP = ("txn.lane", "txn.above", "use_backend")


def plain_pool(directory: str, listen: str, backend: str) -> Pool:
    return Pool(
        listen=(listen,), proxies=(backend,), trusted=(), directory=directory, lanes=0, connections_max=CONNECTIONS_MAX
    )


def haproxy(pool: Pool) -> str:
    """The UserLB's own configuration with all that it does to a request, but one plain backend in place of lanes: none is looked
    up, no places are counted."""
    kept = [line for line in config.text(pool).splitlines() if not any(word in line for word in _LOOKS_UP)]
    kept[kept.index("    default_backend userproxies")] = "    default_backend plain"
    plain = ["backend plain", "    option http-server-close", f"    server site {pool.proxies[0]}", ""]
    return "\n".join([*kept, *plain])
