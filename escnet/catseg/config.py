"""The configuration of a CAT-Seg. Its numbers are those of its authors' `vitb_384.yaml` and `vitl_336.yaml`."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from escnet.base_config import N_VIEWS, CanvasValues, Count, ModelConfig
from schemas.errors import ModelError
from schemas.job import Views

if TYPE_CHECKING:
    from escnet.catseg.network import CatSeg


class CatSegConfig(ModelConfig):
    """One CAT-Seg.

    `window_px` and `canvas_px` are the sides of a window and of the canvas that windows are cut from; a window is
    resized to `image_size` before the network sees it.

    Raises:
        ModelError: as `ModelConfig`, and windows that do not fit.
    """

    network: Literal["cat-seg"] = "cat-seg"
    dense_attention: Literal["value_only", "value_on_class_token", "full"] = "value_on_class_token"
    loss: Literal["binary_cross_entropy"] = "binary_cross_entropy"  # views are averaged as probabilities, by class
    n_layers: Count = 2
    text_guidance_dim: Count = 128
    image_guidance_dim: Count = 128
    correlation_kernel: Count = 7  # patches a side
    max_classes: int = Field(default=256, ge=2)  # of a view: fewer are padded to it, of more the likeliest are kept
    training_pooling: Count = 2  # patches a side that share one class attention in training, 1 in inference
    window_px: Count = 384
    canvas_px: Count = 640

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        side = self.grid_hw[0]
        if side % min(side, self.window_size):
            raise ModelError(f"window_size {self.window_size} does not divide the grid of {side} x {side} patches")
        if side % self.training_pooling:
            raise ModelError(f"training_pooling {self.training_pooling} does not divide {side}, the side of the grid")
        if self.correlation_kernel % 2 == 0:
            raise ModelError(f"correlation_kernel {self.correlation_kernel}: expected an odd number")
        if not self.window_px <= self.canvas_px <= 2 * self.window_px:
            raise ModelError(
                f"canvas_px {self.canvas_px}: expected {self.window_px} to {2 * self.window_px}, so that two windows "
                f"of {self.window_px} cover it"
            )
        for width, guidance in zip((self.hidden_dim, self.decoder_dims[0]), self.guidance_dims, strict=True):
            if guidance >= width:
                raise ModelError(f"guidance_dims {self.guidance_dims}: {guidance} leaves nothing of {width} channels")
        return self

    def build(self) -> "CatSeg":
        from escnet.catseg.network import CatSeg

        return CatSeg(self)

    @property
    def class_width(self) -> int:
        return self.hidden_dim

    def class_bytes(self, n_classes: int, n_kept: int, views: Views) -> int:
        """The canvas of every class, and the hidden features that a view's classes have at one time.

        The latter stand two and a half times: measured with 20, 256 and 847 classes in both kinds of views.
        """
        h, w = self.grid_hw
        canvas = self.canvas_px**2 if views == "sliding" else (4 * h) ** 2
        hidden = N_VIEWS[views] * h * w * self.hidden_dim * min(n_kept, self.max_classes)
        return int(4 * (canvas * n_kept + 2.5 * hidden + 4 * N_VIEWS[views] * h * w * n_classes))

    @property
    def canvas_holds(self) -> CanvasValues:
        return "probabilities"

    @property
    def depths(self) -> list[int]:
        return [*super().depths, self.n_layers]
