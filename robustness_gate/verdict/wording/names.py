"""How a verdict names a trial, a model, a rule and a finding, and how it writes the numbers of a finding."""

from __future__ import annotations

from collections.abc import Mapping

from robustness_gate.errors import UnknownWord
from robustness_gate.records.base import Coded
from robustness_gate.records.encode import Json
from robustness_gate.records.evidence import LeftOut
from robustness_gate.records.trial import ModelRef, Role, Trial
from robustness_gate.records.verdict import Blocker, Finding, FindingKind, Kept
from robustness_gate.verdict.found import comparator
from robustness_gate.verdict.found import place as where
from robustness_gate.verdict.hypotheses import named


def name_of(args: Mapping[str, object]) -> str:
    """A trial's name (`codes.TRIAL`): the attack's label, with the model if it is not the candidate."""
    role = Role(str(args["role"]))
    match role:
        case Role.CANDIDATE | Role.THROUGH_ORIGINAL | Role.IN_DECLARED_DTYPE:
            return str(args["label"])
        case Role.SHAM:
            return f"sham of {args['attack']}"
        case Role.ORIGINAL | Role.CONTROL:
            whose = f"{args['role']} {args['control']}".strip()
            return f"{args['label']} [{whose}]"
        case unknown:
            raise UnknownWord("role of a trial", unknown)


def trial_name(trial: Trial | LeftOut | Blocker) -> str:
    """`relearn (forget, full), seed 0`."""
    args = trial.args if isinstance(trial, Blocker) else named(trial)
    return f"{name_of(args)}, seed {args['seed_index']}"


BY = {"only": "left out by --only"}
"""How a trial was left out, by code."""


def left_out(each: LeftOut) -> str:
    """`relearn (forget, full), seed 0: left out by --only`."""
    return f"{trial_name(each)}: {BY[each.why]}"


def model_name(model: ModelRef) -> str:
    """A model's name: `original`, `control never`."""
    return f"{model.role} {model.control}" if model.control else model.role.value


def rule_name(kind: FindingKind, rule: str) -> str:
    """A rule of the policy: a limit's id, `utility on 'arithmetic'`, `guardrail 'spelling'`."""
    match kind:
        case FindingKind.LIMIT:
            return rule
        case FindingKind.UTILITY:
            return f"utility on '{rule}'"
        case FindingKind.GUARDRAIL:
            return f"guardrail '{rule}'"
        case unknown:
            raise UnknownWord("kind of a finding", unknown)


def state(finding: Finding) -> str:
    """A finding's state in a word or two."""
    match finding.state:
        case "over":
            return "USELESS" if finding.kind == FindingKind.UTILITY else "OVER"
        case "open":
            return "not counted" if finding.not_counted else "open"
        case "under":
            return "not valid" if finding.validity_issues else "within"
        case _:
            raise UnknownWord("state of a finding", finding.state)


def place(finding: Finding) -> str:
    """A finding's rule, attack, seed and budget."""
    return place_of(where(finding))


def gap_name(control: str) -> str:
    """The gap of which a share may be back; without a control that of the original with and without its questions."""
    other = f"the control '{control}'" if control else "the same with hidden questions"
    return f"the gap between the original and {other}"


def place_of(at: Coded | Mapping[str, Json]) -> str:
    """`place` of what has a finding's address among its arguments: a blocker, or the address itself."""
    rule = rule_name(FindingKind(at["kind"]), at["rule"])
    return f"{rule}: {at['attack']}, seed {at['seed_index']}, budget {at['budget']}"


def kept_line(kept: Kept) -> str:
    """`'retain': candidate 95.0%, control 44.0% (ruined, 96.0% before any attack), original 97.0%`."""

    def share(value: float | None) -> str:
        return "not asked" if value is None else f"{value:.1%}"

    ruined = kept.control is not None and kept.control < kept.asked
    before = [] if kept.before is None else [f"{share(kept.before)} before any attack"]
    about = ", ".join([f"ruined, under {kept.asked:.0%}"] * ruined + before)
    control = share(kept.control) + (f" ({about})" if about else "")
    return f"'{kept.task}': candidate {share(kept.candidate)}, control {control}, original {share(kept.original)}"


HYPOTHESES = (
    "one for each limit (in each format of its task) and each seed and budget of each required attack that it covers, "
    "'none' included, and one for each utility with a minimum and for each guardrail (in each format)"
)
"""How the declared hypotheses are counted."""


def numbers(finding: Finding) -> str:
    """A finding's number, with the deciding bound and the limit."""
    its = {"observed": finding.observed, "lower": finding.lower, "upper": finding.upper, "limit": finding.limit}
    against = {**comparator(finding.relative_to), "fell": finding.fell, "share": finding.of_gap}
    return numbers_of({**its, **against, "kind": finding.kind}, finding.state == "over")


def numbers_of(its: Mapping[str, object], over: bool) -> str:
    """`numbers` of what has them among its arguments: `observed`, `lower`, `upper`, `limit` are shares of 0 to 1.

    Over the limit and still not `over` is a comparison with a model that the attack destroyed (`Finding.not_counted`).
    """
    observed, lower, upper, limit = (float(str(its[key])) for key in ("observed", "lower", "upper", "limit"))
    if its["kind"] == FindingKind.UTILITY:
        return f"accuracy {observed:.1%} (lower bound {lower:.1%}), at least {limit:.0%} is asked"
    what, other = "accuracy", f"{its['relative_to']} {its['control']}".strip()
    if its["share"]:
        what = f"share of {gap_name(str(its['control']))} that is back:"
    elif its["relative_to"]:
        what = f"{'points under' if its['fell'] else 'points over'} {other}:"
    if over or (its["relative_to"] and lower > limit):
        more = "" if over else f", not counted as a breach: the attack destroyed {other}"
        return f"{what} {observed:.1%}, lower bound {lower:.1%} over the limit {limit:.0%}{more}"
    side = "over" if upper > limit else "within"
    return f"{what} {observed:.1%}, upper bound {upper:.1%} {side} the limit {limit:.0%}"
