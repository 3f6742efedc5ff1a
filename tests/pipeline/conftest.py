"""Fixtures that several tests of the pipeline use."""

from tests.pipeline.output.verification.whole import output, whole

__all__ = ["output", "whole"]
