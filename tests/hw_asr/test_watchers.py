"""Watchers of recognition: each meets its fault, and healthy outputs."""

import torch

from hw_asr.watchers import BLANK_PHASE, Emissions, Features, LanguageModel, Posteriors, Targets
from hw_base.watch.diagnosis import Optimizing, Seen

ADAM = Optimizing(lr=1e-3, base_lr=1e-3, clip_norm=None, weight_decay=0.0, loss_scale=None, every=None)
V = 28


def names(watcher, batch=None, evaluation=None, steps=8, first=10):
    found = set()
    for i in range(steps):
        seen = Seen(first + 10 * i, 10**4, {}, evaluation or {}, batch or {}, (), {"model": ADAM})
        found |= {one.name for one in watcher.look(seen)}
    return found


def outputs(logits):
    return {"log_probs": logits.log_softmax(-1), "log_probs_length": torch.tensor([20, 12])}


def saying(*tokens):
    """Posteriors that are certain of these tokens, in turn."""
    chosen = torch.tensor(tokens).repeat(20)[:20]
    return outputs(10 * torch.nn.functional.one_hot(chosen, V).float().expand(2, 20, V))


def watcher():
    return Posteriors(lambda tokens: chr(96 + tokens[0]))


def spectrogram(x):
    return {"spectrogram": x, "spectrogram_length": torch.tensor([x.shape[-1]] * len(x))}


def test_posteriors_of_a_model_that_writes_are_left_alone():
    assert names(watcher(), saying(0, 5, 0, 7, 0, 0, 9), steps=80) == set()


def test_blanks_alone_are_normal_at_first_and_later_named():
    assert names(watcher(), saying(0), steps=BLANK_PHASE // 10) == set()
    assert names(watcher(), saying(0), steps=BLANK_PHASE // 10 + 8) == {"only_blanks"}


def test_a_letter_where_blanks_belong_is_named_and_spelled():
    same = watcher()
    steps = [Seen(10 * i + 10, 10**4, {}, {}, saying(3), (), {"model": ADAM}) for i in range(9)]
    said = [one for seen in steps for one in same.look(seen)]
    assert "'c'" in said[-1].sentence
    assert {one.name for one in said} == {"one_symbol"}


def emitting(*tokens):
    """A transducer that says this of each of its two utterances, which have 20 and 12 frames."""
    return Emissions(lambda states, length: [tokens] * len(states), lambda ids: chr(96 + ids[0]))


def test_a_transducer_that_writes_is_left_alone_and_one_that_does_not_is_named():
    batch = {"encoder_states": torch.zeros(2, 20, 4), "log_probs_length": torch.tensor([20, 12])}
    late = {"steps": BLANK_PHASE // 10 + 8}
    assert names(emitting(1, 2, 3, 1, 2), batch, steps=80) == set()
    assert names(emitting(*[5] * 3), batch, **late) == set()  # few of one letter
    assert names(emitting(), batch, steps=BLANK_PHASE // 10) == set()
    assert names(emitting(), batch, **late) == {"only_blanks"}
    assert names(emitting(*[5] * 8), batch) == {"one_symbol"}
    assert names(emitting(*[1, 2, 3] * 10), batch) == {"text_without_end"}
    assert names(emitting(), {**batch, "encoder_states": batch["encoder_states"] / 0}, **late) == set()
    assert names(emitting(), saying(0, 5), **late) == set()  # of another model


def test_a_second_softmax_keeps_posteriors_flat():
    batch = saying(0, 5, 0, 7)
    assert names(watcher(), {**batch, "log_probs": batch["log_probs"].exp().log_softmax(-1)}) == {"posteriors_flat"}


def test_a_softmax_over_time_is_named():
    logits = torch.randn(2, 20, V, generator=torch.Generator().manual_seed(0))
    batch = outputs(logits)
    assert names(watcher(), {**batch, "log_probs": logits.log_softmax(1)}) == {"posteriors_not_normalized"}


def test_features_off_level_flat_or_with_empty_bands_are_told_apart():
    x = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    assert names(Features(), spectrogram(x)) == set()
    assert names(Features(), spectrogram(x + 15)) == {"features_not_normalized"}
    assert names(Features(), spectrogram(torch.where(torch.arange(50) < 40, 0.0, x))) == {"features_flat"}
    assert names(Features(), spectrogram(x * (torch.arange(20) < 14)[None, :, None] + 1e-4 * x)) == {"bands_empty"}


def test_lengths_of_another_stride_and_targets_that_do_not_fit_are_told_apart():
    tokens = {"tokens": torch.arange(1, 11).expand(2, 10), "tokens_length": torch.tensor([10, 10])}
    good = {**saying(0), **tokens, "utterance_id": ["a", "b"]}
    assert names(Targets(), good) == set()
    assert names(Targets(), {**good, "log_probs_length": torch.tensor([15, 12])}) == {"output_lengths_wrong"}
    assert names(Targets(), {**good, "log_probs_length": torch.tensor([20, 8])}) == {"targets_do_not_fit"}


def test_a_language_model_that_makes_it_worse_is_named():
    one = LanguageModel("argmax", ["beam"], "wer")
    assert names(one, evaluation={"val/wer_argmax": 0.3, "val/wer_beam": 0.25}) == set()
    assert names(one, evaluation={"val/wer_argmax": 0.3, "val/wer_beam": 0.6}) == {"lm_drowns_acoustics"}
