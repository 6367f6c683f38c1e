"""Hannun et al. 2014, "Deep Speech: Scaling up end-to-end speech recognition" (arXiv 1412.5567), by torchaudio."""

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.base import CTCModel
from hw_base.config.schema import Count, Size
from hw_base.errors import MissingPackageError
from hw_base.nn.layers import BiRNN, length_mask
from hw_base.registry import MODELS


class RectifiedBiRNN(BiRNN):
    """`BiRNN` of rectified units without gates; the directions are added (section 2, equations 2 to 4).

    Args:
        n_hidden: width of the input and of each direction.
    """

    def __init__(self, n_hidden: int) -> None:
        nn.Module.__init__(self)  # not the parent's own, which makes gated cells
        self.forward_rnn = nn.RNN(n_hidden, n_hidden, nonlinearity="relu", batch_first=True)  # type: ignore[assignment]
        self.backward_rnn = nn.RNN(n_hidden, n_hidden, nonlinearity="relu", batch_first=True)  # type: ignore[assignment]
        self.combine = "sum"
        self.n_outputs = n_hidden


@MODELS.register()
class DeepSpeech(CTCModel):
    """Three layers on each frame, one recurrent layer in both directions, one more layer, and a softmax.

    The network is `torchaudio.models.DeepSpeech`, but its recurrent layer begins at the end of each utterance instead
    of the end of the batch, so that padding has no influence.

    Args:
        n_mels: feature bins of the input.
        n_tokens: vocabulary, the blank included.
        n_hidden: units of every layer; the paper has 2048.
        dropout: after every layer that is not recurrent; the paper has 0.05 to 0.1.
        n_context: frames before and behind each that the first layer sees with it; the paper has 5 to 9.
        stride: frames are taken at this distance (section 3.3 has 2); 1 leaves lengths unchanged.
    """

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        n_hidden: Size = 2048,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        n_context: Count = 0,
        stride: Size = 1,
    ) -> None:
        super().__init__()
        try:
            from torchaudio.models import DeepSpeech as Network
        except ImportError as error:
            raise MissingPackageError("DeepSpeech", "torchaudio") from error
        self.n_context = n_context
        self.stride = stride
        self.network = Network(n_mels * (2 * n_context + 1), n_hidden, n_tokens, dropout)
        self.network.bi_rnn = RectifiedBiRNN(n_hidden)
        # PyTorch's own scale loses 60 % in each rectified layer (He et al. 2015), and with it most of the gradient.
        for layer in (self.network.fc1, self.network.fc2, self.network.fc3, self.network.fc4):
            nn.init.kaiming_normal_(layer.fc.weight, nonlinearity="relu")
            nn.init.zeros_(layer.fc.bias)

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Posteriors of a batch.

        Args:
            spectrogram (Tensor): features, (B, F, T); what the padding holds has no influence.
            spectrogram_length (Tensor): valid frames, (B,), int64.
            batch: not used.

        Returns:
            log_probs (Tensor): natural log, float32, (B, T', V).
            log_probs_length (Tensor): (B,), int64.
            encoded (Tensor): what the last layer sees, (B, T', n_hidden).
        """
        if spectrogram.shape[-1] == 0:
            spectrogram = F.pad(spectrogram, (0, 1))
        x = spectrogram.masked_fill(~length_mask(spectrogram_length, spectrogram.shape[-1])[:, None], 0.0)
        if self.n_context:
            x = F.pad(x, (self.n_context, self.n_context)).unfold(2, 2 * self.n_context + 1, 1)
            x = x.permute(0, 3, 1, 2).flatten(1, 2)
        length = self.output_lengths(spectrogram_length)
        x = x[..., :: self.stride].transpose(1, 2)
        net = self.network
        x = net.fc4(net.bi_rnn(net.fc3(net.fc2(net.fc1(x))), length))
        return {"log_probs": net.out(x).float().log_softmax(-1), "log_probs_length": length, "encoded": x}

    @property
    def n_encoded(self) -> int:
        return int(self.network.out.in_features)

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames of ``log_probs`` for ``length`` frames of the spectrogram, (B,) -> (B,), int64."""
        return (length + self.stride - 1).div(self.stride, rounding_mode="floor")
