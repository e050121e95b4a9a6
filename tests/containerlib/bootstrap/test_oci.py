"""OCI images that the tests make themselves: layouts, and archives of both kinds."""

import contextlib
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from containerlib.bootstrap.oci import Oci, config_of
from containerlib.images import Bench, Config, ImageError, Store, build
from containerlib.programs import ProgramError

Layer = dict[str, str | bytes | tarfile.TarInfo]
CONFIG = {
    "Entrypoint": ["/bin/serve"],
    "Cmd": ["--port", "80"],
    "Env": ["PATH=/bin", "WORDS=a=b"],
    "WorkingDir": "/srv",
    "User": "web:web",
}


def layer_bytes(files: Layer) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, value in files.items():
            if isinstance(value, tarfile.TarInfo):
                tar.addfile(value)
                continue
            data = value.encode() if isinstance(value, str) else value
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(data), 0o644, 4711
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def special(name: str, kind: bytes, link: str = "", **numbers: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    for key, value in numbers.items():
        setattr(info, key, value)
    return info


def write_layout(path: Path, layers: list[Layer], config: object = None) -> Path:
    """As the specification has it: blobs by digest, an index that names the manifest."""

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    (path / "blobs/sha256").mkdir(parents=True)
    tars = [layer_bytes(layer) for layer in layers]
    diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]
    image = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps({**image, "config": config or {}}).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(tar, mtime=0), "layer.v1.tar+gzip") for tar in tars],
    }
    described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return path


BASE: Layer = {"etc/hosts": "base", "etc/gone": "x", "dir/old": "x", "bin": special("bin", tarfile.SYMTYPE, "/usr/bin")}


def as_layout(layout: Path) -> str:
    return f"oci:{layout}:latest"


def as_oci_archive(layout: Path) -> str:
    with tarfile.open(layout.with_suffix(".tar"), "w") as tar:
        for path in sorted(layout.iterdir()):
            tar.add(path, path.name)
    return f"oci-archive:{layout.with_suffix('.tar')}"


def as_docker_archive(layout: Path) -> str:
    target = f"docker-archive:{layout.with_suffix('.docker')}"
    subprocess.run(["skopeo", "copy", as_layout(layout), f"{target}:box:latest"], check=True, capture_output=True)
    return target


@pytest.mark.system
@pytest.mark.parametrize("pack", [as_layout, as_oci_archive, as_docker_archive])
def test_layers_whiteouts_owners_and_config(tmp_path: Path, pack: Callable[[Path], str]) -> None:
    second: Layer = {"etc/hosts": "changed", "etc/.wh.gone": "", "dir/.wh..wh..opq": "", "dir/new": "x"}
    source = Oci(pack(write_layout(tmp_path / "layout", [BASE, second], CONFIG)))
    image = build(Store(tmp_path / "store"), "box", source)
    names = sorted(str(path.relative_to(image.root)) for path in image.root.rglob("*"))
    assert names == ["bin", "dir", "dir/new", "etc", "etc/hosts"]
    assert (image.root / "etc/hosts").read_text() == "changed"
    assert (image.root / "etc/hosts").stat().st_uid == 4711
    assert str((image.root / "bin").readlink()) == "/usr/bin"
    env = {"PATH": "/bin", "WORDS": "a=b"}
    assert image.manifest.config == Config(("/bin/serve", "--port", "80"), env, "/srv", "web:web")
    assert oct(image.root.stat().st_mode & 0o777) == "0o755"


@pytest.mark.system
def test_a_layer_cannot_write_out_of_the_root(tmp_path: Path, root: Path, bench: Bench) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("whole")
    up = "../" * 20 + str(outside)[1:]
    hostile: Layer = {
        "way": special("way", tarfile.SYMTYPE, str(outside)),
        "way/new": "x",
        "way/victim": "x",
        "way/.wh.victim": "",
        "up": special("up", tarfile.SYMTYPE, up),
        "up/new": "x",
        f"{up}/climbed": "x",
        f"{outside}/absolute": "x",
    }
    source = Oci(as_layout(write_layout(tmp_path / "layout", [hostile, {"way/later": "x"}])))
    with contextlib.suppress(ProgramError):  # refused is as good
        source.build(root, bench)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("victim", "whole")]


@pytest.mark.system
def test_devices_are_refused_unless_asked_for(tmp_path: Path, bench: Bench, root: Path) -> None:
    null = special("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    layout = write_layout(tmp_path / "layout", [{"dev/null": null}])
    store = Store(tmp_path / "store")
    with pytest.raises(ImageError, match="device files or FIFOs in it: dev/null; remove them, or allow them"):
        build(store, "box", Oci(as_layout(layout)))
    image = build(store, "box", Oci(as_layout(layout), devices=True))
    assert (image.root / "dev/null").is_char_device()


@pytest.mark.system
def test_the_recipe_is_what_a_name_means(tmp_path: Path) -> None:
    one = Oci(as_layout(write_layout(tmp_path / "one", [BASE]))).recipe()
    assert Oci(as_layout(write_layout(tmp_path / "same", [BASE]))).recipe() == one
    assert Oci(as_layout(write_layout(tmp_path / "other", [BASE, {"x": "x"}]))).recipe() != one
    assert Oci(as_layout(write_layout(tmp_path / "config", [BASE], CONFIG))).recipe() != one


@pytest.mark.system
def test_what_is_not_there_or_broken(tmp_path: Path, bench: Bench, root: Path) -> None:
    with pytest.raises(ProgramError, match=f"check the name oci:{tmp_path}/absent and that it is there"):
        Oci(f"oci:{tmp_path}/absent").recipe()
    layout = write_layout(tmp_path / "layout", [BASE])
    for path in (layout / "blobs/sha256").iterdir():
        if path.read_bytes().startswith(b"\x1f\x8b"):
            path.write_bytes(gzip.compress(layer_bytes({"etc/hosts": "another"})))
    with pytest.raises(ProgramError):
        Oci(as_layout(layout)).build(root, bench)


@pytest.mark.parametrize(
    ("image", "config"),
    [
        ({}, Config()),
        ({"config": None}, Config()),
        ({"config": {"Env": None, "Cmd": None, "WorkingDir": ""}}, Config()),
        ({"config": {"Cmd": ["sh"]}}, Config(("sh",))),
        (
            {"config": CONFIG},
            Config(("/bin/serve", "--port", "80"), {"PATH": "/bin", "WORDS": "a=b"}, "/srv", "web:web"),
        ),
    ],
)
def test_configuration(image: dict[str, object], config: Config) -> None:
    assert config_of(image) == config


@pytest.mark.parametrize(
    "source", ["", "debian:12", "docker://-x", "dir:/x", "oci:relative", "docker-daemon:debian:12"]
)
def test_what_is_wrong_is_named(source: str) -> None:
    with pytest.raises(ValueError, match=r"Oci\.source .*: must be docker://NAME, oci:/PATH"):
        Oci(source)
