"""Public benchmarks, as their official archives unpack, to manifest, masks and vocabulary: docs/datasets.md."""
