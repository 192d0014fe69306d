"""Batches under a token budget, and what padding must not change."""

import random

import numpy as np
import pytest
import torch

from prism.data import Encoded, collate, plan_batches


def sample(ids: list[int], response: list[int]) -> Encoded:
    return Encoded(np.array(ids, dtype=np.int64), np.array(response, dtype=np.bool_))


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_once_under_the_budget(seed: int) -> None:
    draw = random.Random(seed)
    lengths, budget = [draw.randint(1, 90) for _ in range(draw.randint(0, 60))], draw.randint(1, 300)
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    assert plan_batches(lengths, budget) == batches


def test_neighbours_share_a_batch_where_they_fit() -> None:
    assert plan_batches([5, 9, 5, 4], 15) == [[3, 0, 2], [1]]


def test_collate_points_at_the_tokens_before_each_label() -> None:
    batch = collate([sample([1, 7, 8, 9], [0, 0, 1, 1]), sample([1, 5], [0, 1])])
    assert len(batch) == 2
    assert batch.ids.tolist() == [[1, 7, 8, 9], [1, 5, 5, 5]]
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.labels.tolist() == [8, 9, 5]
    assert batch.owner.tolist() == [0, 0, 1]
    assert batch.ids.flatten()[batch.predictors].tolist() == [7, 8, 1]
    assert batch.ids.dtype == batch.labels.dtype == batch.predictors.dtype == torch.int64


def test_moving_keeps_everything() -> None:
    batch = collate([sample([1, 7, 8], [0, 1, 1])])
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.ids, moved.mask, moved.predictors, moved.labels, moved.owner)} == {"meta"}
    assert moved.ids.shape == batch.ids.shape
