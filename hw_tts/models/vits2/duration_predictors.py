"""How many frames each token lasts: by regression (FastSpeech's predictor), or drawn from a flow (VITS, appendix A)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.nn.dropout import Dropout
from hw_tts.models.base import Factor
from hw_tts.models.vits2.layers import ChannelNorm, draws, masked
from hw_tts.models.vits2.spline import rational_quadratic


class DurationPredictor(nn.Module):
    """Two convolutions and a projection to the log of the duration.

    Args:
        in_channels: of the hidden states, which are cut off from its gradient.
        filter_channels: width.
        kernel_size: of the convolutions.
        dropout: after each convolution.
        speaker_channels: width of the speaker embedding; 0 for none.
    """

    def __init__(
        self, in_channels: int, filter_channels: int, kernel_size: int, dropout: float, speaker_channels: int = 0
    ) -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.conv_1 = nn.Conv1d(in_channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_2 = ChannelNorm(filter_channels)
        self.proj = nn.Conv1d(filter_channels, 1, 1)
        self.cond = nn.Conv1d(speaker_channels, in_channels, 1) if speaker_channels else None

    def forward(self, hidden: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> Tensor:
        """``hidden`` (B, D, L), ``mask`` bool (B, 1, L), ``speaker`` (B, G, 1) -> natural log of frames, (B, L)."""
        x = hidden.detach()
        if self.cond is not None and speaker is not None:
            x = x + self.cond(speaker.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(masked(x, mask)))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(masked(x, mask)))))
        return masked(self.proj(masked(x, mask)), mask).squeeze(1).float()


BOUND = 5.0


N_BINS = 10


class DilatedConvs(nn.Module):
    """Depth-separable convolutions with growing dilation and a residual around each."""

    def __init__(self, channels: int, kernel_size: int, n_layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.convs_sep, self.convs_1x1 = nn.ModuleList(), nn.ModuleList()
        for layer in range(n_layers):
            dilation = kernel_size**layer
            padding = (kernel_size - 1) * dilation // 2
            self.convs_sep.append(
                nn.Conv1d(channels, channels, kernel_size, groups=channels, dilation=dilation, padding=padding)
            )
            self.convs_1x1.append(nn.Conv1d(channels, channels, 1))
        self.norms_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(n_layers))
        self.norms_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(n_layers))

    def forward(self, x: Tensor, mask: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """``x`` and ``condition`` (B, C, L) -> (B, C, L)."""
        if condition is not None:
            x = x + condition
        for deep, wide, norm_1, norm_2 in zip(self.convs_sep, self.convs_1x1, self.norms_1, self.norms_2, strict=True):
            y = F.gelu(norm_1(deep(masked(x, mask))))
            x = x + self.drop(F.gelu(norm_2(wide(y))))
        return masked(x, mask)


class ElementwiseAffine(nn.Module):
    """Learned shift and scale of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(channels, 1))
        self.logs = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """``x`` (B, 2, L) -> mapped (B, 2, L), log-determinant (B,)."""
        log_determinant = (self.logs * mask).sum(dim=(1, 2))
        if inverse:
            return masked((x - self.m) * torch.exp(-self.logs), mask), -log_determinant
        return masked(self.m + torch.exp(self.logs) * x, mask), log_determinant


class ConvFlow(nn.Module):
    """Maps the second channel by a spline whose knots come from the first, and swaps the two.

    Args:
        channels: width.
        kernel_size: of the convolutions.
        n_layers: of the convolutions.
    """

    def __init__(self, channels: int, kernel_size: int, n_layers: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(1, channels, 1)
        self.convs = DilatedConvs(channels, kernel_size, n_layers)
        self.proj = nn.Conv1d(channels, 3 * N_BINS - 1, 1)
        self.scale = math.sqrt(channels)
        nn.init.zeros_(self.proj.weight)  # it begins as nearly the identity
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """``x`` (B, 2, L), ``condition`` (B, D, L) -> mapped (B, 2, L), log-determinant (B,)."""
        kept, moved = x.chunk(2, dim=1)
        knots = masked(self.proj(self.convs(self.pre(kept), mask, condition)), mask).mT.unsqueeze(1).float()
        widths, heights, slopes = knots.tensor_split((N_BINS, 2 * N_BINS), dim=-1)
        moved, log_slope = rational_quadratic(
            moved.float(), widths / self.scale, heights / self.scale, slopes, BOUND, inverse
        )
        return masked(torch.cat([kept, moved], dim=1), mask), (log_slope * mask).sum(dim=(1, 2))


class Swap(nn.Module):
    """Swaps the two channels; holds the place it has in state dicts."""

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """``x`` (B, 2, L) -> (B, 2, L), log-determinant 0 (B,)."""
        return x.flip(1), x.new_zeros(x.shape[0])


def _flows(channels: int, kernel_size: int, n_flows: int) -> nn.ModuleList:
    steps: list[nn.Module] = [ElementwiseAffine(2)]
    for _ in range(n_flows):
        steps += [ConvFlow(channels, kernel_size, n_layers=3), Swap()]
    return nn.ModuleList(steps)


class StochasticDurationPredictor(nn.Module):
    """A flow from noise to durations, given the hidden states.

    The names of its parts are those of the public VITS checkpoints.

    Args:
        in_channels: of the hidden states, which are cut off from its gradient; also its width.
        kernel_size: of the convolutions.
        dropout: in the convolutions over the hidden states.
        n_flows: couplings of each of the two flows.
        speaker_channels: width of the speaker embedding; 0 for none.
    """

    def __init__(
        self, in_channels: int, kernel_size: int, dropout: float, n_flows: int = 4, speaker_channels: int = 0
    ) -> None:
        super().__init__()
        self.flows = _flows(in_channels, kernel_size, n_flows)
        self.post_pre = nn.Conv1d(1, in_channels, 1)
        self.post_proj = nn.Conv1d(in_channels, in_channels, 1)
        self.post_convs = DilatedConvs(in_channels, kernel_size, 3, dropout)
        self.post_flows = _flows(in_channels, kernel_size, 4)
        self.pre = nn.Conv1d(in_channels, in_channels, 1)
        self.proj = nn.Conv1d(in_channels, in_channels, 1)
        self.convs = DilatedConvs(in_channels, kernel_size, 3, dropout)
        self.cond = nn.Conv1d(speaker_channels, in_channels, 1) if speaker_channels else None

    def _condition(self, hidden: Tensor, mask: Tensor, speaker: Tensor | None) -> Tensor:
        x = self.pre(hidden.detach())
        if self.cond is not None and speaker is not None:
            x = x + self.cond(speaker.detach())
        return masked(self.proj(self.convs(x, mask)), mask)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, speaker: Tensor | None = None, noise: Factor = 1.0
    ) -> Tensor:
        """Draw durations; ``hidden`` (B, D, L), ``speaker`` (B, G, 1), ``noise`` of `draws` with C = 2 -> natural log
        of frames, (B, L).
        """
        mask = _all(hidden) if mask is None else mask
        condition = self._condition(hidden, mask, speaker)
        z = draws((hidden.shape[0], 2, hidden.shape[2]), noise, hidden.device)
        # The first coupling's work on the channel that is not read would be lost: the public models leave it out.
        steps = list(reversed(self.flows))
        for step in [*steps[:-2], steps[-1]]:
            z, _ = step(z, mask, condition, inverse=True)
        return masked(z[:, :1], mask).squeeze(1).float()

    def nll(self, hidden: Tensor, mask: Tensor, durations: Tensor, speaker: Tensor | None = None) -> Tensor:
        """Bound of the negative log-likelihood of durations.

        Args:
            hidden (Tensor): (B, D, L).
            mask (Tensor): bool, (B, 1, L).
            durations (Tensor): frames, (B, L).
            speaker (Tensor): (B, G, 1).

        Returns:
            Tensor: natural log, summed over the tokens, (B,).
        """
        condition = self._condition(hidden, mask, speaker)
        frames = durations.unsqueeze(1).to(torch.float32)
        u, v, log_q = self._posterior(frames, mask, condition)
        # The rest below the whole number of frames is noise, and the second channel is noise altogether.
        rest = torch.log((frames - u).clamp(min=1e-5)) * mask
        z = torch.cat([rest, v], dim=1)
        log_determinant = -rest.sum(dim=(1, 2))
        for step in self.flows:
            z, change = step(z, mask, condition)
            log_determinant = log_determinant + change
        return -(_log_normal(z, mask) + log_determinant) + log_q

    def _posterior(self, frames: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both noises, (B, 1, L) each, drawn given the durations, and their log-likelihood, (B,)."""
        known = masked(self.post_proj(self.post_convs(self.post_pre(frames), mask)), mask)
        noise = torch.randn(frames.shape[0], 2, frames.shape[2], device=frames.device) * mask
        z, log_determinant = noise, noise.new_zeros(noise.shape[0])
        for step in self.post_flows:
            z, change = step(z, mask, condition + known)
            log_determinant = log_determinant + change
        logit, v = z.chunk(2, dim=1)
        log_determinant = log_determinant + ((F.logsigmoid(logit) + F.logsigmoid(-logit)) * mask).sum(dim=(1, 2))
        return torch.sigmoid(logit) * mask, v, _log_normal(noise, mask) - log_determinant


def _log_normal(z: Tensor, mask: Tensor) -> Tensor:
    """Log-density of the standard normal distribution over what is valid, (B,)."""
    return (-0.5 * (math.log(2 * math.pi) + z.square()) * mask).sum(dim=(1, 2))


def _all(hidden: Tensor) -> Tensor:
    return torch.ones(hidden.shape[0], 1, hidden.shape[2], dtype=torch.bool, device=hidden.device)
