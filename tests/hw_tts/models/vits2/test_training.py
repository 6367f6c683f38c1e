"""The generator's training pass and the judges."""

import math

import pytest
import torch

from hw_tts.alignment.search import search_path
from hw_tts.models.vits2.alignment_scores import (
    add_search_noise,
    add_search_prior,
    negative_cross_entropy,
    search_noise,
)
from hw_tts.models.vits2.discriminators import Discriminators
from hw_tts.models.vits2.segments import cut, expand, random_starts, token_of_frame
from tests.hw_tts.models.vits2.small import batch, small_model, wake

VARIANTS = {
    "multi_band_istft": {},
    "multi_stream_istft": {"decoder": "multi_stream_istft"},
    "istft": {"decoder": "istft", "upsample_rates": (8, 8)},
    "hifigan": {"decoder": "hifigan", "upsample_rates": (8, 8, 2, 2), "upsample_kernel_sizes": (16, 16, 4, 4)},
    "plain flow": {"flow": "plain"},
    "conditioned decoder": {"condition_decoder": True},
    "stochastic durations": {"duration_predictor": "stochastic"},
    "small blocks": {"resblock": "2", "resblock_kernel_sizes": (3, 5), "resblock_dilations": ((1, 3), (1, 3))},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pass_gives_what_the_losses_need_and_a_gradient_to_every_parameter(name):
    torch.manual_seed(0)
    model = wake(small_model(posterior_layers=2, **VARIANTS[name]))
    given = batch()
    outputs = model(**given, text=["unused"])
    B, T, L = 3, 37, 11
    assert outputs["waveform_predicted"].shape == outputs["waveform_segment"].shape == (B, 8 * 256)
    assert outputs["alignment_hard"].shape == (B, T, L)
    assert torch.equal(outputs["durations"].sum(dim=1), given["spectrogram_length"])
    assert bool((outputs["durations"] >= 1).eq(outputs["tokens_mask"].squeeze(1)).all())
    for key in ("prior_latent", "prior_mean", "prior_log_scale", "posterior_log_scale"):
        assert outputs[key].shape == (B, 16, T)
        assert not (outputs[key] * ~outputs["frames_mask"]).any()
    assert ("subbands_predicted" in outputs) == (model.generator.dec.__class__.__name__ == "MultiBandDecoder")
    probabilities = model.duration_discriminator(
        outputs["hidden"].detach(), outputs["tokens_mask"], outputs["log_durations_predicted"]
    )
    scores, _ = model.discriminator(outputs["waveform_predicted"])
    parts = [value for value in outputs.values() if value.requires_grad] + scores + probabilities
    sum(part.float().square().mean() for part in parts).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # One of five speakers is not in the batch; the stochastic predictor's last flow is half unused, as published.
    assert [key for key in idle if not key.startswith("generator.dp.flows")] == []


def test_prior_and_target_follow_the_alignment():
    torch.manual_seed(0)
    model = small_model(posterior_layers=2)
    outputs = model(**batch())
    for row in range(3):
        durations = outputs["durations"][row]
        total = int(durations.sum())
        _, mean, _ = model.eval().generator.enc_p(
            batch()["tokens"], outputs["tokens_mask"], model.generator.speaker(batch()["speaker_id"])
        )
        assert mean.shape[2] == 11
        path = outputs["alignment_hard"][row, :total]
        assert torch.equal(path.argmax(dim=1), torch.repeat_interleave(torch.arange(11), durations))
    expected = torch.log(outputs["durations"] + 1e-6) * outputs["tokens_mask"].squeeze(1)
    torch.testing.assert_close(outputs["log_durations_target"], expected)


def test_padding_changes_no_alignment():
    torch.manual_seed(0)
    model = wake(small_model(posterior_layers=2)).eval()
    model.generator.search_noise = False
    latent, mean, log_scale = torch.randn(2, 16, 30), torch.randn(2, 16, 8), torch.randn(2, 16, 8) * 0.1
    frames, tokens = torch.tensor([30, 17]), torch.tensor([8, 5])
    together = model.generator.align(latent, mean, log_scale, frames, tokens)
    alone = model.generator.align(latent[1:, :, :17], mean[1:, :, :5], log_scale[1:, :, :5], frames[1:], tokens[1:])
    assert torch.equal(together[1, :17, :5], alone[0])
    assert not together[1, 17:].any()


def test_scores_are_log_likelihoods():
    torch.manual_seed(0)
    latent, mean, log_scale = torch.randn(2, 6, 9), torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    scores = negative_cross_entropy(latent, mean, log_scale)
    distribution = torch.distributions.Normal(mean.mT.unsqueeze(1), log_scale.exp().mT.unsqueeze(1))
    torch.testing.assert_close(scores, distribution.log_prob(latent.mT.unsqueeze(2)).sum(dim=-1))


def test_noise_of_the_search_fades_and_depends_on_the_step_alone():
    assert search_noise(0) == 0.01
    assert math.isclose(search_noise(2500), 0.005)
    assert search_noise(5000) == search_noise(10**6) == 0.0
    scores, mask = torch.randn(2, 300, 200), torch.ones(2, 300, 200, dtype=torch.bool)
    before = torch.get_rng_state()
    first, again = add_search_noise(scores, mask, 7), add_search_noise(scores, mask, 7)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(add_search_noise(scores, mask, 8), first)
    assert add_search_noise(scores, mask, 5000) is scores
    added = first - scores
    assert math.isclose(float(added.std() / scores.std()), search_noise(7), rel_tol=0.02)


def test_a_prior_holds_an_ignorant_search_near_the_diagonal_and_fades():
    torch.manual_seed(0)
    frames, tokens = torch.tensor([120, 90]), torch.tensor([20, 9])
    scores = torch.randn(2, 1, 20).expand(2, 120, 20)  # some tokens explain all frames better than others
    far, near, later = (
        search_path(add_search_prior(scores, frames, tokens, step, n_steps=100), frames, tokens).argmax(dim=2)
        for step in (100, 0, 90)
    )

    def distance(path):
        diagonal = torch.arange(120) * tokens[:, None] / frames[:, None]
        return [float((path - diagonal)[row, : frames[row]].abs().mean()) for row in (0, 1)]

    for row in (0, 1):
        assert distance(near)[row] <= distance(later)[row] <= distance(far)[row]
        assert distance(near)[row] < 0.12 * tokens[row] < 0.2 * tokens[row] < distance(far)[row]
    assert not torch.equal(later, near)
    assert not torch.equal(later, far)
    assert add_search_prior(scores, frames, tokens, 100, n_steps=100) is scores
    assert add_search_prior(scores, frames, tokens, 0, n_steps=0) is scores


def test_the_prior_is_of_training_alone_and_of_each_utterance_alone():
    torch.manual_seed(0)
    model = wake(small_model(posterior_layers=2, search_noise=False, search_prior_steps=10))
    latent, mean, log_scale = torch.randn(2, 16, 30), torch.randn(2, 16, 8), torch.randn(2, 16, 8) * 0.1
    frames, tokens = torch.tensor([30, 17]), torch.tensor([8, 5])
    together = model.generator.align(latent, mean, log_scale, frames, tokens)
    alone = model.generator.align(latent[1:, :, :17], mean[1:, :, :5], log_scale[1:, :, :5], frames[1:], tokens[1:])
    assert torch.equal(together[1, :17, :5], alone[0])
    free = model.eval().generator.align(latent, mean, log_scale, frames, tokens)
    assert not torch.equal(free, together)


def test_the_trainer_tells_the_step():
    model = small_model()
    model.set_step(123)
    assert model.generator.step == 123
    assert not any("step" in key for key in model.state_dict())


def test_segments_lie_inside_and_are_everywhere():
    torch.manual_seed(0)
    length = torch.tensor([20, 8, 3]).repeat(2000)
    starts = random_starts(length, 8).view(2000, 3)
    assert starts[:, 0].unique().tolist() == list(range(13))
    assert starts[:, 1:].unique().tolist() == [0]


def test_cut_equals_slicing():
    x = torch.randn(3, 2, 20)
    start = torch.tensor([0, 5, 16])
    pieces = cut(x, start, 8)
    assert torch.equal(pieces[0], x[0, :, :8])
    assert torch.equal(pieces[1], x[1, :, 5:13])
    assert torch.equal(pieces[2, :, :4], x[2, :, 16:])
    assert not pieces[2, :, 4:].any()
    assert torch.equal(cut(x[:, 0], start, 3)[1], x[1, 0, 5:8])


def test_waveform_and_latent_are_cut_at_the_same_time():
    torch.manual_seed(0)
    model, given = small_model(posterior_layers=2), batch(lengths=((11, 300),))
    outputs = model(**given)
    first = int(outputs["segment_start"]) * 256
    assert torch.equal(outputs["waveform_segment"][0], given["waveform"][0, first : first + 8 * 256])


def test_tokens_are_expanded_as_repeat_interleave_does():
    durations = torch.tensor([[2, 0, 3, 1], [1, 1, 0, 0]])
    x = torch.randn(2, 5, 4)
    assert token_of_frame(durations, 6).tolist()[0] == [0, 0, 2, 2, 2, 3]
    made = expand(x, durations, 6)
    assert torch.equal(made[0], x[0].repeat_interleave(durations[0], dim=1))
    assert torch.equal(made[1, :, :2], x[1].repeat_interleave(durations[1], dim=1))


def test_judges_see_every_part_of_a_waveform():
    torch.manual_seed(0)
    discriminators = Discriminators(channels=32)
    waveform = torch.randn(2, 1500, requires_grad=True)
    scores, features = discriminators(waveform)
    assert len(scores) == len(features) == 6
    assert [len(layers) for layers in features] == [7, 6, 6, 6, 6, 6]
    assert all(score.shape[0] == 2 for score in scores)
    torch.cat([score.flatten() for score in scores]).sum().backward()
    assert bool((waveform.grad != 0).all())


def test_the_duration_discriminator_sees_each_duration():
    torch.manual_seed(0)
    model = small_model()
    mask = torch.ones(1, 1, 7, dtype=torch.bool)
    durations = torch.randn(1, 7, requires_grad=True)
    (probability,) = model.duration_discriminator(torch.randn(1, 16, 7), mask, durations)
    assert probability.shape == (1, 7)
    assert bool(((probability > 0) & (probability < 1)).all())
    probability.sum().backward()
    assert bool((durations.grad != 0).all())


def test_a_pass_in_low_precision_stays_near():
    torch.manual_seed(0)
    model = wake(small_model(posterior_layers=2)).eval()
    given = batch()
    torch.manual_seed(1)
    with torch.no_grad():
        exact = model(**given)
    torch.manual_seed(1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(**given)
    assert rough["waveform_predicted"].dtype == torch.float32
    assert rough["alignment_hard"].sum() == exact["alignment_hard"].sum()
    error = (rough["posterior_log_scale"].float() - exact["posterior_log_scale"]).norm()
    assert float(error) < 0.05 * float(exact["posterior_log_scale"].norm())
