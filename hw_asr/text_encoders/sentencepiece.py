"""Sub-word vocabularies trained from the transcripts (Kudo and Richardson 2018, "SentencePiece")."""

import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from hw_asr.text_encoders.characters import ENGLISH, CharTextEncoder
from hw_base.config.schema import PathText
from hw_base.errors import CheckpointError, ConfigError, DataError, MissingPackageError
from hw_base.registry import TEXT_ENCODERS
from hw_base.text import BaseTextEncoder

log = logging.getLogger(__name__)

# Bytes in a transcript; SentencePiece drops longer ones without an error.
MAX_LINE = 1 << 24


@TEXT_ENCODERS.register()
class SentencePieceTextEncoder(BaseTextEncoder):
    """Pieces of words; id 0, which SentencePiece keeps for the unknown, is the CTC blank.

    Texts are normalized as `CharTextEncoder` does, so that error rates of both are over the same words. Every character
    of the alphabet is a piece, seen in training or not: what is normalized can be encoded.

    Args:
        vocab_size: V, the blank included.
        model_type: ``bpe`` merges frequent pairs (Sennrich et al. 2016), ``unigram`` prunes a large set (Kudo 2018).
        alphabet: characters of normalized texts.
        model_path: a trained model, as `hw_asr.train_tokenizer` writes it, that is used instead of training one.
    """

    def __init__(
        self,
        vocab_size: Annotated[int, Field(ge=2)] = 48,
        model_type: Literal["bpe", "unigram"] = "bpe",
        alphabet: Annotated[str, Field(min_length=1)] = ENGLISH,
        model_path: PathText | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.model_type = model_type
        self.model_path = model_path
        self._characters = CharTextEncoder(alphabet)
        self._processor: Any = None
        if model_path is not None:
            try:
                self._load(Path(model_path).read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigError(f"model_path: {model_path!r} is not a SentencePiece model: {error}") from error

    @property
    def model(self) -> bytes:
        """The trained model, in SentencePiece's own format."""
        serialized: bytes = self._trained.serialized_model_proto()
        return serialized

    def fit(self, texts: Iterable[str]) -> None:
        """Train on transcripts, in their order, unless a model was given.

        Raises:
            ConfigError: the vocabulary is too large for these texts, or too small for the alphabet.
            DataError: no text has a character of the alphabet.
        """
        if self.model_path is not None:
            return
        lines = [line for line in map(self.normalize, texts) if line]
        if not lines:
            raise DataError("SentencePieceTextEncoder: no transcript to train on has a character of the alphabet")
        written = io.BytesIO()
        try:
            _package().SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=written,
                vocab_size=self.vocab_size,
                model_type=self.model_type,
                # The text is already normalized, and all characters of the alphabet are to be kept.
                normalization_rule_name="identity",
                character_coverage=1.0,
                required_chars=self._characters.alphabet.replace(" ", ""),
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                max_sentence_length=MAX_LINE,
                # The result of several threads depends on the number of threads.
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ConfigError(f"vocab_size: {self.vocab_size} {self.model_type} pieces: {_reason(error)}") from error
        self._load(written.getvalue())
        log.info("trained %d %s pieces on %d transcripts", len(self), self.model_type, len(lines))

    def __len__(self) -> int:
        """V, also before the training, whose result has exactly the size that was asked for."""
        return self.vocab_size if self._processor is None else int(self._processor.vocab_size())

    def normalize(self, text: str) -> str:
        """The text in characters of the alphabet, with single spaces between words and none around."""
        return self._characters.normalize(text)

    def unknown(self, text: str) -> list[str]:
        """What `normalize` leaves out, then what the pieces cannot spell."""
        missing = self._characters.unknown(text)
        pieces = self._trained.encode(self.normalize(text), out_type=str)
        ids = self._trained.piece_to_id(pieces)
        return missing + [piece for piece, i in zip(pieces, ids, strict=True) if i == 0]

    def encode(self, text: str) -> list[int]:
        """Ids of the normalized text."""
        return [token for token in self._trained.encode(self.normalize(text)) if token != 0]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of pieces in ``1 .. len(self) - 1``."""
        bad = [token for token in tokens if not 0 < token < len(self)]
        if bad:
            raise DataError(f"token ids {bad[:5]} are outside 1..{len(self) - 1} and have no piece")
        text: str = self._trained.decode(list(tokens))
        return text

    def state_dict(self) -> dict[str, Any]:
        """The alphabet, and the model's bytes as (N,) uint8."""
        model = torch.frombuffer(bytearray(self.model), dtype=torch.uint8)
        return {"alphabet": self._characters.alphabet, "model": model}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the alphabet and the model of a checkpoint."""
        model = state.get("model")
        if not isinstance(model, torch.Tensor) or model.dtype != torch.uint8:
            raise CheckpointError(f"the text encoder's state has no SentencePiece model; found {sorted(state)}")
        self._characters.load_state_dict(state)
        try:
            self._load(bytes(model.flatten().tolist()))
        except ValueError as error:
            raise CheckpointError(f"the text encoder's SentencePiece model cannot be used: {error}") from error

    @property
    def _trained(self) -> Any:
        if self._processor is None:
            raise ConfigError("SentencePieceTextEncoder: neither trained nor loaded from a checkpoint or model_path")
        return self._processor

    def _load(self, model: bytes) -> None:
        """Use a model.

        Raises:
            ValueError: it is none, or its ids do not begin with the unknown.
        """
        processor = _package().SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError(_reason(error)) from error
        if processor.vocab_size() < 2 or processor.unk_id() != 0:
            raise ValueError("id 0 must be the unknown piece, whose place the blank takes")
        self._processor = processor


def _package() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise MissingPackageError("SentencePieceTextEncoder", "sentencepiece") from error
    return sentencepiece


def _reason(error: Exception) -> str:
    """SentencePiece's message without the place in its source and without advice about its own command line."""
    text = " ".join(str(error).split("] ")[-1].split(" or decrease character_coverage")[0].split())
    return text or "its bytes are not of this format"
