"""The message types and stubs of the package etcd3 0.12.0, importable under protobuf 4 to 7.

Its generated modules refuse to load with any protobuf since 4 ("Descriptors cannot be created directly"). The serialized
descriptors inside them are fine, so they are read out of the source, never executed, and built anew with the protobuf that is
installed, in a pool of their own. Nothing on disk changes. Its client (watch, leases, retries) is not used: see client.py.
"""

import ast
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.internal import builder

_IN_ORDER_OF_IMPORT = ("kv", "auth", "rpc")


def _serialized_descriptor(source: str) -> bytes:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "FileDescriptor":
            for keyword in node.keywords:
                if keyword.arg == "serialized_pb":
                    value = keyword.value
                    literal = ast.literal_eval(value.args[0] if isinstance(value, ast.Call) else value)
                    return literal if isinstance(literal, bytes) else str(literal).encode("latin-1")
    raise ImportError("etcd3's generated modules look different from those of 0.12.0: no serialized descriptor found")


def _install() -> None:
    package = importlib.util.find_spec("etcd3")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package etcd3 is not installed")
    folder = Path(package.submodule_search_locations[0]) / "etcdrpc"
    pool = descriptor_pool.DescriptorPool()
    for stem in _IN_ORDER_OF_IMPORT:
        name = f"etcd3.etcdrpc.{stem}_pb2"
        pool.AddSerializedFile(_serialized_descriptor((folder / f"{stem}_pb2.py").read_text(encoding="utf-8")))
        descriptor = pool.FindFileByName(f"{stem}.proto")
        module = types.ModuleType(name)
        names: dict[str, Any] = {"DESCRIPTOR": descriptor}
        builder.BuildMessageAndEnumDescriptors(descriptor, names)
        builder.BuildTopDescriptorsAndMessages(descriptor, name, names)
        vars(module).update(names)
        sys.modules[name] = module


if "etcd3.etcdrpc.rpc_pb2" not in sys.modules:
    _install()

from etcd3 import etcdrpc as rpc  # noqa: E402  its generated modules must be in place first

__all__ = ["rpc"]
