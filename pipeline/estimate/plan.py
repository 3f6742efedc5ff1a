"""What a job will take: its sources listed, a pilot run, and the whole reckoned from it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from pipeline.actors.actor import ReplicaSetup, load_segmenter
from pipeline.actors.orders import Segmenter
from pipeline.actors.placement import Placement, ray_cluster, this_machine
from pipeline.annotation.resolve import ResolvedJob, resolve_job
from pipeline.estimate.pilot import Pilot, run_pilot
from pipeline.estimate.reckoning import expect, label_bytes
from pipeline.estimate.sample import ListingSample
from pipeline.output.shard_size import choose_shard_size
from pipeline.progress import listing
from pipeline.sources import SourceSummary, list_batches
from pipeline.storage import StorageOptions
from schemas.errors import InputError, SourceError
from schemas.expectation import Expectation, Interval
from schemas.job import JobRequest
from schemas.manifest import ManifestRow, public_uri

DEFAULT_PILOT = 64


@dataclass(frozen=True)
class Estimate:
    """What a job will take.

    Args:
        n_bytes: of the pictures, as far as their listing knows; 0 if it does not.
        shard_size: pictures a shard.
        placement: of the job: as many actors as it would have now, and never more than shards.
        failed: of the pilot's pictures, by "stage/kind".
        pilot_s: seconds that the pilot took, of which `start_s` until the first model was ready, and `end_s` from the
            last shard to the end.
        label_bytes: of all label files.
        price: of one GPU, or without GPUs of one actor, an hour, in whatever money; None if it was not given.
    """

    n_bytes: int
    n_shards: int
    shard_size: int
    placement: Placement
    failed: dict[str, int]
    pilot_s: float
    start_s: float
    end_s: float
    label_bytes: Interval
    expectation: Expectation
    price: float | None

    @property
    def actor_hours(self) -> Interval:
        """Of all actors together, without their start."""
        rate, n = self.expectation.pictures_per_s, self.expectation.n_pictures
        return Interval(low=n / rate.high / 3600, found=n / rate.found / 3600, high=n / rate.low / 3600)

    @property
    def seconds(self) -> Interval:
        """From the command to the end: a shard is one actor's, so the actor with most shards decides."""
        n = self.expectation.n_pictures
        n_longest = min(n, -(-self.n_shards // self.placement.n_actors) * self.shard_size)
        each = self.actor_hours.times(3600 * n_longest / n)
        around = self.start_s + self.end_s
        return Interval(low=each.low + around, found=each.found + around, high=each.high + around)

    @property
    def gpu_hours(self) -> Interval | None:
        """None without GPUs."""
        return self.actor_hours.times(self.placement.gpus_per_actor) if self.placement.gpus_per_actor else None

    @property
    def cost(self) -> Interval | None:
        """None if no price was given."""
        return None if self.price is None else (self.gpu_hours or self.actor_hours).times(self.price)


def plan_ahead(
    request: JobRequest,
    *,
    n_pilot: int = DEFAULT_PILOT,
    scratch: str | None = None,
    price: float | None = None,
    look: Callable[[Pilot], None] = lambda _: None,
    load: Callable[[ReplicaSetup], Segmenter] = load_segmenter,
) -> Estimate:
    """List the sources of a job, label a few of their pictures, and reckon the rest. Nothing of `output` is touched.

    Args:
        n_pilot: pictures of the pilot, spread evenly over the listing.
        scratch: folder or prefix for the pilot's labels, which every node reaches; needed for a cluster.
        price: see `Estimate`.
        look: is called with the pilot while its labels are there.
        load: called in every actor for its replica of the model.

    Raises:
        InputError: what `annotate` would refuse, or a cluster without `scratch`.
        JobFailedError: nothing of the pilot could be labelled.
    """
    if request.address is not None and scratch is None:
        raise InputError(
            "--address without --scratch: the pilot's labels need a folder or prefix that all nodes reach; name one"
        )
    storage = StorageOptions(endpoint_url=request.endpoint_url, profile=request.profile)
    job = _resolved(request, storage)
    sample, sources = ListingSample(n_pilot), SourceSummary()
    shard_size, batches = choose_shard_size(
        listing(_batches(request, storage, sources)), request.shard_size, job.options.batch_size
    )
    for _ in sample.watch(batches):
        pass
    if sample.n_rows == 0:
        raise SourceError(f"{', '.join(map(public_uri, request.sources))}: no pictures there")
    n_shards = sample.n_shards(shard_size, next(iter(job.vocabularies)))
    with run_pilot(request, sample.rows(), job.options.batch_size, scratch, storage, load) as pilot:
        timings = pilot.report.timings
        estimate = Estimate(
            n_bytes=sources.bytes,
            n_shards=n_shards,
            shard_size=shard_size,
            placement=replace(job.placement, n_actors=min(job.placement.n_actors, n_shards)),
            failed=pilot.report.totals.failed,
            pilot_s=pilot.seconds,
            start_s=timings.start_s if timings else 0.0,
            end_s=timings.end_s if timings else 0.0,
            label_bytes=label_bytes(pilot, sample.n_rows, n_shards),
            expectation=expect(pilot, sample.n_rows),
            price=price,
        )
        look(pilot)
    return estimate


def _resolved(request: JobRequest, storage: StorageOptions) -> ResolvedJob:
    """All names looked up, so that a wrong one is told of before millions of pictures are listed."""
    cluster = nullcontext(this_machine()) if request.address is None else ray_cluster(request.address)
    with cluster as nodes:
        return resolve_job(request, storage, nodes)


def _batches(request: JobRequest, storage: StorageOptions, sources: SourceSummary) -> Iterator[Sequence[ManifestRow]]:
    return list_batches(request.sources, storage, sources, image_root=request.image_root, limit=request.limit)
