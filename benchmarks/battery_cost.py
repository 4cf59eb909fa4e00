"""What a WMDP suite asks of a model: tokens, and by arithmetic the GPU-hours that they are on seven billion parameters.

    python benchmarks/battery_cost.py [--suite suites/wmdp-standard.yaml] [--layers 28] [--only ATTACK ...]

The suite's own trials, with those that its policy adds, run with their own settings on a random model of next to no
width, over invented questions, as many as the hub's and about as long (`--words`). Every token that goes through the
model is counted, whatever is asked: all letter orders, choices, forms, common beginnings once. A trial of a control
costs what the candidate's own does. Not run in full, because it would take hours:

- the examination after each budget: the attacked model is asked two small samples of every task (`SAMPLES`);
- attacks that use the model's blocks (`NEEDS`) run at two depths (`DEPTHS`), for `--layers`;
- a few attacks run at two small values of a setting (`LINES`), for the suite's. A search of a prefix so short does not
  look at dev on the way, which is left out. Each of these is a straight line through the two points;
- training: a step's tokens are counted from its batch, padding included, and no step is made;
- the same questions in the same form: asked twice of one model, with whatever weights, and from then on counted as the
  second time was.

*GPU-hours* are arithmetic, not a measurement: 2 floating-point operations a parameter and token without gradient, 6
with one, at the share of the GPU's peak that `--share` says. *Host* is measured here: CPU seconds of one thread outside
the model's own passes (encoding, planning of batches, scoring), which do not shrink with a GPU and wait for it in turn.
Work on weights and the optimiser's is in neither: on a model without width it takes nothing, on a real one it is done
on the device. Loading is not in it.
Of a trial that is a straight line it is what the larger run took, which is too little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from invented import POLICIES, ROOT, Battery, battery, tokenizer

from robustness_gate import attacks, tasks
from robustness_gate.errors import NotApplicable
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.questions import asked
from robustness_gate.records.trial import OWN_ROLES, Trial
from robustness_gate.verdict import label

PARAMETERS = 7.6e9
PEAK = 989e12
"""Dense bfloat16 operations a second of an H100 or H200 SXM, by NVIDIA's data sheet."""
SAMPLES = (8, 24)
"""Questions of each task that the attacked model is asked."""
DEPTHS = (2, 3)
LINES: dict[str, dict[str, tuple[int, int]]] = {
    "universal_prefix": {"budgets": (1, 2), "candidates": (8, 16)},
    "ablation": {"questions": (10, 20)},
    "few_shot": {"draws": (1, 2)},
}
"""Settings in which the tokens of an attack are a straight line, and the two values that are run."""


@dataclass
class Counts:
    """What went through the model, and the CPU seconds of its passes."""

    tokens: Any
    """`engine.usage.Tokens`."""
    passes: float = 0
    """CPU seconds in passes."""
    deep: int = 0
    """Of how many passes we are inside."""
    repeated: float = 0
    """Host seconds of what was asked before and is not asked again."""

    begun: float = 0
    """When the outermost of them began."""

    def enter(self) -> None:
        """A pass, or a part of one, begins."""
        self.begun = self.begun if self.deep else time.process_time()
        self.deep += 1

    def leave(self) -> None:
        """It ends."""
        self.deep -= 1
        if not self.deep:
            self.passes += time.process_time() - self.begun

    def host(self) -> float:
        """CPU seconds of this process so far, outside the passes."""
        return time.process_time() - self.passes + self.repeated


@dataclass(frozen=True)
class Cost:
    """What one trial takes."""

    budgets: int
    read: float
    learnt: float
    examined: float
    """Of `read`: tokens of the examinations."""
    host: float
    """CPU seconds outside the model's passes."""
    why: str = ""
    """Why it is not applicable here; empty where it is."""


def narrow(layers: int, seed: int) -> Any:
    """A random model of so many layers and next to no width, with its tokenizer."""
    import torch
    import transformers

    from robustness_gate.engine import padding
    from robustness_gate.engine.load import LoadedModel

    of = tokenizer()
    torch.manual_seed(seed)
    config = transformers.Qwen2Config(
        vocab_size=len(of),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=4096,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)
    padding.guard(model)
    return LoadedModel(model, of)


def counted(models: Sequence[Any], counts: Counts) -> None:
    """Count what goes through the models from now on, forwards and backwards; training is counted and not done."""
    import torch

    from robustness_gate.engine import hooks, score, train, usage

    tokens = counts.tokens

    for model in models:
        usage.watch(model, tokens)
        for part in (model.base_model, model.get_output_embeddings()):  # a replaced `forward` would be read whole
            part.register_forward_pre_hook(hooks.tokenwise(lambda *_: counts.enter()))
            part.register_forward_hook(hooks.tokenwise(lambda *_: counts.leave()), always_call=True)
    for name in ("backward", "grad"):
        setattr(torch.autograd, name, _timed(getattr(torch.autograd, name), counts))

    def course(_: Any, __: Any, examples: Sequence[Any], recipe: Any, seed: int, way: Any) -> Any:
        draw, seen = train._Draw(len(examples), seed), 0
        for _ in range(recipe.steps):
            lengths = [len(examples[at].ids) for at in draw.take(recipe.batch)]
            tokens.learnt += len(lengths) * max(lengths)
            seen += sum(lengths)
        return train.Course([1.0] * recipe.steps, seen, way)

    train.train = course
    score.ModelLM.loglikelihoods = _once_more(score.ModelLM.loglikelihoods, counts)


def _timed(work: Any, counts: Counts) -> Any:
    def timed(*given: Any, **named: Any) -> Any:
        counts.enter()
        try:
            return work(*given, **named)
        finally:
            counts.leave()

    return timed


def _once_more(ask: Any, counts: Counts) -> Any:
    """Ask, or count as the second time what was asked twice of this model in passes of the same kind."""
    from robustness_gate.engine import hooks, shared

    known: dict[Any, list[tuple[Any, float, float]]] = {}

    def asked_again(lm: Any, questions: Sequence[Any], form: Any) -> Any:
        alike = hooks.are_tokenwise(lm.model), shared._is_as_measured(lm.model)
        if form.rewrite is not None or lm.respelling is not None:  # what differs there cannot be compared
            return ask(lm, questions, form)
        seen = known.setdefault((id(lm.model), alike, tuple(questions), form), [])
        if len(seen) < 2:
            read, host = counts.tokens.read, counts.host()
            rows = ask(lm, questions, form)
            seen.append((rows, counts.tokens.read - read, counts.host() - host))
            return rows
        rows, read, host = seen[-1]
        counts.tokens.read += read
        counts.repeated += host
        return rows

    return asked_again


def examination(lm: Any, task_data: TaskData, counts: Counts) -> tuple[float, float]:
    """Tokens read and host seconds of asking all items of a task, by a straight line through two samples of them."""
    task, found = tasks.load(task_data.kind), []
    for many in SAMPLES:
        some = tuple(item.question for item in task_data.items[:many])
        read, host = counts.tokens.read, counts.host()
        asked(task, lm, some, task_data.form)
        found.append((len(some), counts.tokens.read - read, counts.host() - host))
    (few, *small), (many, *large) = found
    if many == few:
        return large[0], large[1]
    steps = (len(task_data.items) - few) / (many - few)
    read, host = (one + max(0.0, other - one) * steps for one, other in zip(small, large, strict=True))
    return read, host


def cost(trial: Trial, given: Battery, loaded: Any, original: Any, counts: Counts) -> Cost:
    """Run a trial's attack, with samples of its examinations."""
    from robustness_gate.running import trial as trials

    module = attacks.load(trial.attack)
    config = attacks.configure(module, trial.config)
    reference = (lambda: contextlib.nullcontext(original)) if trial.reference is not None else None
    target = trials.target_of(given.suite_data, loaded, reference)
    read, learnt, host = counts.tokens.read, counts.tokens.learnt, counts.host()
    budgets, examined, its_host, why = 0, 0.0, 0.0, ""
    try:
        for attacked in module.attack(target, config, trial.seed):
            budgets += 1
            before, since = counts.tokens.read, counts.host()
            for ref in trial.tasks:
                found = examination(attacked.model, given.suite_data.tasks[ref.name], counts)
                examined, its_host = examined + found[0], its_host + found[1]
            read, host = (
                read + counts.tokens.read - before,
                host + counts.host() - since,
            )  # the samples are no part of it
    except NotApplicable as error:
        why = error.message
    read, host = counts.tokens.read - read, counts.host() - host
    return Cost(budgets, read + examined, counts.tokens.learnt - learnt, examined, host + its_host, why)


def whole(trial: Trial, given: Battery, pairs: Mapping[int, Any], layers: int, counts: Counts) -> Cost:
    """What a trial takes on a model of so many layers: by straight lines, where it is not run in full."""
    lines = {name: ends for name, ends in LINES.get(trial.attack, {}).items() if _most(trial.config[name]) >= ends[1]}

    def at(config: dict[str, Any], depth: int, left: Sequence[str]) -> Cost:
        if not left:
            budgets = tuple(config.get("budgets", trial.budgets))
            return cost(trial.model_copy(update={"config": config, "budgets": budgets}), given, *pairs[depth], counts)
        name, *rest = left
        small, large = lines[name]
        values = [[each] if isinstance(config[name], list) else each for each in (small, large)]
        found = [at({**config, name: value}, depth, rest) for value in values]
        most = _most(trial.config[name])
        if name == "questions":  # at most so many as there are
            most = min(most, given.suite_data.pool()["forget.items"])
        return _line(*found, (most - small) / (large - small))

    depths = DEPTHS if "blocks" in getattr(attacks.load(trial.attack), "NEEDS", ()) else DEPTHS[:1]
    found = [at(dict(trial.config), depth, list(lines)) for depth in depths]
    return found[0] if len(found) == 1 else _line(*found, (layers - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0]))


def _most(value: Any) -> float:
    return float(max(value)) if isinstance(value, list) else float(value)


def _line(one: Cost, other: Cost, steps: float) -> Cost:
    """The cost so many times the difference after the first; the host's is the second one's."""
    numbers = {
        name: getattr(one, name) + steps * (getattr(other, name) - getattr(one, name))
        for name in ("read", "learnt", "examined")
    }
    return replace(other, **numbers)


def hours(read: float, learnt: float, share: float) -> float:
    """GPU-hours for so many tokens."""
    return (2 * read + 6 * learnt) * PARAMETERS / (PEAK * share) / 3600


def main() -> None:
    """Count, and print a table."""
    asked_for = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked_for.add_argument("--suite", type=Path, default=ROOT / "suites" / "wmdp-standard.yaml")
    asked_for.add_argument("--layers", type=int, default=28)
    asked_for.add_argument("--words", type=int, default=15, help="of a question: 15 make prompts of 148 tokens")
    asked_for.add_argument("--share", type=float, default=0.3, help="of the GPU's peak")
    asked_for.add_argument("--keep", type=Path, help="a file of what was counted: what it holds is not counted again")
    asked_for.add_argument("--only", nargs="+", default=[], help="these attacks alone")
    given = asked_for.parse_args()

    import torch

    from robustness_gate.engine import usage

    torch.set_num_threads(1)
    policy = POLICIES.get(given.suite.stem)
    policy = ROOT / "policies" / f"{policy}.yaml" if policy is not None else None
    with tempfile.TemporaryDirectory() as folder:
        on = battery(given.suite, policy, Path(folder), given.words, "float32")
        words = f"{version('robustness-gate')}, torch {version('torch')}, {datetime.now(UTC):%Y-%m-%d}"
        print(f"{on.suite.record.id} {on.suite.record.version}, robustness-gate {words}; {given.layers} layers\n")
        models = {layers: (narrow(layers, 0), narrow(layers, 1)) for layers in DEPTHS}
        counts = Counts(usage.Tokens())
        counted([each.model for pair in models.values() for each in pair], counts)
        kept = json.loads(given.keep.read_text(encoding="utf-8")) if given.keep and given.keep.exists() else {}
        made: dict[str, Cost] = {}
        print("| trial | budgets | tokens read | of them examinations | tokens learnt | GPU minutes | host seconds |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for trial in on.trials:
            if trial.role not in OWN_ROLES or (given.only and trial.attack not in given.only):
                continue
            key = _key(trial)
            made[key] = Cost(**kept[key]) if key in kept else whole(trial, on, models, given.layers, counts)
            if given.keep:
                kept[key] = asdict(made[key])
                given.keep.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            found = made[key]
            print(_row(f"{trial.role} {label(trial)}", found, given.share), flush=True)
    own = list(made.values())
    others = [made[_key(trial)] for trial in on.trials if trial.role not in OWN_ROLES and _key(trial) in made]
    print(_row("**the candidate, together**", _sum(own), given.share))
    if others:
        print(_row("**with the original and the controls**", _sum([*own, *others]), given.share))
    print(
        f"\nGPU: by arithmetic, {PARAMETERS / 1e9:.1f} billion parameters at {given.share:.0%} of "
        f"{PEAK / 1e12:.0f} TFLOP/s"
    )


def _key(trial: Trial) -> str:
    """What the trials of different models have in common, shams apart."""
    return json.dumps([trial.attack, trial.config, trial.seed_index], sort_keys=True)


def _sum(costs: list[Cost]) -> Cost:
    return Cost(
        sum(each.budgets for each in costs),
        *(sum(getattr(each, name) for each in costs) for name in ("read", "learnt", "examined", "host")),
    )


def _row(name: str, its: Cost, share: float) -> str:
    why = f" ({its.why})" if its.why else ""
    minutes = 60 * hours(its.read, its.learnt, share)
    return (
        f"| {name}{why} | {its.budgets} | {its.read / 1e6:.2f} M | {its.examined / 1e6:.2f} M | "
        f"{its.learnt / 1e6:.2f} M | {minutes:.1f} | {its.host:.0f} |"
    )


if __name__ == "__main__":
    main()
