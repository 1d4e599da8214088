"""Early stopping against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panembed.training.early_stopping import EarlyStopping

VALUES = st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=1, max_size=30)


@given(VALUES, st.booleans(), st.none() | st.integers(1, 5))
def test_best_and_patience_by_definition(values: list[float], maximize: bool, patience: int | None) -> None:
    stopping = EarlyStopping(patience, maximize)
    choose = max if maximize else min
    for epoch, value in enumerate(values):
        known = [v for v in values[:epoch] if not math.isnan(v)]
        better = not math.isnan(value) and (not known or (choose(value, *known) == value and value not in known))
        assert stopping.update(value, epoch) == better
        seen = [v for v in values[: epoch + 1] if not math.isnan(v)]
        assert stopping.best == (choose(seen) if seen else None)
        if not seen:
            assert not stopping.exhausted(epoch)
            continue
        # An equal value later is no improvement.
        assert stopping.best_epoch == values.index(choose(seen))
        assert stopping.exhausted(epoch) == (patience is not None and epoch - values.index(choose(seen)) >= patience)


@given(VALUES, st.integers(0, 29), st.booleans())
def test_a_resumed_run_stops_when_the_other_would(values: list[float], cut: int, maximize: bool) -> None:
    whole, first = EarlyStopping(3, maximize), EarlyStopping(3, maximize)
    second = EarlyStopping(3, maximize)
    for epoch, value in enumerate(values):
        whole.update(value, epoch)
        if epoch == min(cut, len(values) - 1):
            second.load_state_dict(first.state_dict())
        (first if epoch < cut and epoch < len(values) - 1 else second).update(value, epoch)
    assert second.state_dict() == whole.state_dict()
    assert second.exhausted(len(values) - 1) == whole.exhausted(len(values) - 1)


def test_the_thesis_waits_twenty_epochs() -> None:
    stopping = EarlyStopping()
    stopping.update(1.0, 4)
    assert next(epoch for epoch in range(4, 40) if stopping.exhausted(epoch)) == 24


@pytest.mark.parametrize("maximize", [True, False])
def test_infinity_is_a_value(maximize: bool) -> None:
    stopping = EarlyStopping(maximize=maximize)
    assert stopping.update(-math.inf if maximize else math.inf, 0)
    assert stopping.update(0.0, 1)
