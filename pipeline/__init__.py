"""The way of the pictures: sources, plan, Ray actors, labels, and what is made of labels.

`pipeline.open_labels` reads labels for training; it is imported, and torch with it, when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.label_stream import open_labels

__all__ = ["open_labels"]


def __getattr__(name: str) -> Any:
    if name == "open_labels":
        from pipeline.label_stream import open_labels

        return open_labels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
