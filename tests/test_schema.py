"""Records: closed, finite, frozen, and named by their content."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sfbench.schema import (
    Context,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Request,
    Scores,
    TaskCard,
    canonical_json,
    digest,
)

GEOMETRY = Geometry(frames=8, height=32, width=32, fps=16)
REQUEST = Request(prompt=Prompt(id="p", text="a disc"), geometry=GEOMETRY, seed=1)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
def test_canonical_json_knows_no_order(content: dict[str, float]) -> None:
    backwards = dict(reversed(content.items()))
    assert canonical_json(content) == canonical_json(backwards)
    assert json.loads(canonical_json(content)) == content


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_cannot_be_written(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"value": value})
    with pytest.raises(ValidationError):
        Scores(values={"level": value})
    with pytest.raises(ValidationError):
        Scores(series={"level": (1.0, value)})
    with pytest.raises(ValidationError):
        Estimate(value=value, low=None, high=None, n=1, clusters=1, method="mean")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"prompt": Prompt(id="q", text="a disc")},
        {"prompt": Prompt(id="p", text="a square")},
        {"geometry": GEOMETRY.model_copy(update={"fps": 8.0})},
        {"context": Context(arm="own", prefix=2, chunk=2)},
        {"options": {"guidance": 2.0}},
    ],
)
def test_every_part_of_a_request_is_in_its_key(change: dict[str, object]) -> None:
    assert REQUEST.model_copy(update=change).key != REQUEST.key


def test_a_key_survives_the_file_and_is_a_file_name() -> None:
    again = Request.model_validate_json(REQUEST.model_dump_json())
    assert again == REQUEST
    assert again.key == REQUEST.key
    assert len(REQUEST.key) == 16
    assert set(REQUEST.key) <= set("0123456789abcdef")


def test_records_are_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        REQUEST.seed = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        ModelCard(name="m", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Geometry(frames=0, height=1, width=1, fps=1)


def test_every_field_of_a_task_is_compared() -> None:
    card = TaskCard(
        name="t",
        version=1,
        tier="smoke",
        dataset="d",
        prompts_sha256="0",
        geometry=GEOMETRY,
        seeds=(0,),
        metrics={"m": 1},
    )
    changes = {
        "name": "u",
        "version": 2,
        "tier": "lite",
        "dataset": "e",
        "prompts_sha256": "1",
        "geometry": GEOMETRY.model_copy(update={"frames": 9}),
        "seeds": (1,),
        "metrics": {"m": 2},
        "conditions": {"threads": "2"},
    }
    assert changes.keys() == TaskCard.model_fields.keys()
    for name, value in changes.items():
        other = card.model_copy(update={name: value}).comparison
        field = "threads" if name == "conditions" else name  # each condition is a field of its own
        assert [k for k in other if other[k] != card.comparison.get(k)] == [field]
        assert digest(other) != digest(card.comparison)
