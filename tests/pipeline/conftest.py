"""Fixtures that several tests of the pipeline use."""

from tests.pipeline.odd_names import labelled, truth
from tests.pipeline.output.verification.whole import output, whole

__all__ = ["labelled", "output", "truth", "whole"]
