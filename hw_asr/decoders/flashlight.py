"""The beam search of torchaudio (flashlight-text), with two of its pitfalls avoided.

Without ``lm_dict`` torchaudio scores tokens with the language model's words in the order of a hash map, that is at
random; and flashlight adds KenLM's base-10 logarithms to natural ones.
"""

import tempfile
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.checks import check_posteriors
from hw_asr.decoders.scoring.fusion import (
    FusionOptions,
    Level,
    Weights,
    check_weights,
    choose_level,
    empty_model,
    known_words,
    match_tokens,
    token_units,
)
from hw_asr.decoders.scoring.lexicon import read_words, spell
from hw_asr.decoders.scoring.tokens import BLANK_NAME, describe_tokens
from hw_asr.language_models.arpa import UNKNOWN
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kenlm.binary import is_kenlm_binary
from hw_asr.language_models.kenlm.scorer import KenlmScorer
from hw_asr.language_models.ngram import LN10, NgramModel
from hw_base.config.schema import PathText, Size
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder


@DECODERS.register()
class FlashlightBeamSearch(BaseDecoder):
    """Beam search in C++ by flashlight-text: one utterance after another, language model by KenLM.

    Weights mean what they mean for ``BeamSearch``. Words outside the lexicon are not written.

    Args:
        text_encoder: vocabulary of the posteriors, blank at 0.
        beam_size: hypotheses kept after each frame.
        n_best: hypotheses returned.
        tokens_per_frame: only the most probable tokens of a frame are tried, this many; null for all.
        beam_threshold: hypotheses this far behind the best one are dropped, natural log.
        lm: ARPA file or KenLM binary, of any size, of an n-gram model over tokens or words.
        lm_level: what the model's words are; ``auto`` finds out.
        lm_weight: factor of the language model's natural-log probability.
        word_score: bonus for each word, natural log; for searches with words only.
        lexicon: word list, one a line; by default the words of a word model.
        log_add: whether the alignments of a hypothesis are summed; the library's own default is to take the best.

    Raises:
        ConfigError: options that do not fit together or do not fit the vocabulary.
        DataError: a language model or lexicon that cannot be read.
        MissingPackageError: flashlight-text, or kenlm for language models, is not installed.
    """

    exact = False  # unless log_add is true

    def __init__(
        self,
        text_encoder: BaseTextEncoder,
        beam_size: Size = 50,
        n_best: Size = 1,
        tokens_per_frame: Size | None = None,
        beam_threshold: PositiveFloat = 50.0,
        lm: PathText | None = None,
        lm_level: Level = "auto",
        lm_weight: NonNegativeFloat = 0.5,
        word_score: float = 0.0,
        lexicon: PathText | None = None,
        log_add: bool = False,
    ) -> None:
        super().__init__(text_encoder)
        self.tokens, self.lm = describe_tokens(text_encoder), lm
        self.scorer: KenlmScorer | NgramModel
        if lm is not None and is_kenlm_binary(lm):
            self.scorer = KenlmScorer(lm)
            self.model = self.scorer.unigrams
        else:
            self.scorer = self.model = open_ngram(lm) if lm is not None else empty_model()
        check_weights(Weights(float(lm_weight), float(word_score), 0.0))
        level = choose_level(FusionOptions(lm, lm_level, lexicon=lexicon), self.model, self.tokens)
        self.has_words, self.has_lm = level == "word", lm is not None
        if word_score and not self.has_words:
            raise ConfigError("word_score: flashlight has no bonus for tokens; use BeamSearch, or a lexicon")
        self.lm_weight, self.word_score = float(lm_weight), float(word_score)
        if lm is not None and not self.has_words:
            self.units = token_units(lm, self.tokens, self.model)
        else:
            self.units, _ = match_tokens(self.tokens, self.model)
        arguments = {
            "lm": lm,
            "nbest": n_best,
            "beam_size": beam_size,
            "beam_size_token": min(tokens_per_frame or len(text_encoder), len(text_encoder)),
            "beam_threshold": float(beam_threshold),
            "lm_weight": self.lm_weight * LN10,
            "word_score": self.word_score,
            "log_add": log_add,
        }
        self.decoder = self._build(arguments, lexicon)

    def _build(self, arguments: dict[str, Any], lexicon: "str | None") -> Any:
        ctc_decoder = _library(self.has_lm)
        with tempfile.TemporaryDirectory() as folder:
            tokens = Path(folder) / "tokens.txt"
            tokens.write_text("\n".join(self.tokens.names) + "\n", encoding="utf-8")
            files: dict[str, Any] = {"tokens": str(tokens), "lexicon": None, "sil_token": BLANK_NAME}
            if self.has_words:
                spelled = self._spellings(lexicon)
                files["lexicon"] = str(Path(folder) / "lexicon.txt")
                end = [self.tokens.separator] if self.tokens.separator else []
                names = {word: " ".join(self.tokens.names[i] for i in (*ids, *end)) for word, ids in spelled.items()}
                Path(files["lexicon"]).write_text("".join(f"{w}\t{n}\n" for w, n in names.items()), encoding="utf-8")
                files["sil_token"] = self.tokens.names[self.tokens.separator or _least_used(spelled, len(self.units))]
            elif self.has_lm:
                files["lm_dict"] = str(Path(folder) / "dictionary.txt")
                Path(files["lm_dict"]).write_text("\n".join(self._dictionary()) + "\n", encoding="utf-8")
            try:
                return ctc_decoder(**files, **arguments, blank_token=BLANK_NAME, unk_word=UNKNOWN)
            except (RuntimeError, ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                raise ConfigError(
                    f"flashlight refuses lm {arguments['lm']} or its words; BeamSearch may read it. It says: {reason}"
                ) from error

    def _spellings(self, lexicon: "str | None") -> dict[str, tuple[int, ...]]:
        """Tokens of each word, the words as the language model writes them."""
        known = known_words(self.model, self.text_encoder, self.lm) if self.has_lm else {}
        words = read_words(lexicon) if lexicon is not None else list(known)
        spelled = spell(words, self.text_encoder, self.tokens, lexicon)
        if not spelled:
            raise ConfigError("lexicon: the text encoder can spell none of its words")
        return {self.model.vocabulary[known[form]] if form in known else form: ids for form, ids in spelled.items()}

    def _dictionary(self) -> list[str]:
        """The language model's word for each token, in the order of the tokens; a name of its own if there is none."""
        words: list[str] = []
        for name, unit in zip(self.tokens.names, self.units.tolist(), strict=True):
            word = self.model.vocabulary[unit]
            words.append(name if unit == self.model.unknown_id or word in words else word)
        return words

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        check_posteriors(log_probs, log_probs_length, len(self.text_encoder))
        emissions = log_probs.detach().float().cpu().contiguous()
        results = []
        for row, n_frames in enumerate(log_probs_length.tolist()):
            if n_frames:
                found = self.decoder(emissions[row : row + 1, :n_frames], log_probs_length[row : row + 1].cpu())[0]
            else:
                found = []
            results.append([self._hypothesis(one) for one in found] or [Hypothesis("", (), 0.0, 0.0)])
        return results

    def _hypothesis(self, found: Any) -> Hypothesis:
        pairs = list(zip(found.tokens.tolist(), found.timesteps.tolist(), strict=True))
        if self.has_words and self.tokens.separator:  # the library frames a text in two separators
            pairs = _strip(pairs, self.tokens.separator)
        tokens = tuple(token for token, _ in pairs)
        lm_score = self._lm_score(tokens, found.words) if self.has_lm else 0.0
        bonus = self.lm_weight * lm_score + self.word_score * len(found.words)
        # The library counts the frame before the first as 0.
        frames = tuple(max(0, frame - 1) for _, frame in pairs)
        return Hypothesis(
            self.text_encoder.decode(tokens), tokens, found.score, found.score - bonus, lm_score, timesteps=frames
        )

    def _lm_score(self, tokens: tuple[int, ...], words: list[str]) -> float:
        if not self.has_words:
            return self.scorer.score_ids(self.units[list(tokens)].tolist())
        return self.scorer.score(" ".join(words))


def _library(needs_kenlm: bool) -> Any:
    try:
        import flashlight.lib.text  # noqa: F401 - without it torchaudio raises a RuntimeError
        from torchaudio.models.decoder import ctc_decoder

        if needs_kenlm:
            import kenlm  # noqa: F401 - flashlight-text loads it by itself, with an error that names neither
    except ModuleNotFoundError as error:
        package = (
            "kenlm" if error.name == "kenlm" else "torchaudio" if error.name == "torchaudio" else "flashlight-text"
        )
        raise MissingPackageError("FlashlightBeamSearch", package) from error
    except ImportError as error:
        raise MissingPackageError("FlashlightBeamSearch", "flashlight-text") from error
    return ctc_decoder


def _least_used(spelled: dict[str, tuple[int, ...]], n_tokens: int) -> int:
    """A token for the library's silences that takes part in as few words as possible."""
    uses = [0] * n_tokens
    for ids in spelled.values():
        for token in ids:
            uses[token] += 1
    return min(range(1, n_tokens), key=uses.__getitem__)


def _strip(pairs: list[tuple[int, int]], separator: int) -> list[tuple[int, int]]:
    while pairs and pairs[0][0] == separator:
        pairs = pairs[1:]
    while pairs and pairs[-1][0] == separator:
        pairs = pairs[:-1]
    return pairs
