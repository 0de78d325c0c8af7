"""Fetching, from a server on this machine that breaks off, lies and refuses."""

import contextlib
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from rsam_ref.data import DataError, load_dataset
from rsam_ref.data import fetch as module
from rsam_ref.data.fetch import REMOTES, File, Remote, fetch
from tests.helpers.files import SHARED, cifar_bytes, idx_bytes, noise_images

CONTENTS = np.random.default_rng(0).bytes(300_000)
NAME = "file.bin"


class Server:
    """Gives out ``files`` and keeps the requests' (path, Range). Faults are set by attributes."""

    def __init__(self):
        self.files = {f"/{NAME}": CONTENTS}
        self.requests = []
        self.ranges = True
        self.cuts = []  # bytes that each coming answer ends after, though it promised more
        self.status = 200
        self.chunked = False
        self.moved = {}
        self.wrong_range = False
        self.silent = threading.Event()
        self.silent.set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.close_connection = True
                with contextlib.suppress(ConnectionError):  # a client that has heard enough
                    server.answer(self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked))
        self.silent.wait(10)
        if request.path in self.moved:
            request.send_response(302)
            request.send_header("Location", self.moved[request.path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        contents = self.files.get(request.path)
        if contents is None or self.status != 200:
            request.send_error(404 if contents is None else self.status)
            return
        start = 0
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(contents):
                request.send_error(416)
                return
            request.send_response(206)
            first = start - 1 if self.wrong_range else start
            span = f"bytes {first}-{len(contents) - 1}/{len(contents)}"
            request.send_header("Content-Range", span)
        else:
            request.send_response(200)
        body = contents[start:]
        sent = body[: self.cuts.pop(0)] if self.cuts else body
        if self.chunked:
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n0\r\n\r\n")
        else:
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(sent)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    file = File(NAME, len(CONTENTS), hashlib.md5(CONTENTS).hexdigest())
    monkeypatch.setitem(REMOTES, "mnist", Remote((server.address,), (file,)))
    yield server
    server.silent.set()
    server.http.shutdown()
    server.http.server_close()


def place(tmp_path):
    return tmp_path / "mnist" / NAME


def part(tmp_path, contents=None):
    path = tmp_path / "mnist" / f"{NAME}.part"
    if contents is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents)
    return path


def failure(*args, **kwargs):
    """The message of the DataError that fetching ends in: one line."""
    with pytest.raises(DataError) as caught:
        fetch(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once_and_then_found(server, tmp_path):
    seen = []
    folder = fetch("mnist", tmp_path, progress=lambda *now: seen.append(now))
    assert folder == tmp_path / "mnist"
    assert place(tmp_path).read_bytes() == CONTENTS
    assert [path.name for path in folder.iterdir()] == [NAME]
    done = [now[0] for now in seen]
    assert done == sorted(done)
    assert seen[-1] == (300_000, 300_000, NAME)
    assert server.requests == [(f"/{NAME}", None)]
    seen.clear()
    assert fetch("mnist", tmp_path, progress=lambda *now: seen.append(now)) == folder
    assert len(server.requests) == 1
    assert seen == [(300_000, 300_000, NAME)]


def test_a_connection_that_breaks_off_is_gone_on_with(server, tmp_path):
    server.cuts = [100_000, 50_000]
    fetch("mnist", tmp_path)
    assert place(tmp_path).read_bytes() == CONTENTS
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("kept", [1, 100_000, 299_999, 300_000])
def test_a_part_of_an_earlier_run_is_gone_on_with(server, tmp_path, ranges, kept):
    server.ranges = ranges
    part(tmp_path, CONTENTS[:kept])
    seen = []
    fetch("mnist", tmp_path, progress=lambda *now: seen.append(now))
    assert place(tmp_path).read_bytes() == CONTENTS
    assert not part(tmp_path).exists()
    asked = [] if kept == 300_000 else [(f"/{NAME}", f"bytes={kept}-")]
    assert server.requests == asked
    assert not asked or (seen[0][0] > kept) == (ranges or kept == 1)


@pytest.mark.parametrize(
    "wrong", [b"x" * 1000, b"x" * 300_000, CONTENTS + b"x"], ids=["begun", "whole", "too long"]
)
def test_a_wrong_part_is_thrown_away(server, tmp_path, wrong):
    part(tmp_path, wrong)
    fetch("mnist", tmp_path)
    assert place(tmp_path).read_bytes() == CONTENTS
    assert server.requests[-1] == (f"/{NAME}", None)


def test_a_part_beyond_what_the_server_has_is_an_answer_416(server, tmp_path):
    server.files[f"/{NAME}"] = CONTENTS[:1000]
    part(tmp_path, CONTENTS[:2000])
    assert "it has 1000 bytes, not 300000" in failure("mnist", tmp_path)
    assert [asked for _, asked in server.requests] == ["bytes=2000-", None]


def test_another_range_than_asked_for_is_refused(server, tmp_path):
    server.wrong_range = True
    part(tmp_path, CONTENTS[:2000])
    assert "another range than it was asked for (bytes 1999-299999)" in failure("mnist", tmp_path)
    assert part(tmp_path).read_bytes() == CONTENTS[:2000]


def test_a_wrong_file_is_removed_and_fetched_again(server, tmp_path):
    for wrong in (b"x" * 300_000, b"short"):
        place(tmp_path).parent.mkdir(exist_ok=True)
        place(tmp_path).write_bytes(wrong)
        fetch("mnist", tmp_path)
        assert place(tmp_path).read_bytes() == CONTENTS


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_wrong_contents_leave_nothing_and_both_checksums_are_told(server, tmp_path, chunked):
    server.chunked = chunked
    wrong = CONTENTS[:-1] + b"\0"
    server.files[f"/{NAME}"] = wrong
    message = failure("mnist", tmp_path)
    for contents in (CONTENTS, wrong):
        assert hashlib.md5(contents).hexdigest() in message
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize("length", [0, 5, 299_999, 300_001, 900_000])
def test_contents_of_another_length_are_refused(server, tmp_path, length):
    server.files[f"/{NAME}"] = (CONTENTS * 3)[:length]
    assert f"it has {length} bytes, not 300000" in failure("mnist", tmp_path)
    assert not place(tmp_path).exists()


def test_a_short_answer_without_a_length_is_not_taken_for_the_file(server, tmp_path):
    server.chunked = True
    server.files[f"/{NAME}"] = b"<html>please log in</html>"
    server.ranges = False
    assert "broke off at byte 26 of 300000" in failure("mnist", tmp_path)
    server.files[f"/{NAME}"] = CONTENTS
    server.ranges = True
    fetch("mnist", tmp_path)  # goes on from the page, finds the checksum wrong, starts again
    assert place(tmp_path).read_bytes() == CONTENTS


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_an_http_error_is_told_with_the_remedy(server, tmp_path, status):
    server.status = status
    message = failure("mnist", tmp_path)
    assert message.startswith(f"{place(tmp_path)}: could not be fetched ({server.address}{NAME}: ")
    assert f"HTTP {status} " in message
    assert f"Get {server.address}{NAME} elsewhere and put it, under the same name" in message
    assert f"into {tmp_path / 'mnist'}," in message


def test_without_a_network_every_missing_file_is_named_at_once(server, tmp_path, monkeypatch):
    files = tuple(File(name, 4, hashlib.md5(b"good").hexdigest()) for name in ("a", "b", "c"))
    server.http.shutdown()
    server.http.server_close()
    monkeypatch.setitem(REMOTES, "mnist", Remote((server.address,), files))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "a").write_bytes(b"good")
    message = failure("mnist", tmp_path)
    assert "connection refused" in message
    wanted = f"Get {server.address}b, {server.address}c elsewhere and put them"
    assert wanted in message
    for name in "bc":  # as the message says
        (tmp_path / "mnist" / name).write_bytes(b"good")
    fetch("mnist", tmp_path)


def test_mirrors_are_tried_in_turn_and_share_the_part(server, tmp_path):
    server.files = {f"/good/{NAME}": CONTENTS, f"/half/{NAME}": CONTENTS}
    server.cuts = [1000, 0]
    mirrors = [server.address + name for name in ("gone/", "half/", "good/")]
    fetch("mnist", tmp_path, mirrors=mirrors)
    assert place(tmp_path).read_bytes() == CONTENTS
    assert server.requests == [
        (f"/gone/{NAME}", None),
        (f"/half/{NAME}", None),
        (f"/half/{NAME}", "bytes=1000-"),
        (f"/good/{NAME}", "bytes=1000-"),
    ]
    server.files = {}
    message = failure("mnist", tmp_path / "new", mirrors=mirrors)
    assert all(mirror in message for mirror in mirrors)


def test_a_mirror_with_wrong_contents_is_followed_by_the_next(server, tmp_path):
    server.files = {f"/good/{NAME}": CONTENTS, f"/bad/{NAME}": b"x" * 300_000}
    fetch("mnist", tmp_path, mirrors=[server.address + "bad/", server.address + "good/"])
    assert place(tmp_path).read_bytes() == CONTENTS


def test_redirects_are_followed_and_loops_are_an_error(server, tmp_path):
    server.moved = {f"/{NAME}": "/elsewhere"}
    server.files = {"/elsewhere": CONTENTS}
    part(tmp_path, CONTENTS[:7])
    fetch("mnist", tmp_path)
    assert place(tmp_path).read_bytes() == CONTENTS
    assert server.requests[-1] == ("/elsewhere", "bytes=7-")
    server.moved = {f"/{NAME}": f"/{NAME}"}
    assert "HTTP 302" in failure("mnist", tmp_path / "new")


def test_a_server_that_says_nothing_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.silent.clear()
    assert "no answer for 0.2 seconds" in failure("mnist", tmp_path)


def test_an_address_that_is_none_is_told(server, tmp_path):
    assert "unknown url type" in failure("mnist", tmp_path, mirrors=["nonsense/"])


def test_ctrl_c_leaves_the_part_for_the_next_run(server, tmp_path):
    def interrupt(done, total, name):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", tmp_path, progress=interrupt)
    kept = part(tmp_path).stat().st_size
    assert 100_000 < kept < 300_000
    fetch("mnist", tmp_path)
    assert server.requests[-1] == (f"/{NAME}", f"bytes={kept}-")
    assert place(tmp_path).read_bytes() == CONTENTS


def test_a_full_disk_leaves_the_part_for_the_next_run(server, tmp_path, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, block):
            if self.tell() + len(block) > 200_000:
                raise OSError(28, "No space left on device")
            return super().write(block)

    def opened(path, mode="r"):
        return FullDisk(path, mode) if mode == "wb" else open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(module, "open", opened, raising=False)
        message = failure("mnist", tmp_path)
    assert "no space left on device; mend that, and fetch mnist again" in message
    kept = part(tmp_path).stat().st_size
    assert 0 < kept <= 200_000
    fetch("mnist", tmp_path)
    assert server.requests[-1] == (f"/{NAME}", f"bytes={kept}-")
    assert place(tmp_path).read_bytes() == CONTENTS


def test_a_place_that_cannot_be_written_is_told(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "file/mnist: not a directory; mend that" in failure("mnist", tmp_path / "file")
    place(tmp_path).mkdir(parents=True)
    assert f"{place(tmp_path)}: is a directory; mend that" in failure("mnist", tmp_path)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mnist, fashion-mnist, cifar10, cifar100, not 'svhn'"):
        fetch("svhn", tmp_path)


# Archives


def archive(members):
    """A tar.gz of names and contents; None makes a link to /etc/passwd."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, contents in members:
            member = tarfile.TarInfo(name)
            if contents is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size, member.mode = len(contents), 0o4777
            tar.addfile(member, io.BytesIO(contents or b""))
    return packed.getvalue()


CIFAR = {
    "data_batch_1.bin": cifar_bytes(noise_images(3), [1, 2, 3]),
    "test_batch.bin": cifar_bytes(noise_images(2), [4, 5]),
    "batches.meta.txt": b"".join(b"c%d\n" % i for i in range(10)),
}


@pytest.fixture
def cifar(server, monkeypatch):
    """Serves an archive as CIFAR-10, made of the given members."""

    def serve(members):
        packed = archive(members)
        server.files = {"/cifar-10-binary.tar.gz": packed}
        file = File("cifar-10-binary.tar.gz", len(packed), hashlib.md5(packed).hexdigest())
        sizes = {name: len(contents) for name, contents in CIFAR.items()}
        remote = Remote((server.address,), (file,), "cifar-10-batches-bin", sizes)
        monkeypatch.setitem(REMOTES, "cifar10", remote)

    return serve


def members(**changed):
    return [(f"cifar-10-batches-bin/{name}", changed.get(name, CIFAR[name])) for name in CIFAR]


def test_an_archive_is_unpacked_and_read(server, cifar, tmp_path):
    cifar(members())
    folder = fetch("cifar10", tmp_path)
    data = load_dataset(folder)
    assert data.train.labels.tolist() == [1, 2, 3]
    assert data.classes[9] == "c9"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
    ]
    (folder / "cifar-10-binary.tar.gz").unlink()
    fetch("cifar10", tmp_path)  # what is unpacked is enough
    assert len(server.requests) == 1
    (folder / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"cut short")
    (folder / "cifar-10-batches-bin" / "mine.txt").write_text("stays")
    fetch("cifar10", tmp_path)
    assert len(load_dataset(folder).test) == 2
    assert (folder / "cifar-10-batches-bin" / "mine.txt").read_text() == "stays"


def test_nothing_unexpected_leaves_an_archive(cifar, tmp_path):
    cifar(
        [
            ("../../evil.txt", b"evil"),
            ("/tmp/evil-rsam-ref.txt", b"evil"),
            ("cifar-10-batches-bin/extra.bin", b"evil"),
            ("cifar-10-batches-bin/link", None),
            ("cifar-10-batches-bin/../test_batch.bin", b"evil"),
            *members(),
            ("elsewhere/test_batch.bin", b"evil"),
        ]
    )
    folder = fetch("cifar10", tmp_path / "a" / "b")
    assert not Path("/tmp/evil-rsam-ref.txt").exists()
    unpacked = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in unpacked) == sorted([*CIFAR, "cifar-10-binary.tar.gz"])
    for name, contents in CIFAR.items():
        path = folder / "cifar-10-batches-bin" / name
        assert path.read_bytes() == contents
        assert path.stat().st_mode & 0o7111 == 0


def test_an_archive_that_lacks_a_member_or_has_a_link_for_it_is_told(cifar, tmp_path):
    cifar(members()[1:])
    message = failure("cifar10", tmp_path)
    assert "cifar-10-binary.tar.gz: lacks cifar-10-batches-bin/data_batch_1.bin" in message
    cifar([("cifar-10-batches-bin/data_batch_1.bin", None), *members()[1:]])
    assert "lacks cifar-10-batches-bin/data_batch_1.bin" in failure("cifar10", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new" / "cifar10").iterdir()] == [
        "cifar-10-binary.tar.gz"
    ]


def test_an_archive_that_is_none_is_told(server, tmp_path, monkeypatch):
    file = File(NAME, len(CONTENTS), hashlib.md5(CONTENTS).hexdigest())
    remote = Remote((server.address,), (file,), "folder", {"a": 0})
    monkeypatch.setitem(REMOTES, "cifar10", remote)
    assert "cannot be unpacked" in failure("cifar10", tmp_path)


# The table


def test_the_table_is_whole():
    assert list(REMOTES) == ["mnist", "fashion-mnist", "cifar10", "cifar100"]
    for remote in REMOTES.values():
        assert len(remote.mirrors) >= 2
        assert all(mirror.endswith("/") for mirror in remote.mirrors)
        for file in remote.files:
            assert len(bytes.fromhex(file.md5)) == 16


def test_the_checksums_of_fashion_mnist_are_those_of_its_files():
    folder = SHARED / "fashion-mnist"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for file in REMOTES["fashion-mnist"].files:
        contents = (folder / file.name).read_bytes()
        assert (len(contents), hashlib.md5(contents).hexdigest()) == (file.size, file.md5)


def test_a_fetched_mnist_is_read(server, tmp_path, monkeypatch):
    sizes = {"train": 4, "t10k": 2}
    files = {}
    for part_name, n in sizes.items():
        images = noise_images(n, 1, 28, 28)[:, 0]
        files[f"{part_name}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(images), mtime=0)
        labels = idx_bytes(np.arange(n, dtype=np.uint8))
        files[f"{part_name}-labels-idx1-ubyte.gz"] = gzip.compress(labels, mtime=0)
    server.files = {f"/{name}": contents for name, contents in files.items()}
    assert set(files) == {file.name for file in REMOTES["fashion-mnist"].files}
    table = tuple(File(name, len(raw), hashlib.md5(raw).hexdigest()) for name, raw in files.items())
    monkeypatch.setitem(REMOTES, "mnist", Remote((server.address,), table))
    data = load_dataset(fetch("mnist", tmp_path))
    assert (data.name, len(data.train), len(data.test)) == ("mnist", 4, 2)
