import pytest
import torch

from hw_asr.augmentations import SpecAugment


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked_only(**arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """A spectrogram without zeros, and where 200 draws of SpecAugment with ``fill="zero"`` made some: (200, F, T)."""
    x = torch.rand(40, 200, generator=seeded()) + 0.5
    augment, generator = SpecAugment(fill="zero", **arguments), seeded(1)
    out = torch.stack([augment(x, generator) for _ in range(200)])
    masks = out == 0
    torch.testing.assert_close(out[~masks], x.expand_as(out)[~masks], rtol=0, atol=0)
    return x, masks


def test_frequency_masks_are_whole_bands_of_bounded_width():
    _, masks = masked_only(n_freq_masks=1, freq_width=7, n_time_masks=0)
    rows = masks.all(dim=2)
    assert torch.equal(masks, rows[:, :, None].expand_as(masks))
    widths = rows.sum(dim=1)
    assert set(widths.tolist()) == set(range(8))
    # One band: it begins once at most.
    assert int((rows[:, 1:] & ~rows[:, :-1]).sum(dim=1).max()) <= 1
    # Every bin is reached, first and last too.
    assert rows.any(dim=0).all()


def test_time_masks_are_bounded_by_a_share_of_the_length():
    _, masks = masked_only(n_freq_masks=0, n_time_masks=1, time_share=0.05)
    columns = masks.all(dim=1)
    assert torch.equal(masks, columns[:, None].expand_as(masks))
    assert set(columns.sum(dim=1).tolist()) == set(range(11))
    assert int((columns[:, 1:] & ~columns[:, :-1]).sum(dim=1).max()) <= 1
    assert columns.any(dim=0).sum() > 195


def test_several_masks_join():
    _, masks = masked_only(n_freq_masks=2, freq_width=5, n_time_masks=3, time_share=0.04)
    rows, columns = masks.all(dim=2), masks.all(dim=1)
    assert torch.equal(masks, rows[:, :, None] | columns[:, None])
    assert 5 < int(rows.sum(dim=1).max()) <= 10
    assert 16 < int(columns.sum(dim=1).max()) <= 24


def test_mean_is_the_fill():
    x = torch.rand(40, 200, generator=seeded())
    out = SpecAugment(time_share=0.2)(x, seeded())
    changed = out != x
    assert 0.1 < changed.float().mean() < 0.95
    torch.testing.assert_close(out[changed], x.mean().expand(int(changed.sum())))


@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize("time_warp", [0, 9])
def test_a_batch_of_one_is_the_item(fill, time_warp):
    x = torch.rand(30, 120, generator=seeded())
    augment = SpecAugment(fill=fill, time_warp=time_warp, time_share=0.1)
    for seed in range(20):
        item = augment.apply(x, seeded(seed))
        padded = torch.nn.functional.pad(x, (0, 17), value=0.25)
        # Both without the draw for p, which is one number for an item and one for each utterance of a batch.
        batch = augment._augment(padded[None], torch.tensor([120]), seeded(seed))
        torch.testing.assert_close(batch[0, :, :120], item, rtol=0, atol=1e-6)
        torch.testing.assert_close(batch[0, :, 120:], padded[:, 120:], rtol=0, atol=0)


def test_utterances_of_a_batch_are_masked_differently_and_padding_is_kept():
    length = torch.tensor([200, 120, 3, 1, 0])
    x = torch.rand(5, 40, 200, generator=seeded()) + 0.5
    augment = SpecAugment(n_freq_masks=1, freq_width=8, n_time_masks=2, time_share=0.1, time_warp=5, fill="zero")
    seen = []
    generator = seeded(3)
    for _ in range(50):
        out = augment.batch(x, length, generator)
        assert torch.isfinite(out).all()
        for i, n in enumerate(length.tolist()):
            torch.testing.assert_close(out[i, :, n:], x[i, :, n:], rtol=0, atol=0)
        seen.append((out == 0).any(dim=2)[:2])
    assert any(not torch.equal(masks[0], masks[1]) for masks in seen)
    torch.testing.assert_close(augment.batch(x, length, seeded(3)), augment.batch(x, length, seeded(3)), rtol=0, atol=0)


def test_each_utterance_of_a_batch_is_left_alone_with_its_own_probability():
    x = torch.rand(400, 10, 30, generator=seeded()) + 0.5
    length = torch.full((400,), 30)
    augment = SpecAugment(n_freq_masks=4, freq_width=9, fill="zero", p=0.25)
    changed = (augment.batch(x, length, seeded(1)) != x).flatten(1).any(dim=1).float().mean()
    assert 0.15 < float(changed) < 0.35
    assert torch.equal(SpecAugment(p=0.0).batch(x, length, seeded()), x)


def test_warp_moves_one_frame_and_keeps_the_ends():
    """On a ramp over time, the value of a frame is the time it shows."""
    n = 100
    ramp = torch.arange(n, dtype=torch.float32).expand(3, n)
    augment = SpecAugment(n_freq_masks=0, n_time_masks=0, time_warp=20)
    shifts = []
    for seed in range(200):
        out = augment(ramp, seeded(seed))[0]
        assert out[0] == 0.0
        assert float(out[-1]) == pytest.approx(n - 1, abs=1e-4)
        steps = out.diff()
        assert (steps > 0).all()
        # Two slopes at most: the frame where they meet shows one that was at most 20 away.
        bends = steps.diff().abs() > 1e-4
        assert int(bends.sum()) <= 1
        if bends.any():
            at = int(bends.nonzero()) + 1
            shifts.append(round(float(out[at])) - at)
            assert float(out[at]) == pytest.approx(round(float(out[at])), abs=1e-3)
        else:
            shifts.append(0)
    assert min(shifts) < -15
    assert max(shifts) > 15
    assert max(map(abs, shifts)) <= 20


def test_warp_interpolates_between_frames():
    x = torch.rand(4, 60, generator=seeded())
    augment = SpecAugment(n_freq_masks=0, n_time_masks=0, time_warp=8)
    times = augment(torch.arange(60.0).expand(4, 60), seeded(2))[0]
    left = times.long().clamp(max=58)
    expected = x[:, left] * (1 - (times - left)) + x[:, left + 1] * (times - left)
    torch.testing.assert_close(augment(x, seeded(2)), expected)


@pytest.mark.parametrize("shape", [(80, 0), (80, 1), (80, 2), (80, 3), (1, 50), (5, 7)])
def test_small_spectrograms_survive(shape):
    augment = SpecAugment(freq_width=27, time_share=1.0, time_warp=40)
    for seed in range(20):
        out = augment(torch.rand(shape, generator=seeded()), seeded(seed))
        assert out.shape == shape
        assert torch.isfinite(out).all()


def test_the_input_is_kept():
    x = torch.rand(40, 100, generator=seeded())
    kept = x.clone()
    SpecAugment(time_warp=5)(x, seeded())
    SpecAugment(time_warp=5).batch(x[None], torch.tensor([100]), seeded())
    torch.testing.assert_close(x, kept, rtol=0, atol=0)
