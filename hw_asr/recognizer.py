"""A trained model as other tasks use it: waveforms of any rate in, transcripts and posteriors out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hw_asr.decoders import BaseDecoder, GreedyDecoder
from hw_asr.decoders.outputs import Outputs, decodable
from hw_asr.models.base import CTCModel
from hw_asr.transcript import Transcript, Word, words_of
from hw_base import distributed, trained
from hw_base.audio import io as audio_io
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.config.resolve import build, read
from hw_base.config.schema import Config
from hw_base.data.collate import pad_stack
from hw_base.errors import ConfigError, DataError
from hw_base.recognizer import Recognizer
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder

# Utterances that `transcribe_batch` runs at a time.
BATCH_SIZE = 16
# Longer recordings are run in windows.
LONGEST_SECONDS = 300
WINDOW_SECONDS = 60
OVERLAP_SECONDS = 10
# Of a longer recording so much is decoded at a time, so that memory does not grow with it.
DECODED_SECONDS = 1800
# Long enough that the edges of a model's convolutions do not count in its stride.
_MANY_FRAMES = 1 << 20


class CTCRecognizer(Recognizer):
    """A CTC model or a transducer, with its features, vocabulary and primary decoder (CTC greedy without any).

    Computes in float32 and in evaluation mode, whatever autocast is set to: an utterance gives the same alone and in a
    batch.

    Args:
        model: gives ``log_probs`` and ``log_probs_length``, and what the decoder reads.
        features: waveform to spectrogram.
        text_encoder: vocabulary of the model.
        config: names the decoders.
        device: where the model computes; the decoder runs there too.
    """

    def __init__(
        self,
        model: CTCModel,
        features: LogMelSpectrogram,
        text_encoder: BaseTextEncoder,
        config: Config,
        device: torch.device,
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.features = features.to(device)
        self.text_encoder, self.config, self.device = text_encoder, config, device
        frames = int(model.output_lengths(torch.tensor([_MANY_FRAMES])))
        self.frame_seconds = round(_MANY_FRAMES / frames) * features.hop_length / features.sample_rate

    @cached_property
    def decoder(self) -> BaseDecoder:
        """Built when first needed: posteriors can be had where a language model's file is missing."""
        name = self.config.primary_decoder()
        if name is None:
            return GreedyDecoder(self.text_encoder)
        decoder: BaseDecoder = build(
            f"decoders.{name}", self.config.decoders[name], DECODERS, text_encoder=self.text_encoder
        )
        decoder.bind(self.model)
        return decoder

    @overload
    def transcribe(
        self, audio: "str | Path | Tensor | NDArray[Any]", rate: int | None = None, details: Literal[False] = False
    ) -> str: ...

    @overload
    def transcribe(
        self, audio: "str | Path | Tensor | NDArray[Any]", rate: int | None = None, *, details: Literal[True]
    ) -> Transcript: ...

    def transcribe(
        self, audio: "str | Path | Tensor | NDArray[Any]", rate: int | None = None, details: bool = False
    ) -> str | Transcript:
        """What is said in a recording.

        Args:
            audio: an audio file, or a waveform (S,) of floats in [-1, 1].
            rate: of the waveform, in Hz; of a file it is known.
            details: whether words with their times and confidence are wanted too.

        Returns:
            The text; or with `details` a `Transcript`.

        Raises:
            DataError: the file cannot be read, or the waveform is not finite or has more than one axis.
            ConfigError: a waveform without its rate.
        """
        if isinstance(audio, str | Path):
            seconds = audio_io.info(audio).duration
            transcript = self.decoded(self.parts_of_file(audio), seconds)
        elif rate is None:
            raise ConfigError("transcribe: a waveform needs its sample rate: transcribe(waveform, rate)")
        else:
            waveform = torch.as_tensor(audio)
            transcript = self.decoded([self._frames([waveform], rate)[0]], len(waveform) / rate)
        return transcript if details else transcript.text

    def decoded(self, parts: Iterable[Outputs], seconds: float) -> Transcript:
        """What frames say; those of more than `DECODED_SECONDS` are decoded piece by piece, cut at a pause.

        Args:
            parts: in order, as `parts_of_file` gives them.
            seconds: length of the audio.
        """
        texts: list[str] = []
        words: list[Word] = []
        waiting: Outputs | None = None
        done = 0
        longest, last = (round(s / self.frame_seconds) for s in (DECODED_SECONDS, WINDOW_SECONDS))
        for part in _and_none(parts):
            if part is not None:
                waiting = part if waiting is None else Outputs.joined([waiting, part])
                if len(waiting) <= longest:
                    continue
            if waiting is None or not len(waiting):
                continue
            place = len(waiting) if part is None else len(waiting) - last + _pause(waiting[-last:].log_probs)
            piece, waiting = waiting[:place], waiting[place:]
            if not len(piece):
                continue
            read = piece.values[self.decoder.reads]
            best = self.decoder(read[None], torch.tensor([len(piece)], device=read.device))[0][0]
            start = done * self.frame_seconds
            words += words_of(best, piece.log_probs.cpu(), self.text_encoder, self.frame_seconds, start)
            texts.append(best.text)
            done += len(piece)
        return Transcript(" ".join(filter(None, texts)), tuple(words), seconds)

    @torch.no_grad()
    def parts_of_file(self, path: str | Path) -> Iterator[Outputs]:
        """What the model makes of a recording, in order; a long one is read and run in windows, one at a time.

        Raises:
            DataError: the file cannot be read, or ends before its header says.
        """
        rate, length = self.features.sample_rate, audio_io.info(path).duration
        if length <= LONGEST_SECONDS:
            yield self._frames([audio_io.load(path, rate)[0]], rate)[0]
            return

        def read(start: int, end: int) -> Tensor:
            samples, _ = audio_io.load(path, rate, segment=(start / rate, (end - start) / rate))
            missing = min(end, int(length * rate)) - start - len(samples)
            if missing > rate:  # the length of an MP3 is an estimate
                raise DataError(f"{path}: truncated: {missing / rate:.2f} s less of audio than its header says")
            return samples

        yield from self._windows(read, round(length * rate))

    def transcribe_batch(self, waveforms: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What is said in many recordings; in batches of similar length."""
        order = sorted(range(len(waveforms)), key=lambda i: waveforms[i].shape[-1])
        texts = [""] * len(waveforms)
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            outputs = self.outputs([waveforms[i] for i in places], sample_rate)
            found = self.decoder(outputs[self.decoder.reads], outputs["log_probs_length"])
            for place, hypotheses in zip(places, found, strict=True):
                texts[place] = hypotheses[0].text
        return texts

    def posteriors(self, waveforms: Sequence[Tensor], sample_rate: int) -> tuple[Tensor, Tensor]:
        """Probabilities of the tokens in each frame; see `outputs`."""
        outputs = self.outputs(waveforms, sample_rate)
        return outputs["log_probs"], outputs["log_probs_length"]

    def outputs(self, waveforms: Sequence[Tensor], sample_rate: int) -> dict[str, Tensor]:
        """What the model makes of a batch and decoders read; an utterance shorter than a frame is followed by silence.

        One longer than `LONGEST_SECONDS` is run in windows that overlap, so that memory does not grow with its length.

        Returns:
            dict: ``log_probs`` (B, T, V) and its like, padded; ``log_probs_length`` (B,), int64.

        Raises:
            DataError: a waveform has more than one axis or is not finite.
        """
        parts = self._frames(waveforms, sample_rate)
        padded = {
            name: pad_sequence([part.values[name] for part in parts], batch_first=True) for name in parts[0].values
        }
        return {**padded, "log_probs_length": torch.tensor([len(part) for part in parts]).to(self.device)}

    @torch.no_grad()
    def _frames(self, waveforms: Sequence[Tensor], sample_rate: int) -> list[Outputs]:
        """Those of each utterance of a batch."""
        prepared = [self._prepared(w, sample_rate) for w in waveforms]
        longest = LONGEST_SECONDS * self.features.sample_rate
        if all(len(samples) <= longest for samples in prepared):
            return self._run(prepared)
        return [
            Outputs.joined(
                list(self._windows(lambda start, end, whole=samples: whole[start:end], len(samples)))  # type: ignore[misc]
            )
            if len(samples) > longest
            else self._run([samples])[0]
            for samples in prepared
        ]

    def _windows(self, read: Callable[[int, int], Tensor], n_samples: int) -> Iterator[Outputs]:
        """Frames of a long recording; two windows are joined where both are surest of a blank.

        Args:
            read: (first sample, the one behind the last) -> samples at the rate of the features, fewer at the end.
            n_samples: all that there are.
        """
        stride = round(self.frame_seconds * self.features.sample_rate)
        window, overlap = (round(seconds / self.frame_seconds) for seconds in (WINDOW_SECONDS, OVERLAP_SECONDS))
        before, cut, start = Outputs({}), 0, 0
        for start in range(0, -(-n_samples // stride), window - overlap):
            piece = read(start * stride, (start + window) * stride)
            frames = self._run([F.pad(piece, (0, max(0, self.features.min_samples - len(piece))))])[0]
            if start:
                start_before = start - (window - overlap)
                shared = before[start - start_before :][: len(frames)].log_probs
                blank = (shared[:, 0] + frames.log_probs[: len(shared), 0])[len(shared) // 4 : 3 * len(shared) // 4 + 1]
                after = start + len(shared) // 4 + int(blank.argmax())
                yield before[cut - start_before : after - start_before]
                cut = after
            before = frames
            if (start + window) * stride >= n_samples:
                break
        yield before[cut - start :]

    def _run(self, prepared: Sequence[Tensor]) -> list[Outputs]:
        """The model over one padded batch of waveforms at the rate of the features."""
        with torch.autocast(self.device.type, enabled=False):
            spectrograms = [self.features(samples.to(self.device)) for samples in prepared]
            spectrogram, length = pad_stack(spectrograms)
            outputs = self.model(spectrogram=spectrogram, spectrogram_length=length.to(self.device))
        return Outputs.of_batch(decodable(outputs))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without blanks."""
        return self.text_encoder.encode(text)

    def symbol(self, token_id: int) -> str:
        """How a token is spelled; empty for the blank."""
        return self.text_encoder.decode([token_id]) if token_id else ""

    def normalize(self, text: str) -> str:
        """The text as the vocabulary writes it."""
        return self.text_encoder.normalize(text)

    def _prepared(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """At the rate of the features, with at least one frame."""
        if waveform.dim() != 1 or not bool(torch.isfinite(waveform).all()):
            found = "NaN or infinite samples" if waveform.dim() == 1 else f"shape {tuple(waveform.shape)}"
            raise DataError(f"recognition: expected a finite waveform of shape (S,), found {found}")
        samples = audio_io.resample(waveform.detach().to("cpu", torch.float32), sample_rate, self.features.sample_rate)
        samples = F.pad(samples, (0, max(0, self.features.min_samples - len(samples))))
        return samples


def _and_none(parts: Iterable[Outputs]) -> Iterator[Outputs | None]:
    """The parts, and None behind the last."""
    yield from parts
    yield None


def _pause(log_probs: Tensor) -> int:
    """The middle of the longest stretch of frames (T, V) of blanks."""
    longest, start, first_silent = 0, 0, None
    for frame, silent in enumerate([*(log_probs.argmax(dim=1) == 0).tolist(), False]):
        if silent and first_silent is None:
            first_silent = frame
        elif not silent and first_silent is not None:
            if frame - first_silent > longest:
                longest, start = frame - first_silent, first_silent
            first_silent = None
    return start + longest // 2 if longest else len(log_probs) // 2


def load(
    path: str | Path,
    device: str = "auto",
    decoder: str | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> CTCRecognizer:
    """Open a checkpoint to recognize speech with it: ``hw_asr.load("model.pth").transcribe("speech.wav")``.

    A language model that the checkpoint's own config names is not opened, because the checkpoint may be of anybody:
    name it in `config` or `overrides`.

    Args:
        path: checkpoint of a recognizer.
        device: ``auto`` (a GPU of NVIDIA if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        decoder: one of the config; None is its primary one.
        config: a file whose sections are laid over the checkpoint's, as `hw_asr.tune_decoder` writes it.
        overrides: ``"decoders.beam={type: BeamSearch, args: {lm: lm.arpa}}"`` and the like, as for ``--set``.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint.
        ConfigError: the checkpoint of another task; or no such device or decoder.
    """
    given = trained.Given(read(config) if config is not None else {}, overrides)
    recognizer = trained.load_recognizer(path, distributed.choose_device(device), given)
    if not isinstance(recognizer, CTCRecognizer):
        raise ConfigError(f"{path}: a {type(recognizer).__name__}, which hw_asr cannot use")
    if decoder is not None:
        if decoder not in recognizer.config.decoders:
            raise ConfigError(f"{path}: no decoder {decoder!r}; its config has {', '.join(recognizer.config.decoders)}")
        recognizer.config = recognizer.config.model_copy(update={"decoder": decoder})
    return recognizer
