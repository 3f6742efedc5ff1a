"""The configuration of an ESC-Net: everything that, with the weights, decides what it computes.

A configuration travels inside the checkpoint. Numbers are those of ESC-Net (Lee et al. 2025,
arXiv:2411.14723) where the paper gives them; docs/model.md lists the choices the paper leaves open.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from schemas.errors import ModelError

_CLIP_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias"}
_FOREIGN_VISION_KEYS = (
    "timm_model_name", "attentional_pool", "block_type", "patch_dropout",
    # These make open_clip build an attention of its own, which `escnet.clip` cannot take the values out of.
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip
_FOREIGN_TEXT_KEYS = ("hf_model_name", "hf_tokenizer_name")
_BPE_SIZE = 49408  # ids of CLIP's BPE, open_clip's default
_NORM_GROUP = 16  # channels in a group of the decoder's norms

Count = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    _prefix: ClassVar[str] = ""  # of a setting's name in an error

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = cls._prefix + (".".join(map(str, first["loc"])) or "the whole")
            found = "" if first["type"] == "missing" else f", found {str(first['input'])[:80]}"
            raise ModelError(f"{where}: {first['msg']}{found}") from error


class SamConfig(_Frozen):
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


class PyramidConfig(_Frozen):
    """A convolutional image tower in place of CLIP's vision transformer; see `escnet.pyramid`.

    Stage i has blocks of width `dims[i]` on a grid of stride 4 * 2**i pixels; `output_stage` is the one whose grid
    the patches have, with what the coarser ones saw brought back to it.

    Raises:
        ModelError: stages that do not belong together.
    """

    _prefix = "pyramid."
    stem: Count
    dims: tuple[Count, ...] = Field(min_length=1)
    depths: tuple[Count, ...]
    output_stage: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.dims) != len(self.depths):
            raise ModelError(f"pyramid: dims {self.dims} and depths {self.depths} must be equally many")
        if self.output_stage >= len(self.dims):
            raise ModelError(f"pyramid.output_stage {self.output_stage} must lie in 0..{len(self.dims) - 1}")
        return self

    def stride(self, stage: int) -> int:
        """Of a stage's grid, in pixels of the input."""
        return 4 * 2**stage


class ModelConfig(_Frozen):
    """One ESC-Net.

    `clip` is an open_clip model configuration (the JSON of its `model_configs/`), `clip_arch` the name it
    came from, or None for one of ours. With `pyramid` the image tower is that instead, and `clip` has no
    `vision_cfg`. `image_size` is the side of the square the network sees, in pixels. `trained_tokens` are the
    ids of CLIP's BPE that have a row of their own in the token table, None for all of them.

    Raises:
        ModelError: a CLIP whose towers are not open_clip's own transformers, geometry that does not fit, or a
            setting that no network can be built with.
    """

    clip_arch: str | None
    clip: dict[str, Any]
    pyramid: PyramidConfig | None = None
    trained_tokens: tuple[NonNegativeInt, ...] | None = None
    image_size: Count
    views: Literal["sliding", "single"] = "sliding"  # of a picture in inference, where the user asks for none
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.26862954, 0.26130258, 0.27577711)
    dense_attention: Literal["value_only", "full"] = "value_only"
    tap_layers: tuple[
        int, int
    ]  # 0-based blocks (a pyramid's: stages) of the image tower that feed the decoder's skips, coarse stage first
    sam: SamConfig = SamConfig()
    n_blocks: Count = 4
    n_objects: Count = 5  # N_o, regions (points and masks) a class
    prompt_threshold: float = 1.04  # alpha: a patch belongs to the class if P > alpha / (h * w)
    kmeans_iterations: int = Field(default=10, ge=0)
    fusion: Literal["per_class", "mean"] = "per_class"
    hidden_dim: Count = 128  # d
    attention_heads: Count = 4
    window_size: Count = 12
    decoder_dims: tuple[Count, Count] = (64, 32)
    guidance_dims: tuple[Count, Count] = (32, 16)
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    temperature: float = Field(default=1.0, gt=0.0)  # logits are divided by it before softmax or sigmoid

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_clip(self.clip_arch or "clip", self.clip, has_own_tower=self.pyramid is not None)
        if self.image_size % self.patch_size:
            raise ModelError(
                f"image_size {self.image_size} is not a multiple of CLIP's patch_size {self.patch_size}; "
                f"use {max(1, self.image_size // self.patch_size) * self.patch_size}"
            )
        coarsest = self.pyramid.stride(len(self.pyramid.dims) - 1) if self.pyramid else 1
        if self.image_size % coarsest:
            raise ModelError(
                f"image_size {self.image_size} is not a multiple of {coarsest}, the stride of the pyramid's coarsest "
                f"stage; use {max(1, self.image_size // coarsest) * coarsest}"
            )
        n_layers = len(self.pyramid.dims) if self.pyramid else self.clip["vision_cfg"]["layers"]
        if not all(0 <= layer < n_layers for layer in self.tap_layers):
            raise ModelError(f"tap_layers {self.tap_layers} must lie in 0..{n_layers - 1}, CLIP's image blocks")
        if self.dense_attention == "value_only" and n_layers < 2 and not self.pyramid:
            raise ModelError("dense_attention value_only needs a CLIP of at least 2 image blocks, found 1; use full")
        if not all(_fits_stage(i, stride, self.patch_size) for i, (_, stride) in enumerate(self.taps)):
            raise ModelError(
                f"tap_layers {self.tap_layers} have strides {tuple(stride for _, stride in self.taps)}, expected "
                f"multiples of {self.patch_size / 2:g} and {self.patch_size / 4:g}, those of the decoder's stages"
            )
        if self.trained_tokens is not None:
            _check_tokens(self.trained_tokens, self.clip["text_cfg"].get("vocab_size", _BPE_SIZE))
        if self.hidden_dim % self.attention_heads:
            raise ModelError(
                f"hidden_dim {self.hidden_dim} must be a multiple of attention_heads {self.attention_heads}"
            )
        if any(dim % norm_groups(dim) for dim in self.decoder_dims):
            raise ModelError(f"decoder_dims {self.decoder_dims} must each be below 32 or a multiple of 16")
        return self

    @property
    def patch_size(self) -> int:
        if self.pyramid is not None:
            return self.pyramid.stride(self.pyramid.output_stage)
        return int(self.clip["vision_cfg"]["patch_size"])

    @property
    def taps(self) -> tuple[tuple[int, int], ...]:
        """Width and stride in pixels of the output of each of `tap_layers`."""
        if self.pyramid is None:
            return ((self.clip["vision_cfg"]["width"], self.patch_size),) * len(self.tap_layers)
        return tuple((self.pyramid.dims[stage], self.pyramid.stride(stage)) for stage in self.tap_layers)

    @property
    def grid_hw(self) -> tuple[int, int]:
        side = self.image_size // self.patch_size
        return side, side


def norm_groups(dim: int) -> int:
    """Groups of the decoder's group norms over `dim` channels."""
    return max(1, dim // _NORM_GROUP)


def _fits_stage(stage: int, stride: int, patch_size: int) -> bool:
    """Whether a tap of this stride can be spread to the decoder's stage, of stride `patch_size` / 2 ** (stage + 1)."""
    return 2 ** (stage + 1) * stride % patch_size == 0


def _check_tokens(tokens: tuple[int, ...], vocab_size: int) -> None:
    if not tokens or len(set(tokens)) < len(tokens) or max(tokens) >= vocab_size:
        raise ModelError(
            f"trained_tokens must be distinct ids below {vocab_size}, the vocab_size of text_cfg, and at least one; "
            f"found {len(tokens)}, {len(set(tokens))} of them distinct, the highest {max(tokens, default='none')}"
        )


def _check_clip(name: str, clip: dict[str, Any], *, has_own_tower: bool) -> None:
    """Only CLIPs made of open_clip's own vision transformer and text transformer can be used densely."""
    vision, text = (clip.get(key) if isinstance(clip.get(key), dict) else {} for key in ("vision_cfg", "text_cfg"))
    obstacles = [f"{key} at the top level" for key in sorted(clip.keys() - _CLIP_KEYS)]
    obstacles += [key for key in _FOREIGN_VISION_KEYS if vision.get(key)]
    obstacles += [key for key in _FOREIGN_TEXT_KEYS if text.get(key)]
    if has_own_tower and vision:
        obstacles.append("both vision_cfg and pyramid")
    if not has_own_tower and not all(
        isinstance(vision.get(key), int) and vision[key] > 0 for key in ("layers", "width", "patch_size")
    ):
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


# CLIP's BPE tokens of the words that escnet-nano is trained with: the demo world's names and the templates around them.
_NANO_TOKENS = (
    320, 518, 530, 539, 550, 736, 1113, 1125, 1449, 1470, 1565, 1573, 1579, 1704, 1746, 1901, 1936, 2390, 2540,
    2583, 3360, 3387, 3417, 3562, 3999, 4055, 4287, 4481, 4533, 5094, 5496, 5922, 6148, 7117, 9518, 10607,
    10709, 10712, 11024, 11149, 13071, 13131, 14615, 16118, 16246, 16438, 18211, 18471, 18514, 19437, 22192,
    26690, 27054, 30574, 47950, 49406, 49407,
)  # fmt: skip


def _nano() -> ModelConfig:
    clip = {
        "embed_dim": 128,
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    }
    return ModelConfig(
        clip_arch=None,
        clip=clip,
        pyramid=PyramidConfig(stem=32, dims=(64, 96, 128), depths=(1, 1, 3), output_stage=1),
        trained_tokens=_NANO_TOKENS,
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
