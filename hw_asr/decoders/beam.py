"""The beam search of this project: exact, batched, with language models; one class over two engines."""

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.checks import check_posteriors
from hw_asr.decoders.scoring.fusion import (
    NO_UNITS,
    TOKEN_UNITS,
    WORD_UNITS,
    FusionOptions,
    Level,
    Weights,
    build_fusion,
)
from hw_asr.decoders.scoring.options import Found, SearchOptions
from hw_asr.decoders.tensor.search import TensorSearch
from hw_base.config.schema import PathText, Size, Threads
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder

log = logging.getLogger(__name__)

# With this many frames or more, a lower `blank_skip` costs accuracy: WER 12.1 instead of 10.7 % at 4000, none at 400.
_LONG, _EXACT_ENOUGH = 2000, 0.999
# Natural logarithm of one half.
_HALF = -0.6931471805599453


@DECODERS.register()
class BeamSearch(BaseDecoder):
    """CTC prefix beam search that sums the probabilities of all alignments of a prefix.

    A hypothesis is ranked by ``log p(tokens | audio) + lm_weight * log p(text) + word_score * units + unknown_score *
    unknown words + hot words``, everything in natural log. The units are words if words are scored (a lexicon or a
    language model of words) and tokens otherwise. A language model sees ``<s>`` before the text and ``</s>`` after it.

    Three engines give the same hypotheses. ``compiled`` (numba) decodes one utterance after another on the CPU, in
    ``n_threads`` threads; it is the fastest there, and the only one for words. ``tensor`` decodes a batch with tensor
    operations, on a CPU or a GPU, and copies results to the CPU once, after the last frame. ``fused`` is the search of
    ``tensor`` as one Triton kernel for a GPU. It has not been run on a GPU yet, so ``auto`` never chooses it.

    Args:
        text_encoder: vocabulary of the posteriors, blank at 0.
        beam_size: prefixes kept after each frame.
        n_best: hypotheses returned, at most ``beam_size``.
        engine: ``auto`` takes ``compiled`` for posteriors on the CPU, if numba is installed, and for words.
        tokens_per_frame: prefixes grow by the most probable tokens of a frame, this many; null for all.
        beam_threshold: prefixes this far behind the best one are dropped, natural log; null for none.
        blank_skip: frames whose blank is more probable than this are skipped; 1 skips none and is exact, 0.99 is
            several times faster where most posteriors are near 0 or 1. With 2000 frames or more, values below 0.999
            cost accuracy; a warning says so once.
        lm: ARPA file (gzipped or not) or KenLM binary of an n-gram model over tokens or words.
        lm_level: what the model's words are; ``auto`` finds out.
        lm_weight: factor of the language model's natural-log probability.
        word_score: bonus for each unit, natural log; a language model prefers short texts, which it balances.
        lexicon: word list, one a line, that may be written; by default the words of a word model.
        unknown: whether other words may be written (``spell``) or not (``forbid``).
        unknown_score: bonus for each word that the lexicon or the language model lacks, natural log.
        hot_words: expected words and phrases, each with its bonus in natural log; more than 100 counts as 100.
        n_threads: threads of the compiled engine.

    Raises:
        ConfigError: options that do not fit together or do not fit the vocabulary.
        DataError: a language model or lexicon that cannot be read.
    """

    def __init__(
        self,
        text_encoder: BaseTextEncoder,
        beam_size: Size = 50,
        n_best: Size = 1,
        engine: Literal["auto", "tensor", "compiled", "fused"] = "auto",
        tokens_per_frame: Size | None = 20,
        beam_threshold: PositiveFloat | None = 20.0,
        blank_skip: Annotated[float, Field(gt=0, le=1)] = 1.0,
        lm: PathText | None = None,
        lm_level: Level = "auto",
        lm_weight: NonNegativeFloat = 0.5,
        word_score: float = 0.0,
        lexicon: PathText | None = None,
        unknown: Literal["forbid", "spell"] = "forbid",
        unknown_score: float = -10.0,
        hot_words: dict[str, float] | None = None,
        n_threads: Threads = 1,
    ) -> None:
        super().__init__(text_encoder)
        weights = Weights(float(lm_weight), float(word_score), float(unknown_score))
        self.fusion = build_fusion(
            FusionOptions(lm, lm_level, weights, lexicon, unknown == "spell", hot_words or {}), text_encoder
        )
        self.options = SearchOptions(
            beam_size=beam_size,
            tokens_per_frame=tokens_per_frame or len(text_encoder) - 1,
            beam_threshold=float("inf") if beam_threshold is None else float(beam_threshold),
            blank_skip=float(blank_skip),
            n_best=n_best,
        )
        if engine in ("tensor", "fused") and self.fusion.units == WORD_UNITS:
            raise ConfigError(f"engine {engine!r} scores tokens only: for words and lexicons use 'compiled' or 'auto'")
        has_numba = importlib.util.find_spec("numba") is not None
        if not has_numba and (engine == "compiled" or self.fusion.units == WORD_UNITS):
            raise MissingPackageError("BeamSearch with engine 'compiled'", "numba")
        self.engine = "tensor" if engine == "auto" and not has_numba else engine
        self.n_threads = n_threads
        self._warned = False
        search = _fused_search() if engine == "fused" else TensorSearch
        self._tensor_search = search(self.options, self.fusion)

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        check_posteriors(log_probs, log_probs_length, len(self.text_encoder))
        if not len(log_probs):
            return []
        if log_probs.shape[1] >= _LONG and self.options.blank_skip < _EXACT_ENOUGH and not self._warned:
            self._warned = True
            log.warning(
                "blank_skip %g costs accuracy on %d frames; take 0.999 or 1, or cut long recordings at pauses",
                self.options.blank_skip,
                log_probs.shape[1],
            )
        log_probs = log_probs.detach().float()
        on_cpu = log_probs.device.type == "cpu" or self.fusion.units == WORD_UNITS
        if self.engine == "compiled" or (self.engine == "auto" and on_cpu):
            found = self._compiled(log_probs.cpu(), log_probs_length.tolist())
        else:
            found = self._tensor_search(log_probs, log_probs_length.to(log_probs.device))
        return [[self._hypothesis(one) for one in utterance] for utterance in found]

    def _compiled(self, log_probs: Tensor, lengths: list[int]) -> list[list[Found]]:
        from hw_asr.decoders.compiled.search import search

        rows, bounds = log_probs.contiguous().numpy(), self._bounds()
        found: list[list[Found]] = [[] for _ in lengths]
        # Frames of tokens take the time. The longest utterance comes first, so that no thread is left alone with it.
        tokens = (log_probs[:, :, 0] < _HALF).sum(1).tolist()
        waiting = iter(sorted(range(len(lengths)), key=tokens.__getitem__, reverse=True))

        def work() -> None:
            for row in waiting:  # of all threads
                found[row] = search(rows[row, : lengths[row]], self.options, self.fusion, bounds)

        n_helpers = min(self.n_threads, len(lengths)) - 1
        if n_helpers == 0:
            work()
            return found
        with ThreadPoolExecutor(n_helpers) as pool:
            helpers = [pool.submit(work) for _ in range(n_helpers)]
            work()
        for helper in helpers:
            helper.result()
        return found

    def _bounds(self) -> tuple[float, float]:
        """The most that a token within a word, and that any token, can add to the score of a prefix."""
        weights, ahead, hot = self.fusion.weights, self.fusion.lexicon.ahead, self.fusion.hot.bonus
        hot_bonus = max(0.0, float(hot.max())) if hot.size else 0.0
        if self.fusion.units == NO_UNITS:
            return hot_bonus, hot_bonus
        unit = max(0.0, weights.word_score) + max(0.0, weights.unknown_score)
        if self.fusion.units == TOKEN_UNITS:
            return unit + hot_bonus, unit + hot_bonus
        started = max(0.0, float(ahead.max())) + hot_bonus
        return started, started + unit - min(0.0, float(ahead.min()))

    def _hypothesis(self, found: Found) -> Hypothesis:
        text = self.text_encoder.decode(found.tokens)
        scores = (found.score, found.acoustic_score, found.lm_score)
        return Hypothesis(text, tuple(found.tokens), *scores, timesteps=tuple(found.frames))


def _fused_search() -> type[TensorSearch]:
    try:
        from hw_asr.decoders.tensor.fused import FusedSearch
    except ImportError as error:
        raise MissingPackageError("BeamSearch with engine 'fused'", "triton") from error
    return FusedSearch
