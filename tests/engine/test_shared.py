"""What prompts have in common is read once, with the answers of whole passes; where they differ, it is not."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import random

import families
import pytest
import torch

from robustness_gate import organisms
from robustness_gate.engine import anatomy, direction, hooks, latent, lens, padding, scope, shared
from robustness_gate.engine.events import noted
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM, content_logliks
from robustness_gate.inputs.prompts import render, rotated
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.tasks import cloze, open_answer

PLAIN = {
    "gpt_oss", "llama4_text", "gemma3_text",  # they look less far than these prompts are long
    "qwen3_next", "mamba", "falcon_mamba", "mamba2", "falcon_h1", "jamba", "rwkv", "recurrent_gemma", "xlstm",
}  # fmt: skip
"""Families that are asked by whole passes, and no other."""
WRITTEN = open_answer.form("Question: {question}\nReply:", 6, chat=False)


def orders(*stems: int, header: int = 12, seed: int = 1) -> list[list[int]]:
    """Four prompts of uneven length for each stem's length, all behind one header."""
    rng = random.Random(seed)

    def some(count: int) -> list[int]:
        return [rng.randrange(3, families.WORDS) for _ in range(count)]

    begins = some(header)
    return [[*stem, *some(rng.randrange(3, 9))] for stem in ([*begins, *some(n)] for n in stems) for _ in range(4)]


ROWS = orders(2, 9, 15, 24, 11)


@pytest.fixture(autouse=True)
def unmeasured():
    shared.forget()
    padding.forget()


@pytest.fixture(scope="module")
def llama():
    return families.build("llama")


@torch.inference_mode()
def alone(model, rows):
    return [padding.answers(model, padding.padded(model, [row]), [1])[0] for row in rows]


@torch.inference_mode()
def in_parts(model, rows, own=None, tokens=16_384):
    own = own or [1] * len(rows)
    found = {}
    for some, logprobs in shared.endings(model, rows, own, shared.tree(rows, own), pad=0, tokens=tokens):
        assert found.keys().isdisjoint(some), "each row once"
        found |= dict(zip(some, logprobs, strict=True))
    assert len(found) == len(rows)
    return [found[i] for i in range(len(rows))]


@contextlib.contextmanager
def counted(model):
    """The tokens of every pass, padding included."""
    passes = []
    look = hooks.tokenwise(lambda _module, _arguments, words: passes.append(words["input_ids"].numel()))
    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    yield passes
    handle.remove()


@contextlib.contextmanager
def never():
    """All is asked by whole passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "applies", lambda *_, **__: False)
        yield


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_a_tree_holds_the_common_beginnings_and_each_row_once():
    found = shared.tree(ROWS, [1] * len(ROWS))
    assert found.trunk == 12
    assert sorted(row for branch in found.branches for row in branch.rows) == list(range(len(ROWS)))
    by_length = {branch.length: sorted(branch.rows) for branch in found.branches if branch.length > 12}
    assert by_length == {21: [4, 5, 6, 7], 27: [8, 9, 10, 11], 36: [12, 13, 14, 15], 23: [16, 17, 18, 19]}
    saved = 12 * 19 + 3 * (9 + 15 + 24 + 11)
    assert found.saved == pytest.approx(saved / sum(map(len, ROWS)))
    rest = max(len(ROWS[row]) - branch.length for branch in found.branches for row in branch.rows)
    assert (found.places, rest) == (46, 10)


def test_a_tree_does_not_depend_on_the_order_of_its_rows():
    mixed = random.Random(2).sample(range(len(ROWS)), len(ROWS))
    found, other = (shared.tree(rows, [1] * len(rows)) for rows in (ROWS, [ROWS[i] for i in mixed]))
    assert other._replace(branches=[]) == found._replace(branches=[])
    back = [shared.Branch(each.length, [mixed[row] for row in each.rows]) for each in other.branches]
    assert back == found.branches


def test_what_is_scored_is_never_part_of_a_common_beginning():
    one = list(range(3, 43))
    for own in (1, 5, 30):
        found = shared.tree([one, one, [*one, 9]], [own] * 3)
        assert max(branch.length for branch in found.branches) <= 40 - own
    assert shared.tree([one], [1]) == shared.Tree(0, [shared.Branch(0, [0])], 0.0, 40)
    assert shared.tree([], []) == shared.Tree(0, [], 0.0, 0)


def test_the_tree_saves_the_most_that_two_levels_can():
    rng = random.Random(5)
    for _ in range(20):
        rows = [[0] * rng.choice((0, 9)) + [rng.choice((1, 2)) for _ in range(14)] + [3] for _ in range(5)]
        found = shared.tree(rows, [1] * 5)

        def saved(cuts, rows=rows, trunk=found.trunk):
            ordered = sorted(rows)
            parts = [ordered[a:b] for a, b in itertools.pairwise((0, *cuts, 5))]
            commons = [0 if len(p) < 2 else max(0, _common(p, len(p[0]) - 1) - trunk) for p in parts]
            return sum((len(p) - 1) * c for p, c in zip(parts, commons, strict=True) if c >= shared.LEAST)

        best = max(saved(cuts) for n in range(5) for cuts in itertools.combinations(range(1, 5), n))
        assert found.saved * sum(map(len, rows)) == pytest.approx(best + 4 * found.trunk)


def _common(rows, most):
    return next((i for i in range(most) if len({row[i] for row in rows if i < len(row) - 1}) != 1), most)


# --- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_read_in_parts_with_the_same_answers_or_not_at_all(name):
    model = families.build(name)
    places = shared.tree(ROWS, [1] * len(ROWS)).places
    assert shared.applies(model, ROWS, places, pad=0) == (name not in PLAIN)
    if name not in PLAIN:
        for one, other in zip(alone(model, ROWS), in_parts(model, ROWS), strict=True):
            assert (one - other[-1]).abs().max() < 2e-5
            assert one.max() - one.min() > 1, "it has something to say"


@pytest.mark.parametrize("tokens", [1, 60, 16_384])
@pytest.mark.parametrize("header", [0, 12])
def test_batches_of_any_size_give_each_row_its_own_answer(llama, tokens, header, monkeypatch):
    rows = orders(30, 2, 9, 11, 10, header=header)
    assert shared.look(llama, rows, pad=0) is not None
    plain = alone(llama, rows)
    apart = min((one - other).abs().max() for one, other in itertools.combinations(plain, 2))
    assert apart > 0.5, "no row has another's answer"
    for places in (1, 1 << 30):
        monkeypatch.setattr(shared, "CACHE_BYTES", places)
        found = in_parts(llama, rows, tokens=tokens)
        assert all((one - other[-1]).abs().max() < 2e-5 for one, other in zip(plain, found, strict=True))


def test_several_last_positions_of_uneven_ends_are_aligned_at_the_end(llama):
    shared.look(llama, ROWS, pad=0)
    own = [1 + number % 3 for number in range(len(ROWS))]
    with torch.inference_mode():
        for row, mine, found in zip(ROWS, own, in_parts(llama, ROWS, own), strict=True):
            whole = llama(torch.tensor([row])).logits[0, -mine:].log_softmax(-1)
            assert (whole - found[-mine:]).abs().max() < 2e-5


def test_the_same_rows_in_another_order_have_the_same_answers_to_the_last_bit(llama):
    shared.look(llama, ROWS, pad=0)
    mixed = random.Random(2).sample(range(len(ROWS)), len(ROWS))
    found, other = in_parts(llama, ROWS), in_parts(llama, [ROWS[i] for i in mixed])
    assert all(torch.equal(found[row][-1], other[at][-1]) for at, row in enumerate(mixed))


# --- where it is not exact --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("mistral", "sliding_window", {"sliding_window": 46}),
        ("gpt2", "max_position_embeddings", {"n_positions": 46}),
        ("llama", "floor_scale", {"floor_scale": 46}),
        ("llama", "original_max_position_embeddings",
         {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "short_factor": [1.0] * 8,
                              "long_factor": [4.0] * 8, "original_max_position_embeddings": 46}}),
    ],
)  # fmt: skip
def test_prompts_that_reach_farther_than_the_model_looks_are_asked_whole(name, key, words, monkeypatch):
    config, usual = families.FAMILIES.get(name, ("MistralConfig", families.DENSE))
    monkeypatch.setitem(families.FAMILIES, name, (config, {**usual, **words}))
    model = families.build(name)
    assert shared.reach(model) == 46, key
    assert shared.applies(model, ROWS, 46, pad=0)
    assert all((a - b[-1]).abs().max() < 2e-5 for a, b in zip(alone(model, ROWS), in_parts(model, ROWS), strict=True))
    assert not shared.applies(model, ROWS, 47, pad=0)


def test_names_of_layers_and_patterns_are_no_windows():
    assert shared.reach(families.build("qwen2_moe")) == 256, "max_window_layers"
    assert shared.reach(families.build("gemma3_text")) == 32, "sliding_window and not its pattern"


def wrong_positions(real):
    def read(model, state, rows, **how):
        if state is None or state.mask.shape[1] < 2:
            return real(model, state, rows, **how)
        handle = model.register_forward_pre_hook(
            lambda _m, a, words: (a, {**words, "position_ids": words["position_ids"] + 1}), with_kwargs=True
        )
        try:
            return real(model, state, rows, **how)
        finally:
            handle.remove()

    return read


def hidden_beginnings(real):
    def read(model, state, rows, **how):
        return real(model, state if state is None else state._replace(mask=state.mask * 0), rows, **how)

    return read


def rows_mixed_up(real):
    def read(model, state, rows, **how):
        return real(model, None if state is None else shared.selected(state, range(len(rows))[::-1]), rows, **how)

    return read


@pytest.mark.parametrize("broken", [wrong_positions, hidden_beginnings, rows_mixed_up])
def test_a_family_that_would_read_wrongly_in_parts_is_found_out_and_asked_whole(llama, broken, monkeypatch):
    monkeypatch.setattr(shared, "read", broken(shared.read))
    assert not shared.applies(llama, ROWS, 46, pad=0)
    assert shared.known(llama).drift.padded > padding.LIMIT


def test_a_family_whose_pass_with_a_cache_fails_is_asked_whole(llama, monkeypatch):
    def fails(*_, **__):
        raise NotImplementedError  # stands in for a family that cannot read behind a cache

    monkeypatch.setattr(shared, "read", fails)
    assert not shared.applies(llama, ROWS, 46, pad=0)
    assert shared.known(llama).drift.padded == padding.UNKNOWN


def test_answers_that_are_no_numbers_are_no_measurement():
    model = families.build("llama")
    model.lm_head.weight.fill_(torch.nan)
    assert not shared.applies(model, ROWS, 46, pad=0)
    assert shared.known(model) is None


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_in_low_precision_only_rounding_is_allowed(name):
    model = families.build(name, torch.bfloat16)
    found = shared.measured(model, ROWS, pad=0)
    assert not found.drift.exact
    assert not found.drift.matters
    assert found.drift.noise > 0


def test_it_is_measured_once_for_the_same_rows_and_the_worst_stays(llama, monkeypatch):
    made = []
    drifts = iter([0.001, 0.3, 0.002])

    def measured(_model, rows, *, pad):
        made.append(rows)
        return shared.Sharing(padding.Drift(next(drifts), 0.0, exact=True), 1)

    monkeypatch.setattr(shared, "measured", measured)
    assert [shared.applies(llama, ROWS, 46, pad=0) for _ in range(3)] == [True] * 3
    assert len(made) == 1
    assert shared.look(llama, ROWS[:8], pad=0).drift.padded == 0.3
    assert shared.look(llama, ROWS[:9], pad=0).drift.padded == 0.3
    assert not shared.applies(llama, ROWS, 46, pad=0)


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_under_a_hook_that_was_not_declared_every_pass_is_whole(llama):
    def last(_module, _inputs, output):
        return torch.cat([output[:, :-1], output[:, -1:] * 2], dim=1)

    assert shared.applies(llama, ROWS, 46, pad=0)
    handle = llama.get_input_embeddings().register_forward_hook(last)
    assert not shared.applies(llama, ROWS, 46, pad=0)
    handle.remove()
    assert shared.applies(llama, ROWS, 46, pad=0)
    with anatomy.edited({llama.model.layers[0]: lambda stream: stream * 2}):
        assert not shared.applies(llama, ROWS, 46, pad=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama.model.layers[0], "forward", llama.model.layers[0].forward)
        assert not shared.applies(llama, ROWS, 46, pad=0)
    handle = torch.nn.modules.module.register_module_forward_hook(last)
    assert not shared.applies(llama, ROWS, 46, pad=0)
    handle.remove()
    assert not shared.applies(object(), ROWS, 46, pad=0), "a lens in the model's place"


@pytest.fixture(scope="module")
def base():
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def questions(small_suite_data):
    return [item.question for item in small_suite_data.tasks["forget"].items]


@pytest.fixture(scope="module")
def form(small_suite_data):
    return small_suite_data.tasks["forget"].form


def scopes(loaded):
    """Each of our scopes that is open while a model is asked."""
    model, parts = loaded.model, anatomy.dissect(loaded.model)
    width = parts.embedding.weight.shape[1]
    vector = torch.randn(width, generator=torch.Generator().manual_seed(0))
    blocks = [block.module for block in parts.blocks]
    rows = {parts.embedding: vector.repeat(3, 1) * 0.1}
    yield "removed", anatomy.edited(dict.fromkeys(blocks, direction.remover(vector, 1.0)))
    yield "added", anatomy.edited({blocks[1]: direction.adder(vector, 0.2)})
    yield "at first", latent.at_first(model, rows)
    yield "far into the prompt", latent.at_first(model, {blocks[1]: vector.repeat(60, 1) * 0.1})
    yield "lens", lens.read_at(parts, lens.Site(1, "after_attention"))
    yield "adapter", adapted(model)


@contextlib.contextmanager
def adapted(model):
    with scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)) as parameters:
        generator = torch.Generator().manual_seed(0)
        for each in parameters.values():
            each.data.normal_(std=0.1, generator=generator)
        yield


def test_under_each_of_our_scopes_answers_are_those_of_whole_passes(base, questions, form):
    lm = ModelLM(*base)
    untouched = content_logliks(lm, questions[:4], form)
    for name, opened in scopes(base):
        with opened:
            with counted(base.model) as passes:
                found, texts = content_logliks(lm, questions[:4], form), lm.generate(questions[:4], WRITTEN)
            with never(), counted(base.model) as whole:
                expected, written = content_logliks(lm, questions[:4], form), lm.generate(questions[:4], WRITTEN)
        assert sum(passes) < 0.7 * sum(whole), f"{name}: it was read in parts"
        assert (found - expected).abs().max() < 2e-5, name
        assert texts == written, name
        assert (found - untouched).abs().max() > 1e-3, f"{name}: the scope does something"


def test_vectors_before_the_prompt_are_in_what_all_prompts_have_in_common(base, questions, form):
    lm = latent.Prepended(*base, places=5)
    lm.look(questions[:8], form)
    vectors = {base.model.get_input_embeddings(): torch.ones(5, 128) * 0.3}
    with latent.at_first(base.model, vectors, instead=True), counted(base.model) as passes:
        found, few = content_logliks(lm, questions[:8], form), sum(passes)
        with never():
            expected = content_logliks(lm, questions[:8], form)
    assert few < 0.6 * (sum(passes) - few)
    assert (found - expected).abs().max() < 2e-5


# --- what is asked, and how many tokens that takes --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rmu", "neox_rmu"])
def test_an_organism_answers_as_in_whole_passes(name, questions, form, small_suite_data):
    loaded = load(organisms.checkpoint(name), dtype="float32", device="cpu")
    lm, shots = ModelLM(*loaded), small_suite_data.dev[:5]
    for each, few in ((form, 12), (dataclasses.replace(form, shots=shots), 4), (cloze.form(None), 12)):
        found = content_logliks(lm, questions[:few], each)
        with never():
            expected = content_logliks(lm, questions[:few], each)
        assert (found - expected).abs().max() < 2e-5
        assert torch.equal(found.sum(1).argmax(-1), expected.sum(1).argmax(-1))
    written = lm.generate(questions, WRITTEN)
    with never():
        assert lm.generate(questions, WRITTEN) == written


def test_examples_header_and_stem_are_read_once(base, questions, form, small_suite_data):
    """Against the tokens that are counted here by hand: five examples, eight questions in four orders."""
    lm, five = ModelLM(*base), dataclasses.replace(form, shots=small_suite_data.dev[:5])
    asked = [[rotated(question, shift) for shift in range(4)] for question in questions[:8]]
    texts = [[render(each, five) for each in some] for some in asked]
    rows = [base.tokenizer(some)["input_ids"] for some in texts]
    trunk = latent.shared([row for some in rows for row in some])
    stems = [latent.shared(some) for some in rows]
    once = trunk + sum(
        stem - trunk + sum(len(row) - stem for row in some) for stem, some in zip(stems, rows, strict=True)
    )
    lm.look(questions[:8], five)
    with counted(base.model) as passes:
        content_logliks(lm, questions[:8], five)
    assert passes[0] == trunk
    assert once <= sum(passes) <= 1.2 * once
    assert sum(passes) < sum(len(row) for some in rows for row in some) / 7
    with counted(base.model) as passes, never():
        content_logliks(lm, questions[:8], five)
    assert sum(passes) >= sum(len(row) for some in rows for row in some)


def test_a_cloze_question_is_read_once_for_all_its_choices(base, small_suite_data):
    stems = [item.question.stem + " " + "and so on " * 20 for item in small_suite_data.dev[:6]]
    asked = [Question(str(n), stem, ("one lamp", "two red lamps", "three", "four")) for n, stem in enumerate(stems)]
    lm = ModelLM(*base)
    lm.look(asked, cloze.form(None))
    with counted(base.model) as passes:
        found = lm.loglikelihoods(asked, cloze.form(None))
    with never(), counted(base.model) as whole:
        expected = lm.loglikelihoods(asked, cloze.form(None))
    assert sum(passes) < 0.45 * sum(whole)
    assert (found - expected).abs().max() < 2e-5


def test_a_written_answer_is_one_token_a_step(base, questions):
    lm, few = ModelLM(*base), questions[:4]
    lm.look(questions, WRITTEN)
    with counted(base.model) as passes:
        written = lm.generate(few, WRITTEN)
    prompts = base.tokenizer([render(each, WRITTEN) for each in few])["input_ids"]
    assert passes[0] == len(few) * max(map(len, prompts))
    assert 2 <= len(passes) <= WRITTEN.tokens
    assert passes[1] == len(few)
    assert passes[1:] == sorted(passes[1:], reverse=True), "answers that ended are not read on"
    with never():
        assert lm.generate(few, WRITTEN) == written


def test_an_answer_that_ends_early_leaves_the_others_as_they_are(byte_level):
    model = families.build("llama", words=len(byte_level))
    lm, rows = ModelLM(model, byte_level), orders(4, 9, header=3)[::2]
    free = [lm._lines([row], 8, (), behind=False)[0] for row in rows]
    assert len(set(free)) == len(rows), "each writes something else"
    first = [list(row) for row in rows[:2]]
    for _ in range(3):
        first = [[*row, int(found.argmax())] for row, found in zip(first, alone(model, first), strict=True)]
    ends = {row[-1] for row in first}
    with counted(model) as passes:
        found = lm._lines(rows, 8, ends, behind=True)
    assert passes[-1] < passes[1], "some ended, and others went on"
    assert found == lm._lines(rows, 8, ends, behind=False)
    assert found != free


def test_what_writes_no_numbers_writes_nothing_in_either_pass(questions, monkeypatch):
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    lm = ModelLM(*loaded)
    lm.look(questions[:4], WRITTEN)
    head = loaded.model.lm_head.weight
    head.data[7] = torch.nan
    assert shared.applies(loaded.model, [[1, 2]], 8, pad=0), "it was measured before"
    assert lm.generate(questions[:4], WRITTEN) == [None] * 4


def test_an_attack_at_strength_zero_is_asked_in_the_same_passes(base, questions, form):
    lm, parts = ModelLM(*base), anatomy.dissect(base.model)
    vector = torch.randn(128)
    with counted(base.model) as plain:
        untouched = content_logliks(lm, questions[:8], form)
    for opened in (
        anatomy.edited({parts.blocks[1].module: direction.remover(vector, 0.0)}),
        latent.at_first(base.model, {parts.embedding: torch.zeros(3, 128)}),
        lens.read_at(parts, lens.Site(1, "mlp"), 0.0),
    ):
        with opened, counted(base.model) as passes:
            assert torch.equal(content_logliks(lm, questions[:8], form), untouched)
        assert passes == plain[-len(passes) :]
    with counted(base.model) as passes:
        assert torch.equal(content_logliks(latent.Prepended(*base, places=0), questions[:8], form), untouched)
    assert passes == plain[-len(passes) :]


def test_where_too_little_is_common_the_passes_are_whole(base):
    asked = [Question(str(n), f"{n} {'word ' * 30}", ("a", "b", "c", "d")) for n in range(6)]
    with counted(base.model) as passes:
        ModelLM(*base).loglikelihoods(asked, Form())
    with never(), counted(base.model) as whole:
        ModelLM(*base).loglikelihoods(asked, Form())
    assert passes[-1:] == whole


# --- memory -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_tried_in_halves_without_the_activations_of_the_first_try(llama):
    from robustness_gate.engine.batching import halved

    class Big:
        alive = 0

        def __init__(self):
            Big.alive += 1

        def __del__(self):
            Big.alive -= 1

    def work(parts):
        held, here = Big(), Big.alive
        if len(parts) > 2:
            raise torch.OutOfMemoryError
        assert here == 1, "the failed try's are gone"
        return held is not None and sum(parts)

    assert list(halved(work, [1, 2, 3, 4, 5])) == [([1, 2], 3), ([3], 3), ([4, 5], 9)]

    def never_fits(_parts):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        list(halved(never_fits, [1, 2]))
    shared.look(llama, ROWS, pad=0)
    plain = alone(llama, ROWS)
    handle = llama.register_forward_pre_hook(hooks.tokenwise(_small_memory), with_kwargs=True)
    found = in_parts(llama, ROWS)
    handle.remove()
    assert all((one - other[-1]).abs().max() < 2e-5 for one, other in zip(plain, found, strict=True))


def _small_memory(_module, _arguments, words):
    if len(words["input_ids"]) > 2:
        raise torch.OutOfMemoryError


def test_keys_and_values_take_no_more_than_their_bound(llama, monkeypatch):
    sharing = shared.look(llama, ROWS, pad=0)
    assert sharing.place_bytes == 3 * 2 * 16 * 4, "three layers, keys and values, one head of 16, float32"
    monkeypatch.setattr(shared, "CACHE_BYTES", 130 * sharing.place_bytes)
    shapes = []
    look = hooks.tokenwise(lambda _m, _a, words: shapes.append(tuple(words["attention_mask"].shape)))
    handle = llama.register_forward_pre_hook(look, with_kwargs=True)
    in_parts(llama, ROWS)
    handle.remove()
    assert max(rows * places for rows, places in shapes) <= 130
    assert len(shapes) > 6
    assert shared.most_rows(llama, 10**9) == 1


def test_lost_and_strange_questions_are_noted_as_ever(base, questions, form):
    long = Question("long", "word " * 3000, ("a", "b", "c", "d"))
    with noted() as notes:
        found = ModelLM(*base).loglikelihoods([*questions[:3], long], form)
    assert found.isfinite().all(dim=1).tolist() == [True, True, True, False]
    assert notes.cut == {"long"}
    assert Item(long, 0).question.id in notes.lost


# --- what is another model than the measured one, and answers without an order ----------------------------------------


def own_block(model):
    class Block(type(model.model.layers[0])):
        pass

    old = model.model.layers[1]
    new = Block(model.config, layer_idx=1).eval()
    new.load_state_dict(old.state_dict())
    model.model.layers[1] = new


def other_class(model):
    model.model.layers[1].__class__ = type("Block", (type(model.model.layers[1]),), {})


def own_call(model):
    model.model.layers[1]._call_impl = model.model.layers[1]._call_impl


@pytest.mark.parametrize("change", [own_block, other_class, own_call])
def test_a_model_that_a_plug_in_put_together_otherwise_is_asked_whole(change):
    model = families.build("llama")
    assert shared.applies(model, ROWS, 60, pad=0)
    change(model)
    assert not shared.applies(model, ROWS, 60, pad=0)


def test_a_class_that_a_plug_in_patched_is_asked_whole(llama, monkeypatch):
    assert shared.applies(llama, ROWS, 60, pad=0)
    norm = type(llama.model.norm)
    own = norm.forward
    monkeypatch.setattr(norm, "forward", lambda self, states: own(self, states))
    assert not shared.applies(llama, ROWS, 60, pad=0)


def test_a_copied_name_declares_no_hook():
    declared = hooks.tokenwise(lambda *_: None)

    @functools.wraps(declared)
    def other(*_):
        return None

    assert hooks.is_tokenwise(declared)
    assert not hooks.is_tokenwise(other)


@pytest.mark.parametrize("power", [-20, -60])
def test_logits_that_are_all_alike_are_no_answer(power, small_suite_data):
    """Greedy decoding still finds the likeliest token of logits of 1e-9, and float32 has no order among their logs."""
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    task = small_suite_data.tasks[small_suite_data.hazard]
    asked = [item.question for item in task.items[:6]]
    lm, words = ModelLM(*loaded), dataclasses.replace(WRITTEN, header="")
    said, head = content_logliks(lm, asked, task.form), loaded.model.lm_head.weight.detach()

    def scaled(by):  # the embedding has the same weights, and stays as it is
        loaded.model.lm_head.weight = torch.nn.Parameter(head * 2.0**by, requires_grad=False)

    scaled(-10)
    assert torch.equal(content_logliks(lm, asked, task.form).argmax(-1), said.argmax(-1)), "small, and in order"
    scaled(power)
    for whole in (False, True):
        flat = dataclasses.replace(lm, whole=whole)
        assert content_logliks(flat, asked, task.form).isnan().all()
        assert flat.loglikelihoods(asked, cloze.form(None)).isnan().all()
        assert flat.generate(asked, words) == [None] * len(asked)
