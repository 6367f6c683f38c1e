"""Audio-seconds per CPU-second from FLAC files to augmented, padded batches of log-mel spectrograms and tokens.

The work is that of the usual recipe: decode, play at 0.9, 1.0 or 1.1 of the speed, 80 mel bins each 10 ms, mean and
variance of each bin, two frequency masks and ten time masks, padding. The peers are lhotse 1.33 as its recipes use it
(``K2SpeechRecognitionDataset``, ``perturb_speed``, features on the fly, its own SpecAugment), and a plain assembly of
soundfile and torchaudio's transforms, written here as a reader of torchaudio's documentation would.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from benchmarks import measuring
from hw_asr.augmentations.rate import SpeedPerturbation
from hw_asr.augmentations.spectrogram import SpecAugment
from hw_asr.data.collate import ASRCollate
from hw_asr.data.items import ItemMaker
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.cache import Room
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.loader import Loader, build_loader
from hw_base.data.split import Split
from hw_base.datasets.librispeech import LibriSpeech
from hw_base.synthetic.corpus import SyntheticSpeech

RATE, BATCH, SPEEDS = 16_000, 16, (0.9, 1.0, 1.1)
N, SECONDS = 48, 12.0


def embedded(folder: Path) -> BaseDataset:
    """Sentences of the embedded corpus, joined to about 12 s, as FLAC."""
    records: list[Record] = []
    pieces, texts = [], []
    for record in SyntheticSpeech("train", n_utterances=300).records:
        pieces.append(audio.load(record.audio_path, RATE)[0].numpy())
        texts.append(record.text or "")
        length = sum(map(len, pieces)) / RATE
        if length >= SECONDS and len(records) < N:
            path = folder / f"{len(records)}.flac"
            soundfile.write(path, np.concatenate(pieces), RATE, subtype="PCM_16")
            records.append(Record(str(len(records)), str(path), length, " ".join(texts)))
            pieces, texts = [], []
    return BaseDataset(records)


def ours(dataset: BaseDataset, cached: bool = False) -> Loader:
    """The project's own way: a split and its loader, in this process."""
    features = LogMelSpectrogram(sample_rate=RATE, n_mels=80)
    augmentations = [SpeedPerturbation(SPEEDS), SpecAugment()]
    split = Split("train", [dataset], ItemMaker(features, CharTextEncoder(), augmentations), RATE)
    if cached:
        split.keep("memory", Room())
    return build_loader(split, BATCH, ASRCollate())


class Assembly(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """soundfile and torchaudio, put together plainly."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.speed = torchaudio.transforms.SpeedPerturbation(RATE, list(SPEEDS))
        self.mel = torchaudio.transforms.MelSpectrogram(RATE, n_fft=512, win_length=400, hop_length=160, n_mels=80)
        masks = [torchaudio.transforms.FrequencyMasking(27)] * 2
        self.masks = torch.nn.Sequential(*masks, *[torchaudio.transforms.TimeMasking(100, p=0.05)] * 10)
        self.ids = {character: i for i, character in enumerate(" 'abcdefghijklmnopqrstuvwxyz", start=1)}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        samples, _ = soundfile.read(self.records[index].audio_path, dtype="float32")
        waveform, _ = self.speed(torch.from_numpy(samples))
        spectrogram = self.mel(waveform).clamp(min=1e-6).log()
        spectrogram = (spectrogram - spectrogram.mean(1, keepdim=True)) / spectrogram.std(1, keepdim=True)
        text = (self.records[index].text or "").lower()
        return self.masks(spectrogram[None])[0], torch.tensor([self.ids[c] for c in text if c in self.ids])


def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Spectrograms (B, T, F) and tokens (B, L)."""
    spectrograms, tokens = zip(*items, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    return pad([spectrogram.T for spectrogram in spectrograms], batch_first=True), pad(list(tokens), batch_first=True)


def lhotse_batches(records: list[Record]) -> Any:
    """The loader of a recipe with lhotse: speeds as a third of the cuts each, features on the fly."""
    from lhotse import CutSet, Fbank, FbankConfig, MonoCut, Recording, SupervisionSegment
    from lhotse.dataset import K2SpeechRecognitionDataset, OnTheFlyFeatures, SimpleCutSampler
    from lhotse.dataset import SpecAugment as LhotseSpecAugment

    cuts = []
    for i, record in enumerate(records):
        recording = Recording.from_file(record.audio_path, recording_id=record.utterance_id)
        text = SupervisionSegment(record.utterance_id, recording.id, 0.0, recording.duration, text=record.text)
        cut = MonoCut(recording.id, 0.0, recording.duration, 0, supervisions=[text], recording=recording)
        cuts.append(cut if i % 3 == 1 else cut.perturb_speed(SPEEDS[i % 3]))
    masks = LhotseSpecAugment(time_warp_factor=None, num_feature_masks=2, num_frame_masks=10, p=1.0)
    dataset = K2SpeechRecognitionDataset(
        input_strategy=OnTheFlyFeatures(Fbank(FbankConfig(num_mel_bins=80))), input_transforms=[masks]
    )
    sampler = SimpleCutSampler(CutSet.from_cuts(cuts), max_cuts=BATCH, shuffle=True)
    return torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=None)


def exhaust(batches: Any) -> Callable[[], None]:
    """One epoch."""

    def work() -> None:
        for _ in batches:
            pass

    return work


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--corpus", help="folder of LibriSpeech with train-clean-100; the embedded corpus if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.corpus:
            whole = LibriSpeech(arguments.corpus, "train-clean-100").records
            dataset = BaseDataset(whole[:: len(whole) // N][:N])
        else:
            dataset = embedded(Path(folder))
        seconds = sum(record.duration for record in dataset.records)
        assembly = torch.utils.data.DataLoader(Assembly(dataset.records), BATCH, shuffle=True, collate_fn=padded)
        sides = {
            "ours": exhaust(ours(dataset)),
            "kept": exhaust(ours(dataset, cached=True)),
            "assembly": exhaust(assembly),
        }
        absent = measuring.missing("lhotse")
        if not absent:
            sides["lhotse"] = exhaust(lhotse_batches(dataset.records))
        for _ in range(3):  # every speed of every utterance has been drawn, or nearly
            sides["kept"]()
        best = measuring.compare(sides, arguments.repeats)
    speed = {name: seconds / value for name, value in best.items()}
    work = f"FLAC to augmented batch, {len(dataset.records)} x {seconds / len(dataset.records):.1f} s"
    rows = []
    for side, name in (("ours", work), ("kept", f"{work}, later epochs with `cache: memory`")):
        note = f"{speed[side]:,.0f} audio-s per CPU-s"
        peer = "soundfile + torchaudio, own plain assembly"
        goals = (1.7, 3.5) if side == "ours" else (None, None)
        rows.append(
            measuring.Row(
                name,
                peer,
                "CPU time",
                speed[side] / speed["assembly"],
                goals[0],
                f"{note} against {speed['assembly']:,.0f}",
            )
        )
        ratio = None if absent else speed[side] / speed["lhotse"]
        note_of_both = absent or f"{note} against {speed['lhotse']:,.0f}"
        rows.append(measuring.Row(name, "lhotse 1.33", "CPU time", ratio, goals[1], note_of_both))
    rows.append(measuring.Row(work, "2,400 audio-s per CPU-s", "speed", speed["ours"] / 2400, 1.0))
    measuring.write(rows, "data_path", arguments.output)


if __name__ == "__main__":
    main()
