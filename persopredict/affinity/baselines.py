"""What an affinity has to beat: lists that anybody could write down, each at its best on what was known before.

`popularity`, `own_frequency`, `own_decayed` (own frequency, each occasion halved for every so many horizons of its age) and `blended`
(the same plus so many times the popularity). Half-life and weight are those whose lists had the best NDCG@10 at an earlier cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persopredict.affinity.pairs import HALF_LIVES, OCCASIONS, Codes, Floats32, State
from persopredict.affinity.population import Population
from persopredict.ranking import rank_customers

#: The candidates for half-lives, by the name of what they weigh: none, and those that are measured.
_DECAYS = (OCCASIONS, *reversed(HALF_LIVES))
#: Popularity, as a share of customers, is worth so many occasions.
_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: What only breaks ties must not do more.
_TIE = 1e-4
#: So many customers decide on half-life and weight.
DECIDING = 500


@dataclass(frozen=True, slots=True)
class PairBaselines:
    """The lists to beat, with the half-life and the weight that were best.

    `decay`: the name of the decayed occasions in `pairs.Pairs`; `blended_decay`, `weight`: of the blend.
    """

    decay: str = OCCASIONS
    blended_decay: str = OCCASIONS
    weight: float = 1.0

    @classmethod
    def fit(cls, state: State, population: Population, customer: Codes, category: Codes, y: NDArray[Any]) -> PairBaselines:
        """The best settings for pairs of a cutoff whose label has ended, ordered by customer."""
        if not len(customer):
            return cls()
        codes = np.unique(customer, return_inverse=True)[1]
        relevant = np.bincount(codes[y == 1], minlength=codes[-1] + 1)
        values = {name: own(state, customer, category, name) for name in _DECAYS}
        popular = population.popularity[category]

        def quality(score: Any) -> float:
            ndcg = rank_customers(codes, score, y, relevant=relevant)["ndcg_at_10"]
            return float(np.nanmean(ndcg)) if np.isfinite(ndcg).any() else 0.0

        reached = {name: quality(values[name] + _TIE * popular) for name in _DECAYS}
        blends = {(name, weight): quality(values[name] + weight * popular) for name in _DECAYS for weight in _WEIGHTS}
        decay, blend = max(reached, key=reached.__getitem__), max(blends, key=blends.__getitem__)
        return cls(decay, *blend)

    def scores(self, state: State, population: Population, customer: Codes, category: Codes) -> dict[str, Floats32]:
        """The scores of pairs, by name, each of shape (rows,)."""
        popular = population.popularity[category]
        return {
            name: np.asarray(score, np.float32)
            for name, score in {
                "popularity": popular,
                "own_frequency": own(state, customer, category, OCCASIONS) + _TIE * popular,
                "own_decayed": own(state, customer, category, self.decay) + _TIE * popular,
                "blended": own(state, customer, category, self.blended_decay) + self.weight * popular,
            }.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"decay": self.decay, "blended_decay": self.blended_decay, "weight": self.weight}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PairBaselines:
        """The inverse of `to_dict`."""
        return cls(**values)


def own(state: State, customer: Codes, category: Codes, name: str) -> NDArray[np.float64]:
    """A value of given pairs, 0 for those that have not occurred, shape (rows,)."""
    keys = state.pairs.customer.astype(np.int64) * state.categories + state.pairs.category
    asked = customer.astype(np.int64) * state.categories + category
    place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
    if not len(keys):
        return np.zeros(len(asked))
    return np.where(keys[place] == asked, state.pairs[name][place], 0.0)
