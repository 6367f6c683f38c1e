"""Real-time factors of VITS2 on one CPU core: as the public program computes, and as we do.

    python -m benchmarks.vits2 [--seconds 4] [--repeats 5]

The public way: weight norm computed in every call, the filter bank designed anew in every call, masks everywhere, the
alignment as a matrix, `torch.istft`. Ours: `VITS2.prepare_for_inference`, in float32 and, where the processor computes
in it, in bfloat16. Weights are random, the same on all sides; processor time is measured, the sides in turn, so that
other work on the machine counts little.
"""

import math

import torch

from benchmarks import measuring
from benchmarks.measuring import Row
from hw_tts.models.vits2 import VITS2
from hw_tts.models.vits2.filter_bank import filters
from hw_tts.models.vits2.layers import length_mask

SIZES = {"full": {"preset": "mb_istft_vits2"}, "mini": {"preset": "mini_mb_istft_vits2"}}
RATE, HOP = 22050, 256
PUBLIC = "the public way, written here"
GOALS = {
    ("full", "fp32 : fp32"): 1.2,
    ("mini", "fp32 : fp32"): 1.3,
    ("full", "fp32 : bf16"): 2,
    ("mini", "fp32 : bf16"): 2,
}
FRAMES_PER_TOKEN = 3  # of phones with blanks between them


def build(sizes):
    torch.manual_seed(0)
    return VITS2(
        n_mels=80,
        n_tokens=205,
        n_speakers=108,
        hop_length=HOP,
        bank="public",
        discriminator_channels=16,
        **sizes,
    ).eval()


def speak_at_length(model):
    """Let the random duration predictor say about as many frames as real ones do."""
    torch.nn.init.zeros_(model.generator.dp.proj.weight)
    torch.nn.init.constant_(model.generator.dp.proj.bias, math.log(FRAMES_PER_TOKEN) - 1e-3)
    return model


@torch.no_grad()
def public_way(model, tokens, tokens_length, speaker_id, noise=0.667):
    generator = model.generator
    speaker = generator.speaker(speaker_id)
    mask = length_mask(tokens_length, tokens.shape[1]).float()
    hidden, mean, log_scale = generator.enc_p(tokens, mask > 0, speaker)
    durations = torch.ceil(torch.exp(generator.dp(hidden, mask > 0, speaker)).unsqueeze(1) * mask)
    length = durations.sum(dim=(1, 2)).clamp(min=1).long()
    frames_mask = length_mask(length, int(length.max())).float()
    ends = durations.squeeze(1).cumsum(dim=1)
    reached = (torch.arange(frames_mask.shape[2]) < ends.unsqueeze(2)).float()
    path = (reached - torch.nn.functional.pad(reached, (0, 0, 1, 0))[:, :-1]).mT * frames_mask.mT
    mean, log_scale = (path @ mean.mT).mT, (path @ log_scale.mT).mT
    latent = mean + torch.randn(mean.shape) * torch.exp(log_scale) * noise
    latent = generator.flow(latent, frames_mask > 0, speaker, inverse=True) * frames_mask
    return public_decoder(generator.dec, latent, speaker)


def public_decoder(decoder, latent, speaker):
    x = torch.nn.functional.pad(decoder.trunk(latent, speaker), (1, 0), mode="reflect")
    x = decoder.subband_conv_post(x)
    x = x.view(x.shape[0] * decoder.subbands, -1, x.shape[-1])
    magnitude, phase = torch.exp(x[:, :9]), math.pi * torch.sin(x[:, 9:])
    bands = torch.istft(magnitude * torch.exp(phase * 1j), 16, 4, 16, torch.hann_window(16), center=True)
    bands = bands.view(-1, decoder.subbands, bands.shape[-1])
    _, synthesis = filters(decoder.subbands, "public")
    spread = torch.zeros(decoder.subbands, decoder.subbands, decoder.subbands)
    for band in range(decoder.subbands):
        spread[band, band, 0] = 1.0
    bands = torch.nn.functional.conv_transpose1d(bands, spread * decoder.subbands, stride=decoder.subbands)
    return torch.nn.functional.conv1d(torch.nn.functional.pad(bands, (31, 31)), synthesis.float().unsqueeze(0)).squeeze(
        1
    )


def main():
    parser = measuring.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    n_tokens = round(arguments.seconds * RATE / HOP / FRAMES_PER_TOKEN)
    tokens = torch.randint(1, 205, (1, n_tokens), generator=torch.Generator().manual_seed(0))
    given = (tokens, torch.tensor([n_tokens]), torch.tensor([0]))
    rows = [row for name in arguments.sizes for row in rows_of(name, given, arguments.repeats)]
    measuring.write(rows, "vits2", arguments.output)


def rows_of(name, given, repeats):
    """A row for each precision that this processor computes in."""
    public = speak_at_length(build(SIZES[name]))
    sides = {"public": lambda: public_way(public, *given)}
    for dtype in [torch.float32] + [torch.bfloat16] * measuring.has_bf16():
        model = speak_at_length(build(SIZES[name]))
        model.prepare_for_inference(dtype)
        sides["fp32" if dtype == torch.float32 else "bf16"] = lambda model=model: model.synthesize(*given)["waveform"]
    said = {}
    for side, work in sides.items():
        torch.manual_seed(0)
        said[side] = work()
    audio = said["public"].shape[1] / RATE
    seconds = {side: value / audio for side, value in measuring.compare(sides, repeats).items()}
    for side in list(sides)[1:]:
        error = (said[side] - said["public"]).square().mean()
        difference = -10 * math.log10(float(said["public"].square().mean() / error))
        note = f"real-time factors {seconds['public']:.3f} : {seconds[side]:.3f}, difference {difference:.0f} dB"
        kind, ratio = f"fp32 : {side}", seconds["public"] / seconds[side]
        yield Row(f"VITS2 {name}, inference of {audio:.0f} s", PUBLIC, kind, ratio, GOALS.get((name, kind)), note)


if __name__ == "__main__":
    main()
