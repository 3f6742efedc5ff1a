"""The configuration of an ESC-Net, the presets of all networks, and which network a stored configuration is of.

Numbers are those of ESC-Net (Lee et al. 2025, arXiv:2411.14723) where the paper gives them; docs/model.md lists the
choices the paper leaves open.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from escnet.base_config import N_VIEWS, Count, Frozen, ModelConfig, PyramidConfig, window_stride
from escnet.catseg.config import CatSegConfig
from schemas.errors import ModelError
from schemas.job import Views

if TYPE_CHECKING:
    from escnet.network import EscNet


class SamConfig(Frozen):
    """Widths of SAM's prompt encoder and mask decoder transformer; the defaults are SAM's own.

    Raises:
        ModelError: a width that SAM cannot be built with.
    """

    _prefix = "sam."
    embed_dim: Count = 256
    mask_in_chans: int = Field(default=16, ge=4)  # SAM begins with a quarter of them
    depth: int = Field(default=2, ge=0)  # 0 leaves the mask prompts, added to the image, and nothing else of SAM
    num_heads: Count = 8
    mlp_dim: Count = 2048
    num_mask_tokens: Count = 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embed_dim % (2 * self.num_heads):  # SAM's cross-attentions are half as wide
            raise ModelError(
                f"sam.embed_dim {self.embed_dim} must be a multiple of twice sam.num_heads, {2 * self.num_heads}"
            )
        return self


class EscNetConfig(ModelConfig):
    """One ESC-Net."""

    sam: SamConfig = SamConfig()
    n_blocks: Count = 4
    n_objects: Count = 5  # N_o, regions (points and masks) a class
    prompt_threshold: float = 1.04  # alpha: a patch belongs to the class if P > alpha / (h * w)
    kmeans_iterations: int = Field(default=10, ge=0)
    fusion: Literal["per_class", "mean"] = "per_class"

    def build(self) -> "EscNet":
        from escnet.network import EscNet

        return EscNet(self)

    @property
    def classes_are_independent(self) -> bool:
        return self.fusion == "per_class"

    @property
    def class_width(self) -> int:
        return self.sam.embed_dim

    def class_bytes(self, n_classes: int, n_kept: int, views: Views) -> int:
        """Some cosines of each class and patch, and the logits of those that stay; half of it is what measuring adds.

        Measured were 20, 847, 5,000 and 20,000 classes, with and without preselection.
        """
        h, w = self.grid_hw
        canvas = (4 * (h + (window_stride(h) if views == "sliding" else 0))) ** 2
        return 4 * (4 * N_VIEWS[views] * h * w * n_classes + 2 * canvas * n_kept)

    @property
    def depths(self) -> list[int]:
        return [*super().depths, self.n_blocks, self.sam.depth]


def parse_config(values: dict[str, Any]) -> ModelConfig:
    """The configuration that a checkpoint's header holds; without `network` it is that of an ESC-Net.

    Raises:
        ModelError: it is of no network we know, or not valid.
    """
    network = values.get("network") if isinstance(values, dict) else None  # the validation says what else it is
    if network is None:
        return EscNetConfig.model_validate(values)
    if network == CatSegConfig.model_fields["network"].default:
        return CatSegConfig.model_validate(values)
    raise ModelError(f"network: found {str(network)[:80]!r}, expected cat-seg, or no such setting for an ESC-Net")


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


_CLIP_B16 = _openai_clip(embed_dim=512, image_size=224, layers=12, width=768, patch_size=16)
_CLIP_L14 = _openai_clip(embed_dim=768, image_size=336, layers=24, width=1024, patch_size=14)
_B16: dict[str, Any] = {
    "clip_arch": "ViT-B-16-quickgelu", "clip": _CLIP_B16, "image_size": 384, "tap_layers": (3, 7),
}  # fmt: skip
_L14: dict[str, Any] = {
    "clip_arch": "ViT-L-14-336-quickgelu", "clip": _CLIP_L14, "image_size": 336, "tap_layers": (7, 15),
}  # fmt: skip

# CLIP's BPE tokens of the words that escnet-nano and escnet-small are trained with: the demo world's names and the
# templates around them.
_WORLD_TOKENS = (
    320, 518, 530, 539, 550, 736, 1113, 1125, 1449, 1470, 1565, 1573, 1579, 1704, 1746, 1901, 1936, 2390, 2540,
    2583, 3360, 3387, 3417, 3562, 3999, 4055, 4287, 4481, 4533, 5094, 5496, 5922, 6148, 7117, 9518, 10607,
    10709, 10712, 11024, 11149, 13071, 13131, 14615, 16118, 16246, 16438, 18211, 18471, 18514, 19437, 22192,
    26690, 27054, 30574, 47950, 49406, 49407,
)  # fmt: skip


def _nano() -> EscNetConfig:
    clip = {
        "embed_dim": 128,
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    }
    return EscNetConfig(
        clip_arch=None,
        clip=clip,
        pyramid=PyramidConfig(stem=32, dims=(64, 96, 128), depths=(1, 1, 3), output_stage=1),
        trained_tokens=_WORLD_TOKENS,
        image_size=192,
        views="single",
        tap_layers=(1, 0),
        sam=SamConfig(embed_dim=64, mask_in_chans=16, depth=2, num_heads=2, mlp_dim=128),
        n_blocks=2,
        hidden_dim=32,
        attention_heads=2,  # heads narrower than 16 are slow, on CPUs and GPUs alike
        decoder_dims=(16, 8),
        guidance_dims=(8, 8),
    )


def _small() -> EscNetConfig:
    """escnet-nano with a third more pixels a side, and all widths about doubled: for a GPU."""
    clip = {
        "embed_dim": 256,
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 3},
    }
    return EscNetConfig(
        clip_arch=None,
        clip=clip,
        pyramid=PyramidConfig(stem=64, dims=(96, 160, 256), depths=(2, 2, 4), output_stage=1),
        trained_tokens=_WORLD_TOKENS,
        image_size=256,
        views="single",
        tap_layers=(1, 0),
        sam=SamConfig(embed_dim=128, mask_in_chans=16, depth=2, num_heads=4, mlp_dim=256),
        n_blocks=3,
        hidden_dim=64,
        attention_heads=4,
        window_size=8,
        decoder_dims=(32, 16),
        guidance_dims=(16, 8),
    )


_PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "escnet-b16": lambda: EscNetConfig(**_B16),
    "escnet-l14": lambda: EscNetConfig(**_L14),
    "escnet-small": _small,
    "escnet-nano": _nano,
    "cat-seg-b16": lambda: CatSegConfig(**_B16),
    "cat-seg-l14": lambda: CatSegConfig(**_L14),
}
PRESET_NAMES: tuple[str, ...] = tuple(_PRESETS)


def preset_config(name: str) -> ModelConfig:
    """The configuration of a preset, one of `PRESET_NAMES`.

    Raises:
        ModelError: no preset has this name.
    """
    if name not in _PRESETS:
        raise ModelError(f"{name}: no such model; the presets are {', '.join(PRESET_NAMES)}")
    return _PRESETS[name]()
