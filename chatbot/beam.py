"""Beam search: several candidate sentences are kept, and the likeliest whole one wins.

A candidate's score is the sum of its tokens' log-probabilities over length ** length_penalty, its
end token counted in both. Candidates, finished ones and the moment to stop are those of
transformers' beam search with early_stopping=False, so the best score equals its best score. Like
any beam search this isn't exhaustive: a sentence whose beginning looked poor is lost, the greedy
one included, though that is rare. Knows nothing about models or text.

Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks"; length normalisation:
Wu et al. 2016, "Google's Neural Machine Translation System", section 7, in its plain form.
"""

from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor

from chatbot.decoding import Decoding, penalised


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence in the making: its ids, an end token included, and their log-probability."""

    ids: tuple[int, ...]
    logprob: float
    parent: int = 0  # the row that it continues
    ended: bool = False  # by an end token

    @property
    def words(self) -> tuple[int, ...]:
        """The ids without an end token."""
        return self.ids[:-1] if self.ended else self.ids


class BeamSearch:
    """The candidates of one reply. Feed `advance` logits until `done`."""

    def __init__(self, decoding: Decoding, ends: Set[int], limit: int) -> None:
        self._decoding, self._ends, self._limit = decoding, ends, limit
        self.live: list[Candidate] = [Candidate((), 0.0)]
        self.finished: list[Candidate] = []  # best first
        self.done = limit < 1

    def score(self, candidate: Candidate) -> float:
        """Length-normalised log-probability."""
        length = len(candidate.ids)
        return candidate.logprob / length**self._decoding.length_penalty if length else 0.0

    @property
    def best(self) -> Candidate:
        """The best finished candidate, or the likeliest live one while none is finished."""
        return self.finished[0] if self.finished else self.live[0]

    def agreed(self, start: int = 0) -> tuple[int, ...]:
        """The ids from `start` on that every candidate still in the running shares."""
        every = [candidate.words for candidate in (*self.live, *self.finished)]
        shortest, end = min(map(len, every)), start
        while end < shortest and len({words[end] for words in every}) == 1:
            end += 1
        return every[0][start:end]

    def advance(self, logits: Tensor) -> None:
        """One more token: row i of `logits`, (B, V), follows candidate i of `live`."""
        length = len(self.live[0].ids) + 1
        beams = self._decoding.beams
        live: list[Candidate] = []
        fresh: list[Candidate] = []
        for rank, candidate in enumerate(self._likeliest(logits)):
            if candidate.ended or length == self._limit:
                if rank < beams:
                    fresh.append(candidate)
            elif len(live) < beams:
                live.append(candidate)
        # sorted() is stable: of equals the earlier stays ahead
        self.finished = sorted([*self.finished, *fresh], key=self.score, reverse=True)[:beams]
        self.live = live
        self.done = not live or (
            len(self.finished) == beams and self.score(live[0]) <= self.score(self.finished[-1])
        )

    @torch.inference_mode()
    def _likeliest(self, logits: Tensor) -> list[Candidate]:
        """The likeliest continuations, more than enough to go on with if some of them end."""
        penalty = self._decoding.repetition_penalty
        logits = logits.float()
        if penalty != 1:
            said = [torch.tensor(one.ids, dtype=torch.long) for one in self.live]
            rows = zip(logits, said, strict=True)
            logits = torch.stack([penalised(row, ids.to(row.device), penalty) for row, ids in rows])
        before = torch.tensor([one.logprob for one in self.live], device=logits.device)
        total = (logits.log_softmax(-1) + before[:, None]).flatten()  # (B * V,)
        most = min(total.numel(), (1 + max(1, len(self._ends))) * self._decoding.beams)
        best, places = total.topk(most)
        vocabulary = logits.shape[-1]
        found = []
        for logprob, place in zip(best.tolist(), places.tolist(), strict=True):
            row, token = divmod(place, vocabulary)
            ids = (*self.live[row].ids, token)
            found.append(Candidate(ids, logprob, row, token in self._ends))
        return found
