"""Downloads from a server of this machine: whole, broken off, damaged, and gone on with."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data import download, remote
from data.errors import DataError
from data.remote import RemoteFile, fetch, record

CONTENT = bytes(range(256)) * 20_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file and its record; may break off, ignore ranges, or change a byte."""

    ranges, breaks, damaged, asked = True, 0, False, ()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        if self.path.startswith("/api/records/"):
            files = [{
                "key": "jets.h5", "size": len(CONTENT), "checksum": f"md5:{MD5}",
                "links": {"self": f"{server.url}/jets.h5"},
            }]  # fmt: skip
            body, status = json.dumps({"files": files}).encode(), 200
            if self.path.endswith("/2"):
                body = b"<html>no record</html>"
        elif "jets.h5" in self.path or "event_generation" in self.path:
            body, status = self.part()
        else:
            body, status = b"nothing", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks and len(body) > 1000:
            server.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def part(self):
        server = self.server
        content = CONTENT[:100] + b"?" + CONTENT[101:] if server.damaged else CONTENT
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and server.ranges else 0
        server.asked = (*server.asked, start)
        return content[start:], 206 if start else 200


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_whole_file(server, tmp_path):
    (file,) = record(1, server.url)
    assert file == RemoteFile("jets.h5", f"{server.url}/jets.h5", len(CONTENT), f"md5:{MD5}")
    shown = []
    assert fetch(file, tmp_path, shown.append).read_bytes() == CONTENT
    assert shown[-1] == len(CONTENT) and [p.name for p in tmp_path.iterdir()] == ["jets.h5"]
    fetch(file, tmp_path)
    assert server.asked == (0,), "a complete file is not fetched again"


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connections_go_on(server, tmp_path, ranges):
    server.breaks, server.ranges = 3, ranges
    (file,) = record(1, server.url)
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 4 and (server.asked[-1] > 0) == ranges


def test_what_was_begun_goes_on(server, tmp_path):
    (file,) = record(1, server.url)
    (tmp_path / "jets.h5.part").write_bytes(CONTENT[:1_000_000])
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.asked == (1_000_000,)


def test_damaged_files_are_not_kept(server, tmp_path):
    server.damaged = True
    (file,) = record(1, server.url)
    with pytest.raises(DataError, match=r"arrived damaged \(md5 differs\)"):
        fetch(file, tmp_path)
    assert not list(tmp_path.iterdir())


def test_answers_that_are_none(server, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="describes no record of files"):
        record(2, server.url)
    missing = RemoteFile("x", f"{server.url}/x", 10)
    with pytest.raises(DataError, match="the server answers 404"):
        fetch(missing, tmp_path)
    with pytest.raises(DataError, match="no address of a web server"):
        fetch(RemoteFile("x", "file:///etc/passwd"), tmp_path)
    (tmp_path / "jets.h5").write_bytes(b"another")
    with pytest.raises(DataError, match="has 7 bytes, and .*move it away"):
        fetch(record(1, server.url)[0], tmp_path)
    server.breaks, server.ranges = 10**6, False
    (tmp_path / "jets.h5").unlink()
    monkeypatch.setattr(remote, "_AGAIN", 2)
    with pytest.raises(DataError, match="is kept, and the same command goes on"):
        fetch(record(1, server.url)[0], tmp_path)


def test_names_cannot_leave_the_folder(server, monkeypatch, tmp_path):
    monkeypatch.setattr(remote.json, "loads", lambda _: {"files": [{
        "key": "../../evil", "size": 1, "checksum": "md5:0", "links": {"self": "http://x"},
    }]})  # fmt: skip
    assert record(1, server.url)[0].name == "evil"


def test_the_command(server, tmp_path, capsys):
    out = tmp_path / "jets"
    download.main(["toptagging", "--out", str(out), "--yes", "--server", server.url])
    assert (out / "jets.h5").read_bytes() == CONTENT
    assert "complete. experiment=toptagging_paper" in capsys.readouterr().out
    download.main(["toptagging", "--list", "--server", server.url])
    assert "jets.h5" in capsys.readouterr().out
    download.main(["ttbar", "--out", str(out), "--yes", "--server", server.url])
    assert (out / "event_generation_ttbar.hdf5").read_bytes() == CONTENT
    for wrong, words in (
        (["--only", "x*", "--out", str(out)], "no file of toptagging has such a name"),
        ([], "--out: name the folder"),
    ):
        with pytest.raises(SystemExit) as end:
            download.main(["toptagging", *wrong, "--server", server.url])
        assert words in str(end.value)
    with pytest.raises(SystemExit) as end:
        download.main(["toptagging", "--out", str(out), "--server", "http://127.0.0.1:9"])
    assert "error: http://127.0.0.1:9/api/records" in str(end.value)
