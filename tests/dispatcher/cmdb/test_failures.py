"""The store and the cache on a real etcd that is killed, stopped, wiped, compacted, and that lets only some people in."""

import asyncio
import contextlib
import datetime
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatcher.cmdb import codec, keys
from dispatcher.cmdb.client import EtcdStore
from dispatcher.cmdb.keys import Field
from dispatcher.cmdb.store import Put, Unavailable
from dispatcher.domain import AppSpec
from dispatcher.settings import Settings
from tests.dispatcher.cmdb.test_cache import SPEC, Watched
from tests.plugins.etcd import EtcdServer

NewEtcd = Callable[..., EtcdServer]


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(settings, heartbeat_s=0.4)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def watching(store: EtcdStore) -> AsyncIterator[Watched]:
    watched = Watched(store)
    try:
        await watched.cache.start(20)
        yield watched
    finally:
        await watched.cache.close()


async def put(store: EtcdStore, key: str, value: bytes) -> int:
    """However often it takes: every one of these may be repeated."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.commit([], [Put(key, value)]) or 0
            except Unavailable:
                await asyncio.sleep(0.1)


async def in_background(function: Callable[[], object]) -> None:
    """Starting etcd takes a while; the cache's loop goes on meanwhile."""
    await asyncio.to_thread(function)


async def equal(watched: Watched, store: EtcdStore) -> bool:
    there = {key: value.value async for page in store.pages(keys.APPS) for key, value in page.items}
    cache = watched.cache
    held = {keys.spec_key(app): codec.encode(found.spec) for app in cache.apps() if (found := cache.app(app))}
    return held == there


async def test_cache_stays_equal_through_kill_and_restart(new_etcd: NewEtcd) -> None:
    server = new_etcd()
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        for number in range(20):
            await put(store, keys.spec_key(f"site-{number}"), SPEC)
        async with watching(store) as watched:
            server.kill()
            await watched.until(lambda: not watched.cache.connected)
            assert watched.cache.size == 20
            with pytest.raises(Unavailable):
                await store.commit([], [Put(keys.spec_key("lost"), SPEC)])
            await in_background(server.start)
            await put(store, keys.spec_key("new"), SPEC)
            await watched.until(lambda: watched.cache.app("new") is not None)
            assert watched.cache.loads == 1
            assert await equal(watched, store)


async def test_frozen_etcd_is_noticed_and_followed_again(new_etcd: NewEtcd) -> None:
    server = new_etcd()
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        await put(store, keys.spec_key("blog"), SPEC)
        async with watching(store) as watched:
            server.signal(signal.SIGSTOP)
            try:
                await watched.until(lambda: not watched.cache.connected)
            finally:
                server.signal(signal.SIGCONT)
            assert watched.cache.app("blog") is not None
            await put(store, keys.word_key("blog", "cpu"), b"60%")
            await watched.until(lambda: bool(watched.changes))


async def test_wiped_data_directory_means_a_full_reload(new_etcd: NewEtcd) -> None:
    server = new_etcd()
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        for number in range(20):
            await put(store, keys.spec_key(f"site-{number}"), SPEC)
        async with watching(store) as watched:
            revision = watched.cache.revision
            server.kill()
            server.wipe()
            await in_background(server.start)
            await put(store, keys.spec_key("only"), SPEC)
            await watched.until(lambda: list(watched.cache.apps()) == ["only"])
            assert watched.cache.revision < revision
            await put(store, keys.word_key("only", "cpu"), b"60%")
            await watched.until(lambda: (app := watched.cache.app("only")) is not None and app.cpu == 0.6)


async def test_wiped_data_that_overtook_the_cache_is_noticed_too(new_etcd: NewEtcd) -> None:
    """Same cluster id, higher revision: what tells is that etcd's term went backwards."""
    server = new_etcd()
    server.kill()
    server.start()  # each start is a term
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        await put(store, keys.spec_key("old"), SPEC)
        async with watching(store) as watched:
            server.kill()
            await watched.until(lambda: not watched.cache.connected)
            server.wipe()
            await in_background(server.start)
            for _ in range(10):
                server.ctl("put", keys.spec_key("new"), SPEC.decode())
            await watched.until(lambda: list(watched.cache.apps()) == ["new"])


async def test_compaction_while_detached(new_etcd: NewEtcd) -> None:
    server = new_etcd()
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        await put(store, keys.spec_key("blog"), SPEC)
        async with watching(store) as watched:
            server.kill()
            await watched.until(lambda: not watched.cache.connected)
            # Back under another address, out of the cache's sight, to be changed and compacted.
            port, server.endpoint = server.endpoint, EtcdServer(Path("unused")).endpoint
            await in_background(server.start)
            for value in ("40%", "50%", "60%"):
                server.ctl("put", keys.word_key("blog", "cpu"), value)
            server.ctl("del", keys.spec_key("nothing"))
            server.ctl("compaction", str(server.revision()))
            server.kill()
            server.endpoint = port
            await in_background(server.start)
            await watched.until(lambda: watched.cache.loads == 2 and watched.cache.connected)
            app = watched.cache.app("blog")
            assert app is not None and app.cpu == 0.6
            assert [change.key for change in watched.changes] == [keys.WordKey("blog", Field.CPU)]


async def test_password_and_expired_token(new_etcd: NewEtcd, tmp_path: Path) -> None:
    server = new_etcd("--auth-token-ttl", "1")
    password = tmp_path / "password"
    password.write_text("right\n")
    for command in (
        "user add root:admin",
        "user grant-role root root",
        "role add fastcontainer",
        "role grant-permission fastcontainer --prefix=true readwrite /fastcontainer/",
        "user add proxy:right",
        "user grant-role proxy fastcontainer",
        "auth enable",
    ):
        server.ctl(*command.split())
    settings = Settings(etcd=(server.endpoint,), etcd_user="proxy", etcd_password_file=str(password))
    async with opened(settings) as store:
        await put(store, keys.spec_key("blog"), SPEC)
        await asyncio.sleep(2.5)  # no event tells that a token has expired
        assert await store.get(keys.spec_key("blog")) is not None
        lease = await store.grant(30)
        await asyncio.sleep(2.5)
        assert await store.keep_alive(lease)
        async with watching(store) as watched:
            server.kill()  # and with it all its tokens
            await in_background(server.start)
            await put(store, keys.word_key("blog", "cpu"), b"60%")
            await watched.until(lambda: bool(watched.changes))
        with pytest.raises(Unavailable, match="permission denied"):
            await store.get("/elsewhere")
    password.write_text("wrong")
    async with opened(settings) as store:
        with pytest.raises(Unavailable, match="does not let user 'proxy' in"):
            await store.get(keys.spec_key("blog"))


async def test_full_etcd_is_down_for_writes(new_etcd: NewEtcd) -> None:
    server = new_etcd("--quota-backend-bytes", str(200 << 10))
    async with opened(Settings(etcd=(server.endpoint,))) as store:
        await put(store, keys.spec_key("blog"), SPEC)
        with pytest.raises(Unavailable, match="space exceeded"):
            async with asyncio.timeout(20):
                while True:  # it looks at its size only now and then
                    await store.commit([], [Put("/fill", b"x" * 50_000)])
        assert await store.get(keys.spec_key("blog")) is not None


def certificate(directory: Path) -> tuple[Path, Path, Path]:
    """A CA of our own and a server's certificate from it: CA, certificate and key as files."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def build(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(ca_name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(ca_key, hashes.SHA256())

    ca = build(
        ca_name,
        ca_key,
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
        x509.KeyUsage(True, False, False, False, False, True, True, False, False),
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    server = build(subject, server_key, names, issuer, x509.BasicConstraints(ca=False, path_length=None))
    files = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    private = serialization.PrivateFormat.PKCS8
    for file, data in zip(
        files,
        (
            ca.public_bytes(serialization.Encoding.PEM),
            server.public_bytes(serialization.Encoding.PEM),
            server_key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()),
        ),
        strict=True,
    ):
        file.write_bytes(data)
    return files


@pytest.mark.parametrize("endpoints", [1, 2])
async def test_tls(new_etcd: NewEtcd, tmp_path: Path, endpoints: int) -> None:
    tls = certificate(tmp_path)
    server = new_etcd(tls=tls)
    async with opened(Settings(etcd=(server.endpoint,) * endpoints, etcd_ca=str(tls[0]))) as store:
        await put(store, keys.spec_key("blog"), SPEC)
        async with watching(store) as watched:
            assert watched.cache.app("blog") is not None
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    async with opened(Settings(etcd=(server.endpoint,), etcd_ca=str(certificate(stranger)[0]))) as store:
        with pytest.raises(Unavailable):
            await store.get(keys.spec_key("blog"))


async def test_the_next_endpoint_takes_over(new_etcd: NewEtcd) -> None:
    server = new_etcd()
    dead = EtcdServer(Path("unused")).endpoint
    async with opened(Settings(etcd=(dead, server.endpoint))) as store:
        assert await put(store, keys.spec_key("blog"), SPEC)


async def test_twenty_thousand_keys_and_more_come_in_several_pages(etcd: EtcdServer) -> None:
    async with opened(Settings(etcd=(etcd.endpoint,))) as store:
        spec = codec.encode(AppSpec(command=("serve",)))
        for first in range(0, 20_480, 128):
            await store.commit([], [Put(keys.spec_key(f"site-{number}"), spec) for number in range(first, first + 128)])
        items = await store.list(keys.APPS)
        assert len(items) == 20_480
        assert [key for key, _ in items] == sorted(keys.spec_key(f"site-{number}") for number in range(20_480))
