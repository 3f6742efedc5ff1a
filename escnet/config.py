"""The configuration of an ESC-Net: everything that, with the weights, decides what it computes.

A configuration travels inside the checkpoint. Numbers are those of ESC-Net (Lee et al. 2025,
arXiv:2411.14723) where the paper gives them; docs/model.md lists the choices the paper leaves open.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.fingerprint import fingerprint


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamConfig(_Frozen):
    """Widths of SAM's prompt encoder and mask decoder transformer; the defaults are SAM's own."""

    embed_dim: int = 256
    mask_in_chans: int = 16
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    num_mask_tokens: int = 4


class ModelConfig(_Frozen):
    """One ESC-Net.

    `clip` is an open_clip model configuration (the JSON of its `model_configs/`), `clip_arch` the name it
    came from, or None for one of ours. `image_size` is the side of the square the network sees, in pixels.
    """

    clip_arch: str | None
    clip: dict[str, Any]
    image_size: int
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    dense_attention: Literal["value_only", "full"] = "value_only"
    tap_layers: tuple[int, int]  # 0-based CLIP blocks that feed the decoder's skips: (coarse to fine) deep last
    sam: SamConfig = SamConfig()
    n_blocks: int = 4
    n_objects: int = 5  # N_o, regions (points and masks) a class
    prompt_threshold: float = 1.04  # alpha: a patch belongs to the class if P > alpha / (h * w)
    kmeans_iterations: int = 10
    fusion: Literal["per_class", "mean"] = "per_class"
    hidden_dim: int = 128  # d
    attention_heads: int = 4
    window_size: int = 12
    decoder_dims: tuple[int, int] = (64, 32)
    guidance_dims: tuple[int, int] = (32, 16)
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    temperature: float = Field(default=1.0, gt=0.0)  # logits are divided by it before softmax or sigmoid

    @property
    def patch_size(self) -> int:
        return int(self.clip["vision_cfg"]["patch_size"])

    @property
    def grid_hw(self) -> tuple[int, int]:
        side = self.image_size // self.patch_size
        return side, side

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.model_dump(mode="json"))
