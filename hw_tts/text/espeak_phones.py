"""The phones that espeak-ng speaks a text with: those of the embedded corpus."""

from hw_base.registry import TEXT_ENCODERS
from hw_base.synthetic.corpus import SILENCE, tile
from hw_base.synthetic.espeak import Utterance
from hw_tts.text.spoken import SpokenFrontEnd


@TEXT_ENCODERS.register()
class EspeakPhones(SpokenFrontEnd):
    """The symbols that `hw_base.synthetic.corpus.SyntheticSpeech` gives for a text, in its inventory and order.

    A stressed vowel begins with ``'`` or ``,``; pauses are ``_``, and the first and the last symbol are pauses. So a
    model trained on the corpus's exact phones speaks any text. The table is learned, because accents have different
    inventories. Punctuation becomes pauses; numbers and abbreviations are read by espeak-ng itself.

    Args:
        accent: a voice of espeak-ng as in `hw_base.synthetic.espeak.check_voices`; variants do not change the symbols.
        add_blank: id 0 before, between and after the symbols.

    Raises:
        ConfigError: unknown accent.
        MissingPackageError: espeakng-loader is not installed; only once a text is to be read.
    """

    writes_text = False

    separator = " "

    def __init__(self, accent: str = "en-us", add_blank: bool = False) -> None:
        super().__init__(accent, (), add_blank)

    def _read(self, text: str) -> list[str]:
        phones = [symbol for symbol, _ in tile(self._speaker.say(Utterance(text, self.accent)), 1, 1)]
        return phones if set(phones) - {SILENCE} else []
