"""rtnetlink requests as bytes, several in one send: what a container's link takes, without building an object for every attribute.

    with Route() as route:                                     # of the network namespace that the calling thread is in
        route.request(link_up(1), address(index, "100.96.0.7", 32))

linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h, linux/pkt_sched.h; this machine's byte order. Standard library only.
"""

import os
import socket
import struct
from types import TracebackType
from typing import Self

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWQDISC, RTM_DELQDISC = (
    16,
    17,
    20,
    24,
    28,
    36,
    37,
)
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
NLMSG_ERROR = 2
SOL_NETLINK, NETLINK_CAP_ACK = 270, 10
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD = 1, 3, 4, 18, 27, 28
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
TCA_KIND, TCA_OPTIONS, TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 2, 1, 4, 6
TC_H_ROOT, TC_LINKLAYER_ETHERNET = 0xFFFFFFFF, 1
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 254, 4, 1, 0, 253

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ROUTE = struct.Struct("=BBBBBBBBI")
_QUEUE = struct.Struct("=BxxxiIII")
_BUCKET = struct.Struct("=BBHhHI 12x III")  # rate, no peak rate, limit, buffer, mtu
_OURS = 0x10000  # handle of the one queue that we make: made again, it is changed
_NEW = NLM_F_CREATE | NLM_F_EXCL

Request = tuple[int, int, bytes]  # kind, flags, body


class Route:
    """Raises OSError, naming the request that the kernel refused; the ones after it were carried out all the same."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # an error need not repeat the request

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, *requests: Request) -> None:
        self._socket.send(b"".join(_message(number, *each) for number, each in enumerate(requests)))
        refused: OSError | None = None
        awaited = len(requests)
        while awaited:
            data = self._socket.recv(1 << 16)
            while data:
                length, kind, _, number, _ = _HEADER.unpack_from(data)
                assert kind == NLMSG_ERROR  # which a success is, too, with code 0
                (code,) = struct.unpack_from("=i", data, _HEADER.size)
                if code and refused is None:
                    refused = OSError(-code, os.strerror(-code), f"rtnetlink request {requests[number][0]}")
                awaited -= 1
                data = data[(length + 3) & ~3 :]
        if refused:
            raise refused


def _message(number: int, kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, number, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _address(kind: int, value: str) -> bytes:
    return _attribute(kind, socket.inet_aton(value))


def _hardware(kind: int, value: str) -> bytes:
    return _attribute(kind, bytes.fromhex(value.replace(":", "")))


def _name(value: str) -> bytes:
    return _attribute(IFLA_IFNAME, value.encode() + b"\0")


# Else there is one for each processor that the machine may have, each with its directories in sysfs: a third of the time it takes.
_ONE_QUEUE = _number(IFLA_NUM_TX_QUEUES, 1) + _number(IFLA_NUM_RX_QUEUES, 1)
# One less than IPv6 must have: the kernel then never begins with it on such a link, where it would take 20 KB at each end. Between
# the two ends TCP goes by 64 KB all the same.
MTU = 1279
_COMMON = _ONE_QUEUE + _number(IFLA_MTU, MTU)


def veth(name: str, hardware: str, *, peer: str, peer_hardware: str, namespace: int, group: int = 0) -> Request:
    """A pair, this end up and of that `group`; `peer` lies in the network namespace behind that descriptor. It is made first, and
    alone it cannot be brought up, nor be given an index."""
    other = (
        _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        + _name(peer)
        + _hardware(IFLA_ADDRESS, peer_hardware)
        + _number(IFLA_NET_NS_FD, namespace)
        + _COMMON
    )
    data = _attribute(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, other))
    about = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"veth") + data)
    head = _LINK.pack(socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP)
    attributes = _name(name) + _hardware(IFLA_ADDRESS, hardware) + _number(IFLA_GROUP, group) + _COMMON
    return RTM_NEWLINK, _NEW, head + attributes + about


def link_up(index: int) -> Request:
    return RTM_NEWLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP)


def delete_link(index: int) -> Request:
    return RTM_DELLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def address(index: int, word: str, prefix_length: int) -> Request:
    head = _ADDRESS.pack(socket.AF_INET, prefix_length, 0, RT_SCOPE_UNIVERSE, index)
    return RTM_NEWADDR, _NEW, head + _address(IFA_LOCAL, word) + _address(IFA_ADDRESS, word)


def neighbour(index: int, word: str, hardware: str) -> Request:
    """For good: nobody is asked who has that address."""
    head = _NEIGHBOUR.pack(socket.AF_INET, index, NUD_PERMANENT, 0, 0)
    return RTM_NEWNEIGH, _NEW, head + _address(NDA_DST, word) + _hardware(NDA_LLADDR, hardware)


def route_to(index: int, word: str, *, source: str = "") -> Request:
    """To one address, which is on the link itself."""
    attributes = _address(RTA_DST, word) + _number(RTA_OIF, index) + (_address(RTA_PREFSRC, source) if source else b"")
    return RTM_NEWROUTE, _NEW, _route_head(32, RT_SCOPE_LINK) + attributes


def default_route(index: int, gateway: str) -> Request:
    attributes = _address(RTA_GATEWAY, gateway) + _number(RTA_OIF, index)
    return RTM_NEWROUTE, _NEW, _route_head(0, RT_SCOPE_UNIVERSE) + attributes


def _route_head(prefix_length: int, scope: int) -> bytes:
    return _ROUTE.pack(socket.AF_INET, prefix_length, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0)


def bucket(index: int, rate_bytes: int, *, burst_bytes: int, queue_bytes: int) -> Request:
    """What leaves by this link is held to so many bytes a second (tbf): up to `burst_bytes` at once after a pause; of what
    comes faster `queue_bytes` wait. Said again it changes the one that is there."""
    # The 32-bit field is full above 34 Gbit/s; the other one counts. A link layer that is named needs no table of times.
    parameters = _BUCKET.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(rate_bytes, 0xFFFFFFFF), queue_bytes, 0, 0)
    options = (
        _attribute(TCA_TBF_PARMS, parameters)
        + _attribute(TCA_TBF_RATE64, struct.pack("=Q", rate_bytes))
        + _number(TCA_TBF_BURST, burst_bytes)
    )
    body = _queue(index) + _attribute(TCA_KIND, b"tbf\0") + _attribute(TCA_OPTIONS, options)
    return RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body


def no_bucket(index: int) -> Request:
    """ENOENT or EINVAL where there is none."""
    return RTM_DELQDISC, 0, _queue(index)


def _queue(index: int) -> bytes:
    return _QUEUE.pack(socket.AF_UNSPEC, index, _OURS, TC_H_ROOT, 0)
