"""Beam search of transducers, with language models."""

import importlib.util
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from hw_asr.decoders.base import Hypothesis
from hw_asr.decoders.scoring.fusion import NO_UNITS, FusionOptions, Level, Weights, build_fusion
from hw_asr.decoders.transducer.base import TransducerDecoder
from hw_asr.decoders.transducer.search import Limits, Search
from hw_base.config.schema import PathText, Size
from hw_base.errors import MissingPackageError
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder


@DECODERS.register()
class TransducerBeamSearchDecoder(TransducerDecoder):
    """Time-synchronous beam search (Saon et al. 2020, "Alignment-Length Synchronous Decoding for RNN Transducer",
    section 2.2) that sums the probabilities of all alignments of a prefix.

    Hypotheses are ranked as those of ``BeamSearch``, with the same language models, lexicons and hot words.

    Args:
        text_encoder: vocabulary of the model, blank at 0.
        beam_size: prefixes kept after each frame and after each token within a frame.
        n_best: hypotheses returned, at most ``beam_size``.
        max_symbols: tokens that a frame may emit at most; alignments with more of them are left out of the sum.
        tokens_per_frame: prefixes grow by the most probable tokens, this many; null for all.
        beam_threshold: prefixes this far behind the best one are dropped, natural log; null for none.
        lm, lm_level, lm_weight, word_score: see ``BeamSearch``.
        lexicon, unknown, unknown_score, hot_words: see ``BeamSearch``.

    Raises:
        ConfigError: options that do not fit together or do not fit the vocabulary.
        DataError: a language model or lexicon that cannot be read.
        MissingPackageError: language models, lexicons and hot words need numba.
    """

    def __init__(
        self,
        text_encoder: BaseTextEncoder,
        beam_size: Size = 8,
        n_best: Size = 1,
        max_symbols: Size = 5,
        tokens_per_frame: Size | None = 20,
        beam_threshold: PositiveFloat | None = 20.0,
        lm: PathText | None = None,
        lm_level: Level = "auto",
        lm_weight: NonNegativeFloat = 0.5,
        word_score: float = 0.0,
        lexicon: PathText | None = None,
        unknown: Literal["forbid", "spell"] = "forbid",
        unknown_score: float = -10.0,
        hot_words: dict[str, float] | None = None,
    ) -> None:
        super().__init__(text_encoder)
        weights = Weights(float(lm_weight), float(word_score), float(unknown_score))
        options = FusionOptions(lm, lm_level, weights, lexicon, unknown == "spell", hot_words or {})
        fusion = build_fusion(options, text_encoder)
        self.fusion = None if fusion.units == NO_UNITS and not len(fusion.hot.final) else fusion
        if self.fusion is not None and importlib.util.find_spec("numba") is None:
            raise MissingPackageError("TransducerBeamSearchDecoder with a language model or hot words", "numba")
        n_tokens = len(text_encoder) - 1
        self.limits = Limits(
            beam_size,
            n_best,
            max_symbols,
            min(tokens_per_frame or n_tokens, n_tokens),
            float("inf") if beam_threshold is None else float(beam_threshold),
        )

    def search(self, states: Tensor, length: Tensor) -> list[list[Hypothesis]]:
        """One utterance after another; see `TransducerDecoder`."""
        search = Search(self.model, self.limits, self.fusion)
        found = []
        for row, n in zip(states, length.tolist(), strict=True):
            found.append(
                [
                    Hypothesis(
                        self.text_encoder.decode(one.tokens),
                        one.tokens,
                        one.acoustic + one.bonus,
                        one.acoustic,
                        one.lm,
                        one.frames,
                        one.values,
                    )
                    for one in search(row[:n])
                ]
            )
        return found
