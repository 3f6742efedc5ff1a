"""How fast a model labels on this machine: the network alone in many settings, and a whole job by stage.

Every setting of the network is measured in a process of its own, since peak memory is a process's own and never goes
down. Pictures and words are made up, and the same every time.
"""

import importlib.metadata
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from escnet.models import ResolvedModel
from pipeline.annotation.annotate import annotate
from pipeline.annotation.resolve import BATCH_SIZE_ON_GPU, RECORDED_VERSIONS, known_preselection
from pipeline.bench.alone import Measured, Setting, measure_in_process
from pipeline.bench.devices import describe_device, peak_flops
from pipeline.bench.made_up import made_up_vocabulary, write_pictures, write_words
from pipeline.model_cache import find_model
from pipeline.storage import StorageOptions
from schemas.errors import InputError
from schemas.job import OFF, Dtype, JobRequest, Preselect, Views
from schemas.timings import STAGES, RunTimings

Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchRequest:
    """What `escnet bench` was asked to measure. None means: as a job on this device would do it.

    Args:
        sizes: width and height of the pictures.
        repeat: passes that are timed, after one that is not.
        n_pictures: of the job that is measured by stage; 0 for none.
        endpoint_url, profile: for a model in object storage.
    """

    model: str
    allow_random_weights: bool = False
    device: Literal["cpu", "cuda"] | None = None
    classes: Sequence[int] = (20, 150, 847)
    views: Sequence[Views] | None = None
    dtypes: Sequence[Dtype] | None = None
    preselects: Sequence[Preselect] | None = None
    batch_sizes: Sequence[int] | None = None
    sizes: Sequence[tuple[int, int]] = ((640, 480),)
    threads: int = 1
    repeat: int = 3
    n_pictures: int = 24
    endpoint_url: str | None = None
    profile: str | None = None


def bench(request: BenchRequest, say: Say) -> dict[str, Any]:
    """Measure; returns plain data, as docs/bench.md describes it. `say` is told of every step.

    Raises:
        InputError: a model, device or setting that cannot be used.
    """
    storage = StorageOptions(request.endpoint_url, request.profile)
    model = find_model(request.model, storage, request.allow_random_weights)
    settings = _distinct(_settings(request, model))
    device = settings[0].device
    rows = []
    for number, setting in enumerate(settings, start=1):
        say(f"{number} of {len(settings)}: {setting}")
        measured = measure_in_process(setting)
        rows.append(_model_row(setting, measured))
        say(f"    {measured.median_s / setting.batch_size:.3f} s a picture")
    found: dict[str, Any] = {
        "format": "escnet-bench/1",
        "model_name": model.name,
        "model_fingerprint": model.fingerprint,
        "device": {**describe_device(device), "threads": request.threads},
        "versions": _versions(),
        "model": rows,
        "pipeline": [],
        "job": None,
    }
    if request.n_pictures:
        say(f"a job over {request.n_pictures} pictures, {request.classes[0]} classes, by stage")
        timings = _job(request, settings[0])
        found |= {"pipeline": _stage_rows(timings), "job": timings.as_json()}
    return found


def _settings(request: BenchRequest, model: ResolvedModel) -> Iterator[Setting]:
    device = request.device or ("cuda" if describe_device("cuda")["n_gpus"] else "cpu")
    if device == "cuda" and not describe_device("cuda")["n_gpus"]:
        raise InputError("--device cuda: found no GPU that torch can use; leave it out, or give --device cpu")
    if device == "cpu" and "float16" in (request.dtypes or ()):
        raise InputError("--dtype float16 needs a GPU; on a CPU use float32 or bfloat16")
    made_up_vocabulary(max(request.classes))  # refuses more than there are, before any of the others is measured
    combinations = product(
        request.views or (model.config.views,),
        request.dtypes or ("bfloat16" if device == "cuda" else "float32",),
        [known_preselection(asked, model.config) for asked in request.preselects or (None,)],
        request.batch_sizes or (BATCH_SIZE_ON_GPU if device == "cuda" else 1,),
        request.sizes,
        request.classes,
    )
    for views, dtype, preselect, batch_size, (width, height), n_classes in combinations:
        yield Setting(
            request.model, request.allow_random_weights, device, n_classes, views, dtype, preselect, batch_size, width,
            height, request.threads, request.repeat, request.endpoint_url, request.profile,
        )  # fmt: skip


def _distinct(settings: Iterable[Setting]) -> list[Setting]:
    """Those that compute different things: limits of preselection that the vocabulary cannot reach are all alike.

    `OFF` is another matter: below such a limit classes are still left out that are unlikely in a picture.
    """
    found: dict[Setting, Setting] = {}
    for setting in settings:
        limit = setting.preselect if setting.preselect == OFF else min(setting.preselect, setting.n_classes)
        found.setdefault(replace(setting, preselect=limit), setting)
    return list(found.values())


def _model_row(setting: Setting, measured: Measured) -> dict[str, Any]:
    n, median = setting.batch_size, measured.median_s
    peak = peak_flops(setting.device, setting.dtype)
    per_s = None if measured.flops is None else measured.flops / median
    return {
        "classes": setting.n_classes,
        "views": setting.views,
        "dtype": setting.dtype,
        "preselect": setting.preselect,
        "batch_size": n,
        "width": setting.width,
        "height": setting.height,
        "seconds_per_image": round(median / n, 5),
        "seconds_per_image_min": round(min(measured.seconds) / n, 5),
        "seconds_per_image_max": round(max(measured.seconds) / n, 5),
        "pictures_per_s": round(n / median, 4),
        "peak_memory_mib": round(measured.peak_mib),
        "above_model_mib": round(measured.above_model_mib),
        "gflop_per_image": None if measured.flops is None else round(measured.flops / n / 1e9, 1),
        "share_of_peak": None if per_s is None or peak is None else round(per_s / peak, 4),
    }


def _job(request: BenchRequest, setting: Setting) -> RunTimings:
    """A job of one actor over made-up pictures in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="escnet-bench-") as name:
        folder = Path(name)
        write_pictures(folder / "pictures", request.n_pictures, (setting.width, setting.height))
        report = annotate(
            JobRequest(
                sources=(str(folder / "pictures"),),
                vocabularies=(write_words(folder / "words.yaml", setting.n_classes),),
                model=request.model,
                output=str(folder / "labels"),
                actors=1,
                cpus_per_actor=request.threads,
                gpus_per_actor=1 if setting.device == "cuda" else 0,
                views=setting.views,
                dtype=setting.dtype,
                preselect=setting.preselect,
                batch_size=setting.batch_size,
                allow_random_weights=request.allow_random_weights,
                endpoint_url=request.endpoint_url,
                profile=request.profile,
            )
        )
    assert report.timings is not None  # there was something to label
    return report.timings


def _stage_rows(timings: RunTimings) -> list[dict[str, Any]]:
    shards = timings.shards
    n = max(1, shards.n_pictures)
    whole = sum(shards.seconds.get(stage, 0.0) for stage in STAGES) or 1.0
    return [
        {
            "stage": stage,
            "seconds_per_image": round(shards.seconds.get(stage, 0.0) / n, 5),
            "share_of_work": round(shards.seconds.get(stage, 0.0) / whole, 4),
        }
        for stage in STAGES
    ]


def _versions() -> dict[str, str]:
    names = (*RECORDED_VERSIONS, "numpy", "ray")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
