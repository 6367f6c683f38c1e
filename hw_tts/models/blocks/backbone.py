"""The two halves of a FastSpeech: tokens to hidden states, and expanded hidden states to a spectrogram."""

import torch
from torch import Tensor, nn

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_tts.models.blocks.fft_block import FFTStack
from hw_tts.models.blocks.postnet import PostNetName, make_postnet


class TextEncoder(nn.Module):
    """Embedded tokens with positions through FFT blocks; with several voices, the speaker's vector is added at the end.

    Args:
        n_tokens: V, the padding 0 included.
        width: D.
        n_speakers: voices; one needs no vector.
        positions: called with (B, L, D) and lengths.
        stack: of width D.
    """

    def __init__(self, n_tokens: int, width: int, n_speakers: int, positions: nn.Module, stack: FFTStack) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width, padding_idx=0)
        self.positions = positions
        self.stack = stack
        self.speakers = nn.Embedding(n_speakers, width) if n_speakers > 1 else None

    def forward(self, tokens: Tensor, tokens_length: Tensor, speaker_id: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            speaker_id (Tensor): (B,), int64; not looked at where there is one voice.

        Returns:
            hidden (Tensor): (B, L, D), 0 in the padding.
            mask (Tensor): valid tokens, bool, (B, L).

        Raises:
            ConfigError: there are several voices and none was chosen.
        """
        mask = length_mask(tokens_length, tokens.shape[1])
        hidden = self.stack(self.positions(self.embedding(tokens), tokens_length), mask)
        if self.speakers is not None:
            if speaker_id is None:
                raise ConfigError(f"the model has {self.speakers.num_embeddings} voices; choose a speaker")
            hidden = (hidden + self.speakers(speaker_id)[:, None]).masked_fill(~mask[..., None], 0.0)
        return hidden, mask


class SpectrogramDecoder(nn.Module):
    """Frames with positions through FFT blocks, a linear layer and, if wanted, a post-net.

    Args:
        width: D.
        n_mels: F.
        positions: called with (B, T, D) and lengths.
        stack: of width D.
        postnet: which one refines the spectrogram.
    """

    def __init__(self, width: int, n_mels: int, positions: nn.Module, stack: FFTStack, postnet: PostNetName) -> None:
        super().__init__()
        self.positions = positions
        self.stack = stack
        self.out = nn.Linear(width, n_mels)
        self.postnet = make_postnet(postnet, n_mels)

    def forward(self, hidden: Tensor, length: Tensor) -> dict[str, Tensor]:
        """Decode.

        Args:
            hidden (Tensor): of frames, (B, T, D).
            length (Tensor): valid frames, (B,), int64.

        Returns:
            spectrogram_predicted (Tensor): float32, (B, F, T), 0 in the padding.
            spectrogram_refined (Tensor): likewise, by the post-net, if there is one.
        """
        mask = length_mask(length, hidden.shape[1])
        hidden = self.stack(self.positions(hidden, length), mask)
        # Log-mel values of about -10 would be rounded to steps of 0.06 in bfloat16.
        with torch.autocast(hidden.device.type, enabled=False):
            predicted = self.out(hidden.to(self.out.weight.dtype)).masked_fill(~mask[..., None], 0.0).transpose(1, 2)
        outputs = {"spectrogram_predicted": predicted}
        if self.postnet is not None:
            outputs["spectrogram_refined"] = predicted + self.postnet(predicted, length)
        return outputs


def best_spectrogram(outputs: dict[str, Tensor]) -> Tensor:
    """The refined spectrogram where there is one, else the predicted."""
    return outputs.get("spectrogram_refined", outputs["spectrogram_predicted"])
