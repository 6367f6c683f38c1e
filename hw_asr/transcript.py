"""A transcript, with the times of its words and the model's confidence in them."""

import math
from dataclasses import dataclass

from torch import Tensor

from hw_asr.decoders.base import Hypothesis
from hw_base.text import BaseTextEncoder


@dataclass(frozen=True)
class Word:
    """A word of a transcript.

    Attributes:
        text: as the vocabulary writes it.
        start: seconds from the beginning of the audio to the frame of its first token.
        end: to the end of the frame of its last token.
        confidence: geometric mean of its tokens' probabilities, each at its own frame, 0 to 1.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """A text and its words; of a decoder that gives no times, the words are left out.

    Attributes:
        text: all of it.
        words: in order.
        seconds: length of the audio.
    """

    text: str
    words: tuple[Word, ...]
    seconds: float


def words_of(
    hypothesis: Hypothesis, log_probs: Tensor, text_encoder: BaseTextEncoder, frame_seconds: float, start: float = 0.0
) -> list[Word]:
    """The words of a hypothesis, by the frames at which its tokens were emitted.

    Models emit a token in few frames, so that a word seems to end early; its start is the better measure.

    Args:
        hypothesis: of a decoder that gives ``timesteps``; without them there are no words.
        log_probs (Tensor): natural log, that it was decoded from, (T, V); not looked at where it has token scores.
        text_encoder: vocabulary of the tokens.
        frame_seconds: from one frame to the next.
        start: of the frames in the audio, in seconds, for what was recognized in windows.
    """
    if len(hypothesis.timesteps) != len(hypothesis.tokens) or not hypothesis.tokens:
        return []
    scores = list(hypothesis.token_scores)
    if not scores:
        scores = log_probs[list(hypothesis.timesteps), list(hypothesis.tokens)].tolist()
    words: list[Word] = []
    members: list[int] = []
    for position in range(len(hypothesis.tokens)):
        so_far = text_encoder.decode(hypothesis.tokens[: position + 1]).split()
        if len(so_far) > len(words) + (1 if members else 0) and members:
            words.append(_word(so_far[len(words)], members, hypothesis, scores, frame_seconds, start))
            members = []
        if text_encoder.decode([hypothesis.tokens[position]]).strip():
            members.append(position)
    if members:
        whole = text_encoder.decode(hypothesis.tokens).split()
        words.append(_word(whole[len(words)], members, hypothesis, scores, frame_seconds, start))
    return words


def _word(
    text: str, members: list[int], hypothesis: Hypothesis, scores: list[float], frame_seconds: float, start: float
) -> Word:
    first, last = hypothesis.timesteps[members[0]], hypothesis.timesteps[members[-1]]
    mean = sum(scores[i] for i in members) / len(members)
    begin, end = start + first * frame_seconds, start + (last + 1) * frame_seconds
    return Word(text, round(begin, 3), round(end, 3), min(1.0, math.exp(mean)))
