"""fastcontainer certificate issue | renew | import | list | remove"""

import http.client
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import Json, print_json, print_table, say
from dispatcher.cli.session import settings, with_store
from dispatcher.problems import Code, Problem
from dispatcher.settings import host_port
from dispatcher.units import format_duration

if TYPE_CHECKING:
    from dispatcher.cmdb.store import Store
    from dispatcher.userlb.certificates import Certificate

AUTHORITY = "https://acme-v02.api.letsencrypt.org/directory"
ANSWER_S = 15.0
RENEW_DAYS = 30.0

group = typer.Typer(help="Certificates of the UserLBs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name: any, such as the site's.", show_default=False)]


@group.command()
def issue(
    name: Name,
    host: Annotated[
        list[str], typer.Option("--host", help="A host name that it is for; repeatable.", show_default=False)
    ],
    directory: Annotated[
        str, typer.Option("--directory", help="The authority's ACME directory.", metavar="URL")
    ] = AUTHORITY,
    email: Annotated[str, typer.Option("--email", help="Where the authority may write to.", show_default=False)] = "",
    agree: Annotated[bool, typer.Option("--agree", help="Agree to the authority's terms.")] = False,
) -> None:
    """Get a certificate from an authority. Its names have to lead to this host's UserLB, port 80."""
    if not agree:
        raise Problem(Code.INVALID, f"{directory} wants its terms agreed to", hint="read them, then say --agree")
    made = with_store(lambda store: _issue(store, name, host, directory, email))
    say(f"{made.name}: {', '.join(made.hosts)}, for {_left(made)}")


@group.command()
def renew(
    within_days: Annotated[float, typer.Option("--within-days", help="What expires so soon.")] = RENEW_DAYS,
    email: Annotated[str, typer.Option("--email", help="Where the authority may write to.", show_default=False)] = "",
) -> None:
    """Get those anew that `issue` got and that expire soon; once a day is often enough."""
    from dispatcher.coreapi.certificates import due

    async def renewed(store: "Store") -> list[str]:
        failed = []
        for name, how in (await due(store, within_days)).items():
            try:
                made = await _issue(store, name, how.hosts, how.directory, email)
                say(f"{name}: for {_left(made)}")
            except Problem as problem:
                failed.append(f"{name}: {problem.message}")
        return failed

    if failed := with_store(renewed):
        raise Problem(Code.INVALID, "; ".join(failed))


async def _issue(store: "Store", name: str, hosts: Sequence[str], directory: str, email: str) -> "Certificate":
    import asyncio

    from dispatcher.coreapi import certificates as service
    from dispatcher.domain import check_domain
    from dispatcher.userlb import acme
    from dispatcher.userlb.certificates import check_name

    try:
        check_name(name)
        wanted = [check_domain(host) for host in hosts]
    except ValueError as error:
        raise Problem(Code.INVALID, str(error)) from error
    loop, tokens = asyncio.get_running_loop(), list[str]()
    listen = settings().userlb_listen

    def publish(token: str, answer: str) -> None:
        tokens.append(token)
        asyncio.run_coroutine_threadsafe(service.publish_challenge(store, token, answer), loop).result()
        _wait_for_answer(listen, token, answer)

    key = await service.account_key(store, acme.new_account_key())
    try:
        pem = await asyncio.to_thread(acme.issue, directory, key, email, wanted, publish)
    finally:
        await service.retire_challenges(store, tokens)
    return await service.put_certificate(store, name, pem, directory, service.Issued(tuple(wanted), directory))


def _wait_for_answer(listen: str, token: str, answer: str) -> None:
    """The authority asks once, so this host's UserLB is asked first. Others have it from the CMDB at the same time."""
    from dispatcher.userlb.private import PATH

    host, port = host_port(listen) if listen and listen != "off" else ("", 0)
    if not port:
        raise Problem(
            Code.INVALID, "no UserLB answers challenges here", hint="userlb_listen in the settings says where it is"
        )
    until = time.monotonic() + ANSWER_S
    while _asked("127.0.0.1" if host in ("0.0.0.0", "::", "*", "") else host, port, PATH + token) != answer:
        if time.monotonic() > until:
            raise Problem(
                Code.INVALID,
                f"the UserLB at {listen} does not answer the challenge",
                hint="is `fastcontainer userlb` running?",
            )
        time.sleep(0.05)


def _asked(host: str, port: int, path: str) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(1000).decode("latin-1")
    except OSError:
        return ""
    finally:
        connection.close()


@group.command("import")
def import_(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="PEM: certificate, chain, key. `-`: standard input.", show_default=False)
    ],
) -> None:
    """Put a certificate into the CMDB, for all UserLBs."""
    from dispatcher.coreapi.certificates import put_certificate

    try:
        pem = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Problem(Code.INVALID, f"{file}: {error.strerror}") from error
    made = with_store(lambda store: put_certificate(store, name, pem, str(file)))
    say(f"{made.name}: {', '.join(made.hosts)}, for {_left(made)}")


@group.command("list")
def list_(json: Json = False) -> None:
    """Those in the CMDB; a UserLB's own files are not among them."""
    from dispatcher.coreapi.certificates import list_certificates

    found = with_store(list_certificates)
    if json:
        print_json([{"name": each.name, "hosts": each.hosts, "expires": each.expires} for each in found])
    else:
        print_table(
            ("NAME", "HOSTS", "EXPIRES IN"), ((each.name, ", ".join(each.hosts), _left(each)) for each in found)
        )


@group.command()
def remove(name: Name) -> None:
    """Take one out of the CMDB."""
    from dispatcher.coreapi.certificates import remove_certificate

    with_store(lambda store: remove_certificate(store, name))


def _left(certificate: "Certificate") -> str:
    seconds = certificate.expires - time.time()
    return format_duration(int(seconds)) if seconds > 0 else "expired"
