"""Choose the best rows under a budget: a score table in, a selection out."""

from collections.abc import Callable, Sequence

import numpy as np

from prism.budget import Budget
from prism.errors import ConfigError, DataError
from prism.scoring import ScoreTable
from prism.selection.basket import Basket
from prism.selection.coverage import Coverage
from prism.selection.gains import PairGains, Turns
from prism.selection.near_duplicates import NearDuplicates
from prism.selection.quotas import Quotas
from prism.selection.round_robin import RoundRobin
from prism.selection.rules import Cap, Duplicates, Rule
from prism.selection.selection import Selection
from prism.selection.strategies import InOrder, Order, Strategy, Task, per_token, top

STRATEGIES: dict[str, Callable[[Task], Strategy]] = {
    "top": top,
    "per-token": per_token,
    "round-robin": RoundRobin,
    "coverage": Coverage,
}
OF_PAIRS = ("round-robin", "coverage")  # need the scores against each pair


def select(
    scores: ScoreTable,
    *,
    budget: str | int = "5%",
    order: Order = "top",
    strategy: str = "top",
    turns: Turns = "pair",
    coverage_step: float | None = None,
    cap_per_source: str | int | None = None,
    quotas: Sequence[str] = (),
    keep_duplicates: bool = False,
    near_duplicates: float | None = None,
    gains: Callable[[], PairGains] | None = None,
) -> Selection:
    """The rows that fit the budget, in the order in which `strategy` takes them; ties go by id.

    Rows without a finite score are never chosen. A strategy puts candidates forward, best first; rules (duplicates,
    cap, quotas) keep some of them out. With `strategy="top"` a token budget is filled in rank order up to the first row
    that no longer fits; the other strategies, and quotas, pass over such a row. Rows longer than the whole budget are
    passed over always.

    Args:
        budget: a share (`"5%"`), a number of samples (`"1000"`) or of response tokens (`"200k tok"`).
        order: the highest (`"top"`) or lowest (`"bottom"`) scores.
        strategy: a name of `STRATEGIES`: `"top"` (by score), `"per-token"` (by score per response token, the knapsack's
            greedy), `"round-robin"` (pairs or subtasks take turns), `"coverage"` (what raises the pairs' predicted log
            preferences the most, given what was taken).
        turns: what takes turns in a round-robin: each `"pair"`, or each `"subtask"`.
        coverage_step: eta of `Coverage`; chosen from the scores unless given.
        cap_per_source: at most so many rows of one source, or such a share of the budget (`"20%"`).
        quotas: what single sources make of the budget, as `"web=10%..30%"` (see `prism.budget.Quota`).
        keep_duplicates: keep rows that say exactly the same; else the best placed is kept.
        near_duplicates: keep of rows whose similarity is so much or more the best placed only (see `NearDuplicates`).
        gains: the scores against each pair, for the strategies that need them.

    Raises:
        ConfigError: an option is malformed, a budget or quota is above the pool, or the pair scores are missing.
        DataError: nothing fits.
    """
    if order not in ("top", "bottom"):
        raise ConfigError(f"order {order!r} is neither top nor bottom")
    if strategy not in STRATEGIES:
        raise ConfigError(f"strategy {strategy!r} is unknown; known are {', '.join(STRATEGIES)}")
    parsed = Budget.parse(budget)
    tokens = scores.column("response_tokens")
    most, most_tokens = parsed.resolve(len(scores), int(tokens.sum(dtype=np.int64)))
    by_tokens = parsed.unit == "tokens"
    amount = most_tokens if by_tokens else most
    task = Task(scores, order, most, most_tokens, by_tokens, gains, turns, coverage_step)
    if not len(task.ranked):
        raise DataError(f"none of the {len(scores)} rows has a finite score: there is nothing to choose from")
    quota = Quotas(scores, quotas, amount, by_tokens) if quotas else None
    similar = None if near_duplicates is None else NearDuplicates(scores.pool, scores.column("index"), near_duplicates)
    rules: list[Rule] = [] if keep_duplicates else [Duplicates(scores.column("content"))]
    rules += [] if cap_per_source is None else [Cap(scores, cap_per_source, amount, by_tokens)]
    rules += [rule for rule in (quota, similar) if rule is not None]
    candidates = STRATEGIES[strategy](task)
    basket = Basket(task, rules, candidates.took, passes_over=candidates.skips or quota is not None)
    _fill(basket, candidates, similar)
    if quota is not None:
        _fill(basket, InOrder(quota.release()), similar)
    notices = [*candidates.notices, *(quota.notices() if quota else ())]
    refused = {rule.reason: rule.refused for rule in rules if rule.refused}
    without = len(scores) - len(task.ranked)
    if not basket.places:
        why = "; ".join([*(f"{count} {reason}" for reason, count in refused.items()), *notices])
        with_cap = f" with the cap {cap_per_source!r}" if cap_per_source is not None else ""
        raise DataError(f"no row fits the budget {budget!r}{with_cap}" + (f" ({why})" if why else ""))
    if not by_tokens and not basket.full:
        why = ", ".join([f"{n} {reason}" for reason, n in [*refused.items(), ("without a finite score", without)] if n])
        short = f"only {len(basket.places)} of the {most} rows asked for could be chosen"
        notices.insert(0, short + (f" ({why})" if why else ""))
    elif similar is not None and similar.refused:
        notices.append(f"passed over {similar.refused} rows that are {similar.reason}")
    details = {"strategy": strategy, **candidates.details, "refused": refused}
    return Selection(scores, np.array(basket.places, dtype=np.int64), tuple(notices), details)


def _fill(basket: Basket, candidates: Strategy, similar: NearDuplicates | None) -> None:
    if similar is not None:
        similar.upcoming = candidates.upcoming
    basket.fill(candidates)
