"""What is added to the acoustic score: language model, lexicon and hot words, as arrays that every engine reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from hw_asr.decoders.scoring.hot_words import HotWords, build_hot_words, no_hot_words
from hw_asr.decoders.scoring.lexicon import Lexicon, Speller, build_lexicon, read_words, say_once, spell
from hw_asr.decoders.scoring.tokens import INSIDE, SPACE, Tokens, describe_tokens
from hw_asr.language_models.arpa import SPECIAL_WORDS, Arpa, Grams
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.ngram import NgramArrays, NgramModel
from hw_base.errors import ConfigError
from hw_base.text import BaseTextEncoder

NO_UNITS, TOKEN_UNITS, WORD_UNITS = 0, 1, 2
Level = Literal["auto", "token", "word"]
# Below this probability of the words that are tokens, a model is not one of the text encoder's tokens.
_MATCHING_FRACTION = 0.5
# Natural log. Searches multiply probabilities, which a factor beyond e^700 would make infinite.
LARGEST_WEIGHT = {"lm_weight": 100.0, "word_score": 100.0, "unknown_score": 1000.0}


class Weights(NamedTuple):
    """Weights of the bonuses, natural log throughout.

    Attributes:
        lm_weight: factor of the language model's natural-log probability.
        word_score: added for each unit: a word where words are scored, else a token.
        unknown_score: added for each word that the language model or the lexicon lacks.
    """

    lm_weight: float
    word_score: float
    unknown_score: float


NO_WEIGHTS = Weights(0.0, 0.0, 0.0)


class Fusion(NamedTuple):
    """Everything beside the posteriors, as plain arrays and numbers (compiled loops take it as it is).

    Attributes:
        units: ``NO_UNITS``, ``TOKEN_UNITS`` (each token is scored) or ``WORD_UNITS`` (words of a lexicon are).
        has_lm: whether there is a language model.
        weights: see :class:`Weights`.
        ngram: the language model, or an empty one.
        levels, start_state, end_id, unknown_id: see :class:`NgramModel`.
        unit_of_token: language-model word of each token, (V,), int64; for ``TOKEN_UNITS``.
        kinds: word boundaries, see :class:`Tokens`.
        lexicon: prefix tree; for ``WORD_UNITS``.
        spell_unknown: whether words outside the lexicon may be written.
        hot: hot words; none if it has no rows.
    """

    units: int
    has_lm: bool
    weights: Weights
    ngram: NgramArrays
    levels: int
    start_state: int
    end_id: int
    unknown_id: int
    unit_of_token: np.ndarray
    kinds: np.ndarray
    lexicon: Lexicon
    spell_unknown: bool
    hot: HotWords


@dataclass(frozen=True)
class FusionOptions:
    """The decoder's arguments that make a :class:`Fusion`; see ``BeamSearch``."""

    lm: "str | None" = None
    lm_level: Level = "auto"
    weights: Weights = NO_WEIGHTS
    lexicon: "str | None" = None
    spell_unknown: bool = False
    hot_words: Mapping[str, float] = field(default_factory=dict)


def check_weights(weights: Weights) -> None:
    """Raise ConfigError for a weight that is not finite or so large that probabilities overflow."""
    for name, value in weights._asdict().items():
        if not abs(value) <= LARGEST_WEIGHT[name]:
            raise ConfigError(f"{name}: expected at most {LARGEST_WEIGHT[name]:g} either way, found {value:g}")


def build_fusion(options: FusionOptions, text_encoder: BaseTextEncoder) -> Fusion:
    """Read the files and fit them to the vocabulary.

    Raises:
        ConfigError: a language model whose words are neither tokens nor words of this text encoder.
        DataError: a file that cannot be read.
    """
    check_weights(options.weights)
    tokens = describe_tokens(text_encoder)
    model = open_ngram(options.lm) if options.lm is not None else empty_model()
    level = choose_level(options, model, tokens)
    checked = options.lm if level == "token" else None
    unit_of_token = match_tokens(tokens, model)[0] if checked is None else token_units(checked, tokens, model)
    units = WORD_UNITS if level == "word" else TOKEN_UNITS
    lexicon = _lexicon(options, model, text_encoder, tokens) if units == WORD_UNITS else _no_lexicon()
    hot = build_hot_words(options.hot_words, text_encoder, tokens) if options.hot_words else no_hot_words()
    if options.lm is None and units == TOKEN_UNITS and not options.weights.word_score:
        units = NO_UNITS
    return Fusion(
        units=units,
        has_lm=options.lm is not None,
        weights=options.weights,
        ngram=model.arrays,
        levels=model.levels,
        start_state=model.start_state,
        end_id=model.end_id,
        unknown_id=model.unknown_id,
        unit_of_token=unit_of_token,
        kinds=tokens.kinds,
        lexicon=lexicon,
        spell_unknown=options.spell_unknown,
        hot=hot,
    )


def empty_model() -> NgramModel:
    """A model that gives probability one to everything, for searches without one; word 1 is any known word."""
    unigrams = Grams(np.array([[0], [1]], np.int32), np.zeros(2), np.zeros(2))
    return NgramModel.from_arpa(Arpa(["<unk>", "<word>"], [unigrams]))


def match_tokens(tokens: Tokens, model: NgramModel) -> tuple[np.ndarray, float]:
    """Language-model word of each token, and the model's probability of a word that is a token.

    A token matches the word of the same spelling, in another case if need be; ``|`` too stands for the blank.
    """
    ids = model.word_ids()
    folded = {word.casefold(): i for word, i in ids.items()}
    units = np.full(len(tokens.names), model.unknown_id, np.int64)
    for token, name in enumerate(tokens.names[1:], start=1):
        bar = ids.get("|", model.unknown_id) if name == SPACE else model.unknown_id
        units[token] = ids.get(name, folded.get(name.casefold(), bar))
    matched = np.unique(units[units != model.unknown_id])
    probability = np.exp(model.arrays.dense_logp[0].astype(np.float64))
    special = [i for word, i in ids.items() if word in SPECIAL_WORDS]
    total = probability.sum() - probability[special].sum()
    return units, float(probability[matched].sum() / total) if total > 0 else 0.0


def token_units(path: str, tokens: Tokens, model: NgramModel) -> np.ndarray:
    """Language-model word of each token, (V,), int64.

    Raises:
        ConfigError: too few of the words of the model at ``path`` are tokens.
    """
    units, matched = match_tokens(tokens, model)
    if matched < _MATCHING_FRACTION:
        raise ConfigError(_mismatch(path, tokens, model))
    return units


def choose_level(options: FusionOptions, model: NgramModel, tokens: Tokens) -> str:
    """Whether tokens or words are scored.

    Raises:
        ConfigError: options that contradict each other or the vocabulary.
    """
    if options.lm_level != "auto":
        level = options.lm_level
    elif options.lexicon is not None:
        level = "word"
    elif options.lm is None:
        level = "token"
    else:
        units, matched = match_tokens(tokens, model)
        # Words may all be letters where someone spells; only a model of tokens knows the blank.
        knows_blank = not tokens.has_words or bool((units[tokens.kinds != INSIDE] != model.unknown_id).any())
        level = "token" if matched >= _MATCHING_FRACTION and knows_blank else "word"
    if level == "token" and options.lexicon is not None:
        raise ConfigError("lexicon: works with a language model of words, found lm_level 'token'")
    if level == "word" and options.lm is None and options.lexicon is None:
        raise ConfigError("lm_level 'word' needs lm or lexicon")
    if level == "word" and not tokens.has_words:
        raise ConfigError(
            "no token of this text encoder holds a blank, so words cannot be separated: use a token model"
        )
    if options.lm is not None:
        how = "found by lm_level 'auto'" if options.lm_level == "auto" else "as lm_level says"
        say_once(f"{options.lm}: a language model of {level}s, {how}")
    return level


def _mismatch(path: str, tokens: Tokens, model: NgramModel) -> str:
    words = [word for word in model.vocabulary if word not in SPECIAL_WORDS][:5]
    return (
        f"lm: {path} does not score the tokens of this text encoder: its words are like {words}, "
        f"the tokens like {tokens.names[1:6]}; train it with the same text encoder, or set lm_level to 'word'"
    )


def _lexicon(options: FusionOptions, model: NgramModel, text_encoder: BaseTextEncoder, tokens: Tokens) -> Lexicon:
    units = known_words(model, text_encoder, options.lm) if options.lm is not None else {}
    if options.lexicon is not None:
        spelled = spell(read_words(options.lexicon), text_encoder, tokens, options.lexicon)
    else:
        spelled = spell(units, text_encoder, tokens)
    if not spelled:
        raise ConfigError(_mismatch(str(options.lexicon or options.lm), tokens, model))
    if options.lm is not None and not any(form in units for form in spelled):
        raise ConfigError(f"lm: {options.lm} knows none of the {len(spelled)} words of the lexicon {options.lexicon}")
    otherwise = model.unknown_id if options.lm is not None else 1
    weights = options.weights
    bonus = weights.lm_weight * model.arrays.dense_logp[0].astype(np.float64) + weights.word_score
    bonus[model.unknown_id] += weights.unknown_score
    spellings = {ids: units.get(form, otherwise) for form, ids in spelled.items()}
    return build_lexicon(spellings, bonus, model.unknown_id, len(text_encoder))


def known_words(model: NgramModel, text_encoder: BaseTextEncoder, source: str | None = None) -> dict[str, int]:
    """Words in the encoder's case -> the word of the model: the same word, else the most probable that becomes it.

    Args:
        model: of words.
        text_encoder: vocabulary that has to spell them.
        source: the model's file, for a line about the words that cannot be spelled; None says nothing.
    """
    units: dict[str, int] = {}
    speller = Speller(text_encoder)
    probability = model.arrays.dense_logp[0]
    for i, word in enumerate(model.vocabulary):
        form = speller.form(word) if word not in SPECIAL_WORDS else None
        if form is None:
            continue
        best = units.setdefault(form, i)
        if word == form or (model.vocabulary[best] != form and probability[i] > probability[best]):
            units[form] = i
    if source is not None:
        speller.report(source, len(model.vocabulary))
    return units


def _no_lexicon() -> Lexicon:
    no_words, one = np.full(1, -1, np.int32), np.zeros(1, np.int32)
    none, bits = np.full(1, -1, np.int64), np.zeros(1, np.int64)
    return Lexicon(np.zeros((0, 0), np.int32), none, one, no_words, np.zeros(1), bits)
