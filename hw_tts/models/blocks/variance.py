"""Predictors of one number a token or frame, and embeddings of pitch and energy."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.nn.dropout import Dropout

EmbeddingName = Literal["quantized", "continuous", "fourier"]
Bins = Literal["linear", "log"]

# Smallest value whose logarithm is taken: below any pitch in Hz and any energy of speech.
LOG_FLOOR = 1e-2


class VariancePredictor(nn.Module):
    """Two convolutions and a linear layer: duration, pitch or energy (Ren et al. 2021, section 2.3).

    Args:
        width: D.
        hidden: channels of the convolutions.
        kernel_size: of the convolutions, odd.
        dropout: after each convolution.
        norm_first: layer norm before ReLU, as in the widespread implementation of FastSpeech, and not after it.

    Raises:
        ConfigError: the kernel is even.
    """

    def __init__(
        self, width: int, hidden: int = 256, kernel_size: int = 3, dropout: float = 0.5, norm_first: bool = False
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"predictor_kernel_size: {kernel_size} is even; positions stay in place for odd ones only"
            )
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, hidden, kernel_size, padding=kernel_size // 2) for channels in (width, hidden)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in self.convs)
        self.dropout = Dropout(dropout)
        self.norm_first = norm_first
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (B, N, D), ``mask`` of valid positions (B, N) -> float32 (B, N), 0 in the padding."""
        padding = ~mask[..., None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = conv(x.masked_fill(padding, 0.0).transpose(1, 2)).transpose(1, 2)
            x = self.dropout(F.relu(norm(y)) if self.norm_first else norm(F.relu(y)))
        with torch.autocast(x.device.type, enabled=False):
            values: Tensor = self.out(x.to(self.out.weight.dtype)).squeeze(-1)
        return values.masked_fill(~mask, 0.0)


class QuantizedEmbedding(nn.Module):
    """One vector for each interval of values (Ren et al. 2021, section 2.3).

    Args:
        width: D.
        n_bins: intervals; the outer two are open.
        bins: ``linear`` boundaries lie evenly between the smallest and the largest value, ``log`` ones evenly between
            their logarithms.
    """

    boundaries: Tensor

    def __init__(self, width: int, n_bins: int = 256, bins: Bins = "linear") -> None:
        super().__init__()
        self.bins = bins
        self.table = nn.Embedding(n_bins, width)
        self.register_buffer("boundaries", torch.linspace(-4.0, 4.0, n_bins - 1))

    def edges(self, low: float, high: float) -> Tensor:
        """The boundaries between ``low`` and ``high``, float64."""
        n_edges = len(self.boundaries)
        if self.bins == "linear":
            return torch.linspace(low, high, n_edges, dtype=torch.float64)
        low = max(low, LOG_FLOOR)
        return torch.linspace(math.log(low), math.log(max(high, low)), n_edges, dtype=torch.float64).exp()

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values (B, N) of the kind of the boundaries -> (B, N, D); what the padding holds means nothing."""
        if torch.compiler.is_exporting():  # ONNX has no search
            out: Tensor = self.table((self.boundaries < values[..., None]).sum(dim=-1))
        else:
            out = self.table(torch.bucketize(values, self.boundaries))
        return out


class ContinuousEmbedding(nn.Conv1d):
    """A convolution over the values themselves (as in Łańcucki 2021, "FastPitch", section 2.1).

    Args:
        width: D.
        kernel_size: odd.
    """

    def __init__(self, width: int, kernel_size: int = 3) -> None:
        super().__init__(1, width, kernel_size, padding=kernel_size // 2)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalized values (B, N) -> (B, N, D); what the padding holds has no part."""
        return super().forward(values.masked_fill(~mask, 0.0)[:, None]).transpose(1, 2)


class FourierEmbedding(nn.Conv1d):
    """A convolution over the values, and over sines and cosines of them.

    A spectrogram's harmonics come and go many times over the range of F0, and a network that is given F0 as one number
    learns such functions late (Tancik et al. 2020, "Fourier Features Let Networks Learn High Frequency Functions in Low
    Dimensional Domains"). The waves are 8, 4, 2, ... deviations long.

    Args:
        width: D.
        n_waves: different lengths.
        kernel_size: odd.
    """

    def __init__(self, width: int, n_waves: int = 5, kernel_size: int = 3) -> None:
        super().__init__(1 + 2 * n_waves, width, kernel_size, padding=kernel_size // 2)
        self.n_waves = n_waves

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalized values (B, N) -> (B, N, D); what the padding holds has no part."""
        frequencies = math.pi / 4 * 2.0 ** torch.arange(self.n_waves, device=values.device)
        values = values.masked_fill(~mask, 0.0)[:, None]
        phase = frequencies[:, None] * values
        features = torch.cat([values, phase.sin(), phase.cos()], dim=1)  # (B, 1 + 2 n, N)
        return super().forward(features.masked_fill(~mask[:, None], 0.0)).transpose(1, 2)


Embedding = QuantizedEmbedding | ContinuousEmbedding | FourierEmbedding


class Variance(nn.Module):
    """One quantity of a voice: normalized, predicted and embedded.

    Until `set_statistics` is called, values count as normalized. The statistics are buffers, so they are in the
    checkpoint.

    Args:
        name: for messages and as the prefix of its statistics: ``pitch``.
        predictor: of normalized values.
        embedding: of normalized values.
        log: normalize logarithms.
    """

    mean: Tensor
    std: Tensor
    floor: Tensor

    def __init__(
        self,
        name: str,
        predictor: VariancePredictor,
        embedding: Embedding,
        log: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.predictor = predictor
        self.embedding = embedding
        self.log = log
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("floor", torch.tensor(LOG_FLOOR))

    def set_statistics(self, statistics: Mapping[str, float]) -> None:
        """Take over what was measured on the training split.

        Args:
            statistics: ``<name>_mean`` and ``<name>_std``, in the quantity's own unit. Bins reach from ``<name>_min``
                to ``<name>_max``, or else four deviations to both sides. A logarithm is normalized by
                ``<name>_log_mean`` and ``<name>_log_std``, or else by those of the log-normal distribution with the
                given moments.

        Raises:
            ConfigError: a statistic is missing, not finite, or a deviation is not positive.
        """
        given = {key.removeprefix(f"{self.name}_"): statistics[key] for key in statistics}
        missing = [key for key in ("mean", "std") if f"{self.name}_{key}" not in statistics]
        if missing:
            raise ConfigError(f"statistics of {self.name}: {missing} missing; found {sorted(statistics)}")
        mean, std = given["mean"], given["std"]
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ConfigError(f"statistics of {self.name}: mean {mean} and deviation {std}; is the value constant?")
        low, high = given.get("min", mean - 4 * std), given.get("max", mean + 4 * std)
        if self.log:
            spread = math.log1p((std / mean) ** 2) if mean > 0 else 1.0
            mean = given.get("log_mean", math.log(max(mean, LOG_FLOOR)) - spread / 2)
            std = given.get("log_std", math.sqrt(spread))
            self.floor.fill_(max(low, LOG_FLOOR))
        self.mean.fill_(mean)
        self.std.fill_(std)
        if isinstance(self.embedding, QuantizedEmbedding):
            edges = self.embedding.edges(low, high).to(self.embedding.boundaries)
            self.embedding.boundaries.copy_(self.normalize(edges))

    def normalize(self, values: Tensor) -> Tensor:
        """From the quantity's own unit, any shape, float32."""
        if self.log:
            values = torch.maximum(values, self.floor).log()
        return (values - self.mean) / self.std

    def denormalize(self, values: Tensor) -> Tensor:
        """Back to the quantity's own unit."""
        values = values * self.std + self.mean
        return values.exp() if self.log else values

    def embed(self, normalized: Tensor, mask: Tensor) -> Tensor:
        """Normalized values (B, N), ``mask`` of valid positions (B, N) -> (B, N, D)."""
        out: Tensor = self.embedding(normalized, mask)
        return out

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Predict normalized values: ``x`` (B, N, D), ``mask`` (B, N) -> float32 (B, N), 0 in the padding."""
        out: Tensor = self.predictor(x, mask)
        return out
