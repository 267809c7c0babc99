"""Image sets: official archives, read as torchvision does; a real HTTP server on loopback."""

import gzip
import hashlib
import ipaddress
import multiprocessing
import os
import resource
import signal
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.data import image_tensors
from pipeline.data.archives import read
from pipeline.data.image_sets import image_set
from pipeline.project.errors import GaitError

SHARED = Path(os.environ.get("GAIT_SHARED", Path(__file__).parents[4] / "shared")) / "data"
NAMES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


def idx(array: np.ndarray) -> bytes:
    """The array as a gzipped idx file, the format of MNIST's archives."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


class Mirror(ThreadingHTTPServer):
    """Serves `files` from memory and notes every request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.requests: list[str] = []
        self.sent = 1.0  # fraction of each file that is sent before the line goes dead
        self.stalls = False  # whether a dead line stays open
        self.halfway = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/kmnist"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.requests.append(name)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: int(len(content) * self.server.sent)])
        self.wfile.flush()
        if self.server.stalls:
            self.server.halfway.set()
            self.server.closing.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (200, 28, 28), dtype=np.uint8),
        rng.integers(0, 10, 200, dtype=np.uint8),
        rng.integers(0, 256, (12, 28, 28), dtype=np.uint8),
        rng.integers(0, 10, 12, dtype=np.uint8),
    ]


@pytest.fixture
def archives(arrays: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Small archives of which torchvision's KMNIST is told the checksums, as of the real ones."""
    files = {name: idx(array) for name, array in zip(NAMES, arrays, strict=True)}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(torchvision.datasets.KMNIST, "resources", sums)
    return files


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Mirror]:
    with Mirror(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def mirror(archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(archives) as server:
        yield server


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """A full disk, nearly: writing beyond `size` bytes fails, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    found = sorted(folder.rglob("*"))
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def fill(root: Path, archives: dict[str, bytes]) -> Path:
    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in archives.items():
        (raw / name).write_bytes(content)
    return raw


# Official archives


@pytest.mark.parametrize(
    ("name", "source", "mean", "train_counts", "test_counts"),
    [
        (
            "mnist",
            "MNIST",
            33.318,
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ),
        ("fashion", "FashionMNIST", 72.940, [6000] * 10, [1000] * 10),
    ],
)
def test_official_archives(
    tmp_path: Path,
    name: str,
    source: str,
    mean: float,
    train_counts: list[int],
    test_counts: list[int],
) -> None:
    if not (SHARED / source / "raw").is_dir():
        pytest.skip(f"no official archives at {SHARED / source}/raw: set GAIT_SHARED")
    before = listing(SHARED)
    # A mirror that does not answer: nothing may be fetched.
    checksum = image_tensors.prepare(name, tmp_path / "x.safetensors", SHARED, "http://127.0.0.1:9")
    assert listing(SHARED) == before
    loaded = image_tensors.load(tmp_path / "x.safetensors")
    assert loaded.checksum == checksum
    assert (loaded.classes, loaded.maximum) == (10, 255)
    assert loaded.train_images.shape == (60000, 784)
    assert loaded.test_images.shape == (10000, 784)
    assert loaded.train_images.dtype == loaded.train_labels.dtype == torch.uint8
    assert loaded.train_images.double().mean().item() == pytest.approx(mean, abs=1e-3)
    assert loaded.train_labels.bincount().tolist() == train_counts
    assert loaded.test_labels.bincount().tolist() == test_counts


# Fetching


def test_fetch_once(
    tmp_path: Path, mirror: Mirror, arrays: list[np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    first = image_tensors.prepare(
        "kmnist", tmp_path / "a/one.safetensors", tmp_path / "root", mirror.url
    )
    assert set(mirror.requests) == set(NAMES)
    assert capfd.readouterr() == ("", "")
    mirror.requests.clear()
    before = listing(tmp_path / "root")
    second = image_tensors.prepare(
        "kmnist", tmp_path / "two.safetensors", tmp_path / "root", mirror.url
    )
    assert mirror.requests == []
    assert listing(tmp_path / "root") == before
    assert sorted(os.listdir(tmp_path / "root/KMNIST/raw")) == sorted(NAMES)
    assert os.listdir(tmp_path / "a") == ["one.safetensors"]
    assert (
        first == second == hashlib.sha256((tmp_path / "two.safetensors").read_bytes()).hexdigest()
    )
    loaded = image_tensors.load(tmp_path / "a/one.safetensors")
    tensors = (loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert np.array_equal(tensor.numpy(), array.reshape(tensor.shape))
    assert loaded.train_images.shape == (200, 784)


def test_progress_is_shown_when_wanted(
    tmp_path: Path, mirror: Mirror, capfd: pytest.CaptureFixture[str]
) -> None:
    image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url, progress=True)
    assert "100%" in capfd.readouterr().err


@pytest.mark.parametrize("broken", NAMES)
def test_only_the_broken_archive_is_fetched(
    tmp_path: Path, mirror: Mirror, archives: dict[str, bytes], broken: str
) -> None:
    raw = fill(tmp_path, archives)
    (raw / broken).write_bytes(archives[broken][:-9])
    image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert set(mirror.requests) == {broken}
    assert (raw / broken).read_bytes() == archives[broken]
    assert image_tensors.load(tmp_path / "x").train_images.shape == (200, 784)


def test_torchvisions_mirrors_in_turn(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(dict.fromkeys(NAMES, b"<html>Please log in</html>")) as liar:
        mirrors = ["http://127.0.0.1:9/", f"{liar.url}/", f"{mirror.url}/"]
        monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", mirrors)
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path)
        assert set(liar.requests) == set(mirror.requests) == set(NAMES)


def test_a_corrupt_served_archive_is_not_kept(
    tmp_path: Path, mirror: Mirror, archives: dict[str, bytes]
) -> None:
    mirror.files[NAMES[2]] = archives[NAMES[2]][:-1] + b"?"
    with pytest.raises(GaitError, match=rf"{NAMES[2]} is missing .* served a file whose MD5"):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert sorted(os.listdir(tmp_path / "KMNIST/raw")) == sorted([NAMES[0], NAMES[1]])
    assert not (tmp_path / "x").exists()


def test_a_broken_archive_that_cannot_be_repaired(
    tmp_path: Path, mirror: Mirror, archives: dict[str, bytes]
) -> None:
    raw = fill(tmp_path, archives)
    (raw / NAMES[0]).write_bytes(b"half")
    del mirror.files[NAMES[0]]
    with pytest.raises(GaitError, match=rf"{NAMES[0]} is broken .* HTTP status 404"):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert sorted(os.listdir(raw)) == sorted(NAMES)


def test_no_server(tmp_path: Path, archives: dict[str, bytes]) -> None:
    with pytest.raises(GaitError) as raised:
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, "http://127.0.0.1:9/here/")
    message = str(raised.value)
    assert f"{tmp_path}/KMNIST/raw/{NAMES[0]} is missing" in message
    assert f"http://127.0.0.1:9/here/{NAMES[0]}: Connection refused" in message
    assert "copy the archive" in message and "GAIT_DATA_ROOT" in message
    assert os.listdir(tmp_path / "KMNIST/raw") == []


def test_a_line_that_breaks_leaves_no_archive(tmp_path: Path, mirror: Mirror) -> None:
    mirror.sent = 0.5
    with pytest.raises(GaitError, match=NAMES[0]):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert os.listdir(tmp_path / "KMNIST/raw") == []


def test_a_silent_mirror_is_left(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.archives.NETWORK_TIMEOUT_S", 0.3)
    mirror.sent, mirror.stalls = 0.5, True
    with pytest.raises(GaitError, match="timed out"):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)


def test_a_killed_download_is_harmless(
    tmp_path: Path, mirror: Mirror, archives: dict[str, bytes]
) -> None:
    mirror.sent, mirror.stalls = 0.5, True
    child = multiprocessing.get_context("fork").Process(
        target=image_tensors.prepare, args=("kmnist", tmp_path / "x", tmp_path, mirror.url)
    )
    raw = tmp_path / "KMNIST/raw"
    child.start()
    try:
        assert mirror.halfway.wait(10)
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert list(raw.iterdir()) == []
    mirror.sent, mirror.stalls = 1.0, False
    image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == archives


# What the user gets wrong


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("mnsit", "mnist"), ("MNIST", "mnist"), ("FashionMNIST", "fashion"), ("digit", "digits")],
)
def test_unknown_name(tmp_path: Path, name: str, nearest: str) -> None:
    with pytest.raises(GaitError, match=f"'{name}'.*did you mean '{nearest}'.*digits, mnist1d, "):
        image_tensors.prepare(name, tmp_path / "x", tmp_path)


def test_unknown_name_like_no_other(tmp_path: Path) -> None:
    with pytest.raises(
        GaitError, match="'qqqq': choose one of digits, mnist1d, mnist, fashion, kmnist"
    ):
        image_tensors.prepare("qqqq", tmp_path / "x", tmp_path)


@pytest.mark.parametrize(
    "address", ["", "mirror.org/", "ftp://a.org/", "file:///etc", "http://", "http://a:x/"]
)
def test_a_mirror_that_is_no_web_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(GaitError, match=f"'{address}' is no web address"):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, address)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_root_that_cannot_be_made(tmp_path: Path, mirror: Mirror, place: str) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    root = tmp_path / place
    with pytest.raises(GaitError, match=f"^Cannot store .*{root}/KMNIST.*GAIT_DATA_ROOT"):
        image_tensors.prepare("kmnist", tmp_path / "x", root, mirror.url)
    assert mirror.requests == []


def test_a_full_disk_under_the_root(tmp_path: Path, mirror: Mirror) -> None:
    match = f"^Cannot store the missing archive .*{NAMES[0]} .File too large.*GAIT_DATA_ROOT"
    with files_limited_to(4096), pytest.raises(GaitError, match=match):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, mirror.url)
    assert os.listdir(tmp_path / "KMNIST/raw") == []


def test_a_full_disk_is_told_of_a_secure_mirror_too(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = own_certificate(tmp_path), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    mirror.socket = context.wrap_socket(mirror.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    # One that another test made has its certificates for good, from Python 3.12 on.
    monkeypatch.setattr("urllib.request._opener", None)
    secure = mirror.url.replace("http:", "https:")
    match = f"^Cannot store the missing archive .*{NAMES[0]} .File too large.*GAIT_DATA_ROOT"
    with files_limited_to(4096), pytest.raises(GaitError, match=match):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, secure)
    image_tensors.prepare("kmnist", tmp_path / "x", tmp_path, secure)


def own_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        # Python 3.13 trusts no certificate that says nothing of its own authority.
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, kind, plain))
    return path


def test_archives_are_read_as_torchvision_reads_them(
    tmp_path: Path, archives: dict[str, bytes]
) -> None:
    fill(tmp_path, archives)
    with files_limited_to(0):  # Nothing is unpacked on a disk.
        found, _ = read(image_set("kmnist"), tmp_path, None, progress=False)
    for part in ("train", "test"):
        other = torchvision.datasets.KMNIST(str(tmp_path), train=part == "train", download=True)
        assert torch.equal(found[f"{part}_images"], other.data.flatten(1))
        assert torch.equal(found[f"{part}_labels"].long(), other.targets)


def test_an_archive_that_cannot_be_read(tmp_path: Path, archives: dict[str, bytes]) -> None:
    raw = fill(tmp_path, archives)
    (raw / NAMES[0]).unlink()
    (raw / NAMES[0]).symlink_to("/proc/self/mem")  # cannot be read from its start, even by root
    with pytest.raises(GaitError, match=f"^Cannot read {raw} .*GAIT_DATA_ROOT"):
        image_tensors.prepare("kmnist", tmp_path / "x", tmp_path)


def test_a_full_disk_under_the_destination(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    match = f"^Cannot write {tmp_path}/x .File too large"
    with files_limited_to(4096), pytest.raises(GaitError, match=match):
        image_tensors.prepare("digits", tmp_path / "x", tmp_path)
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_destination_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(GaitError, match=f"^Cannot write {tmp_path}/x .Is a directory"):
        image_tensors.prepare("digits", tmp_path / "x", tmp_path)
    assert os.listdir(tmp_path) == ["x"]
