"""What the configurations of all networks have in common: CLIP, the input, the width of what follows, the loss.

A configuration is everything that, with the weights, decides what a network computes. It travels inside the checkpoint.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

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
from schemas.job import Views

if TYPE_CHECKING:
    from escnet.base_network import Network

_CLIP_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias"}
_FOREIGN_VISION_KEYS = (
    "timm_model_name", "attentional_pool", "block_type", "patch_dropout",
    # These make open_clip build an attention of its own, which `escnet.clip` cannot take the values out of.
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip
_FOREIGN_TEXT_KEYS = ("hf_model_name", "hf_tokenizer_name")
_BPE_SIZE = 49408  # ids of CLIP's BPE, open_clip's default
_NORM_GROUP = 16  # channels in a group of the decoder's norms

CanvasValues = Literal["softmax logits", "sigmoid logits", "probabilities"]
Count = Annotated[int, Field(ge=1)]
N_VIEWS: dict[Views, int] = {"single": 1, "sliding": 5}  # of a picture, see `escnet.views`


class Frozen(BaseModel):
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


class PyramidConfig(Frozen):
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


class ModelConfig(Frozen):
    """What every network has; only its subclasses, `EscNetConfig` and `CatSegConfig`, are networks.

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
    views: Views = "sliding"  # of a picture in inference, where the user asks for none
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.26862954, 0.26130258, 0.27577711)
    dense_attention: Literal["value_only", "value_on_class_token", "full"] = "value_only"  # see `escnet.clip`
    tap_layers: tuple[
        int, int
    ]  # 0-based blocks (a pyramid's: stages) of the image tower that feed the decoder's skips, coarse stage first
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
        if self.dense_attention != "full" and n_layers < 2 and not self.pyramid:
            raise ModelError(
                f"dense_attention {self.dense_attention} needs a CLIP of at least 2 image blocks, found 1; use full"
            )
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

    def build(self) -> "Network":
        """The network, with random weights."""
        raise NotImplementedError

    @property
    def class_width(self) -> int:
        """Channels of one class on the patch grid where the network is widest: what a chunk of classes costs."""
        raise NotImplementedError

    @property
    def classes_are_independent(self) -> bool:
        """Whether a class has the same logits whichever others are computed beside it."""
        return False

    def class_bytes(self, n_classes: int, n_kept: int, views: Views) -> int:
        """Memory on a CPU, beside weights and what one class needs, while a picture goes through the network.

        Args:
            n_classes: all that compete in the vocabulary.
            n_kept: those of them that preselection lets through.
        """
        raise NotImplementedError

    @property
    def canvas_holds(self) -> CanvasValues:
        """What the merged views of a picture hold for each class, and so how they become probabilities."""
        return "sigmoid logits" if self.loss == "binary_cross_entropy" else "softmax logits"

    @property
    def depths(self) -> list[int]:
        """How often each kind of layer is repeated, towers included; a layer has at least one tensor."""
        towers = [self.clip.get(name) or {} for name in ("vision_cfg", "text_cfg")]
        of_pyramid = self.pyramid.depths if self.pyramid else ()
        return [*(tower.get("layers", 1) for tower in towers), *of_pyramid]

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


def window_stride(grid: int) -> int:
    """Step from one window to the next in patches, for a grid of `grid` x `grid` patches; at most `grid`."""
    return max(1, round(grid * 2 / 3))


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
