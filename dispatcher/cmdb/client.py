"""The store on a real etcd: the message types of the package etcd3 on one grpc.aio channel, with our own watch, paging, lease and
login. etcd3's own client loses its watch at a server restart, does not notice a frozen peer and ignores limits.

    store = EtcdStore(settings)          # connects at its first use, in the running event loop
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio

from dispatcher.cmdb.messages import rpc
from dispatcher.cmdb.store import (
    Batch,
    Compacted,
    Delete,
    Event,
    LeaseLost,
    Page,
    Put,
    Unavailable,
    Unchanged,
    Value,
)
from dispatcher.settings import Settings, host_port
from dispatcher.tasks import Tasks

CALL_S = 5.0
PAGE_S = 30.0
HEARTBEAT_S = 5.0
CLOSE_S = 0.02
PAGE_KEYS = 10_000
SLICE_KEYS = 2_000  # a page is handed on in slices that do not stall the loop
QUEUED_BATCHES = 8  # then the stream waits for its reader
OPERATIONS_MAX = 128  # of a transaction, etcd's default

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", 256 << 20),  # catching up, etcd sends what it has in one message
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # without it a dead peer is noticed after 69 s, with it after 14
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    (
        "grpc.min_reconnect_backoff_ms",
        1_500,
    ),  # also the time a connection may take; then the next endpoint has its turn
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.use_local_subchannel_pool", 1),
]


_END_OF_STREAM = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stubs


class _History(NamedTuple):
    """What must never go backwards while it is the same etcd with the same data."""

    cluster: int
    term: int


class _Link(NamedTuple):
    channel: grpc.aio.Channel
    kv: Any
    watches: Any
    leases: Any
    auth: Any

    @classmethod
    def over(cls, channel: grpc.aio.Channel) -> "_Link":
        return cls(channel, rpc.KVStub(channel), rpc.WatchStub(channel), rpc.LeaseStub(channel), rpc.AuthStub(channel))


def prefix_end(prefix: str) -> bytes:
    """The first key after all that begin with `prefix`."""
    data = prefix.encode().rstrip(b"\xff")
    return data[:-1] + bytes((data[-1] + 1,)) if data else b"\0"


class EtcdStore:
    def __init__(self, settings: Settings, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._settings = settings
        self._heartbeat_s = heartbeat_s
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None
        self._closed = False
        self._token = ""
        self._histories: dict[str, _History] = {}

    async def get(self, key: str) -> Value | None:
        response = await self._call(lambda link: link.kv.Range, rpc.RangeRequest(key=key.encode()))
        return Value(response.kvs[0].value, response.kvs[0].mod_revision) if response.kvs else None

    async def list(self, prefix: str) -> list[tuple[str, Value]]:
        items: list[tuple[str, Value]] = []
        try:
            async with contextlib.aclosing(self.pages(prefix)) as pages:
                async for page in pages:
                    items += page.items
        except Compacted as error:
            raise Unavailable(f"listing {prefix} took longer than etcd keeps its history") from error
        return items

    async def pages(self, prefix: str, until: str = "") -> AsyncGenerator[Page]:
        span = Span(prefix.encode(), until.encode() or prefix_end(prefix))
        response = await self._page(span, 0)
        revision = response.header.revision
        self._histories[prefix] = _History(response.header.cluster_id, response.header.raft_term)
        while True:
            # etcd works on the next page while this one is taken in.
            following = (
                asyncio.get_running_loop().create_task(self._page(span, revision), name=f"next page of {prefix}")
                if span.advance([kv.key for kv in (*response.kvs[:1], *response.kvs[-1:])], response.more)
                else None
            )
            try:
                for first in range(0, len(response.kvs) or 1, SLICE_KEYS):
                    rows = response.kvs[first : first + SLICE_KEYS]
                    yield Page(revision, [(kv.key.decode(), Value(kv.value, kv.mod_revision)) for kv in rows])
                    await asyncio.sleep(0)
                if following is None:
                    return
                response = await following
            finally:
                if following is not None and not following.done():
                    following.cancel()

    async def _page(self, span: "Span", revision: int) -> Any:
        request = rpc.RangeRequest(key=span.first, range_end=span.bound, limit=PAGE_KEYS, revision=revision)
        return await self._call(lambda link: link.kv.Range, request, PAGE_S)

    async def commit(self, when: Sequence[Unchanged], then: Sequence[Put | Delete]) -> int | None:
        assert len(when) <= OPERATIONS_MAX and len(then) <= OPERATIONS_MAX
        compare = [
            rpc.Compare(
                key=condition.key.encode(),
                target=rpc.Compare.MOD,
                result=rpc.Compare.EQUAL,
                mod_revision=condition.mod_revision,
            )
            for condition in when
        ]
        request = rpc.TxnRequest(compare=compare, success=[_operation(each) for each in then])
        response = await self._call(lambda link: link.kv.Txn, request)
        return int(response.header.revision) if response.succeeded else None

    async def grant(self, ttl_s: int) -> int:
        response = await self._call(lambda link: link.leases.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl_s))
        return int(response.ID)

    async def keep_alive(self, lease: int) -> bool:
        link = await self._ready()
        call = link.leases.LeaseKeepAlive(metadata=self._metadata(), timeout=CALL_S)
        try:
            await call.write(rpc.LeaseKeepAliveRequest(ID=lease))
            response = await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError) as error:
            raise self._failure(error) from error
        finally:
            call.cancel()
        if response is _END_OF_STREAM:
            raise Unavailable("etcd ended the lease's stream")
        return bool(response.TTL > 0)

    async def revoke(self, lease: int) -> None:
        with contextlib.suppress(LeaseLost):
            await self._call(lambda link: link.leases.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))

    async def close(self) -> None:
        self._closed = True
        link, self._link = self._link, None  # gRPC's poller and its sockets live as long as any channel is referred to
        if link is not None:
            await link.channel.close(None)
            await asyncio.sleep(
                CLOSE_S
            )  # gRPC ends a cancelled call's last operations in some later turn of the loop, and tells nobody

    async def watch(self, prefix: str, from_revision: int, until: str = "") -> AsyncGenerator[Batch]:
        # A unary read first: it has a deadline where opening a stream has none, and it proves token, quorum and history.
        newest = await self._heartbeat(prefix, from_revision - 1)
        yield Batch(newest, [])
        link = await self._ready()
        call = link.watches.Watch(metadata=(*self._metadata(), ("hasleader", "true")))  # else a lost quorum is silent
        create = rpc.WatchCreateRequest(
            key=prefix.encode(), range_end=until.encode() or prefix_end(prefix), start_revision=from_revision
        )
        stream = _Stream(call, from_revision - 1)
        tasks = Tasks()
        reader = tasks.start(
            stream.read(self._failure, rpc.WatchRequest(create_request=create)), name=f"watch {prefix}"
        )
        try:
            tasks.start(self._heartbeats(prefix, stream), name=f"heartbeat {prefix}")
            while True:
                item = await stream.queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            call.cancel()
            # A read that is cancelled from our side would leave gRPC's own half of it behind: it ends by itself, if it has room to.
            while not stream.queue.empty():
                stream.queue.get_nowait()
            await asyncio.wait({reader}, timeout=CALL_S)
            await tasks.close()

    async def _heartbeats(self, prefix: str, stream: "_Stream") -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s * random.uniform(0.8, 1.2))
            try:
                revision = await self._heartbeat(prefix, stream.seen)
            except (Unavailable, Compacted) as error:
                await stream.queue.put(error)
                return
            await stream.queue.put(Batch(max(revision, stream.seen), []))

    async def _heartbeat(self, prefix: str, seen: int) -> int:
        request = rpc.RangeRequest(key=prefix.encode(), count_only=True)
        header = (await self._call(lambda link: link.kv.Range, request, self._heartbeat_s)).header
        before, now = self._histories.get(prefix), _History(header.cluster_id, header.raft_term)
        self._histories[prefix] = now
        if header.revision < seen:
            raise Compacted(f"etcd's revision went backwards, from {seen} to {header.revision}")
        if before is not None and (before.cluster != now.cluster or before.term > now.term):
            raise Compacted("this is another etcd, or one with other data, than before")
        return int(header.revision)

    # Connection and login

    async def _ready(self) -> _Link:
        """A channel, and a token where a user is configured."""
        async with self._connecting:
            if self._closed:
                raise Unavailable("this store is closed")
            if self._link is None:
                self._link = _Link.over(await _open_channel(self._settings))
            if self._settings.etcd_user and not self._token:
                await self._login(self._link)
            return self._link

    async def _login(self, link: _Link) -> None:
        user = self._settings.etcd_user
        try:
            password = _read(self._settings.etcd_password_file).decode().strip()  # each time: it may have been changed
            request = rpc.AuthenticateRequest(name=user, password=password)
            self._token = (await link.auth.Authenticate(request, timeout=CALL_S)).token
        except OSError as error:
            raise Unavailable(f"etcd_password_file: {error}") from error
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            failure = self._failure(error)
            raise Unavailable(f"etcd does not let user {user!r} in: {failure}") from error

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()

    async def _call(self, method: Callable[[_Link], Any], request: Any, timeout: float = CALL_S) -> Any:
        for attempt in (1, 2):
            link, token = await self._ready(), self._token
            try:
                return await method(link)(request, timeout=timeout, metadata=self._metadata())
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
                failure = self._failure(error)
                if attempt == 2 or not isinstance(failure, _TokenExpired):
                    raise failure from error
                if self._token == token:
                    self._token = ""
        raise AssertionError("not reached")

    def _failure(self, error: BaseException) -> Exception:
        """What an error of gRPC is to our callers; a cancellation of our own task is raised again."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        if not isinstance(error, grpc.aio.AioRpcError):
            return Unavailable(f"the connection to etcd was closed: {error!r}")
        return _failure_of(error.code(), error.details() or "")


class _TokenExpired(Unavailable):
    pass


def _failure_of(code: grpc.StatusCode, details: str) -> Exception:
    message = ", ".join(filter(None, (code.name, details)))[:300]
    match code:
        case grpc.StatusCode.OUT_OF_RANGE:
            return Compacted(message)
        case grpc.StatusCode.NOT_FOUND if "lease" in details:
            return LeaseLost(message)
        case grpc.StatusCode.UNAUTHENTICATED:
            return _TokenExpired(message)
        # Also after a change of etcd's users ("revision of auth store is old") and without a token ("user name is empty").
        case grpc.StatusCode.INVALID_ARGUMENT if "auth store is old" in details or "user name is empty" in details:
            return _TokenExpired(message)
        case grpc.StatusCode.INVALID_ARGUMENT if "authentication failed" not in details:
            return ValueError(f"etcd: {message}")
    return Unavailable(message)


def _operation(each: Put | Delete) -> Any:
    if isinstance(each, Put):
        put = rpc.PutRequest(key=each.key.encode(), value=each.value, lease=each.lease)
        return rpc.RequestOp(request_put=put)
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=each.key.encode()))


class Span:
    """Which keys to ask for next while a large range is read in pages. Pure.

    Whatever the limit, etcd visits every key up to the end of the range it is asked for: with one end for all pages that is
    quadratic. So each page but the first asks for some tens of times as far as the one before it reached.
    """

    def __init__(self, first: bytes, end: bytes) -> None:
        self.first = first
        self.bound = end
        self._end = end
        self._digit = 0  # index of the byte that is counted up

    def advance(self, ends: Sequence[bytes], more: bool) -> bool:
        """`ends`: the first and the last key that were found; `more` up to the bound. False: that was all."""
        if more:
            low, high = ends[0], ends[-1]
            pairs = zip(low, high, strict=False)
            different = next((index for index, (a, b) in enumerate(pairs) if a != b), len(high) - 1)
            self._digit = max(0, different - 1)
            self.first = high + b"\0"
            self.bound = min(self._end, _counted_up(high, self._digit))
            return True
        if self.bound == self._end:
            return False
        self.first = self.bound
        self._digit = max(0, self._digit - 1)  # ten or more times as far, in case that there is nothing near
        self.bound = min(self._end, _counted_up(self.first, self._digit))
        return True


def _counted_up(key: bytes, digit: int) -> bytes:
    """A key behind all that share `key`'s bytes up to `digit`, and behind as many again in case that `key` is the last of them."""
    head = key[: digit + 1]
    while head and head[-1] + 2 > 0xFF:
        head = head[:-1]
    return head[:-1] + bytes((head[-1] + 2,)) if head else b"\xff" * (len(key) + 1)


class _Stream:
    """One open watch: its messages, and the heartbeats beside them, in one queue."""

    def __init__(self, call: Any, seen: int) -> None:
        self._call = call
        self.seen = seen  # revision of the newest event that was read
        self.queue: asyncio.Queue[Batch | Exception] = asyncio.Queue(QUEUED_BATCHES)

    async def read(self, failure: Callable[[BaseException], Exception], create: Any) -> None:
        try:
            # write(), not an iterator of requests: that one leaves "Task was destroyed" warnings.
            await self._call.write(create)
            while True:
                response = await self._call.read()
                if response is _END_OF_STREAM:
                    raise Unavailable("etcd ended the watch")
                if batch := _batch(response):
                    self.seen = batch.revision
                    await self.queue.put(batch)
        except (Unavailable, Compacted) as error:
            await self.queue.put(error)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, asyncio.CancelledError) as error:
            await self.queue.put(failure(error))


def _batch(response: Any) -> Batch | None:
    if response.compact_revision:
        raise Compacted(f"etcd keeps nothing before revision {response.compact_revision}")
    if response.canceled:  # looked at before `created`: with a bad token both are set, and the watch stays silent
        raise _TokenExpired("etcd refused the watch")
    if not response.events:
        return None
    events = [
        Event(event.kv.key.decode(), None if event.type else event.kv.value, event.kv.mod_revision)
        for event in response.events
    ]
    # Not the header's: while catching up, that is ahead of the events.
    return Batch(events[-1].mod_revision, events)


def _read(file: str) -> bytes:
    return Path(file).read_bytes()


async def _open_channel(settings: Settings) -> grpc.aio.Channel:
    target = await _target(settings.etcd)
    if not settings.etcd_ca:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    try:
        certificate = _read(settings.etcd_cert) if settings.etcd_cert else None
        key = _read(settings.etcd_key) if settings.etcd_key else None
        credentials = grpc.ssl_channel_credentials(_read(settings.etcd_ca), key, certificate)
    except OSError as error:
        raise Unavailable(f"etcd's certificates: {error}") from error
    # A target of several addresses has no name of its own to check: every member's certificate must name the first endpoint's host.
    authority = ("grpc.default_authority", settings.etcd[0])
    return grpc.aio.secure_channel(target, credentials, options=[*_OPTIONS, authority])


async def _target(endpoints: Sequence[str]) -> str:
    """All endpoints in one target, so that gRPC itself goes on to the next; in random order, so that not all sit on the first."""
    if len(endpoints) == 1:
        return f"dns:///{endpoints[0]}"
    loop = asyncio.get_running_loop()
    addresses: list[str] = []
    for endpoint in endpoints:
        host, port = host_port(endpoint)
        try:
            found = await loop.getaddrinfo(host, port, family=2, type=1)
        except OSError as error:
            raise Unavailable(f"etcd endpoint {endpoint}: {error}") from error
        addresses += [":".join(map(str, address)) for *_, address in found]
    random.shuffle(addresses)
    return "ipv4:" + ",".join(addresses)
