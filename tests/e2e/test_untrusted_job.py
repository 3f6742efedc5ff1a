"""A job over signed addresses and hostile names: no secret in what it writes or says, no file elsewhere, no word to
the terminal."""

import json
import shutil
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.errors import one_line
from tests.e2e.command import escnet

SIGNATURE, PASSWORD, KEY_ID, KEY, TOKEN = (f"hunter{k}-secret" for k in range(5))
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": TOKEN}
SECRETS = [SIGNATURE, PASSWORD, *ENVIRONMENT.values()]
TERMINAL = "\x1b[2J\x9b31m\u202e"
# image_id, and which picture it is.
PICTURES = [
    ("../../escaped", "good.png"),
    ("/etc/passwd", "missing.png"),
    (f"a\nb\r{TERMINAL}", "page.png"),
    ("<script>alert(1)</script>", "good.png"),
    ("nul\0nul", "broken.png"),
    ("long" * 2000, "good.png"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A web server that asks for the signature and serves a manifest, a vocabulary and pictures."""
    folder = tmp_path_factory.mktemp("served")
    Image.linear_gradient("L").resize((40, 30)).save(folder / "good.png")
    (folder / "page.png").write_text(f"<html>{TERMINAL}</html>")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:60])
    (folder / "words.yaml").write_text("classes: [cat, '<b>dog</b>', '../mouse']\n")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if f"X-Amz-Signature={SIGNATURE}" in self.path:
                super().do_GET()
            else:
                self.send_error(403)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}"
        lines = [{"image_id": name, "uri": signed(f"{address}/{picture}")} for name, picture in PICTURES]
        lines.append({"image_id": "local", "uri": str(folder / f"local{TERMINAL}\n.png")})
        lines.append({"image_id": "unsigned", "uri": f"{address}/good.png"})
        (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
        yield address
        server.shutdown()


def signed(uri: str) -> str:
    return f"{uri}?X-Amz-Credential={KEY_ID}&X-Amz-Signature={SIGNATURE}"


@pytest.fixture(scope="module")
def ray_folder():
    """Where Ray keeps its logs; a short name, since it makes sockets there."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def job(address, ray_folder, tmp_path_factory) -> tuple[Path, CompletedProcess]:
    """The output of a job over them, and what the command said."""
    output = tmp_path_factory.mktemp("around") / "out"
    words = signed(f"{address}/words.yaml")
    done = escnet(
        "annotate", signed(f"{address}/list.jsonl"), "--vocabulary", words, "--output", output,
        "--model", "escnet-nano", "--views", "single", "--shard-size", 5, "--actors", 1, "--max-failed", 1,
        env={**ENVIRONMENT, "RAY_TMPDIR": str(ray_folder)},
    )  # fmt: skip
    return output, done


def rows_of(output: Path) -> dict[str, dict]:
    rows = [row for path in sorted(output.glob("labels/*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["image_id"]: row for row in rows}


def test_names_of_pictures_are_kept_as_they_are_and_name_no_file(job):
    output, _ = job
    found = {name: row["error_kind"] or row["status"] for name, row in rows_of(output).items()}
    kinds = {"good.png": "labelled", "missing.png": "not_found", "page.png": "not_an_image", "broken.png": "truncated"}
    expected = {name: kinds[picture] for name, picture in PICTURES}
    assert found == {**expected, "local": "not_found", "unsigned": "forbidden"}
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert {path.name for path in output.iterdir()} <= {
        "job.json",
        "labels",
        "manifest",
        "vocabularies",
        "runs",
        ".lock",
    }


def test_no_secret_stands_in_job_labels_or_vocabularies(job):
    output, _ = job
    for path in output.rglob("*"):
        if path.is_file() and path.parent.name != "manifest":
            assert secrets_in(path.read_bytes()) == [], path
    for path in output.glob("labels/*.parquet"):
        table = pq.read_table(path)
        assert secrets_in(f"{table.to_pylist()} {table.schema.metadata}".encode()) == []
    assert all(row["uri"].startswith(("http://127.0.0.1:", "/")) for row in rows_of(output).values())


def test_no_secret_is_said_or_logged(job, ray_folder):
    _, done = job
    assert secrets_in(f"{done.stdout}{done.stderr}".encode()) == []
    logs = [path for path in ray_folder.rglob("*") if path.is_file() and "logs" in path.parts]
    assert logs
    assert {str(path): found for path in logs if (found := secrets_in(path.read_bytes()))} == {}


def test_the_terminal_is_left_alone(job):
    _, done = job
    for line in (done.stdout + done.stderr).split("\n"):
        assert line == one_line(line)


def test_errors_of_messages_are_one_line_without_secrets(job):
    output, _ = job
    messages = [row["error_message"] for row in rows_of(output).values() if row["status"] == "failed"]
    assert messages
    assert all(message == one_line(message) for message in messages)


@pytest.mark.parametrize("which", ["source", "vocabulary", "image root"])
def test_an_address_that_fails_is_named_without_its_secrets(address, tmp_path, which):
    missing = signed(f"{address}/missing")
    source = f"{missing}.jsonl" if which == "source" else tmp_path
    words = f"{missing}.yaml" if which == "vocabulary" else "pascal-voc-20"
    root = ["--image-root", missing] if which == "image root" else []
    done = escnet(
        "annotate", source, *root, "--vocabulary", words, "--model", "escnet-nano", "--output", tmp_path / "out", code=2
    )  # fmt: skip
    assert "127.0.0.1" in done.stderr
    assert secrets_in(f"{done.stdout}{done.stderr}".encode()) == []


def secrets_in(data: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in data]
