"""Every golden case that is kept here: ours beside what the original code computed."""

import importlib
import pkgutil
from pathlib import Path

import tests.golden.cases as rooms
from tests import parity
from tests.conftest import forget

ROOMS = [importlib.import_module(f"{rooms.__name__}.{room.name}") for room in pkgutil.iter_modules(rooms.__path__)]
BY_HAND = {name for room in ROOMS for name in getattr(room, "BY_HAND", ())}

HERE = Path(__file__).parent
FILES = sorted(
    path for path in HERE.glob("*/io*.npz") if not {path.parent.name, f"{path.parent.name}/{path.stem}"} & BY_HAND
)

ROUNDED = {
    "cl4ac_full": {
        "grad:feature_extractor.bn0.weight": 1e-2,
        "grad:feature_extractor.conv_block1.conv1.weight": 1e-2,
    },
    "caption_train_step": {
        "full_grad:feature_extractor.bn0.weight": 1e-2,
        "full_grad:feature_extractor.conv_block1.conv1.weight": 1e-2,
        "full_grad:feature_extractor.conv_block2.bn1.bias": 1e-2,
    },
    "flowsep_bigvgan": {"wav": 2.5e-4, "conv_post": 2.5e-4},
    "taae_small_dilated": dict.fromkeys(("pre_bottleneck", "recon", "pre_bottleneck_nowin", "recon_nowin"), 1e-3),
    "msstft_taae_like_pow": {"s2_logit": 2e-4},
    "audioldm_vae_train_loss": dict.fromkeys(
        (
            "disc_grad/loss.discriminator.main.0.weight",
            "disc_grad/loss.discriminator.main.0.bias",
            "disc_grad/loss.discriminator.main.3.weight",
            "disc_grad/loss.discriminator.main.5.weight",
            "disc_grad/loss.discriminator.main.9.bias",
            "after/ae_grad/encoder.conv_in.weight",
            "after/ae_grad/encoder.down.1.block.0.norm1.weight",
            "after/ae_grad/encoder.mid.attn_1.q.weight",
            "after/ae_grad/quant_conv.weight",
            "after/ae_grad/quant_conv.bias",
            "after/ae_grad/post_quant_conv.weight",
            "after/ae_grad/decoder.mid.block_1.conv1.weight",
            "after/ae_grad/decoder.up.0.block.2.conv2.weight",
            "after/ae_grad/decoder.conv_out.weight",
            "after/ae_grad/decoder.conv_out.bias",
            "after/ae_grad_norms",
        ),
        2e-2,
    ),
    "taae_train_step": {
        "g_grad_norms": 2.5e-2,
        "g_grad:encoder.layers.0.weight_v": 2.5e-2,
        "g_grad:encoder.layers.1.layers.2.1.self_attn.to_qkv.weight": 2.5e-2,
        "g_grad:encoder.layers.2.layers.1.weight_g": 2.5e-2,
        "g_grad:encoder.layers.2.layers.2.1.ff.ff.0.proj.weight": 2.5e-2,
        "g_grad:encoder.layers.2.layers.2.1.self_attn_scale.scale": 2.5e-2,
        "g_grad:encoder.layers.2.layers.2.1.self_attn.q_norm.weight": 5e-2,
        "g_grad:decoder.layers.0.weight_v": 2.5e-2,
        "g_grad:decoder.layers.1.layers.0.1.pre_norm.gamma": 2.5e-2,
        "g_grad:decoder.layers.1.layers.1.alpha": 2.5e-2,
        "d_grad:discriminator.discriminators.discriminators.0.convs.0.conv.weight_v": 1e-3,
        "ctc_only_grad:encoder.layers.4.weight_v": 3e-4,
    },
    "dac_train_step": {
        "g_grad:encoder.block.0.weight_v": 0.2,
        "g_grad:encoder.block.0.weight_g": 0.2,
        "g_grad:encoder.block.1.block.0.block.0.alpha": 0.2,
        "g_grad:encoder.block.2.block.4.weight_v": 0.2,
        "g_grad:quantizer.quantizers.0.in_proj.weight_v": 0.2,
        "g_grad_norms": 1e-2,
        "grad_norm_g": 1e-3,
        "g_param_after:encoder.block.0.weight_v": 5e-4,
        "g_param_after:encoder.block.1.block.0.block.0.alpha": 5e-4,
        "d_grad_norms": 5e-4,
        "grad_norm_d": 5e-4,
    },
}
"""Tensors that the original's own rounding keeps from the 1e-4 asked for, and what they are held to.

BigVGAN's periodic activations magnify rounding at every layer. The original run in float64 is 1.6e-4 from the waveform
stored, which is its float32; run again in float32 it is 1.2e-4 from it, and 1.8e-4 without oneDNN. Ours in float32 is
1.0e-4 from the original in float64, and by that 1.9e-4 from the stored. In float64 both are the same: io_float64.npz.

The dilated units of the small transformer autoencoder have snakes of random frequencies, after each other: ours in
float64 is 4.1e-4 from the stored latents, and ours in float32 is 3.8e-4 from it, so 5.9e-4 from the stored; decoded
from the same values, 4.4e-4, 4.5e-4 and 5.3e-4. What comes before the second block agrees to 5e-6.

In one item of DAC's training step a mel band is so quiet that its logarithm's slope is mostly rounding: the gradient of
the mel loss with respect to that waveform differs by 1.6e-2 between our float32 and our float64 (4e-5 to 9e-4 in the
others), and the encoder's by 3e-2; the stored is 4e-2, and at one snake 1e-1, from our float64. Losses agree to 1e-6,
the decoder's gradients to 7e-5, and `dac_small`, without that loss, to 2e-6 all the way. The norms of the
discriminators' largest tensors, a million numbers each, are summed in float32 there: 2e-4 from our float64.

The gradients of the transformer autoencoder's training step pass through logarithms of magnitudes near zero and through
signs of differences. Ours in float64 is 0.7e-2 to 1.4e-2 from the generator's stored ones, 1.2e-4 and 2e-5 from the
other two. Ours in float32 depends on what the processor fuses: up to 0.7e-2 with AVX2, 0.6e-2 with AVX, 2.7e-2 with
SSE 4.2; the discriminator's 4.9e-4, 3.6e-4 and 1.8e-4, the last 1.4e-4. The losses themselves agree to 7e-7.

A leaky ReLU of AudioLDM's discriminator is so near zero that with AVX2 it comes out on the other side: 1e-3 to 7e-3 in
the gradients through it, which agree to 8e-6 with AVX and SSE 4.2. In float64 all tensors of this case agree to 1e-4
(`python -m tests.parity tests/golden/audioldm_vae_train_loss --double`).

The first layers of Cnn10 and Cnn14 stand before batch norms, which their scale passes without effect: their gradients
are what is left of sums that cancel. In the captioners' training step ours in float32 is 1.0e-3 to 1.4e-3 from ours in
float64, and the stored is 2.0e-3 to 2.4e-3 from it; losses agree to 1e-6, and the gradients from the fourth block on to
1e-5.

Discriminators of spectra to the power 1/2 magnify the rounding of weak bins. The stored scores of the transform of 320
samples are 9.7e-5 from ours in float64, and ours in float32 6.6e-5, so 1.1e-4 from the stored.
"""


def test_nothing_is_missing():
    assert {path.parent.name for path in FILES} >= {
        "audiosep_lr_schedule",
        "audiosep_metrics",
        "audiosep_resunet30",
        "audiosep_resunet30_g06",
        "audiosep_segment_mixer",
        "audiosep_train_step",
        "clap_htsat_base_roberta",
        "clap_text_with_projection",
        "hf_bert_base",
        "hf_bert_small",
        "lassnet",
    }


def check(io: Path) -> None:
    """Compares one file of what the original computed with what ours does."""
    rows, _ = parity.compare(io.parent, io)
    assert rows
    allowed = ROUNDED.get(io.parent.name, {})
    assert [row for row in rows if not row[1] <= max(row[3], allowed.get(row[0], 0.0))] == []


def case(io: Path) -> type:
    """A class for one file, so that the cases need not all stay with one process (`--dist loadscope`)."""

    class Case:
        def test_case(self):
            try:
                check(io)
            finally:
                forget()

    return Case


globals().update({f"Test_{io.parent.name}-{io.stem}": case(io) for io in FILES})


def test_a_changed_reference_is_noticed(tmp_path):
    import numpy as np

    with np.load(HERE / "audiosep_metrics" / "io_dev.npz") as file:
        stored = dict(file)
    stored["sdr"] = stored["sdr"] * 1.001
    np.savez(tmp_path / "io.npz", **stored)
    rows, _ = parity.compare(HERE / "audiosep_metrics", tmp_path / "io.npz")
    assert [row[0] for row in rows if row[1] > row[3]] == ["sdr"]
