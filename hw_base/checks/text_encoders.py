"""What every text encoder keeps to."""

import functools
from typing import Any

from torch import Tensor

from hw_base.checks import samples
from hw_base.checks.contract import Candidate, Contract, NotClaimedError, Outcome, expect
from hw_base.checks.table import declare
from hw_base.errors import HwError
from hw_base.text import BaseTextEncoder

TEXTS = ["the cat sleeps", "  Don't  STOP, please!  ", "a book and a book", "hello"]
# A letter of no alphabet that texts of this project are in.
FOREIGN = "\u6f22"


class Trial:
    """A text encoder that is fitted once for all properties: some read texts slowly.

    Args:
        candidate: the encoder.
    """

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate

    @functools.cached_property
    def fitted(self) -> BaseTextEncoder:
        """The encoder with the vocabulary of some sentences."""
        encoder: BaseTextEncoder = self.candidate.build()
        encoder.fit([*samples.texts(), *TEXTS])
        if len(encoder) == 1:
            raise NotClaimedError("it has no vocabulary")
        return encoder


TEXT_ENCODER: Contract[Trial] = Contract("text encoder")


def check_text_encoder(candidate: Candidate) -> list[Outcome]:
    """All properties of a text encoder."""
    return TEXT_ENCODER.check(Trial(candidate))


@TEXT_ENCODER.property("the ids begin at 0, where the blank is, or one is left out of the size of the vocabulary")
def ids_lie_in_the_vocabulary_and_leave_the_blank_alone(trial: Trial) -> None:
    encoder = trial.fitted
    lowest = 0 if encoder.add_blank else 1
    for text in [*samples.texts(50), *TEXTS]:
        ids = encoder.encode(text)
        bad = [token for token in ids if not lowest <= token < len(encoder)]
        expect(not bad, f"ids in {lowest} .. {len(encoder) - 1}", f"{bad[:5]} in {text!r}")


@TEXT_ENCODER.property("encode and normalize treat a character differently, or decode skips an id")
def decoding_gives_back_the_normalized_text(trial: Trial) -> None:
    encoder = trial.fitted
    if not encoder.writes_text:
        raise NotClaimedError("its tokens are sounds, not letters (writes_text is False)")
    for text in [*samples.texts(50), *TEXTS]:
        normalized, decoded = encoder.normalize(text), encoder.decode(encoder.encode(text))
        expect(decoded == normalized, repr(normalized), repr(decoded))


@TEXT_ENCODER.property("normalize is applied twice somewhere and changes its own result")
def normalizing_twice_changes_nothing(trial: Trial) -> None:
    encoder = trial.fitted
    for text in TEXTS:
        once = encoder.normalize(text)
        expect(encoder.normalize(once) == once, repr(once), repr(encoder.normalize(once)))
        expect(encoder.encode(once) == encoder.encode(text), f"{text!r} as its normalized form", encoder.encode(text))


@TEXT_ENCODER.property("unknown() does not report what encode() drops, so text is lost silently")
def what_is_left_out_is_reported(trial: Trial) -> None:
    encoder = trial.fitted
    known = "the cat sleeps"
    expect(encoder.unknown(known) == [], "nothing unknown in a training text", encoder.unknown(known))
    for text in (f"the cat {FOREIGN} sleeps", f"the cat sleeps{FOREIGN}"):
        try:
            ids = encoder.encode(text)
        except HwError:  # refused, which is a report too
            continue
        if len(ids) <= len(encoder.encode(known)):
            found = encoder.unknown(text)
            expect(len(found) == 1 and FOREIGN in found[0], f"[{FOREIGN!r}] unknown in {text!r}", found)


@TEXT_ENCODER.property("something that encode needs is neither in state_dict nor read by load_state_dict")
def the_state_makes_another_encoder_equal(trial: Trial) -> None:
    first = trial.fitted
    state = first.state_dict()
    bad = list(_not_plain(state))
    expect(not bad, "tensors and plain containers in the state", bad[:5])
    second: BaseTextEncoder = trial.candidate.build()
    second.load_state_dict(state)
    expect(len(second) == len(first), f"{len(first)} tokens", len(second))
    for text in [*samples.texts(20), *TEXTS]:
        expect(second.encode(text) == first.encode(text), f"{text!r}: {first.encode(text)}", second.encode(text))


def _not_plain(value: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_plain(key)
            yield from _not_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _not_plain(item)
    elif not isinstance(value, Tensor | str | int | float | bool | None):
        yield type(value).__name__


declare("text_encoders", check_text_encoder, BaseTextEncoder)
