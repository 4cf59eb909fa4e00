"""The fit to training examples: common beginnings are read once where an examination would, with the same value."""

from __future__ import annotations

import random

import families
import pytest
import torch

from robustness_gate.engine import fit as fits
from robustness_gate.engine import hooks, padding, scope, shared
from robustness_gate.engine.loss import Example


def solved(uneven: bool = True) -> list[Example]:
    """Six questions in four orders behind one header. One token counts, or the first and the last of three."""
    rng = random.Random(1)

    def some(count: int) -> list[int]:
        return [rng.randrange(3, families.WORDS) for _ in range(count)]

    header, found = some(10), list[Example]()
    for number in range(6):
        stem = [*header, *some(9 + number)]
        for order in range(4):
            counts = [True, False, True] if uneven and order == 1 else [True]
            ids = [*stem, *some(6 + order * uneven), *some(len(counts))]
            found.append(Example(ids, [False] * (len(ids) - len(counts)) + counts))
    return found


@pytest.fixture(autouse=True)
def unmeasured():
    shared.forget()
    padding.forget()


@pytest.fixture
def model():
    return families.build("llama")


def measured(model, examples):
    """As a trial measures the untouched model."""
    rows = [each.ids[:-1] for each in examples]
    padding.look(model, rows, pad=0)
    return shared.look(model, rows, pad=0)


def read(model, examples, **how):
    """The fit, and how many tokens went through the model for it."""
    passes = list[int]()
    look = hooks.tokenwise(lambda _module, _arguments, words: passes.append(words["input_ids"].numel()))
    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        return fits.fit(model, examples, **how), sum(passes)
    finally:
        handle.remove()


@pytest.mark.parametrize("uneven", [True, False])
def test_common_beginnings_are_read_once_with_the_fit_of_whole_passes(model, uneven):
    data = solved(uneven)
    whole, _ = read(model, data)
    measured(model, data)
    with scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)) as parameters:
        found, few = read(model, data)
        assert found == pytest.approx(whole, rel=1e-6)
        scope.write(parameters, {name: torch.full_like(each, 0.1) for name, each in parameters.items()})
        found, _ = read(model, data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shared, "applies", lambda *_, **__: False)
            again, many = read(model, data)
    assert few < 0.6 * many
    assert found == pytest.approx(again, rel=1e-6)
    assert abs(found.loss - whole.loss) > 1e-3, "the adapter does something"


def test_one_example_has_the_fit_that_a_person_computes(model):
    data = solved()
    measured(model, data)
    losses, right = [], []
    for each in data:
        with torch.inference_mode():
            logprobs = model(torch.tensor([each.ids])).logits[0].log_softmax(-1)
        places = [place for place, counted in enumerate(each.counts) if counted]
        losses += [-float(logprobs[place - 1, each.ids[place]]) for place in places]
        right += [int(logprobs[place - 1].argmax()) == each.ids[place] for place in places]
    found, _ = read(model, data)
    assert len(losses) == 30
    assert found.loss == pytest.approx(sum(losses) / 30, rel=1e-5)
    assert found.right == sum(right) / 30


def test_before_a_training_that_changes_nothing_and_after_it_the_fit_is_the_same_to_the_last_bit(model):
    data = solved()
    measured(model, data)
    plain = read(model, data)
    with scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)):
        assert read(model, data) == plain
    assert read(model, data[::-1])[0] == plain[0], "nor does it depend on the order of the examples"


def test_a_model_that_was_not_measured_untouched_is_read_whole_and_stays_unmeasured(model):
    data = solved()
    _, many = read(model, data)
    assert many > sum(len(each.ids) for each in data)
    assert shared.known(model) is None, "an attack must not choose what is measured"


@pytest.mark.parametrize(
    "why", ["it drifts in parts", "padding matters", "a hook was not declared", "every token counts", "none counts"]
)
def test_where_reading_in_parts_is_not_exact_or_saves_nothing_examples_are_read_whole(model, why, monkeypatch):
    data = solved()
    known = measured(model, data)
    assert read(model, data)[1] < 0.6 * sum(len(each.ids) for each in data), "otherwise it is read in parts"
    if why == "it drifts in parts":
        drift = known.drift._replace(padded=1.0)
        monkeypatch.setitem(shared._KNOWN, model.get_input_embeddings(), known._replace(drift=drift))
    elif why == "padding matters":
        monkeypatch.setattr(padding, "alike", lambda *_, side="left", **__: side == "left")
    elif why == "a hook was not declared":
        model.model.layers[0].register_forward_hook(lambda *_: None)
    elif why == "every token counts":
        data = [Example(each.ids, [False] + [True] * (len(each.ids) - 1)) for each in data]
    else:
        data[3] = Example(data[3].ids, [False] * len(data[3].ids))
    assert read(model, data)[1] >= sum(len(each.ids) for each in data)
