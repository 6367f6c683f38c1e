"""Items of synthesis into a batch."""

from hw_base.data.collate import PadCollate
from hw_base.registry import COLLATES


@COLLATES.register()
class TTSCollate(PadCollate):
    """Pads what has an axis with zeros and adds its length: tokens, spectrogram, durations, pitch, energy, waveform."""

    def __init__(self) -> None:
        super().__init__()
