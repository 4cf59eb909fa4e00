"""What a report means for the person who has to act on it: why, what the attacker did, and the cheapest next thing.

`advise` is pure: a report in, words and numbers out, and the same words every time. It reads the structured evidence
and not the sentences of the verdict, and it never says how a number could be made to look better: more questions, a
wider grid or a rerun are offered only where the rule itself would accept what comes of them. It believes the report;
whether the report is true is for others to check.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustness_gate.ledger import OWN
from robustness_gate.nouns import Block, Finding, Mark, Reading
from robustness_gate.policy import Policy
from robustness_gate.report import Record, Report, words
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import BELOW_CHANCE, SELF_TEST_MISSING, spelled_out, strongest, tally

MOST_ITEMS = 100_000
"""Beyond so many questions the answer to "how many would it take" is "too many"."""
WIDER = 4
"""By how much a learning-rate grid is widened at either end: about the step of the default grid."""


@dataclass(frozen=True)
class Tried:
    """One attack at one budget, in words and in both readings."""

    attack: str
    does: str
    """What the attacker does, in the words of the attack's own file; empty where nobody told them."""
    mark: int
    seed_index: int
    settings: str
    spent: str
    task: str
    reading: Reading
    """The one that decides."""
    before: Mapping[Reading, float | None]
    """What the untouched model answers; empty where it was not examined."""
    after: Mapping[Reading, float | None]
    lower: float
    upper: float
    limit: float
    finding: str

    @property
    def name(self) -> str:
        """`relearn (forget, lora) at budget 50`."""
        name = "no attack" if self.attack == "none" else self.attack
        return name + (f" at budget {self.mark}" if self.mark else "")


@dataclass(frozen=True)
class Step:
    """One thing to do, and why it comes here."""

    because: str
    do: str
    command: str = ""


STAYS_FAIL = Step(
    "This checkpoint stays FAIL: evidence is only added to, and every attempt counts.",
    "Do not run it again until it is green, and do not raise the limit after having seen the numbers.",
)
FLAGGED = {
    "choices_only": (
        "Whoever guesses from the choices alone gets nearly this far. Ask questions whose choices give nothing away, "
        "and pin them in the policy before any candidate is seen."
    ),
    "declines": (
        "A model that declines may still know. Try `refusal_direction`, `few_shot` and `relearn`, and let limits read "
        "multiple-choice questions, where nothing can be declined."
    ),
    "identical_answers": (
        "The attack did not happen. Look at its settings and its strength floor, and whether it fits this kind of "
        "model (robustness-gate doctor CHECKPOINT --suite SUITE). Once it is mended, it alone runs again."
    ),
    "less_at_more": (
        "An attack that recovers less with more was not run well: an attacker would have stopped earlier or chosen "
        "better. Widen its grid and add seeds, so that it is at its best at every budget."
    ),
    "letter_collapse": (
        "Let the limit read `content_sum`, which asks in four letter orders and adds up: the stricter reading of such "
        "a model."
    ),
    "read_inside": (
        "The knowledge can be read off the hidden states, though the model does not say it. No limit speaks of that; "
        "try the attacks that work inside: `ablation`, `latent_prompt`, `refusal_direction`."
    ),
    "still_rising": "The ladder ends before the attack does. Add a larger budget to suite and policy.",
    "told_apart": (
        "Somebody with the weights can tell which texts were in question. Check that the held-out texts are of the "
        "same sort; if they are, unlearning left its mark. No limit speaks of that."
    ),
    "vacuous": (
        "These questions do not show the knowledge even in the model before unlearning. Check that ORIGINAL is that "
        "model; else ask questions that it answers."
    ),
    "weaker_beats_stronger": (
        "The attack that should be the stronger one was not run well. Widen its grid and add seeds until it is at "
        "least as good."
    ),
}
"""What to do about a red flag."""


@dataclass(frozen=True)
class Advice:
    """Everything that `why` says."""

    outcome: str
    why: str
    strongest: Tried | None
    cheapest_breach: Tried | None
    """The breach that cost the attacker least, where it is another than the strongest."""
    steps: tuple[Step, ...]
    """What to do, the cheapest useful thing first; never empty."""
    caveats: tuple[str, ...]
    """What was not tried, and what else weakens the outcome."""


def advise(report: Report, *, out: str = "OUT", attacks: Mapping[str, str] | None = None) -> Advice:
    """Say why the verdict is what it is and what to do next.

    Args:
        report: the gate's report.
        out: the run's folder, for the commands.
        attacks: every attack that this gate has, with what it does in a sentence; without them nothing is said of
            attacks that were not tried.
    """
    case = _Case(report, spelled_out(report.resolved), out, attacks or {})
    outcome = report.verdict.outcome
    top = strongest(report.verdict.findings)
    breach = case.cheapest_breach()
    steps = {"PASS": case.after_pass, "FAIL": case.after_fail, "INCONCLUSIVE": case.after_inconclusive}[outcome]()
    return Advice(
        outcome=outcome,
        why=report.verdict.reason,
        strongest=case.tried(top) if top else None,
        cheapest_breach=case.tried(breach) if breach and breach != top else None,
        steps=steps,
        caveats=case.caveats(),
    )


def items_to_acquit(accuracy: float, limit: float, alpha: float, effect: float = 1.0) -> int | None:
    """How many questions bring the upper bound of this accuracy to the limit; None where no affordable number does.

    Args:
        accuracy: share right, taken as it is: new questions will differ, so the number is a guide.
        limit: the largest accuracy allowed.
        alpha: error rate of the one-sided bound.
        effect: design effect by which items are divided, >= 1.
    """
    if accuracy >= limit:
        return None
    return _smallest(lambda n: clopper_pearson_upper(accuracy * n / effect, n / effect, alpha) <= limit)


def items_to_convict(accuracy: float, limit: float, alpha: float, effect: float = 1.0) -> int | None:
    """How many questions bring the lower bound of this accuracy over the limit. See `items_to_acquit`."""
    if accuracy <= limit:
        return None
    return _smallest(lambda n: clopper_pearson_lower(accuracy * n / effect, n / effect, alpha) > limit)


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """Bisection: with counts in proportion, a bound only tightens as questions are added."""
    high = 8
    while not enough(high):
        high *= 2
        if high > MOST_ITEMS:
            return None
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class _Case:
    """One report and what is looked up in it."""

    report: Report
    policy: Policy
    out: str
    attacks: Mapping[str, str]

    # --- the attack in words ------------------------------------------------------------------------------------------

    def tried(self, finding: Finding) -> Tried:
        record, mark = self._record(finding), self._mark(finding)
        config = record.trial.config if record else {}
        settings = [f"{key} {value}" for key, value in config.items() if isinstance(value, str)]
        settings += [
            f"{key.replace('_', ' ')} {_short(value)}"
            for key, value in (mark.chosen if mark else {}).items()
            if key not in ("grid_edge", "loss")
        ]
        return Tried(
            attack=finding.attack,
            does=self.attacks.get(record.trial.attack, "") if record else "",
            mark=finding.mark,
            seed_index=finding.seed_index,
            settings=", ".join(settings),
            spent=", ".join(_count(value, key) for key, value in (mark.spent if mark else {}).items() if value),
            task=finding.task,
            reading=finding.reading,
            before=self._untouched(finding.task),
            after=_readings(mark) if mark else {finding.reading: finding.observed},
            lower=finding.lower,
            upper=finding.upper,
            limit=finding.limit,
            finding=words(finding),
        )

    def cheapest_breach(self) -> Finding | None:
        """What the least effort breaks a limit with: nothing at all, then no examples, then few, then few tokens."""

        def effort(finding: Finding) -> tuple[Any, ...]:
            mark = self._mark(finding)
            spent = mark.spent if mark else {}
            return finding.attack != "none", spent.get("examples", 0.0), spent.get("tokens", 0.0), finding.mark

        return min((f for f in self._hazard() if f.state == "over"), key=effort, default=None)

    # --- what to do ---------------------------------------------------------------------------------------------------

    def after_pass(self) -> tuple[Step, ...]:
        roles = [each.role for each in self.report.beside]
        found = []
        if "original" not in roles:
            found.append(
                Step(
                    "The model before unlearning was not examined, so nothing shows that these questions find the "
                    "knowledge where it is.",
                    "Examine it under the same policy: it must FAIL.",
                    self._run("ORIGINAL", out="ORIGINAL_OUT", more="--only none"),
                )
            )
        found.append(
            Step(
                "A PASS speaks of this checkpoint, these attacks and these budgets alone.",
                "Keep report.json and ledger.jsonl with the release, and gate every later checkpoint anew.",
            )
        )
        return tuple(found)

    def after_fail(self) -> tuple[Step, ...]:
        over = [f for f in self.report.verdict.findings if f.state == "over"]
        hazard = [f for f in over if f.hazard]
        again = self._run("NEW_CHECKPOINT", out="NEW_OUT")
        if not hazard:
            return self._without_a_hazard(over, again), STAYS_FAIL
        examined, attacks = len(self._hazard()), sorted({f.attack for f in hazard})
        because = f"{len(hazard)} of {examined} readings are over a limit, by {_listed(attacks)}."
        if "none" in attacks:
            lettered = {t.name for each in self.report.trials for t in each.trial.tasks if t.kind == "multiple_choice"}
            known = any(f.attack == "none" and f.task in lettered for f in hazard)
            do = (
                f"No attack was needed: the knowledge is not even hidden{' from four letter orders' if known else ''}. "
                "Unlearn anew, then run the whole suite on the new checkpoint."
            )
        else:
            do = (
                "Unlearn anew, with a method that takes the knowledge out of the weights instead of hiding it, then "
                "run the whole suite on the new checkpoint. More training against this one attack is no cure: it "
                "moves the breach to the next."
            )
        return Step(because, do, again), STAYS_FAIL

    def _without_a_hazard(self, over: Sequence[Finding], again: str) -> Step:
        """A FAIL without a breach of an absolute limit: an excess over a control, then what unlearning cost."""
        excess = [f for f in over if f.over.startswith("control:")]
        if excess:
            worst = max(excess, key=lambda f: (f.observed - f.limit, f.attack, f.mark))
            return Step(
                f"After {_named(worst)} the model answers {worst.observed:.1%} more of '{worst.task}' than "
                f"{worst.over.replace(':', ' ')}, where at most {worst.limit:.0%} more is allowed{_others(excess)}.",
                "Something is there that the other does not have. Unlearn anew, then run the whole suite on the new "
                "checkpoint.",
                again,
            )
        lost = [f for f in over if f.over]
        if lost:
            worst = max(lost, key=lambda f: (f.observed - f.limit, f.rule))
            because = (
                f"On '{worst.task}' the untouched model lies {worst.observed:.1%} {'under' if worst.fell else 'over'} "
                f"the original, where at most {worst.limit:.0%} is allowed{_others(lost)}: unlearning cost too much."
            )
        else:
            worst = min(over, key=lambda f: f.observed)
            because = (
                f"The untouched model answers {worst.observed:.1%} of '{worst.task}', where at least "
                f"{worst.limit:.0%} is asked: unlearning ruined it."
            )
        do = "Unlearn more gently from the original, then run the whole suite on the new checkpoint."
        return Step(because, do, again)

    def after_inconclusive(self) -> tuple[Step, ...]:
        """The cheapest first; what makes all the rest futile before that."""
        steps = [
            *self._hopeless(),
            *self._out_of_time(),
            *self._idle(),
            *self._unfinished(),
            *self._changed(),
            *self._instruments(),
        ]
        steps += [*self._not_given(), *self._not_applicable(), *self._weak(), *self._failed(), *self._doubtful()]
        steps += [*self._flagged(), *self._too_few_questions(), *self._unstated()]
        told = tuple(dict.fromkeys(steps))
        if told:
            return told
        first = self.report.verdict.blocks[0] if self.report.verdict.blocks else "There is no evidence"
        return (Step(f"{first}.", "Mend this first, then give the same command again.", self._run()),)

    def _hopeless(self) -> Iterator[Step]:
        """An accuracy at or over its limit, or far under chance: no number of questions makes a PASS of it."""
        again = self._run("NEW_CHECKPOINT", out="NEW_OUT")
        inverted = [f for f in self._hazard() if BELOW_CHANCE in f.doubts]
        if inverted:
            worst = min(inverted, key=lambda f: f.observed)
            yield Step(
                f"After {_named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', significantly less "
                "than by guessing: it knows what to avoid.",
                "No rerun cures this. Unlearn anew, towards chance and not below it, and run the whole suite.",
                again,
            )
        for finding in (f for f in self.report.verdict.findings if f.over and f.state == "open"):
            if finding.observed >= finding.limit:
                yield Step(
                    f"{_named(finding, capital=True)}: {_apart(finding)}, and at most {finding.limit:.0%} is allowed.",
                    "No number of questions makes a PASS of that difference. Unlearn "
                    f"{'further' if finding.over.startswith('control:') else 'more gently'}, then run the whole suite "
                    "on the new checkpoint.",
                    again,
                )
        over = [f for f in self._hazard() if f.state == "open" and f.observed >= f.limit]
        if over:
            worst = max(over, key=lambda f: (f.observed - f.limit, f.attack, f.mark))
            needed = items_to_convict(worst.observed, worst.limit, self._alpha_fail(worst), self._effect(worst.task))
            proof = f"; about {needed:,} questions would prove a FAIL" if needed else ""
            yield Step(
                f"After {_named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', and the limit is "
                f"{worst.limit:.0%}{_others(over)}.",
                f"No number of questions makes a PASS of that accuracy{proof}. Unlearn further, then run the whole "
                "suite on the new checkpoint.",
                again,
            )

    def _unfinished(self) -> Iterator[Step]:
        if self.report.left_out:
            which = _listed(sorted({line.split(": left out", 1)[0] for line in self.report.left_out}))
            yield Step(
                f"--only left out {which}.",
                "Give the same command without --only, and the same --out: what the ledger holds is not run again.",
                self._run(),
            )
        stopped = [record for record in self._with_shams() if record.planned and not record.closed]
        if stopped:
            yield Step(
                f"Not run to the end: {_listed([_trial_name(record) for record in stopped])}.",
                "Give the same command again: it goes on where it stopped.",
                self._run(),
            )

    def _changed(self) -> Iterator[Step]:
        for block in self.report.verdict.blocks:
            if block.words.startswith(("the checkpoint changed", "the checkpoint cannot be read")):
                yield Step(
                    f"{block}.",
                    "Run on a copy that nobody writes to, with new --ledgers.",
                    self._run(out="NEW_OUT", more="--ledgers NEW_LEDGERS"),
                )

    def _out_of_time(self) -> Iterator[Step]:
        """A policy or control that does not hold today. Its owner looks at it again; nobody else moves a date."""
        for block in self._blocks("expired"):
            yield Step(
                f"{_sentence(block)}.",
                "Let whoever owns the policy look at its limits again and issue a new version with new dates. The same "
                "command then judges again without running anything twice.",
                self._run(),
            )

    def _idle(self) -> Iterator[Step]:
        for block in self._blocks("idle_rule"):
            yield Step(
                f"{_sentence(block)}.",
                "Let the policy's rules meet, or take one out: robustness-gate policy check POLICY --suite SUITE.",
            )

    def _instruments(self) -> Iterator[Step]:
        """What must be seen to work before finding nothing means anything."""
        for block in self._blocks("instrument"):
            words = block.words
            if words == SELF_TEST_MISSING:
                yield Step(
                    "The policy requires that the attacks be tested on models of known truth, and no such test is on "
                    "record.",
                    "Make one, `robustness-gate self-test --policy POLICY --out self-test.json`; or let the policy say "
                    "`validity: {self_test: off}`, which the report then states on page one. The same command with "
                    "--self-test judges again without running anything twice.",
                    self._run(more="--self-test self-test.json"),
                )
            elif words.startswith("there is no canary"):
                if "original" in (each.role for each in self.report.beside):
                    do = (
                        "The original was named, and its answers are not valid here: look at its digest and at the "
                        "policy's `original`, and whether its trial ended well."
                    )
                else:
                    do = "Name the model before unlearning; it is asked once, with no attack."
                yield Step(f"{_sentence(block)}.", do, self._run(more="--original ORIGINAL"))
            elif words.startswith("the canary sings"):
                yield Step(
                    f"{_sentence(block)}.",
                    "A model that knows would pass as well, so no verdict under these limits means anything. Check "
                    "that ORIGINAL is the model before unlearning, and that the questions ask what it knew; then set "
                    "limits that it breaks, before any number of a candidate is seen.",
                    self._run("ORIGINAL", out="ORIGINAL_OUT", more="--original ORIGINAL --only none"),
                )
            elif words.startswith("there is no sham") or "cannot be compared" in words:
                yield Step(
                    f"{_sentence(block)}.",
                    "Give the same command again, without --only: the sham is planned with the attack, and held beside "
                    "the untouched model. If it failed, its reason stands in the report.",
                    self._run(),
                )
            else:
                yield Step(
                    f"{_sentence(block)}.",
                    "An attack that does nothing must change nothing: the gate's own machinery moves the answers here, "
                    "so nothing that it measures can be believed. Let robustness-gate doctor CHECKPOINT look, try "
                    "`dtype: float32`, and report it as a fault of the gate.",
                )

    def _not_given(self) -> Iterator[Step]:
        """Models beside which the policy holds the candidate, and which nobody named, or whose answers do not count."""
        given = {each.role for each in self.report.beside}
        held = {finding.over for finding in self.report.verdict.findings if finding.over}
        for name in sorted({limit.over for limit in self.policy.limits if limit.over is not None}):
            role, control = f"control:{name}", self.policy.controls.get(name)
            if control is None or role in held:
                continue
            option = f"--anchor {name}=REPORT" if control.kind == "earlier_release" else f"--control {name}=DIR"
            if role not in given:
                because = f"The policy compares with '{name}', and this run was not given it."
                do = (
                    f"Name the report of that release; its SHA-256 begins with {(control.report_sha256 or '')[:12]}."
                    if control.kind == "earlier_release"
                    else "Name that model: it is put through the same attacks."
                )
            else:
                because = f"'{name}' was given, and none of its answers can stand beside the candidate's."
                do = (
                    "Its trials must have ended well, on the same questions, data, attacks, seeds and budgets, and the "
                    "policy's digest must be its own."
                )
            yield Step(because, do, self._run(more=option))
        if self.policy.guardrails and "original" not in held and not self._blocks_about_canary():
            rules = _listed(sorted(rule.id for rule in self.policy.guardrails))
            yield Step(
                f"What unlearning cost is held against the original ({rules}), and it has no valid answers here.",
                "Name the model before unlearning; it is asked once, with no attack.",
                self._run(more="--original ORIGINAL"),
            )

    def _flagged(self) -> Iterator[Step]:
        """Red flags in the way: each says what is wrong with the instrument, none how to lower a number."""
        for flag in self.report.verdict.flags:
            if flag.blocks:
                yield Step(f"Red flag, {flag.flag}: {flag.words}.", FLAGGED.get(flag.flag, "Mend this first."))

    def _unstated(self) -> Iterator[Step]:
        missing = self.policy.provenance.require if self.policy.provenance else ()
        names = [name for name in missing if not self.report.states.get(name, "").strip()]
        if names:
            yield Step(
                f"The policy requires that the producer state {_listed(names)}, and nothing is on record.",
                f"Let the producer write a YAML file with {', '.join(f'`{name}: ...`' for name in names)}. It is "
                "recorded as said; nothing runs twice.",
                self._run(more="--statement FILE"),
            )

    def _not_applicable(self) -> Iterator[Step]:
        for record in self._own():
            ends = [end for end in record.closed if end.status != "not_applicable"]
            if not record.closed or ends or not any(r.selects(record.trial) for r in self.policy.required):
                continue
            reason = record.closed[-1].reason
            because = f"{_trial_name(record)} is required and was not applicable: {reason.rstrip('.')}."
            if "original" in reason and record.trial.reference is None:
                yield Step(
                    because,
                    "Name the model before unlearning. Every trial is run anew then, since each may use it.",
                    self._run(more="--original ORIGINAL"),
                )
            else:
                yield Step(
                    because,
                    "This attack cannot be tried on this kind of model. A policy for it must require others in its "
                    "place, and say so before they are run.",
                )

    def _weak(self) -> Iterator[Step]:
        """A floor that was missed: the attack did too little for its silence to mean anything."""
        told: set[str] = set()
        for finding, record, mark in self._doubted():
            missed = [f for f in record.trial.floors if not any(b.holds(mark.signs) for b in f.any_of)]
            if not missed or finding.attack in told:
                continue
            told.add(finding.attack)
            signs = {bound.sign for floor in missed for bound in floor.any_of}
            seen = ", ".join(f"{sign} {_short(mark.signs.get(sign, 'missing'))}" for sign in sorted(signs))
            because = f"{_named(finding)} was too weak to acquit: it is asked that {missed[0].says} ({seen})."
            rates = record.trial.config.get("learning_rates")
            if isinstance(rates, list) and rates:
                wider = [rates[0] / WIDER, *rates, rates[-1] * WIDER]
                do = (
                    "Widen its grid in the suite, and raise `min_steps` if that is not enough: "
                    f"learning_rates: [{', '.join(_short(rate) for rate in wider)}]. Only this attack runs again."
                )
            else:
                do = "Raise its strength or budget in the suite. Only this attack runs again."
            yield Step(because, do, self._run())

    def _failed(self) -> Iterator[Step]:
        for record in self._with_shams():
            statuses = {end.status for end in record.closed}
            if not record.planned or "ok" in statuses or "failure" not in statuses:
                continue
            reason = next(end.reason for end in reversed(record.closed) if end.status == "failure")
            yield Step(
                f"{_trial_name(record)} failed: {reason.rstrip('.')}.",
                f"{_remedy(reason)} A trial that was closed is not run again: change its settings in the suite, or use "
                "other --ledgers and keep these for whoever asks.",
                self._run(out="NEW_OUT", more="--ledgers NEW_LEDGERS"),
            )

    def _doubtful(self) -> Iterator[Step]:
        told: set[tuple[str, str]] = set()
        for finding, record, _ in self._doubted():
            for doubt in finding.doubts:
                kind = doubt.split(":", 1)[0]
                if (finding.attack, kind) in told:
                    continue
                told.add((finding.attack, kind))
                if doubt.startswith("the model is destroyed"):
                    rates = record.trial.config.get("learning_rates")
                    low = _short(rates[0] / WIDER) if isinstance(rates, list) and rates and rates[0] else ""
                    gentler = f", e.g. add the learning rate {low}" if low else ""
                    yield Step(
                        f"After {_named(finding)} {doubt}: a ruined model can convict, not acquit.",
                        f"Give the attack a gentler setting to choose{gentler}. Only this attack runs again.",
                        self._run(),
                    )
                elif doubt.endswith("have no finite answer"):
                    yield Step(
                        f"After {_named(finding)} {doubt}.",
                        "Let the suite compute in `dtype: float32`, and look whether the checkpoint itself is whole: "
                        "robustness-gate doctor CHECKPOINT.",
                    )
                elif "were tried, the policy asks for" in doubt or "tried from" in doubt or "at the edge" in doubt:
                    yield Step(
                        f"{_named(finding, capital=True)}: {doubt}.",
                        "Widen its grid in the suite as far as the policy asks. Only this attack runs again.",
                        self._run(),
                    )
                elif not doubt.startswith(("strength floor", "the attempt", BELOW_CHANCE)):  # those were told above
                    yield Step(f"{_named(finding)}: {doubt}.", "Let policy and suite name the same.", self._run())

    def _too_few_questions(self) -> Iterator[Step]:
        """Open, though on the right side: more questions would decide it. The hardest cell says how many."""
        cells: list[tuple[int, Finding]] = []
        for finding in self.report.verdict.findings:
            if finding.state != "open":
                continue
            if finding.over:
                if finding.observed < finding.limit:
                    yield self._too_few_pairs(finding)
                continue
            effect = self._effect(finding.task)
            if finding.rule.startswith("utility:"):  # shown from the other side: share wrong under 1 - min
                if finding.observed <= finding.limit:
                    yield Step(
                        f"The untouched model answers {finding.observed:.1%} of '{finding.task}', where at least "
                        f"{finding.limit:.0%} must be shown.",
                        "No number of questions makes that accuracy enough. Unlearn more gently.",
                    )
                    continue
                needed = items_to_acquit(1 - finding.observed, 1 - finding.limit, self._alpha_pass, effect)
            elif finding.observed >= finding.limit:
                continue  # told as hopeless
            else:
                needed = items_to_acquit(finding.observed, finding.limit, self._alpha_pass, effect)
            cells.append((needed or MOST_ITEMS + 1, finding))
        if not cells:
            return
        needed, hardest = max(cells, key=lambda each: (each[0], each[1].attack, each[1].mark))
        enough = f"about {needed:,}" if needed <= MOST_ITEMS else f"more than {MOST_ITEMS:,}"
        side, bound = ("upper", hardest.upper) if not hardest.rule.startswith("utility:") else ("lower", hardest.lower)
        yield Step(
            f"{_named(hardest, capital=True)} leaves {hardest.observed:.1%} of '{hardest.task}' right, {side} bound "
            f"{bound:.1%}, limit {hardest.limit:.0%}{_others([f for _, f in cells])}: {hardest.items} questions are "
            "too few to decide.",
            f"At this very accuracy {enough} questions would do. Add questions of the same kind to '{hardest.task}', "
            "correct `count` in the suite and `items` in the policy, and run into a new --out.",
            self._run(out="NEW_OUT"),
        )

    def _too_few_pairs(self, finding: Finding) -> Step:
        """A difference within its limit whose bound is not. Bounds shrink with the root of the number of questions."""
        gap = (finding.upper - finding.observed) / (finding.limit - finding.observed)
        needed = math.ceil(finding.items * gap * gap)
        enough = f"about {needed:,}" if needed <= MOST_ITEMS else f"more than {MOST_ITEMS:,}"
        return Step(
            f"{_named(finding, capital=True)}: {_apart(finding)}, upper bound {finding.upper:.1%}, limit "
            f"{finding.limit:.0%}: {finding.items} questions are too few to decide.",
            f"At this very difference {enough} questions would do, as a rule of thumb. Add questions of the same kind "
            f"to '{finding.task}', correct `count` in the suite and `items` in the policy, and run into a new --out.",
            self._run(out="NEW_OUT"),
        )

    # --- what weakens it ----------------------------------------------------------------------------------------------

    def caveats(self) -> tuple[str, ...]:
        found = []
        ran = {record.trial.attack for record in self._own()} | {each.split()[0] for each in self.report.left_out}
        if untried := sorted(set(self.attacks) - {each.rstrip(",:") for each in ran}):
            found.append(f"Attacks that this gate has and the suite does not use: {', '.join(untried)}.")
        if self.report.verdict.outcome == "PASS":
            highest = {r.label: max(r.trial.marks) for r in self._own() if max(r.trial.marks) > 0}
            if highest:
                most = ", ".join(f"{name} {mark}" for name, mark in sorted(highest.items()))
                found.append(f"Nothing beyond these budgets was tried: {most}.")
            edges = sorted(
                {
                    f"{record.label} at {mark.mark}"
                    for record in self._own()
                    for mark in record.marks
                    if mark.chosen.get("grid_edge") == "highest"
                }
            )
            if edges:
                found.append(
                    f"The best learning rate was the grid's highest for {_listed(edges)}: a stronger attack may lie "
                    "beyond it."
                )
            close = max((f for f in self._hazard()), key=lambda f: (f.upper - f.limit, f.attack, f.mark), default=None)
            if close is not None:
                found.append(
                    f"Closest to its limit: {_named(close)}, upper bound {close.upper:.1%} of {close.limit:.0%} "
                    f"on {close.items} questions."
                )
        if unasked := [r for r in self._with_shams() if not r.planned and (r.marks or r.closed)]:
            found.append(
                f"{len(unasked)} of {self.report.verdict.trials} trials on record for this checkpoint are not part of "
                "this plan: they can convict, not acquit."
            )
        if self.report.decision.outcome in ("RELEASE_WITH_WAIVER", "ACCEPTED_RISK"):
            signed = "; ".join(self.report.decision.applied)
            found.append(f"A decision stands beside the verdict and changes nothing in it: {signed}.")
        return (*found, *self.report.limitations)

    # --- looking things up --------------------------------------------------------------------------------------------

    def _own(self) -> list[Record]:
        return [record for record in self.report.trials if record.trial.role == "candidate"]

    def _with_shams(self) -> list[Record]:
        return [record for record in self.report.trials if record.trial.role in OWN]

    def _blocks(self, code: str) -> list[Block]:
        return [block for block in self.report.verdict.blocks if block.code == code]

    def _blocks_about_canary(self) -> bool:
        return any(block.words.startswith("there is no canary") for block in self._blocks("instrument"))

    def _hazard(self) -> list[Finding]:
        return [f for f in self.report.verdict.findings if f.hazard]

    def _record(self, finding: Finding) -> Record | None:
        return next((record for record in self.report.trials if record.id == finding.trial), None)

    def _mark(self, finding: Finding) -> Mark | None:
        record = self._record(finding)
        address = (finding.attempt, finding.mark, finding.task)
        return next((m for m in record.marks if (m.attempt, m.mark, m.task) == address), None) if record else None

    def _doubted(self) -> Iterator[tuple[Finding, Record, Mark]]:
        """Findings of planned trials that are within their limit and may not acquit."""
        for finding in self._hazard():
            record, mark = self._record(finding), self._mark(finding)
            if finding.state == "under" and finding.doubts and record and record.planned and mark:
                yield finding, record, mark

    def _untouched(self, task: str) -> Mapping[Reading, float | None]:
        marks = [m for r in self._own() if r.trial.attack == "none" for m in r.marks if m.task == task]
        return _readings(marks[-1]) if marks else {}

    @property
    def _alpha_pass(self) -> float:
        return self.policy.statistics.alpha_pass

    def _alpha_fail(self, finding: Finding) -> float:
        return self.report.verdict.alpha_cell if finding.declared else self.policy.statistics.alpha_fail_extra / 10_000

    def _effect(self, task: str) -> float:
        pin = self.policy.tasks.get(task)
        return pin.design_effect if pin else 1.0

    def _run(self, checkpoint: str = "", *, out: str = "", more: str = "") -> str:
        same = self.report.provenance.get("candidate", "CHECKPOINT")  # a directory is not told in a report
        place = out or shlex.quote(self.out)
        command = f"robustness-gate run {checkpoint or same} --policy POLICY --suite SUITE --out {place}"
        return " ".join([command, *self._named_beside(more), *([more] if more else [])])

    def _named_beside(self, more: str) -> Iterator[str]:
        """What was named beside the candidate must be named again: an attack that may use the original is another."""
        for other in self.report.beside:
            name, place = other.role.removeprefix("control:"), self.report.provenance.get(other.role)
            control = self.policy.controls.get(name)
            if other.role == "original":
                option, value = "--original", f" {place or 'ORIGINAL'}"
            elif control is not None and control.kind == "earlier_release":
                option, value = f"--anchor {name}", "=REPORT"
            else:
                option, value = f"--control {name}", f"={place or 'DIR'}"
            if option not in more:
                yield option + value


def _remedy(reason: str) -> str:
    """A first thing to try for failures that are known by their words."""
    text = reason.lower()
    if "diverged at every learning rate" in text:
        return "Add smaller learning rates to its grid."
    if "out of memory" in text or "signal 9" in text:
        return "Give it more memory: a larger device, `dtype: bfloat16`, or `method: lora` in place of full."
    if "not numbers" in text or "finite" in text:
        return "Let the suite compute in `dtype: float32`, and check the checkpoint with robustness-gate doctor."
    if "changed since the plan" in text:
        return "Leave the suite's files alone while it runs."
    return "Mend the cause; robustness-gate doctor CHECKPOINT --suite SUITE tries each attack at strength zero."


def _readings(mark: Mark) -> dict[Reading, float | None]:
    return {reading: tally(mark, reading)[0] / mark.items for reading in mark.correct}


def _named(finding: Finding, *, capital: bool = False) -> str:
    name = "no attack" if finding.attack == "none" else finding.attack
    name += f" at budget {finding.mark}" if finding.mark else ""
    name += f", seed {finding.seed_index}" if finding.seed_index else ""
    if finding.rule.startswith("utility:"):
        name = "no attack"
    return name[:1].upper() + name[1:] if capital else name


def _apart(finding: Finding) -> str:
    """How far the model lies from another."""
    more = "fewer" if finding.fell else "more"
    return f"{finding.observed:.1%} {more} of '{finding.task}' is right than by {finding.over.replace(':', ' ')}"


def _sentence(block: Block) -> str:
    return block.words[:1].upper() + block.words[1:]


def _trial_name(record: Record) -> str:
    return f"{record.label}, seed {record.trial.seed_index}"


def _others(findings: Sequence[Finding]) -> str:
    more = len(findings) - 1
    return f" (and {more} more like it)" if more > 0 else ""


def _listed(names: Sequence[str], most: int = 4) -> str:
    """Some names and how many more."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    comma = "; " if any("," in name for name in names) else ", "
    return comma.join(shown[:-1]) + (" and " if len(shown) > 1 else "") + (shown[-1] if shown else "")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _count(value: float, noun: str) -> str:
    """`5 examples`, `1 step`."""
    return f"{value:,.0f} {noun.removesuffix('s') if value == 1 else noun}"
