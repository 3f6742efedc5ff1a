"""`escnet job` where there is no cluster, or the wrong one: one clear line and exit code 2."""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import ray

from jobs.main import main

NANO = ["photos", "--vocabulary", "pascal-voc-20", "--model", "escnet-nano", "--output", "s3://b/labels"]


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No memory of jobs, no address in the environment."""
    monkeypatch.setenv("ESCNET_STATE", str(tmp_path / "state"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dashboard():
    """Answers `/api/version` as it is told to; gives its address."""
    servers = []

    def start(status: int, answer: object) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()


def run(monkeypatch, capsys, *arguments):
    """Exit code and what was written to the terminal."""
    monkeypatch.setattr(sys, "argv", ["escnet", "job", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "no job was submitted from here; name the cluster's dashboard with --address"),
        (["list", "--address", "ray://head:10001"], "--address ray://head:10001: expected the http address"),
        (["list", "--address", "auto"], "--address auto: expected the http address"),
        (["list", "--address", "http://me:secret@head:8265"], "--address head:8265: holds a user's name or password"),
        (["status", "../x", "--output", "o"], "../x: not the id of a job"),
        (["submit", *NANO], "Missing option '--address'"),
        (["submit", "--address", "head:1", "photos"], "Missing option '--vocabulary'"),
        (["submit", "--address", "head:1", "gone.yaml"], "gone.yaml: cannot be read as a job file"),
        (["submit", "--address", "head:1", "--train", "gone.yaml"], "gone.yaml: "),
        (["submit", "--address", "head:1", *NANO, "--node-label", "x"], "expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(monkeypatch, capsys, arguments, said):
    code, text = run(monkeypatch, capsys, *arguments)
    assert code == 2, text
    assert said in text
    assert "secret" not in text
    assert "Traceback" not in text


def test_a_cluster_that_is_not_there(monkeypatch, capsys):
    with socket.socket() as nobody:  # has the port, and listens to nobody there
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        code, text = run(monkeypatch, capsys, "list", "--address", address)
    assert code == 2
    assert text.startswith(
        f"Error: --address {address}: no dashboard of a Ray cluster answers there (Connection refused)"
    )


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (200, {"ray_version": "2.51.0", "version": "4"}, f"runs Ray 2.51.0, this machine Ray {ray.__version__}; pip"),
        (404, {}, "no dashboard of a Ray cluster answers there (what answers is something else)"),
        (200, {"hello": "world"}, "no dashboard of a Ray cluster answers there (what answers is something else)"),
        (200, "hello", "no dashboard of a Ray cluster answers there (what answers is something else)"),
        (500, {}, "no dashboard of a Ray cluster answers there"),
        (401, {}, "the cluster asks for a token, or for another one; set RAY_AUTH_TOKEN"),
    ],
)
def test_a_cluster_of_another_kind(monkeypatch, capsys, dashboard, status, answer, said):
    code, text = run(monkeypatch, capsys, "list", "--address", dashboard(status, answer))
    assert code == 2, text
    assert said in text
    assert text.count("\n") == 1
