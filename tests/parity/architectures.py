"""Three architectures in plain PyTorch, as people write them, with data to train them on. Nothing
here knows of anygate; test_parity_architectures.py swaps their LSTMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WORDS = 11
PAD = 0


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(*shape: int, seed: int) -> Tensor:
    """Words from 1 on; 0 pads."""
    return torch.randint(1, WORDS, shape, generator=draw(seed))


class Tagger(nn.Module):
    """A bidirectional tagger on packed sentences of different lengths, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8, padding_idx=PAD)
        self.lstm = nn.LSTM(8, 12, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.head = nn.Linear(24, 3)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(words), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = self.lstm(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=words.shape[1])
        return self.head(padded)  # type: ignore[no-any-return]

    def batch(self, seed: int) -> tuple[Any, ...]:
        """A word's tag is known from itself and the next word."""
        words = tokens(6, 9, seed=seed)
        lengths = torch.randint(1, 10, (6,), generator=draw(seed + 1))
        words[torch.arange(9) >= lengths.unsqueeze(1)] = PAD
        return words, lengths, (words + 2 * words.roll(-1, 1)) % 3

    def loss(self, words: Tensor, lengths: Tensor, tags: Tensor) -> Tensor:
        scores = self(words, lengths)
        return nn.functional.cross_entropy(scores[words != PAD], tags[words != PAD])


class Translator(nn.Module):
    """An encoder and a decoder, each a loop over an LSTMCell, with attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.encoder = nn.LSTMCell(8, 16)
        self.decoder = nn.LSTMCell(8 + 16, 16)
        self.head = nn.Linear(32, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: the decoder sees the word before the one that it predicts."""
        hx, memory = None, []
        for word in self.embedding(source):
            hx = self.encoder(word, hx)
            memory.append(hx[0])
        keys, scores = torch.stack(memory), []
        context = torch.zeros_like(keys[0])
        before = torch.cat([torch.zeros_like(target[:1]), target[:-1]])
        for word in self.embedding(before):
            hx = self.decoder(torch.cat([word, context], -1), hx)
            weights = (keys * hx[0]).sum(-1, keepdim=True).softmax(0)
            context = (weights * keys).sum(0)
            scores.append(self.head(torch.cat([hx[0], context], -1)))
        return torch.stack(scores)

    def batch(self, seed: int) -> tuple[Any, ...]:
        """The target is the source with every word moved on by three."""
        source = tokens(5, 6, seed=seed)
        return source, (source + 2) % (WORDS - 1) + 1

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self(source, target).flatten(0, 1), target.flatten())


class LanguageModel(nn.Module):
    """Two layers, the embedding's weights used again for the words' scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.lstm = nn.LSTM(16, 16, num_layers=2, dropout=0.2)
        self.head = nn.Linear(16, WORDS)
        self.head.weight = self.embedding.weight
        nn.init.uniform_(self.embedding.weight, -0.3, 0.3)
        self.hx: Any = None

    def forward(self, words: Tensor) -> Tensor:
        output, self.hx = self.lstm(self.embedding(words), self.hx)
        return self.head(output)  # type: ignore[no-any-return]

    def batch(self, seed: int) -> tuple[Any, ...]:
        """Words count up by one or two: what follows is half known."""
        steps = torch.randint(1, 3, (8, 5), generator=draw(seed)).cumsum(0)
        words = (steps + seed) % (WORDS - 1) + 1
        return words[:-1], words[1:]

    def loss(self, words: Tensor, following: Tensor) -> Tensor:
        if self.hx is not None:  # truncated backpropagation: the state goes on, its past does not
            self.hx = tuple(s.detach() for s in self.hx)
        scores = self(words)
        return nn.functional.cross_entropy(scores.flatten(0, 1), following.flatten())


def by_adam(model: Any) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return step


def by_hand(model: Any) -> Callable[[], None]:
    """As PyTorch's own word_language_model example: clip, then `p.data.add_`."""

    def step() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-6.0)
        model.zero_grad()

    return step


TRAINING = {Tagger: by_adam, Translator: by_adam, LanguageModel: by_hand}


def train(model: Any, steps: int) -> list[float]:
    """The loss at each step; dropout draws the same numbers for every model."""
    torch.manual_seed(1)
    step, losses = TRAINING[type(model)](model), []
    for turn in range(steps):
        loss = model.loss(*model.batch(100 * turn))
        loss.backward()
        step()
        losses.append(loss.item())
    return losses
