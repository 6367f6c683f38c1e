"""A trained model and a vocoder together: text in, waveform out."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed, trained
from hw_base.audio import io as audio
from hw_base.data.collate import pad_stack
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.registry import suggest
from hw_tts.alignment.intervals import phones_from_durations
from hw_tts.models.base import SynthesisModel
from hw_tts.text.cutting import halves, sentences
from hw_tts.vocoders.loading import BaseVocoder, load_vocoder

# Longer sentences are cut: attention over them needs memory that grows with the square of the length.
MAX_SYMBOLS = 600
# Said at once, to bound the memory of a long text.
MAX_BATCH = 8
# Between the sentences of one text.
PAUSE_SECONDS = 0.25


def waveforms_of(output: Mapping[str, Tensor], vocoder: BaseVocoder | None) -> list[Tensor]:
    """The audio of what a model synthesized.

    Args:
        output: of ``model.synthesize``: ``waveform`` (B, S) or ``spectrogram`` (B, F, T), with its length.
        vocoder: for spectrograms.

    Returns:
        list: B tensors (S,), float32, in [-1, 1], on the CPU.
    """
    if "waveform" in output:
        waveform, lengths = output["waveform"], output["waveform_length"]
    else:
        assert vocoder is not None
        waveform = vocoder(output["spectrogram"].float(), output["spectrogram_length"])
        lengths = output["spectrogram_length"] * vocoder.hop_length
    rows = waveform.float().clamp(-1.0, 1.0).cpu()
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


@dataclass(frozen=True)
class Speech:
    """What was said of one text.

    Attributes:
        waveform (Tensor): (S,), float32, in [-1, 1], on the CPU.
        phones: ``[[symbol, start_s, end_s], ...]``; empty names are pauses and blanks, None a model without durations.
    """

    waveform: Tensor
    phones: list[list[Any]] | None


class Synthesizer:
    """Speaks texts.

    Args:
        model: of synthesis, evaluated on its device.
        task: of the checkpoint, with its symbols and speakers.
        vocoder: for models that make spectrograms.

    Attributes:
        sample_rate (int): of the audio, in Hz.
        speakers (list[str]): whom it can speak like; empty where there is one voice.
    """

    def __init__(self, model: SynthesisModel, task: Any, vocoder: BaseVocoder | None) -> None:
        self.model, self.task, self.vocoder = model.eval(), task, vocoder
        self.sample_rate: int = task.features.sample_rate
        self.speakers: list[str] = task.speakers if len(task.speakers) > 1 else []
        self._device = next(model.parameters()).device

    @classmethod
    def load(
        cls, path: str | Path, vocoder: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> "Synthesizer":
        """Rebuild a synthesizer from its checkpoint alone.

        Args:
            path: of a trained model.
            vocoder: a HiFiGAN's checkpoint; None is Griffin-Lim. Models that make audio themselves need none.
            device: where it computes.

        Raises:
            CheckpointError: missing, damaged, or of another task.
            ConfigError: the vocoder was trained on other spectrograms.
        """
        opened = trained.load(path)
        if opened.config.task != "tts":
            found = f"a model of the task {opened.config.task!r}"
            raise CheckpointError(f"{path}: holds {found}; synthesis needs one of 'tts'")
        model = opened.model
        assert isinstance(model, SynthesisModel)
        speaks = model.trains_on_waveform
        model.prepare_for_inference()
        if speaks and vocoder is not None:
            raise ConfigError(f"{path}: {opened.config.model.type} makes audio itself and needs no vocoder")
        made = None if speaks else load_vocoder(vocoder, opened.task.features, device)
        return cls(model.to(device), opened.task, made)

    def speaker_id(self, name: str | None) -> int:
        """The id of a speaker; None is the first.

        Raises:
            ConfigError: there is no such speaker.
        """
        if name is None or (not self.speakers and name in self.task.speakers):
            return 0
        if name not in self.speakers:
            hint = suggest(name, self.speakers) if self.speakers else "This model has one voice; leave the speaker out."
            raise ConfigError(f"no speaker is named {name!r}. {hint}")
        return self.speakers.index(name)

    def speak(
        self,
        text: str,
        speaker: str | None = None,
        speed: float | None = None,
        pitch: float | None = None,
        energy: float | None = None,
    ) -> tuple[Tensor, int]:
        """Say a text of any length.

        Args:
            text: in ordinary writing.
            speaker: by name; None is the first.
            speed: factor; None leaves it as it is.
            pitch: factor of the fundamental frequency, of models that have it.
            energy: factor of the loudness, of models that have it.

        Returns:
            waveform (Tensor): (S,), float32, in [-1, 1], on the CPU.
            rate (int): of it, in Hz.

        Raises:
            ConfigError: an unknown speaker, or a control that the model does not have.
            DataError: a text has nothing to say, or holds what training had not; the message names the words.
        """
        given = {"speed": speed, "pitch": pitch, "energy": energy}
        controls = {name: value for name, value in given.items() if value is not None}
        return self.speak_batch([text], speaker, **controls)[0], self.sample_rate

    def speak_batch(self, texts: Sequence[str], speaker: str | None = None, **controls: Any) -> list[Tensor]:
        """A waveform (S,) for each text; see `say`."""
        return [speech.waveform for speech in self.say(texts, speaker, **controls)]

    @torch.inference_mode()
    def say(self, texts: Sequence[str], speaker: str | None = None, **controls: Any) -> list[Speech]:
        """Say texts of any length: sentence by sentence, with a pause between.

        Args:
            texts: in ordinary writing.
            speaker: by name; None is the first.
            controls: as the model's ``synthesize`` takes them: ``speed``, ``pitch``, ``energy`` as factors, and so on.

        Returns:
            list: for each text its waveform, and which stretch of it is which symbol.

        Raises:
            ConfigError: an unknown speaker, or a control that the model does not have.
            DataError: a text has nothing to say, or holds what training had not; the message names the words.
        """
        speaker_id = self.speaker_id(speaker)
        self._check(controls)
        pieces = [self._pieces(text) for text in texts]
        tokens = [piece for one in pieces for piece in one]
        spoken: list[Speech] = []
        for start in range(0, len(tokens), MAX_BATCH):
            spoken += self._speak(tokens[start : start + MAX_BATCH], speaker_id, controls)
        said = iter(spoken)
        return [self._joined([next(said) for _ in one]) for one in pieces]

    def _speak(self, pieces: Sequence[list[int]], speaker_id: int, controls: Mapping[str, Any]) -> list[Speech]:
        """One batch of token ids; the description of each."""
        tokens, length = pad_stack([torch.tensor(piece, dtype=torch.int64) for piece in pieces])
        ids = torch.full((len(pieces),), speaker_id, dtype=torch.int64)
        given: dict[str, Any] = {
            key: value.to(self._device) if isinstance(value, Tensor) else value for key, value in controls.items()
        }
        output = self.model.synthesize(
            tokens=tokens.to(self._device),
            tokens_length=length.to(self._device),
            speaker_id=ids.to(self._device),
            **given,
        )
        waveforms, durations = waveforms_of(output, self.vocoder), output.get("durations")
        return [
            Speech(waveform, self._phones(piece, durations, i))
            for i, (piece, waveform) in enumerate(zip(pieces, waveforms, strict=True))
        ]

    def _phones(self, tokens: Sequence[int], durations: Tensor | None, row: int) -> list[list[Any]] | None:
        if durations is None:
            return None
        names = self.task.text_encoder.names(tokens)
        frames = durations[row, : len(tokens)].tolist()
        return phones_from_durations(names, frames, self.sample_rate, self.task.features.hop_length)

    def mixed(self, fractions: Mapping[str, float]) -> dict[str, Tensor]:
        """The control for `speak_batch` that gives a voice between known ones.

        Args:
            fractions: speaker -> weight; they are normed to sum to 1.

        Raises:
            ConfigError: the model cannot, or knows no such speaker.
        """
        weights = {self.speaker_id(name): fraction for name, fraction in fractions.items()}
        return {"speaker_embedding": self.model.mix_speakers(weights)}

    @torch.inference_mode()
    def convert(
        self, waveform: Tensor, sample_rate: int, source: str, target: str | Mapping[str, float], noise: float = 1.0
    ) -> Tensor:
        """Say a recording with another voice.

        Args:
            waveform: (S,), float32.
            sample_rate: of it, in Hz.
            source: who speaks in it.
            target: who shall speak; or a voice between speakers, as in `mixed`.
            noise: deviation of the latent as a fraction of the posterior's; 0 always says the same.

        Returns:
            Tensor: (S',), at the rate of the model.

        Raises:
            ConfigError: the model cannot, or knows no such speaker.
            DataError: the recording is too short.
        """
        spoken = torch.tensor([self.speaker_id(source)], device=self._device)
        voice: dict[str, Any] = (
            {"target_id": torch.tensor([self.speaker_id(target)], device=self._device)}
            if isinstance(target, str)
            else {"target_embedding": self.mixed(target)["speaker_embedding"]}
        )
        spectrogram = self.task.features(audio.resample(waveform, sample_rate, self.sample_rate))[None].to(self._device)
        length = torch.tensor([spectrogram.shape[-1]], device=self._device)
        output = self.model.voice_conversion(spectrogram, length, spoken, noise=noise, **voice)
        return waveforms_of(output, None)[0]

    def _joined(self, parts: Sequence[Speech]) -> Speech:
        """One speech, with a pause between its parts."""
        pause = torch.zeros(round(PAUSE_SECONDS * self.sample_rate))
        sounds: list[Tensor] = []
        phones: list[list[Any]] = []
        now = 0.0
        for i, part in enumerate(parts):
            if i:
                sounds.append(pause)
                phones.append(["", now, now + len(pause) / self.sample_rate])
                now += len(pause) / self.sample_rate
            sounds.append(part.waveform)
            phones += [[symbol, now + start, now + end] for symbol, start, end in part.phones or ()]
            now += len(part.waveform) / self.sample_rate
        known = all(part.phones is not None for part in parts)
        return Speech(torch.cat(sounds), phones if known else None)

    def _pieces(self, text: str) -> list[list[int]]:
        """Token ids of each sentence, or of the parts of one that is too long; what has nothing to say is left out."""
        encoder = self.task.text_encoder
        self._refuse_unknown(text)
        found: list[list[int]] = []
        waiting = sentences(text)[::-1]
        while waiting:
            piece = waiting.pop()
            symbols = encoder.symbols(piece)
            tokens: list[int] = encoder.encode_symbols(symbols) if symbols else []
            if len(tokens) > MAX_SYMBOLS and len(piece) > 1:
                waiting += halves(piece)[::-1]
            elif tokens:
                found.append(tokens)
        return found or [encoder.encode(text)]

    def _refuse_unknown(self, text: str) -> None:
        encoder = self.task.text_encoder
        for sentence in sentences(text):
            unknown = sorted(set(encoder.unknown(sentence)))
            if unknown:
                words = list(dict.fromkeys(encoder.words_with(sentence, unknown)))[:10]
                named = f" (in {', '.join(map(repr, words))})" if words else ""
                raise DataError(
                    f"the text {sentence[:60]!r} has symbols that were not in the training data: {unknown[:10]}{named}"
                )

    def _check(self, controls: Mapping[str, Any]) -> None:
        known = inspect.signature(self.model.synthesize).parameters
        for name in controls:
            if name not in known:
                has = [key for key in known if not key.startswith(("tokens", "speaker"))]
                raise ConfigError(f"{type(self.model).__name__} has no control {name!r}; it has {', '.join(has)}")


def load(path: str | Path, vocoder: str | Path | None = None, device: str = "auto") -> Synthesizer:
    """Open a checkpoint to speak with it: ``waveform, rate = hw_tts.load("model.pth").speak("Hello.")``.

    Args:
        path: checkpoint of a synthesizer.
        vocoder: a HiFiGAN's checkpoint; None is Griffin-Lim. Models that make audio themselves need none.
        device: ``auto`` (a GPU of NVIDIA if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:N``, ``mps``.

    Raises:
        CheckpointError: missing, damaged, or of another task.
        ConfigError: the vocoder was trained on other spectrograms; or no such device.
    """
    return Synthesizer.load(path, vocoder, distributed.choose_device(device))
