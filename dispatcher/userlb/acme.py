"""Certificates from an authority by ACME (RFC 8555), challenge http-01, with certbot's own library. It blocks: give it a thread."""

import datetime
from collections.abc import Callable, Sequence

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.jwk import JWKRSA

from dispatcher.problems import Code, Problem

AGENT = "fastcontainer"
ISSUE_S = 180.0
ACCOUNT_BITS = 2048

Publish = Callable[[str, str], None]  # token, key authorization: returns when every UserLB that matters answers so


def new_account_key() -> bytes:
    return _pem(rsa.generate_private_key(65537, ACCOUNT_BITS))


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issue(directory: str, account_key: bytes, email: str, hosts: Sequence[str], publish: Publish) -> bytes:
    """PEM of certificate, chain and a new key. Who calls it has agreed to the authority's terms. Raises Problem."""
    try:
        return _issue(directory, account_key, email, hosts, publish)
    except errors.ValidationError as error:
        raise Problem(Code.INVALID, _why(error), hint="do these names lead to this UserLB, port 80?") from error
    except (errors.Error, messages.Error, requests.RequestException) as error:
        raise Problem(Code.INVALID, f"{directory}: {error}") from error


def _issue(directory: str, account_key: bytes, email: str, hosts: Sequence[str], publish: Publish) -> bytes:
    key = JWKRSA(key=serialization.load_pem_private_key(account_key, None))
    network = client.ClientNetwork(key, user_agent=AGENT)
    authority = client.ClientV2(client.ClientV2.get_directory(directory, network), network)
    _register(authority, network, email)
    certificate_key = _pem(ec.generate_private_key(ec.SECP256R1()))
    order = authority.new_order(crypto_util.make_csr(certificate_key, list(hosts)))
    for authorization in order.authorizations:
        if authorization.body.status != messages.STATUS_VALID:
            _answer(authority, key, authorization, publish)
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=ISSUE_S)  # naive, as the library wants it
    order = authority.poll_and_finalize(order, deadline)
    return str(order.fullchain_pem).encode() + certificate_key


def _register(authority: client.ClientV2, network: client.ClientNetwork, email: str) -> None:
    wanted = messages.NewRegistration.from_data(email=email or None, terms_of_service_agreed=True)
    try:
        network.account = authority.new_account(wanted)
    except errors.ConflictError as known:
        network.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())


def _answer(
    authority: client.ClientV2, key: JWKRSA, authorization: messages.AuthorizationResource, publish: Publish
) -> None:
    offered = [each for each in authorization.body.challenges if isinstance(each.chall, challenges.HTTP01)]
    if not offered:
        name = authorization.body.identifier.value
        raise Problem(
            Code.INVALID,
            f"{name}: the authority offers no http-01",
            hint="a wildcard needs DNS; import its certificate",
        )
    response, validation = offered[0].response_and_validation(key)
    publish(offered[0].chall.encode("token"), validation)
    authority.answer_challenge(offered[0], response)


def _why(error: errors.ValidationError) -> str:
    found = [
        f"{authorization.body.identifier.value}: {challenge.error.detail if challenge.error else 'not validated'}"
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error
    ]
    return "; ".join(found) or str(error)
