"""The configuration of an ESC-Net: everything that, with the weights, decides what it computes.

A configuration travels inside the checkpoint. Numbers are those of ESC-Net (Lee et al. 2025,
arXiv:2411.14723) where the paper gives them; docs/model.md lists the choices the paper leaves open.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import ModelError
from schemas.fingerprint import fingerprint

_CLIP_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias"}


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

    Raises:
        ModelError: a CLIP whose towers are not open_clip's own transformers, or geometry that does not fit.
    """

    clip_arch: str | None
    clip: dict[str, Any]
    image_size: int
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    dense_attention: Literal["value_only", "full"] = "value_only"
    tap_layers: tuple[int, int]  # 0-based CLIP blocks that feed the decoder's skips, coarse stage first
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_clip(self.clip_arch or "clip", self.clip)
        if self.image_size % self.patch_size:
            raise ModelError(
                f"image_size {self.image_size} is not a multiple of CLIP's patch_size {self.patch_size}; "
                f"use {self.image_size // self.patch_size * self.patch_size}"
            )
        n_layers = self.clip["vision_cfg"]["layers"]
        if not all(0 <= layer < n_layers for layer in self.tap_layers):
            raise ModelError(f"tap_layers {self.tap_layers} must lie in 0..{n_layers - 1}, CLIP's image blocks")
        return self

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


def _check_clip(name: str, clip: dict[str, Any]) -> None:
    """Only CLIPs made of open_clip's own vision transformer and text transformer can be used densely."""
    vision, text = clip.get("vision_cfg", {}), clip.get("text_cfg", {})
    obstacles = [f"{key} at the top level" for key in sorted(clip.keys() - _CLIP_KEYS)]
    obstacles += [key for key in ("timm_model_name", "attentional_pool", "block_type") if vision.get(key)]
    obstacles += [key for key in ("hf_model_name",) if text.get(key)]
    if not all(isinstance(vision.get(key), int) for key in ("layers", "width", "patch_size")):
        obstacles.append("no integer layers, width and patch_size in vision_cfg")
    if obstacles:
        raise ModelError(
            f"{name}: found {', '.join(obstacles)}; expected open_clip's own VisionTransformer and text "
            "transformer; use an architecture such as ViT-B-16-quickgelu"
        )


def _openai_clip(embed_dim: int, image_size: int, layers: int, width: int, patch_size: int) -> dict[str, Any]:
    """One of OpenAI's CLIPs as open_clip spells it; written out so that no preset has to import torch."""
    return {
        "embed_dim": embed_dim,
        "quick_gelu": True,
        "vision_cfg": {"image_size": image_size, "layers": layers, "width": width, "patch_size": patch_size},
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": embed_dim, "heads": embed_dim // 64, "layers": 12,
        },
    }  # fmt: skip


def _b16() -> ModelConfig:
    clip = _openai_clip(embed_dim=512, image_size=224, layers=12, width=768, patch_size=16)
    return ModelConfig(clip_arch="ViT-B-16-quickgelu", clip=clip, image_size=384, tap_layers=(3, 7))


def _l14() -> ModelConfig:
    clip = _openai_clip(embed_dim=768, image_size=336, layers=24, width=1024, patch_size=14)
    return ModelConfig(clip_arch="ViT-L-14-336-quickgelu", clip=clip, image_size=336, tap_layers=(7, 15))


def _nano() -> ModelConfig:
    clip = {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 192, "layers": 6, "width": 192, "head_width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    }
    return ModelConfig(
        clip_arch=None,
        clip=clip,
        image_size=192,
        tap_layers=(1, 3),
        sam=SamConfig(embed_dim=64, mask_in_chans=16, depth=2, num_heads=2, mlp_dim=128),
        hidden_dim=32,
        attention_heads=2,  # heads narrower than 16 are slow, on CPUs and GPUs alike
        decoder_dims=(16, 8),
        guidance_dims=(8, 8),
    )


_PRESETS = {"escnet-b16": _b16, "escnet-l14": _l14, "escnet-nano": _nano}
PRESET_NAMES: tuple[str, ...] = tuple(_PRESETS)


def preset_config(name: str) -> ModelConfig:
    """The configuration of a preset, one of `PRESET_NAMES`.

    Raises:
        ModelError: no preset has this name.
    """
    if name not in _PRESETS:
        raise ModelError(f"{name}: no such model; the presets are {', '.join(PRESET_NAMES)}")
    return _PRESETS[name]()
