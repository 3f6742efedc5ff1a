import pytest

from escnet.config import EscNetConfig, SamConfig
from schemas.errors import ModelError
from tests.escnet.tiny import tiny_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: 0}, f"{name}: Input should be greater than or equal to 1, found 0")
            for name in ("image_size", "n_blocks", "n_objects", "hidden_dim", "attention_heads", "window_size")
        ),
        ({"kmeans_iterations": -1}, "kmeans_iterations: Input should be greater than or equal to 0, found -1"),
        ({"decoder_dims": (8, 0)}, "decoder_dims.1: Input should be greater than or equal to 1, found 0"),
        ({"decoder_dims": (8, 50)}, "decoder_dims (8, 50) must each be below 32 or a multiple of 16"),
        ({"guidance_dims": (0, 4)}, "guidance_dims.0: Input should be greater than or equal to 1, found 0"),
        ({"image_std": (0.2, 0.0, 0.2)}, "image_std.1: Input should be greater than 0, found 0.0"),
        ({"image_size": 4}, "image_size 4 is not a multiple of CLIP's patch_size 8; use 8"),
        ({"hidden_dim": 9}, "hidden_dim 9 must be a multiple of attention_heads 2"),
        ({"sam": {"depth": -1}}, "sam.depth: Input should be greater than or equal to 0, found -1"),
        ({"loss": "hinge"}, "loss: Input should be 'cross_entropy' or 'binary_cross_entropy', found hinge"),
        ({"wings": 2}, "wings: Extra inputs are not permitted, found 2"),
    ],
)
def test_a_setting_that_cannot_run_is_refused_in_one_line(changes, message):
    with pytest.raises(ModelError) as caught:
        tiny_config(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        *(
            ({name: 0}, f"sam.{name}: Input should be greater than or equal to 1, found 0")
            for name in ("embed_dim", "num_heads", "mlp_dim", "num_mask_tokens")
        ),
        ({"depth": -1}, "sam.depth: Input should be greater than or equal to 0, found -1"),
        ({"mask_in_chans": 3}, "sam.mask_in_chans: Input should be greater than or equal to 4, found 3"),
        ({"embed_dim": 15, "num_heads": 3}, "sam.embed_dim 15 must be a multiple of twice sam.num_heads, 6"),
        ({"embed_dim": 12, "num_heads": 4}, "sam.embed_dim 12 must be a multiple of twice sam.num_heads, 8"),
    ],
)
def test_widths_that_sam_cannot_be_built_with_are_refused_in_one_line(widths, message):
    with pytest.raises(ModelError) as caught:
        SamConfig(**widths)
    assert str(caught.value) == message


def test_the_coarsest_stage_of_a_pyramid_divides_the_input():
    clip = {key: value for key, value in tiny_config().clip.items() if key != "vision_cfg"}
    pyramid = {"stem": 4, "dims": (4, 6, 8), "depths": (1, 1, 1), "output_stage": 1}
    for size, use in ((72, 64), (8, 16)):
        with pytest.raises(ModelError) as caught:
            tiny_config(clip=clip, pyramid=pyramid, tap_layers=(1, 0), image_size=size)
        assert str(caught.value) == (
            f"image_size {size} is not a multiple of 16, the stride of the pyramid's coarsest stage; use {use}"
        )
    assert tiny_config(clip=clip, pyramid=pyramid, tap_layers=(1, 0), image_size=80)


def test_values_alone_need_a_block_before_the_last():
    clip = tiny_config().clip
    clip["vision_cfg"]["layers"] = 1
    with pytest.raises(ModelError, match="value_only needs a CLIP of at least 2 image blocks"):
        tiny_config(clip=clip, tap_layers=(0, 0))
    assert tiny_config(clip=clip, tap_layers=(0, 0), dense_attention="full")


@pytest.mark.parametrize(
    ("tower", "setting"),
    [
        *(
            ("vision_cfg", {key: True})
            for key in (
                "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
                "attentional_pool",
            )
        ),
        ("vision_cfg", {"block_type": "custom"}),
        ("vision_cfg", {"patch_dropout": 0.5}),
        ("text_cfg", {"hf_tokenizer_name": "bert-base-uncased"}),
        ("text_cfg", {"hf_model_name": "bert-base-uncased"}),
    ],
)  # fmt: skip
def test_a_clip_of_other_attention_or_words_is_refused_by_name(tower, setting):
    clip = tiny_config().clip
    clip[tower] |= setting
    with pytest.raises(ModelError, match=f"found {next(iter(setting))}; expected open_clip's own"):
        tiny_config(clip=clip)
    clip[tower] |= dict.fromkeys(setting)  # switched off, as open_clip's own files may write it
    assert tiny_config(clip=clip)


@pytest.mark.parametrize("patch_size", [0, -8, None, "8"])
def test_a_clip_without_a_patch_size_is_refused(patch_size):
    clip = tiny_config().clip
    clip["vision_cfg"]["patch_size"] = patch_size
    with pytest.raises(ModelError, match="no integer layers, width and patch_size"):
        EscNetConfig(clip_arch=None, clip=clip, image_size=64, tap_layers=(0, 1))
