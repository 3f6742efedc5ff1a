"""Words that a model was never trained with are named before it labels a picture by them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from escnet.checkpoint import save_checkpoint
from escnet.config import preset_config
from escnet.models import build_random
from pipeline.actors.placement import local_cpus
from pipeline.report import write_report

# The command, and what its own process has loaded in the end.
DRIVER = """
import sys
from jobs.main import main
try:
    main()
finally:
    print("LOADED", sorted({"torch", "open_clip", "timm"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unknown")


@pytest.fixture(scope="module")
def done(folder):
    (folder / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
    save_checkpoint(build_random(preset_config("escnet-nano")), folder / "mine.safetensors", {})
    (folder / "words.txt").write_text("red star\nzebra\nzebra crossing")
    options = ("--model", "mine.safetensors", "--vocabulary", "words.txt", "--output", "out", "--shard-size", "1")
    command = [sys.executable, "-c", DRIVER, "annotate", "pictures", *options, "--actors", str(min(2, local_cpus()))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def test_annotate_names_the_words_a_model_does_not_know_once_in_one_line(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith(("warning", "2 pictures in 2 shards"))]
    assert lines[1:] == [
        "warning: mine.safetensors was never trained with 2 words used here (zebra, crossing); "
        "what it labels by them means nothing"
    ]


@pytest.mark.usefixtures("done")
def test_a_report_names_them_too_also_after_a_run_with_nothing_to_do(folder):
    (folder / "out" / "runs" / "99991231T000000Z-000000").mkdir()
    (folder / "out" / "runs" / "99991231T000000Z-000000" / "summary.json").write_text(
        '{"unknown_words": null, "start_steps": {}}'
    )
    write_report(str(folder / "out"), str(folder / "report.html"))
    said = "never trained with 2 words used here; what it labels by them means nothing: zebra, crossing."
    assert said in (folder / "report.html").read_text()


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="where a GPU may be, the driver asks torch for it")
def test_the_network_stays_out_of_the_driver(done):
    assert done.stdout.splitlines()[-1] == "LOADED []"
