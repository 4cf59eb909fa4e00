"""Organisms written as other classes: the same function, in the class that was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.attacks import ablation, quantize
from robustness_gate.engine import fold, matrices
from robustness_gate.engine.anatomy import dissect, recorded
from robustness_gate.engine.load import load
from robustness_gate.errors import Exit, NotApplicable, UsageError
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef, model_type
from robustness_gate.organisms import build, measure, rewrite, world_files
from robustness_gate.organisms.rewrite import parts
from robustness_gate.planning import bench
from robustness_gate.planning.foreseen import KNOWN_BLOCKS

IDS = torch.randint(3, 1500, (3, 48), generator=torch.Generator().manual_seed(0))
PARALLEL = ("cohere", "cohere2", "phi")
"""Attention and MLP read the same stream, so a Llama's block becomes two."""
POSITIONS = ("gpt_bigcode", "gpt_neo")
"""A table of positions is added to the stream, so a direction cannot be folded into the weights."""
SAME = 1e-5
"""Largest difference of two logits, in nats. The organisms' logits reach about 15."""


SUPPRESSED = {"llama": "rmu", "gpt_neox": "neox_rmu", "gpt2": "gpt2_rmu"}
"""An organism that unlearned, of each class that is rewritten."""


@cache
def shipped(kind: str) -> Any:
    return load(organisms.checkpoint(SUPPRESSED[kind]), dtype="float32", device="cpu").model


@pytest.fixture(scope="module")
def llama() -> Any:
    return shipped("llama")


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    """In double precision, so that only the weights' own rounding is left."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the grouped one has no double precision
    found: torch.Tensor = model.double()(input_ids=IDS, use_cache=False).logits
    model.float()
    return found


@cache
def right_of(kind: str) -> torch.Tensor:
    return logits(shipped(kind))


@pytest.fixture(scope="module")
def right() -> torch.Tensor:
    return right_of("llama")


def test_every_class_that_the_planning_counts_on_can_be_written() -> None:
    assert set(rewrite.REWRITINGS) == set(organisms.REWRITTEN)
    assert set(rewrite.REWRITINGS) <= set(transformers.CONFIG_MAPPING)
    assert {each.source for each in organisms.REWRITTEN.values()} <= set(SUPPRESSED)
    assert not set(SUPPRESSED) & set(rewrite.REWRITINGS), "these are shipped"


@pytest.fixture(scope="module", params=rewrite.REWRITINGS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An organism that unlearned as another class, as a self-test writes it."""
    folder = tmp_path_factory.mktemp(request.param)
    rewrite.write(SUPPRESSED[organisms.REWRITTEN[request.param].source], request.param, folder)
    return request.param, folder


def test_a_written_organism_has_the_same_function(written: tuple[str, Path]) -> None:
    kind, folder = written
    inspect(folder)
    loaded = load(folder, dtype="float32", device="cpu")
    assert loaded.model.config.model_type == kind
    made = type(loaded.model).__name__.lower().replace("_", "")
    assert made == f"{kind.removesuffix('_text').replace('_', '')}forcausallm"
    assert (logits(loaded.model) - right_of(organisms.REWRITTEN[kind].source)).abs().max() <= SAME


def test_it_is_of_the_class_that_counts_and_keeps_the_tokenizer(written: tuple[str, Path]) -> None:
    kind, folder = written
    source = organisms.checkpoint(SUPPRESSED[organisms.REWRITTEN[kind].source])
    assert model_type(CheckpointRef(folder)) == kind
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert not list(folder.glob("*.bin"))


def test_its_blocks_are_known_and_attacks_on_weights_find_all_of_its_matrices(written: tuple[str, Path]) -> None:
    kind, folder = written
    model = load(folder, dtype="float32", device="cpu").model
    blocks = dissect(model).blocks
    assert [block.parallel for block in blocks] == ([True] * 8 if kind in PARALLEL else [False] * 4)
    assert kind in KNOWN_BLOCKS
    inside = sum(each.numel() for block in blocks for each in block.module.parameters() if each.ndim > 1)
    assert sum(matrices.sizes(model).values()) == inside
    assert min(matrices.sizes(model).values()) > 0
    folded = next(case for case in ablation.SELF_TEST if case.words.get("apply") == "fold")
    width = model.get_input_embeddings().weight.shape[1]
    foldable = kind not in (*folded.not_as, *POSITIONS)
    refused = contextlib.nullcontext() if foldable else pytest.raises(NotApplicable)
    with refused, fold.folded(model, torch.ones(width)):
        pass
    kinds = {case.config["apply"] for case in bench.bench_of(kind).of("ablation")}
    assert foldable or "fold" not in kinds, "a case that cannot be run"


def test_no_weight_is_so_large_that_an_attack_on_all_matrices_hardly_moves_them(written: tuple[str, Path]) -> None:
    """Rounding, noise and others are believed only where they move the weights by a share of their size."""
    _, folder = written
    found = matrices.plain(load(folder, dtype="float32", device="cpu").model)
    whole = sum(float(each.weight.square().sum()) for each in found.values())
    off = 0.0
    for each in found.values():
        rounded = quantize._stored(each.weight.detach(), 4, quantize.Config(), each.transposed)
        off += float((rounded - each.weight).square().sum())
    assert (off / whole) ** 0.5 > 3 * quantize.FLOORS[0].any_of[0].min


BROKEN: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "a matrix is transposed": ("layers.2.self_attn.o_proj.weight", lambda each: each.T.contiguous()),
    "one head is in another place": ("layers.0.self_attn.q_proj.weight", lambda each: each.roll(32, 0)),
    "a norm is missing": ("layers.3.input_layernorm.weight", torch.ones_like),
    "one number is off by a hundredth": ("layers.1.mlp.down_proj.weight", lambda each: _nudged(each)),
}


def _nudged(each: torch.Tensor) -> torch.Tensor:
    made = each.clone()
    made[5, 7] += 0.01
    return made


@pytest.mark.parametrize("fault", BROKEN)
def test_a_rewriting_that_is_wrong_is_not_the_same_function(
    monkeypatch: pytest.MonkeyPatch, llama: Any, right: torch.Tensor, fault: str
) -> None:
    ending, change = BROKEN[fault]
    built = parts.built

    def breaks(kind: str, keys: Any, weights: dict[str, torch.Tensor]) -> Any:
        (name,) = (each for each in weights if each.endswith(ending))
        return built(kind, keys, weights | {name: change(weights[name])})

    monkeypatch.setattr(rewrite.llama, "built", breaks)
    assert (logits(rewrite.REWRITINGS["mistral"](llama)) - right).abs().max() > SAME


def test_nothing_of_the_new_model_is_left_random(llama: Any) -> None:
    weights = parts.weights_of(llama)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.1\.mlp\.up_proj"):
        parts.built("mistral", rewrite.llama.sizes(llama), weights)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        parts.built(
            "mistral", rewrite.llama.sizes(llama), parts.weights_of(llama) | {"model.more.weight": torch.ones(1)}
        )


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("rmu", "gpt2", "no organism can be written as a 'gpt2'"),
        ("rmu", "starcoder2", "is a 'llama', and only those of a 'gpt_neox' can be written as a 'starcoder2'"),
        ("rmu", "llama", "no organism can be written as a 'llama'"),
        ("neox_rmu", "mistral", "is a 'gpt_neox'"),
        ("neox_rmu", "gpt_neo", "is a 'gpt_neox', and only those of a 'gpt2' can be written as a 'gpt_neo'"),
        ("nonsense", "mistral", "no organism named nonsense"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, name: str, kind: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rewrite.write(name, kind, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_the_page_lists_every_class_with_what_has_no_effect_there() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
    for kind, written in organisms.REWRITTEN.items():
        assert f"| `{kind}` | rewritten from `{written.source}` | {written.neutral} |" in page
    for each in bench.SHIPPED:
        assert f"| `{each.model_type}` | shipped" in page


def test_the_command_writes_one(tmp_path: Path) -> None:
    done = commands.gate("organisms", "rewrite", "oracle", "qwen2", "--out", tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert model_type(CheckpointRef(tmp_path / "there")) == "qwen2"
    again = commands.gate("organisms", "rewrite", "oracle", "qwen2", "--out", tmp_path / "there")
    assert again.returncode == Exit.USAGE
    assert "is there already" in again.stderr


def test_experts_are_really_routed(llama: Any) -> None:
    """Different tokens go to different experts, so an attack that reaches one of them alone is seen."""
    model = rewrite.REWRITINGS["mixtral"](llama)
    seen: list[torch.Tensor] = []
    router = model.model.layers[2].mlp.gate
    router.register_forward_hook(lambda _module, _inputs, output: seen.append(output[-1]))
    with torch.inference_mode():
        model(input_ids=IDS, use_cache=False)
    used = {frozenset(each.tolist()) for each in seen[0]}
    assert len(used) > 2
    assert frozenset().union(*used) == {0, 1, 2, 3}


@pytest.mark.parametrize(("kind", "constant"), [("qwen3", 64.0), ("qwen3", 512.0)])
def test_a_smaller_constant_beside_the_queries_would_be_another_function(
    monkeypatch: pytest.MonkeyPatch, llama: Any, right: torch.Tensor, kind: str, constant: float
) -> None:
    monkeypatch.setattr(rewrite.llama, "CONSTANT", constant)
    assert (logits(rewrite.REWRITINGS[kind](llama)) - right).abs().max() > SAME


@pytest.mark.parametrize(
    ("what", "value"), [("CONSTANT", 64.0), ("CONSTANT", 1024.0), ("NO_EPS", 1e-6)], ids=["64", "1024", "an epsilon"]
)
def test_the_norms_of_what_is_added_to_a_gemmas_stream_would_act_beside_a_smaller_constant(
    monkeypatch: pytest.MonkeyPatch, llama: Any, right: torch.Tensor, what: str, value: float
) -> None:
    monkeypatch.setattr(rewrite.gemma, what, value)
    assert (logits(rewrite.REWRITINGS["gemma2"](llama)) - right).abs().max() > SAME


@pytest.mark.parametrize("kind", PARALLEL)
def test_what_an_idle_part_writes_is_the_same_for_all_numbers_of_the_stream_and_is_not_nothing(kind: str) -> None:
    """So it stays idle under an attack that treats all rows of a matrix alike, and still has weights to attack."""
    model = rewrite.REWRITINGS[kind](shipped(organisms.REWRITTEN[kind].source))
    for index, block in enumerate(dissect(model).blocks):
        with torch.inference_mode(), recorded({"it": block.attention if index % 2 else block.mlp}) as seen:
            model(input_ids=IDS, use_cache=False)
        assert (seen["it"] - seen["it"][..., :1]).abs().max() <= 1e-6 * seen["it"].abs().max()
        assert seen["it"][..., 0].std() > 1e-3
        assert all(each.abs().max() > 1e-3 for each in block.module.parameters() if each.ndim > 1)


def test_the_squares_in_a_gemmas_mlp_are_not_much_larger_than_other_activations(llama: Any) -> None:
    """Fine-tuning changes all weights by about the same, and large activations would multiply that."""
    model = rewrite.REWRITINGS["gemma2"](llama)
    seen: list[torch.Tensor] = []
    for block in model.model.layers:
        block.mlp.down_proj.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].abs()))
    with torch.inference_mode():
        model(input_ids=IDS, use_cache=False)
    wide = llama.config.intermediate_size
    assert len(seen) == 4
    for each in seen:
        assert each[..., wide:].mean() < 10 * each[..., :wide].mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "phi", "cohere"])
def test_fine_tuning_brings_back_in_the_new_class_what_it_brings_back_in_the_old(kind: str) -> None:
    items = world_files.read_items(organisms.world("forget.relearn"))[:5]
    asked = world_files.read_items(organisms.world("forget.verdict"))[:100]
    source = organisms.REWRITTEN[kind].source
    tokenizer = load(organisms.checkpoint(SUPPRESSED[source]), dtype="float32", device="cpu").tokenizer
    model = rewrite.REWRITINGS[kind](shipped(source)).requires_grad_(True)
    after = measure.relearned(model, tokenizer, items, build.FORMS[0][0], measure.FULL, seed=1)
    assert measure.readings(after, tokenizer, asked, build.FORMS[0][0])["acc_permuted"] >= 0.6
