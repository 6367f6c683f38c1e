"""A batched beam search as other toolkits do it in tensors, for comparison: all B x K x V candidates, the best kept.

A hypothesis has one score and its last label. Every frame scores all labels of the vocabulary for all hypotheses, takes
the K best, and of those with the same text and last label keeps the best one (the scheme of "FlexCTC", arXiv
2508.07315, written here anew).
"""

import torch
from torch import Tensor

_BEST_BEHIND = 20.0


@torch.inference_mode()
def max_merge_search(log_probs: Tensor, K: int) -> list[list[int]]:
    """The best token sequence of each utterance (B, T, V), without a language model."""
    B, T, V = log_probs.shape
    score = torch.full((B, K), -torch.inf)
    score[:, 0] = 0.0
    last = torch.full((B, K), -1)  # label of the last frame
    text = torch.zeros(B, K, dtype=torch.int64)  # hash of the tokens
    history = torch.zeros(T, 2, B, K, dtype=torch.int64)
    for t in range(T):
        candidates = (score[:, :, None] + log_probs[:, t, None, :]).view(B, -1)
        candidates = candidates.masked_fill(candidates < candidates.amax(1, keepdim=True) - _BEST_BEHIND, -torch.inf)
        score, index = candidates.topk(K, dim=1)
        source, label = index // V, index % V
        before = last.gather(1, source)
        token = torch.where((label != 0) & (label != before), label, 0)
        text = text.gather(1, source)
        text = torch.where(token > 0, text * 6364136223846793005 + token + 1442695040888963407, text)
        last = label
        same = (text[:, :, None] == text[:, None, :]) & (last[:, :, None] == last[:, None, :])
        earlier = torch.tril(same, diagonal=-1).any(2)  # the candidates come in order, so the first one is the best
        score = score.masked_fill(earlier, -torch.inf)
        history[t, 0], history[t, 1] = source, token
    slot = score.argmax(1)
    texts: list[list[int]] = [[] for _ in range(B)]
    for t in range(T - 1, -1, -1):
        for row in range(B):
            if token := int(history[t, 1, row, slot[row]]):
                texts[row].insert(0, token)
        slot = history[t, 0].gather(1, slot[:, None])[:, 0]
    return texts
