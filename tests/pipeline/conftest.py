"""Fixtures that several tests of the pipeline use."""

from tests.pipeline.verification.whole import output, whole

__all__ = ["output", "whole"]
