import logging
import os
import signal
import time

import pytest
import torch

from hw_base.data.collate import PadCollate
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.loader import build_loader
from hw_base.data.sampler import BucketBatchSampler
from hw_base.data.split import Split
from hw_base.errors import DataError


def librispeech_like(n: int) -> list[float]:
    """Seconds: many near the cap of 16, few short ones, as in train-clean-100; mean 12.5."""
    generator = torch.Generator().manual_seed(0)
    durations = 13.8 + 3.5 * torch.randn(4 * n, generator=generator)
    kept = durations[(durations > 1.5) & (durations < 17.0)].clamp(max=16.0)[:n]
    assert len(kept) == n
    assert 12.3 < float(kept.mean()) < 12.7
    return kept.tolist()


def padding(durations, batches):
    padded = sum(max(durations[i] for i in batch) * len(batch) for batch in batches)
    return 1 - sum(durations[i] for batch in batches for i in batch) / padded


def uniform(n: int, seed: int = 0) -> list[float]:
    return (0.5 + 3 * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).tolist()


def pairs(batches):
    return {(i, j) for batch in batches for i in batch for j in batch if i < j}


def read(sampler):
    return list(sampler)


@pytest.mark.parametrize(("n", "batch_size"), [(2000, 16), (2000, 32), (28539, 16), (28539, 32)])
def test_little_padding_yet_other_batches_in_each_epoch(n, batch_size):
    durations = librispeech_like(n)
    sampler = BucketBatchSampler(durations, batch_size)
    epochs = [sampler.batches(epoch) for epoch in range(3)]
    for epoch, batches in enumerate(epochs):
        assert padding(durations, batches) <= 0.02
        assert sampler.padding(epoch) == pytest.approx(padding(durations, batches))
    together = pairs(epochs[0])
    assert len(together & pairs(epochs[1])) < 0.5 * len(together)
    means = torch.tensor([sum(durations[i] for i in batch) / len(batch) for batch in epochs[0]])
    place = torch.arange(len(means), dtype=torch.float32)
    assert abs(float(torch.corrcoef(torch.stack([means, place]))[0, 1])) < 0.2


def test_an_epoch_is_a_partition_and_repeatable():
    sampler = BucketBatchSampler(uniform(101), 8, seed=3)
    for epoch in range(3):
        sampler.set_position(epoch)
        batches = read(sampler)
        assert {key_epoch for batch in batches for key_epoch, _ in batch} == {epoch}
        assert sorted(index for batch in batches for _, index in batch) == list(range(101))
        assert sorted(map(len, batches)) == [5] + [8] * 12
        assert len(batches) == len(sampler) == 13
        assert batches == read(sampler)
    assert sampler.batches(0) != sampler.batches(1)
    assert sampler.batches(0) != BucketBatchSampler(uniform(101), 8, seed=4).batches(0)
    assert sampler.batches(0) == BucketBatchSampler(uniform(101), 8, seed=3).batches(0)


def test_middle_of_an_epoch_is_the_tail_of_the_whole():
    sampler = BucketBatchSampler(uniform(101), 8)
    sampler.set_position(2)
    whole = read(sampler)
    for start in (0, 1, 7, 12, 13):
        sampler.set_position(2, start)
        assert read(sampler) == whole[start:]


@pytest.mark.parametrize("max_batch_seconds", [4.0, 10.0, 25.0, 1000.0])
@pytest.mark.parametrize("shuffle", [True, False])
def test_maximum_batch_duration(max_batch_seconds, shuffle):
    durations = [*uniform(300), 7.0, 7.5]
    sampler = BucketBatchSampler(durations, 16, max_batch_seconds, jitter=0.05, shuffle=shuffle)
    lengths = set()
    for epoch in range(20):
        batches = sampler.batches(epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(302))
        for batch in batches:
            assert 1 <= len(batch) <= 16
            padded = max(durations[i] for i in batch) * len(batch)
            assert padded <= max_batch_seconds + 1e-6 or len(batch) == 1
        lengths.add(len(batches))
    assert lengths == {len(sampler)}


def test_maximum_batch_duration_is_used():
    durations = uniform(1000)
    batches = BucketBatchSampler(durations, 1000, 60.0).batches(0)
    used = [max(durations[i] for i in batch) * len(batch) / 60.0 for batch in batches]
    assert sum(used) / len(used) > 0.9
    assert len(BucketBatchSampler([2.0] * 30, 1000, 20.0, shuffle=False)) == 3


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("max_batch_seconds", [None, 12.0])
def test_processes_share_the_batches_of_one(world_size, max_batch_seconds):
    arguments = {"batch_size": 8, "max_batch_seconds": max_batch_seconds, "seed": 5}
    alone = BucketBatchSampler(uniform(104), **arguments)
    ranks = [BucketBatchSampler(uniform(104), **arguments, rank=r, world_size=world_size) for r in range(world_size)]
    if alone.sizes[-1] < world_size:
        pytest.skip("the last batch is not shared")
    for sampler in [alone, *ranks]:
        sampler.set_position(1)
    shares = [read(sampler) for sampler in ranks]
    assert {len(share) for share in shares} == {len(alone)}
    for batch, *parts in zip(read(alone), *shares, strict=True):
        assert all(parts)
        assert sorted(key for part in parts for key in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_last_batch_smaller_than_the_processes_is_dropped():
    ranks = [BucketBatchSampler(uniform(25), 8, rank=rank, world_size=2, name="train") for rank in range(2)]
    assert ranks[0].n_dropped == 1
    assert ranks[0].report().endswith("; 1 utterances left out of each epoch")
    missing = set()
    for epoch in range(60):
        seen = []
        for sampler in ranks:
            sampler.set_position(epoch)
            seen += [index for batch in read(sampler) for _, index in batch]
        assert len(seen) == len(set(seen)) == 24
        missing |= set(range(25)) - set(seen)
    # Not always the same one: nobody is kept from training by being short.
    assert len(missing) > 15


def test_drop_last():
    sampler = BucketBatchSampler(uniform(30), 8, drop_last=True)
    assert sampler.n_dropped == 6
    assert [len(batch) for batch in sampler.batches(0)] == [8, 8, 8]
    assert BucketBatchSampler(uniform(32), 8, drop_last=True).n_dropped == 0
    assert sampler.report().startswith("split: 3 batches an epoch, ")


@pytest.mark.parametrize("n", [1, 2, 7, 16, 17])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_reads_everything_once_longest_first(n, world_size):
    durations = uniform(n)
    seen = []
    for rank in range(world_size):
        sampler = BucketBatchSampler(durations, 4, shuffle=False, drop_last=True, rank=rank, world_size=world_size)
        batches = read(sampler)
        assert len(batches) == len(sampler)
        assert all(batches)
        own = [durations[index] for batch in batches for _, index in batch]
        assert own == sorted(own, reverse=True)
        seen += [index for batch in batches for _, index in batch]
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(
    ("durations", "arguments", "message"),
    [
        ([], {}, "0 utterances are too few for one batch of 4"),
        ([1.0] * 3, {"drop_last": True}, "3 utterances are too few for one batch of 4"),
        ([1.0], {"world_size": 2}, "1 utterances are too few"),
        ([9.0] * 8, {"world_size": 2, "max_batch_seconds": 10.0}, r"holds 1 utterance\(s\) of 9.0 s, fewer than the 2"),
    ],
)
def test_no_batch_is_refused(durations, arguments, message):
    with pytest.raises(DataError, match=message):
        BucketBatchSampler(durations, 4, **arguments)


class Memory(BaseDataset):
    """Waveforms made from their ids; `bad` ones are NaN, `slow` ones take long."""

    def __init__(self, durations, bad=(), slow=()):
        super().__init__([Record(str(i), f"{i}.wav", duration) for i, duration in enumerate(durations)])
        self.bad, self.slow = set(bad), set(slow)

    def read(self, record):
        number = int(record.utterance_id)
        waveform = torch.rand(int(100 * record.duration), generator=torch.Generator().manual_seed(number))
        time.sleep(2.0 if number in self.slow else 0.0)
        return (waveform * torch.nan if number in self.bad else waveform), 100


class Augment:
    def __call__(self, record, waveform, generator):
        noise = torch.rand(waveform.shape, generator=generator)
        return {"utterance_id": record.utterance_id, "waveform": waveform + noise}


def loader(n=21, *, bad=(), slow=(), evaluation=False, on_bad_data="skip", batch_size=4, **arguments):
    split = Split(
        "train", [Memory(uniform(n), bad, slow)], Augment(), 100, on_bad_data=on_bad_data, evaluation=evaluation
    )
    return build_loader(split, batch_size, PadCollate(), **arguments)


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert one["utterance_id"] == other["utterance_id"]
        assert torch.equal(one["waveform"], other["waveform"])
        assert torch.equal(one["waveform_length"], other["waveform_length"])


def test_number_of_workers_changes_nothing():
    plain = loader(bad=[3, 4])
    expected = [list(plain) for _ in range(3)]
    assert not torch.equal(expected[0][0]["waveform"], expected[1][0]["waveform"])
    assert plain.split.skipped.keys() == {"3", "4"}
    for workers in (1, 2):
        other = loader(bad=[3, 4], workers=workers)
        for batches in expected:
            same(list(other), batches)
        assert other.split.skipped == plain.split.skipped


def test_spawned_workers():
    same(list(loader(n=8, workers=1, start_method="spawn")), list(loader(n=8)))


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_the_middle(workers):
    whole = loader()
    epochs = [list(whole), list(whole), list(whole)]
    resumed = loader(workers=workers)
    resumed.set_position(1, 4)
    same(list(resumed), epochs[1][4:])
    assert resumed.position == (2, 0)
    same(list(resumed), epochs[2])
    # Left in the middle and taken up again, with batches already fetched ahead.
    resumed.set_position(0, 6)
    assert resumed.position == (1, 0)
    resumed.set_position(0, 1)
    for _ in zip(range(2), resumed):  # noqa: B905
        pass
    assert resumed.position in ((0, 3), (0, 4))
    again = list(resumed)
    same(again, epochs[0][-len(again) :])
    same(list(resumed), epochs[1])


def test_position_after_each_batch():
    batches = loader()
    assert len(batches) == 6
    found = []
    for _ in range(2):
        for _ in batches:
            found.append(batches.position)
    assert found == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 0)]


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_is_left_alone(workers):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(loader(workers=workers))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_utterances_in_evaluation(workers, caplog):
    batches = loader(n=10, bad=[1, 2, 7], evaluation=True, batch_size=1, workers=workers)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = [name for batch in batches for name in batch["utterance_id"]]
            assert sorted(found) == ["0", "3", "4", "5", "6", "8", "9"]
    assert batches.split.skipped.keys() == {"1", "2", "7"}
    assert len(caplog.records) == 3
    assert all("skipped" not in batch for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_one_line(workers):
    with pytest.raises(
        DataError,
        match=r"^train: utterance '3' \(3.wav\): samples are NaN or infinite; .*data\.train\.on_bad_data to skip$",
    ):
        list(loader(bad=[3], on_bad_data="fail", workers=workers))


def test_a_hanging_worker_is_reported():
    with pytest.raises(DataError, match=r"train: no batch within \d+ s: worker 0 has hung .* utterance '0'"):
        list(loader(n=1, slow=[0], workers=1, timeout=0.5))


def test_a_worker_that_dies_before_all_are_started_is_one_line():
    """PyTorch's own words, as they came when a worker crashed at its first utterance."""
    one = loader(workers=2)

    def start():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ")

    with pytest.raises(
        DataError, match=r"train: a worker died while .*killed by signal: Segmentation fault\); mend or"
    ):
        one._in_time(start)


def test_workers_survive_the_signals_of_their_group():
    batches = loader(n=40, workers=2)
    list(batches)
    iterator = iter(batches)
    second_epoch = [next(iterator)]
    for worker in batches._batches._iterator._workers:
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGINT)
    second_epoch += iterator
    plain = loader(n=40)
    list(plain)
    same(second_epoch, list(plain))


def test_processes_get_the_batches_of_one_process():
    alone = list(loader(n=20))
    ranks = [list(loader(n=20, rank=rank, world_size=2)) for rank in range(2)]
    for batch, even, odd in zip(alone, *ranks, strict=True):
        assert batch["utterance_id"][0::2] == even["utterance_id"]
        assert batch["utterance_id"][1::2] == odd["utterance_id"]
        length = even["waveform"].shape[1]
        assert torch.equal(batch["waveform"][0::2, :length], even["waveform"])
