"""A training run as its YAML file describes it, checked whole before anything is loaded."""

from itertools import accumulate
from math import cos, pi
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from schemas.vocabulary import DEFAULT_TEMPLATES
from schemas.words import TemplateList

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSource(_Strict):
    """Where pictures and masks come from: exactly one of `manifest`, `labels` and `demo_world`.

    manifest: with `mask_uri`, beside a `vocabulary` whose class ids the masks hold.
    labels: an output of `escnet annotate`, with the vocabulary it was made with.
    demo_world: `scenes`, or `objects`: single objects, four or nine to a picture.
    """

    manifest: str | None = None
    labels: str | None = None
    demo_world: Literal["scenes", "objects"] | None = None
    vocabulary: str | None = None
    split: str | None = None
    weight: PositiveFloat = 1.0  # of the pictures, against the other sources of a stage
    smallest_crop: Fraction = 0.5  # of a picture's shorter side; crops are between this and all of it
    color_jitter: Fraction = 0.25
    flip: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("manifest", "labels", "demo_world") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of manifest, labels and demo_world, found {' and '.join(given) or 'none'}")
        if self.manifest is not None and self.vocabulary is None:
            raise ValueError("a manifest needs `vocabulary`, a name or a file: the meaning of the ids in its masks")
        return self


class ModelSource(_Strict):
    """What training starts from: a preset with random weights, or a checkpoint, such as `model import` writes.

    With `clip_from`, another checkpoint, a preset takes over the CLIP of that.
    """

    preset: str | None = None
    checkpoint: str | None = None
    clip_from: str | None = None
    changes: dict[str, Any] = Field(default_factory=dict)  # of the preset's configuration

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.preset is None) == (self.checkpoint is None):
            raise ValueError("expected either preset or checkpoint")
        if self.checkpoint is not None and (self.changes or self.clip_from):
            raise ValueError("changes and clip_from go with a preset; a checkpoint stays as it is")
        return self


class Losses(_Strict):
    """The weight of each loss; see `escnet.losses`."""

    segmentation: NonNegativeFloat = 1.0
    alignment: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.segmentation and not self.alignment:
            raise ValueError("one of segmentation and alignment must be above 0")
        return self


class Stage(_Strict):
    """A part of the run with its own data, losses and rate, which rises over `warmup_steps` and falls by a cosine.

    batch_size: pictures of an optimiser step, over all workers.
    micro_batch_size: pictures that go through the network at once.
    classes_per_picture: classes that go through the network; None is all of the batch.
    text_rate: of the learning rate, for a text tower that is trained whole; at 0 it rests.
    """

    name: str
    steps: PositiveInt
    data: tuple[DataSource, ...] = Field(min_length=1)
    losses: Losses = Losses()
    batch_size: PositiveInt = 4
    micro_batch_size: PositiveInt = 4
    classes_per_picture: PositiveInt | None = None
    learning_rate: PositiveFloat = 2e-4
    warmup_steps: int = Field(default=100, ge=0)
    text_rate: Fraction = 1.0
    last_rate: Fraction = 0.0  # at the end, as part of `learning_rate`

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    def rate(self, step: int) -> float:
        """What part of the learning rate holds at a step of the stage, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return warm * (self.last_rate + (1 - self.last_rate) * (1 + cos(pi * step / self.steps)) / 2)


class Validation(_Strict):
    """Pictures to measure on while training: those of a source, never cropped or changed."""

    data: DataSource
    n_pictures: PositiveInt = 64
    every: PositiveInt = 1000  # steps


class TrainingConfig(_Strict):
    """The whole of a run.

    Raises:
        pydantic.ValidationError: `read_config` turns it into one line.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    description: str = ""
    model: ModelSource
    stages: tuple[Stage, ...] = Field(min_length=1)
    validation: Validation | None = None
    trainable: Literal["all", "paper", "blocks"] = "paper"
    clip_sam_rate: Fraction = 0.01  # of a stage's rate, for the paper's CLIP and SAM layers
    spread_names: bool = False  # before a network learns from nothing; see `escnet.training.spread_names`
    templates: TemplateList = DEFAULT_TEMPLATES
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    weight_decay: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat = 1.0
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # 0 keeps no average
    seed: int = Field(default=0, ge=0)
    checkpoint_every: PositiveInt = 500  # steps
    log_every: PositiveInt = 20

    @property
    def n_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """The stage of a step of the run, and the step within it, both counted from 0."""
        starts = [0, *accumulate(stage.steps for stage in self.stages)]
        stage = next(i for i in range(len(self.stages)) if step < starts[i + 1])
        return stage, step - starts[stage]
