"""What a pilot lets a job expect: rates, failures and classes, with how far a run may stray from them by chance."""

import math

from pydantic import BaseModel, ConfigDict, Field


class Interval(BaseModel):
    """A value found, and between what the true one lies with 95 percent confidence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    found: float
    high: float

    def times(self, factor: float) -> "Interval":
        """The interval of a multiple; of a positive factor."""
        return Interval(low=self.low * factor, found=self.found * factor, high=self.high * factor)


class Expectation(BaseModel):
    """What `escnet plan` expects of a job, from a pilot of `n_pilot` of its pictures.

    Args:
        n_pictures: of the whole job.
        pictures_per_s: of one actor.
        failed_fraction: of all pictures, 0 to 1.
        ignored_fraction: of the pixels of labelled pictures, 0 to 1. `ignored_spread`: see `strayed`.
        classes: by name, the share of the pixels that are not ignored, 0 to 1; together 1, or nothing.
        class_spread: see `strayed`; of the distance between two such shares (half the sum of the differences).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_pictures: int = Field(ge=0)
    n_pilot: int = Field(ge=1)
    pictures_per_s: Interval
    failed_fraction: Interval
    ignored_fraction: float = Field(ge=0, le=1)
    ignored_spread: float = Field(ge=0)
    classes: dict[str, float]
    class_spread: float = Field(ge=0)

    def strayed(self, distance: float, spread: float, n_run: int) -> bool:
        """Is a mean over `n_run` pictures farther from the pilot's than chance takes one of 20?

        Args:
            spread: what chance makes of the distance of a single picture, so that the mean of n keeps within
                spread / sqrt(n) in 19 of 20 cases.
        """
        return distance > spread * math.sqrt(1 / self.n_pilot + 1 / max(1, n_run))


def wilson(n_hits: int, n: int) -> Interval:
    """A fraction and its interval (Wilson 1927), which holds where nothing or everything was hit as well."""
    if n == 0:
        return Interval(low=0.0, found=0.0, high=1.0)
    z, share = 1.96, n_hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(low=max(0.0, centre - half), found=share, high=min(1.0, centre + half))


def class_distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Half the sum of the differences of two distributions over classes: 0 the same, 1 nothing in common."""
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in one.keys() | other.keys()) / 2
