"""Signs of tampering, each a finding with its evidence. They are for a person to look at, never a verdict."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hw_base.grading.contract import Item, Prediction, TaskGrading
from hw_base.grading.prompts import Prompt
from hw_base.grading.settings import Settings
from hw_base.grading.texts import clean, steers

Finding = dict[str, Any]
_SHOWN = 10
# Fewer equal predictions than this prove nothing.
_FEWEST = 5
# Words that a recognizer may hear in silence.
_WORDS_IN_SILENCE = 2
# A recognizer of this rate on hidden data that knows nothing of fresh speech knows the data rather than the language.
_GOOD_RATE, _USELESS_RATE = 0.3, 0.95
# Fraction of two submissions' wrong predictions that are the same.
_SAME_ERRORS = 0.9


def finding(name: str, message: str, evidence: Any = None) -> Finding:
    """One entry of a report's ``findings``."""
    return {"name": name, "message": message, "evidence": evidence}


def of_predictions(
    grading: TaskGrading, items: Sequence[Item], predictions: Mapping[str, Prediction], settings: Settings
) -> list[Finding]:
    """Checks of predictions alone, however they came about.

    Args:
        items: the hidden utterances.
        predictions: by their ids, of these utterances alone.
    """
    forms = {item.id: grading.form(predictions[item.id], settings) for item in items if item.id in predictions}
    found = [*_copied(grading, items, forms, predictions, settings), *_constant(forms)]
    texts = {i: p for i, p in predictions.items() if isinstance(p, str)}
    steering = sorted(i for i, text in texts.items() if steers(text))
    if steering:
        evidence = [[clean(i, 100), clean(texts[i], 100)] for i in steering[:_SHOWN]]
        found.append(finding("control_characters", f"{len(steering)} predictions hold control characters", evidence))
    return found


def _copied(
    grading: TaskGrading,
    items: Sequence[Item],
    forms: Mapping[str, str],
    predictions: Mapping[str, Prediction],
    settings: Settings,
) -> list[Finding]:
    found = []
    altered = {item.id: item.altered for item in items if item.altered is not None and grading.given == "audio"}
    matched = [i for i, text in altered.items() if i in forms and forms[i] == grading.form(text, settings)]
    if matched:
        message = (
            f"{len(matched)} of {len(altered)} altered references were returned, which cannot be heard in the audio"
        )
        found.append(finding("canary_match", message, [[i, clean(altered[i], 200)] for i in matched[:_SHOWN]]))
    honest = [item for item in items if item.altered is None]
    raw = [item.id for item in honest if item.id in predictions and _is_reference(grading, item, predictions, settings)]
    if len(raw) >= _FEWEST and len(raw) == len(honest):
        message = f"all {len(raw)} predictions equal their references to the letter or sample"
        found.append(finding("identical_to_references", message, raw[:_SHOWN]))
    return found


def _is_reference(grading: TaskGrading, item: Item, predictions: Mapping[str, Prediction], settings: Settings) -> bool:
    if grading.given == "audio":
        return bool(item.text) and predictions[item.id] == item.text
    return grading.form(predictions[item.id], settings) == grading.reference(item, settings)


def _constant(forms: Mapping[str, str]) -> list[Finding]:
    values = set(forms.values())
    if len(forms) >= _FEWEST and len(values) == 1:
        value = clean(next(iter(values)), 200)
        if not value:
            return [finding("empty_output", f"all {len(forms)} predictions are empty")]
        return [finding("constant_output", f"all {len(forms)} predictions are the same, whatever is said", value)]
    return []


def of_ids(items: Sequence[Item], predictions: Mapping[str, Prediction]) -> list[Finding]:
    """Predictions of unknown utterances, and utterances without a prediction."""
    known = {item.id for item in items}
    extra, missing = sorted(predictions.keys() - known), sorted(known - predictions.keys())
    found = []
    if extra:
        shown = [clean(i, 100) for i in extra[:_SHOWN]]
        found.append(finding("extra_ids", f"{len(extra)} predictions are of no known utterance; not counted", shown))
    if missing:
        message = f"{len(missing)} utterances have no prediction, which counts as an empty one"
        found.append(finding("missing_ids", message, missing[:_SHOWN]))
    return found


def of_prompts(
    grading: TaskGrading, prompts: Iterable[Prompt], answers: Mapping[str, Prediction], settings: Settings
) -> list[Finding]:
    """What clips of no speech and clips that come twice show.

    Args:
        answers: by neutral name.
    """
    found: list[Finding] = []
    first = {p.item.id: answers.get(p.name) for p in prompts if p.purpose == "scored"}
    for prompt in prompts:
        answer = answers.get(prompt.name)
        if prompt.purpose in ("silence", "noise") and isinstance(answer, str):
            if len(answer.split()) > _WORDS_IN_SILENCE:
                message = f"{len(answer.split())} words were found in {prompt.purpose}"
                found.append(finding(f"words_in_{prompt.purpose}", message, clean(answer, 200)))
        elif prompt.purpose == "twin":
            found += _differing(
                "twins_differ", "one clip under two names", prompt.item.id, first, answer, grading, settings
            )
    return found


def of_repetition(
    grading: TaskGrading,
    prompts: Iterable[Prompt],
    answers: Mapping[str, Prediction],
    first: Mapping[str, Prediction | None],
    settings: Settings,
) -> list[Finding]:
    """Whether a second run answered like the first.

    Args:
        prompts: of the second run.
        answers: of the second run, by neutral name.
        first: of the first run, by utterance.
    """
    found: list[Finding] = []
    for prompt in prompts:
        answer = answers.get(prompt.name)
        found += _differing("runs_differ", "one clip in two runs", prompt.item.id, first, answer, grading, settings)
    return found


def _differing(
    name: str,
    what: str,
    utterance: str,
    first: Mapping[str, Prediction | None],
    answer: Prediction | None,
    grading: TaskGrading,
    settings: Settings,
) -> list[Finding]:
    before = first.get(utterance)
    forms = [grading.form(one, settings) if one is not None else "" for one in (before, answer)]
    if forms[0] == forms[1]:
        return []
    return [finding(name, f"{what} got two predictions", [utterance, *(clean(form, 200) for form in forms)])]


def of_fresh_speech(hidden: float | None, fresh: float | None) -> list[Finding]:
    """Whether hidden data are recognized by a model that fails on other speech."""
    if hidden is None or fresh is None or hidden > _GOOD_RATE or fresh < _USELESS_RATE:
        return []
    message = f"WER {hidden:.2f} on the hidden data and {fresh:.2f} on speech made for this grading"
    return [finding("knows_only_hidden_data", message, {"hidden": hidden, "fresh": fresh})]


def common_errors(wrong: Mapping[str, Mapping[str, str]]) -> dict[str, list[Finding]]:
    """Pairs of submissions that make the same mistakes.

    Args:
        wrong: submission -> utterance -> prediction, of what is neither right nor empty.

    Returns:
        Findings by submission.
    """
    found: dict[str, list[Finding]] = {}
    names = sorted(wrong)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            shared = sorted(k for k, text in wrong[one].items() if wrong[other].get(k) == text)
            fewest = min(len(wrong[one]), len(wrong[other]))
            if len(shared) >= _FEWEST and len(shared) >= _SAME_ERRORS * fewest:
                for name, twin in ((one, other), (other, one)):
                    message = f"{len(shared)} of {len(wrong[name])} wrong predictions are those of {clean(twin, 100)}"
                    found.setdefault(name, []).append(finding("equals_another", message, shared[:_SHOWN]))
    return found
