import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from dispatcher.userlb import certificates
from dispatcher.userlb.certificates import parse, self_signed


def pem_of(key, *, hosts=("blog.test",), issuer="blog.test", subject="blog.test", signed_by=None) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
    return builder.sign(signed_by or key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key, password=None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


EC, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
SHORT = rsa.generate_private_key(65537, 1024)
LEAF = pem_of(EC, issuer="middle")
MIDDLE = pem_of(OTHER, hosts=(), subject="middle", issuer="root")


def test_what_was_exported_in_any_order_is_put_in_ours() -> None:
    parsed = parse(
        "blog", b"Bag Attributes\r\n" + key_pem(EC) + b"\n\n" + LEAF.replace(b"\n", b"\r\n") + MIDDLE, "a.pem"
    )
    assert parsed.hosts == ("blog.test",)
    assert parsed.expires == pytest.approx(time.time() + 86400, abs=1200)
    assert parsed.pem.startswith(LEAF)
    assert b"\n\n" not in parsed.pem
    assert b"PRIVATE" not in repr(parsed).encode()
    assert parse("blog", parsed.pem, "again") == parsed


@pytest.mark.parametrize(
    ("pem", "rule"),
    [
        (LEAF, "it has 0 private keys; put"),
        (LEAF + key_pem(EC) + key_pem(OTHER), "it has 2 private keys"),
        (key_pem(EC), "it has no certificate"),
        (LEAF + key_pem(OTHER), "the key is not that of the first certificate"),
        (MIDDLE + LEAF + key_pem(OTHER), "its chain is out of order"),
        (LEAF + key_pem(EC, b"secret"), "its key has a password; take it off"),
        (pem_of(EC, hosts=()) + key_pem(EC), "names no host"),
        (pem_of(SHORT) + key_pem(SHORT), "its RSA key has 1024 bits, fewer than 2048"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + key_pem(EC), "cannot be read"),
        (LEAF + MIDDLE + pem_of(OTHER, subject="root", hosts=tuple(f"{n}.{'x' * 60}.test" for n in range(200))) + key_pem(EC),
         "more than 14336; leave out the root"),
    ],
)  # fmt: skip
def test_refusals_name_the_place_and_the_remedy_and_show_no_key(pem, rule) -> None:
    with pytest.raises(ValueError) as refusal:
        parse("blog", pem, "/etc/x/blog.pem")
    assert rule in str(refusal.value)
    assert "'blog' in /etc/x/blog.pem: " in str(refusal.value)
    assert not any(line.decode() in str(refusal.value) for line in key_pem(EC).splitlines()[1:-1])


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "-a", "a" * 64, "a\n"])
def test_names_that_are_no_file_names_of_ours(name) -> None:
    with pytest.raises(ValueError, match="certificate name"):
        certificates.check_name(name)


def test_self_signed() -> None:
    made = self_signed(("a.test", "b.test"), 1e9)
    assert made.hosts == ("a.test", "b.test")
    assert made.expires > 1e9
