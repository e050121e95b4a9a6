"""Certificates as HAProxy wants them: one PEM each with the certificate, its chain and its key.

Read strictly where they come in (a file of the operator's, a key of the CMDB), because HAProxy refuses to start over a bad one.
"""

import datetime
import hashlib
import itertools
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

DEFAULT = "default"  # its name: for clients that name no host, or one that no other certificate is for
PEM_BYTES_MAX = 14 << 10  # HAProxy takes a command and what follows it into one buffer
RSA_BITS_MIN = 2048
SELF_SIGNED_DAYS = 3650

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.+?-----END \1-----", re.DOTALL)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True)
class Certificate:
    name: str
    pem: bytes  # leaf, chain, key
    hosts: tuple[str, ...]
    expires: float  # Unix time
    sha1: str  # of the leaf: how HAProxy tells one from another

    def __repr__(self) -> str:
        return f"Certificate({self.name!r}, for {', '.join(self.hosts)})"  # never the key


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"certificate name {name[:80]!r} is not 1 to 63 of a-z, 0-9, '.', '_' and '-' with a letter or digit at both ends"
        )
    return name


def parse(name: str, pem: bytes, source: str) -> Certificate:
    """`source`: where it is, for the error. Raises ValueError, which never shows the text."""
    try:
        return _parse(check_name(name), pem)
    except ValueError as error:
        raise ValueError(f"certificate {name[:80]!r} in {source}: {error}") from None


def _parse(name: str, pem: bytes) -> Certificate:
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(pem)]
    keys = [block for kind, block in blocks if kind.endswith(b"PRIVATE KEY")]
    if len(keys) != 1:
        raise ValueError(f"it has {len(keys)} private keys; put certificate, chain and one key into one PEM file")
    chain = _chain([block for kind, block in blocks if kind == b"CERTIFICATE"])
    key = _key(keys[0])
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise ValueError("the key is not that of the first certificate; the site's own certificate comes first")
    hosts = _hosts(leaf)
    if not hosts:
        raise ValueError("the first certificate names no host (subjectAltName); get one that does")
    plain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if len(plain) > PEM_BYTES_MAX:
        raise ValueError(f"it has {len(plain)} bytes, more than {PEM_BYTES_MAX}; leave out the root of its chain")
    sha1 = hashlib.sha1(leaf.public_bytes(serialization.Encoding.DER), usedforsecurity=False).hexdigest()
    return Certificate(name, plain, hosts, leaf.not_valid_after_utc.timestamp(), sha1)


def _chain(blocks: list[bytes]) -> list[x509.Certificate]:
    if not blocks:
        raise ValueError("it has no certificate; put certificate, chain and key into one PEM file")
    try:
        chain = [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise ValueError(f"a certificate in it cannot be read ({error}); export it anew") from None
    for lower, upper in itertools.pairwise(chain):
        if lower.issuer != upper.subject:
            raise ValueError(
                "its chain is out of order; the site's own certificate comes first, each issuer after what it issued"
            )
    return chain


def _key(block: bytes) -> Key:
    try:
        key = serialization.load_pem_private_key(block, None)
    except TypeError:
        raise ValueError("its key has a password; take it off with `openssl pkey`") from None
    except ValueError:
        raise ValueError("its key cannot be read; export it anew") from None
    if not isinstance(key, Key):
        raise ValueError("its key is of a kind that no browser takes; use RSA or ECDSA")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS_MIN:
        raise ValueError(
            f"its RSA key has {key.key_size} bits, fewer than {RSA_BITS_MIN}; get a certificate for a new one"
        )
    return key


def _public(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _hosts(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def self_signed(hosts: tuple[str, ...], now: float, name: str = DEFAULT) -> Certificate:
    """For a UserLB that has none yet: browsers warn of it, and HAProxy has something to listen with."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    begins = datetime.datetime.fromtimestamp(now, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - datetime.timedelta(days=1))
        .not_valid_after(begins + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return parse(name, pem, "memory")
