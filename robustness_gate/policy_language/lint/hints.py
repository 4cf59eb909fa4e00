"""What a policy leaves open: none of it is an error."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.records.policy import Policy, TaskPin
from robustness_gate.verdict.joined import LEAST_EFFECT


def hints(policy: Policy) -> Iterator[str]:
    """What the policy leaves open, in the order of the file. None of it is an error."""
    if not policy.owner:
        yield "it has no 'owner': name one"
    if policy.expires is None:
        yield "it never expires: attacks get better, so give it an 'expires'"
    for name, pin in policy.tasks.items():
        yield from _of_task(policy, name, pin)
    if not policy.data:
        yield "what attacks may train and choose on is not pinned ('data')"
    if policy.dtype is None:
        yield "the suite determines the precision ('dtype'): pin the one in which the model is released"
    if policy.original is None:
        yield "any model may be named as the original; `policy pin --original MODEL` prints the digest of one"
    for limit in policy.limits:
        if limit.metric == "acc":
            yield f"{limit.id}: one letter order decides, and a model that always answers one letter passes it"
    open_ = [str(each) for each in policy.required if each.config_sha256 is None and each.attack != "none"]
    if open_:
        yield f"{len(open_)} requirements name settings by 'where' alone; `policy pin` prints digests of all of them"
    once = [str(each) for each in policy.required if each.seeds == 1 and each.attack != "none"]
    if once:
        yield f"one seed of {'; '.join(once)}: this shows only that at least 5 % of seeds are within the limits"
    if not policy.guardrails:
        yield "no utility is compared with the original's ('guardrails'): what unlearning cost is not bounded"
    for name in sorted(policy.plugins):
        yield f"'{name}' is a plug-in: a PASS also rests on its code, which no test of the gate covers"
    if policy.validity.other_weights == "listed":
        yield "other weights in the repository of a checkpoint do not block: 'validity: {other_weights: refused}' would"
    if policy.validity.calibration == "off":
        yield "no calibration is required: that the attacks work on this original is not shown ('calibration')"
    for method in sorted(policy.calibration.explained if policy.calibration is not None else ()):
        yield f"calibration: no spike by '{method}' is needed, so attacks are not tried on what it hides"
    for name in ("self_test", "sham", "positive_control"):
        if getattr(policy.validity, name) == "off":
            yield f"validity: the {name.replace('_', '-')} is off, so a broken instrument may lead to a PASS"


def _of_task(policy: Policy, name: str, pin: TaskPin) -> Iterator[str]:
    limits = [limit for limit in policy.limits if name in limit.readings]
    compared = [limit for limit in limits if not limit.absolute]
    if pin.sha256 is None and pin.questions is None:
        yield f"{name}: any {pin.items} questions will do; `policy pin` prints the digest of the suite's"
    elif pin.sha256 is None:
        yield f"{name}: its questions are pinned by id alone; `policy pin` prints a digest of texts, key and form too"
    if compared and pin.questions is None:
        yield f"{name}: any ids and clusters of its questions will do ('questions'); `policy pin` prints their digest"
    if any(limit.score for limit in compared):
        if pin.design_effect < LEAST_EFFECT:
            yield f"{name}: where the suite names no clusters, the score takes a design effect of {LEAST_EFFECT:g}"
    elif limits and pin.design_effect == 1.0:
        taken = "where the suite names no clusters, items are taken" if compared else "items are taken"
        yield f"{name}: {taken} as independent; if some share a source or a stem, pin a 'design_effect'"
    if limits and "chat" not in pin.formats:
        yield f"{name}: asked as plain text only; an attack may succeed in the chat template"
    if len(limits) > len(compared) and pin.choices_only is None:
        yield f"{name}: the accuracy of the choices alone is not measured ('choices_only')"
