"""Certificates in the CMDB: what the command line and the REST layer change of them."""

import time

import msgspec

from dispatcher.cmdb.store import Delete, Put, Store, Unchanged
from dispatcher.problems import Code, Problem
from dispatcher.userlb import certificates
from dispatcher.userlb.certificates import Certificate
from dispatcher.userlb.private import ACCOUNT, CERTIFICATES, CHALLENGES, ISSUED

CHALLENGE_S = 600  # a challenge goes by itself, whoever issued it and died
DAY_S = 86400


class Issued(msgspec.Struct, frozen=True, omit_defaults=True):
    """userlb/issued/NAME: how a certificate was got, for it to be got again."""

    hosts: tuple[str, ...]
    directory: str  # URL of the authority's ACME directory


async def list_certificates(store: Store) -> list[Certificate]:
    """Those that can be read; what else stands there `fastcontainer userlb` names in its log."""
    found = []
    for key, value in await store.list(CERTIFICATES):
        try:
            found.append(certificates.parse(key.removeprefix(CERTIFICATES), value.value, key))
        except ValueError:
            continue
    return found


async def put_certificate(
    store: Store, name: str, pem: bytes, source: str, issued: Issued | None = None
) -> Certificate:
    """Raises Problem; an expired one is refused here, by who brings it, and not by the UserLB that has to serve something."""
    try:
        certificate = certificates.parse(name, pem, source)
    except ValueError as error:
        raise Problem(Code.INVALID, str(error)) from error
    if certificate.expires < time.time():
        raise Problem(Code.INVALID, f"certificate {name!r} in {source} has expired", hint="get a new one")
    how = Delete(ISSUED + name) if issued is None else Put(ISSUED + name, msgspec.json.encode(issued))
    await store.commit([], [Put(CERTIFICATES + name, certificate.pem), how])
    return certificate


async def remove_certificate(store: Store, name: str) -> None:
    """Raises Problem."""
    if await store.get(CERTIFICATES + name) is None:
        raise Problem(Code.UNKNOWN_APP, f"there is no certificate {name!r} in the CMDB")
    await store.commit([], [Delete(CERTIFICATES + name), Delete(ISSUED + name)])


async def due(store: Store, within_days: float) -> dict[str, Issued]:
    """Those that an authority issued here and that expire so soon, or cannot be read."""
    expires = {each.name: each.expires for each in await list_certificates(store)}
    limit = time.time() + within_days * DAY_S
    return {
        name: msgspec.json.decode(value.value, type=Issued)
        for key, value in await store.list(ISSUED)
        if expires.get(name := key.removeprefix(ISSUED), 0.0) < limit
    }


async def account_key(store: Store, new: bytes) -> bytes:
    """The one that all issue with: `new`, if there is none yet."""
    await store.commit([Unchanged(ACCOUNT, 0)], [Put(ACCOUNT, new)])
    value = await store.get(ACCOUNT)
    assert value is not None
    return value.value


async def publish_challenge(store: Store, token: str, answer: str) -> None:
    await store.commit([], [Put(CHALLENGES + token, answer.encode(), await store.grant(CHALLENGE_S))])


async def retire_challenges(store: Store, tokens: list[str]) -> None:
    if tokens:
        await store.commit([], [Delete(CHALLENGES + token) for token in tokens])
