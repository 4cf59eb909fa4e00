"""The page: nothing in it runs or is fetched, nothing in it is markup that we did not write, and nothing is missing."""

from __future__ import annotations

import dataclasses
import html as text_of
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import builders
import pytest
from builders import measurement_of, rows_of, tasks_of

from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.validation import Loaded
from robustness_gate.publish import drawings, html, plots
from robustness_gate.records.attack import Bound, Floor
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence, LeftOut, TokenizerCheck
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Measurement, ModelRef, Role, Trial
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.report import table as report_table
from robustness_gate.verdict.wording import left_out, sentence

HOSTILE = '</pre><script>alert("x")</script><img src="https://evil.example/x" onerror=alert(1)>'
VOID = {"meta", "br", "img", "input", "link", "hr"}
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MANIFEST = Manifest(files=(FileEntry(path="model.safetensors", sha256="d" * 64, size=3),))
SUBJECT = MANIFEST.digest
ALIKE = TokenizerCheck(subject=SUBJECT, tasks={}, data={}, sha256="9" * 64, template="9" * 64)
TASKS = tasks_of(forget=100, retain=50)
FLOOR = Floor(description="the loss falls", any_of=(Bound(signal="loss_ratio", max=0.8),))


def policy_of(**changes: Any) -> Loaded[Policy]:
    fields = {
        "schema": "robustness-gate/policy/v1",
        "id": "small",
        "version": "1.0.0",
        "description": "It stays gone.",
        "threat_model": {"access": "open_weights", "adversary": "anyone", "out_of_scope": ()},
        "tasks": {"forget": {"items": 100}, "retain": {"items": 50}},
        "limits": ({"id": "forgotten", "task": "forget", "max": 0.5},),
        "required": ({"attack": "none"}, {"attack": "relearn", "budgets": (5, 50)}),
        "utility": ({"task": "retain", "min": 0.6, "min_attacked": 0.4},),
        "tokenizer": {"sha256": "9" * 64},
        "validity": {"self_test": "off", "sham": "off", "positive_control": "off"},
    }
    text = f"id: small  # {HOSTILE}\n"
    return Loaded(Policy.model_validate(fields | changes), Path("policy.yaml"), "a" * 64, text, {})


def suite() -> Loaded[Suite]:
    record = Suite.model_construct(id="suite", version="2.0.0")
    return Loaded(record, Path("suite.yaml"), "b" * 64, f"description: {HOSTILE} \u202egnp.exe\n", {})


def trial_of(
    attack: str = "relearn",
    *,
    role: Role = Role.CANDIDATE,
    control: str = "",
    seed_index: int = 0,
    **config: Any,
) -> Trial:
    return builders.trial_of(
        attack,
        seed_index,
        subject=SUBJECT if role == Role.CANDIDATE else "e" * 64,
        role=role,
        control=control,
        config=config,
        budgets=(0,) if attack == "none" else (5, 50),
        tasks=TASKS,
        data={"dev": "3" * 64},
        floors=() if attack == "none" else (FLOOR,),
    )


def measurements_of(trial: Trial, forget: int, retain: int = 48, attempt: int = 1) -> list[Measurement]:
    return [
        measurement_of(
            trial,
            budget,
            task,
            right,
            other=right // 2,
            attempt=attempt,
            cost={"steps": 60.0},
            signals={"loss_ratio": 0.5, "weight_change": 1234.5},
            selected={} if trial.attack == "none" else {"learning_rate": 0.008, "grid_edge": "highest"},
            settings_tried=()
            if trial.attack == "none"
            else tuple(
                {"budget": budget, "learning_rate": r, "dev_accuracy": a} for r, a in ((5e-4, 0.225), (8e-3, 0.475))
            ),
            rows=rows_of(trial, budget, task),
        )
        for budget in trial.budgets
        for task, right in zip(trial.tasks, (forget, retain), strict=True)
    ]


def report_of(
    told: list[tuple[Trial, int, str]],
    *,
    policy: Loaded[Policy] | None = None,
    left_out: tuple[LeftOut, ...] = (),
    beside: tuple[tuple[str, int], ...] = (),
    extra: tuple[Trial, ...] = (),
) -> report.Report:
    """Each trial with its right answers of 100 and how it ended: ok, failure, not_applicable, or empty."""
    policy = policy or policy_of()
    measurements, closed = [], []
    for trial, forget, status in told:
        measurements += measurements_of(trial, forget) if status in ("ok", "failure") else []
        reason = "" if status == "ok" else f"because <b>{status}</b>"
        closed += [Closed(trial=trial.id, attempt=1, status=status, reason=reason)] if status else []  # type: ignore[arg-type]
    planned = tuple(trial for trial, _, _ in told if trial not in extra)
    others = tuple(trial_of("none", role=model.role, control=model.control) for model, _ in beside)
    for other, (_, forget) in zip(others, beside, strict=True):
        measurements += measurements_of(other, forget)
        closed.append(Closed(trial=other.id, attempt=1, status="ok"))
    evidence = Evidence(
        SUBJECT, planned, tuple(measurements), tuple(closed), extra, comparators=others, tokenizers=(ALIKE,)
    )
    return report_build.make(policy, suite(), MANIFEST, dataclasses.replace(evidence, left_out=left_out), AT)


def gap(attack: str, **config: str) -> LeftOut:
    return LeftOut(role=Role.CANDIDATE, attack=attack, config=dict(config), seed_index=0, why="only")


def passing() -> report.Report:
    return report_of([(trial_of("none"), 25, "ok"), (trial_of(source="forget", method="lora"), 27, "ok")])


def failing() -> report.Report:
    told = [(trial_of("none"), 25, "ok"), (trial_of(source="forget", method="lora"), 95, "ok")]
    return report_of(
        told, beside=((ModelRef(role=Role.ORIGINAL), 99), (ModelRef(role=Role.CONTROL, control="oracle"), 26))
    )


def inconclusive() -> report.Report:
    told = [
        (trial_of("none"), 25, "ok"),
        (trial_of(source="forget", method="lora"), 45, "failure"),
        (trial_of("prune"), 0, "not_applicable"),
        (trial_of("steer"), 0, ""),
    ]
    return report_of(told, left_out=(gap("relearn", source="<i>other</i>", method="full"),))


REPORTS = {"PASS": passing, "FAIL": failing, "INCONCLUSIVE": inconclusive}


@pytest.fixture(params=sorted(REPORTS))
def made(request: pytest.FixtureRequest) -> report.Report:
    found = REPORTS[request.param]()
    assert found.verdict.outcome == request.param
    return found


class Reader(HTMLParser):
    """Tags that balance, ids that are there once, what a person sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag not in {"code", "em", "span", "strong", "time"}:
            self.seen.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.seen.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.seen).split())


def test_tags_balance_and_ids_are_unique(made):
    reader = Reader(html.render(made))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    named = [each for _, a in reader.tags for each in (a.get("aria-labelledby") or "").split()]
    assert reader.open == []
    assert len(ids) == len(set(ids))
    assert set(named) <= set(ids)


def test_nothing_runs_and_nothing_is_fetched(made):
    page = html.render(made)
    reader = Reader(page)
    tags = {tag for tag, _ in reader.tags}
    names = {name for _, attributes in reader.tags for name in attributes}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "a",
        "form",
        "base",
        "foreignobject",
        "use",
    }
    assert not names & {"src", "href", "xlink:href", "srcset", "action", "style"}
    assert not [name for name in names if name.startswith("on")]
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_what_the_report_quotes_stays_text(made):
    page = html.render(made)
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert HOSTILE in text_of.unescape(page)


def test_an_id_a_config_and_a_reason_cannot_be_markup():
    bad = trial_of(source="<script>alert(1)</script>", method="full", note={"<script>": ["</details><script>"]})
    page = html.render(report_of([(trial_of("none"), 25, "ok"), (bad, 95, "ok")]))
    assert "<script" not in page
    assert "relearn (&lt;script&gt;" in page
    assert "&lt;/details&gt;&lt;script&gt;" in page
    assert Reader(page).open == []


def test_characters_that_hide_text_are_shown_by_their_code(made):
    page = html.render(made)
    assert "\u202e" not in page
    assert "⟨U+202E⟩gnp.exe" in page
    page.encode()  # and a lone surrogate would not be written at all


def test_equal_reports_give_equal_bytes_whatever_the_order_of_their_keys(made):
    again = report.Report.model_validate_json(encode(made.model_dump(mode="json", by_alias=True)))
    assert again == made
    assert html.render(again) == html.render(made) == html.render(made)


def test_the_verdict_is_in_title_and_band(made):
    page = html.render(made)
    outcome = made.verdict.outcome
    assert page.startswith("<!doctype html>\n<html lang")
    assert f"<title>{outcome}: small 1.0.0" in page
    heading = re.search(r"<h1>.*?<span>(\w+)</span></h1>", page, re.DOTALL)
    assert heading is not None
    assert heading[1] == outcome
    band = page[page.index('<header class="top') : page.index("</header>")]
    assert made.reason in text_of.unescape(band)


def test_every_finding_block_reason_and_limitation_is_on_the_page(made):
    seen = Reader(html.render(made)).text
    lines = (*map(sentence, made.verdict.blockers), *map(left_out, made.left_out), *made.limitations)
    for line in (*lines, made.meaning, made.verdict.at, made.checkpoint):
        assert " ".join(line.split()) in seen
    for finding in made.verdict.findings:
        assert f"{finding.correct} of {finding.items} right" in seen
        for issue in finding.validity_issues:
            assert sentence(issue) in seen
    for record in made.trials:
        assert record.id in seen
        assert all(closed.reason in seen for closed in record.closed)
    for name, version in made.environment.items():
        assert f"{name} {version}" in seen


def test_rows_of_the_table_are_the_findings(made):
    page = html.render(made)
    table = page[page.index('<table class="findings">') :]
    rows = table[table.index("<tbody>") : table.index("</tbody>")].count("<tr>")
    assert rows == len(report_table.table(made))


def test_what_was_not_run_takes_a_row_of_the_plot():
    found = inconclusive()
    page = html.render(found)
    wide = page[page.index('<svg class="wide"') :]
    wide = wide[: wide.index("</svg>")]
    assert wide.count('class="gap"') == 3  # prune, steer, and what --only left out
    assert wide.count('<path class="point') == len(report_table.table(found))


def test_a_finding_is_reported_by_shape_as_well_as_by_colour():
    page = html.render(failing())
    for word in ("OVER", "within"):
        key = html.KEYS[word]
        shapes = set(re.findall(rf'<path class="point {key}" transform="[^"]*" d="([^"]*)"', page))
        assert shapes == {plots.SHAPES[word]}
    assert len(set(plots.SHAPES.values())) == len(plots.SHAPES)


def test_original_and_control_are_drawn_where_the_report_has_them():
    page = html.render(failing())
    for flag in (
        "original 99\u00a0%",
        "control oracle 26\u00a0%",
        "before attack 25\u00a0%",
        "chance 25\u00a0%",
        "limit 50\u00a0%",
    ):
        assert f">{flag}</text>" in page
    assert "control oracle" not in html.render(passing())


def test_the_screened_grid_shows_choice_and_edge():
    page = html.render(passing())
    part = page[page.index('id="screened"') : page.index('id="rests"')]
    assert "✓ 47.5\u00a0%" in part
    assert "22.5\u00a0%" in part
    assert '<span class="edge">highest</span>' in part


def test_plots_say_what_they_show(made):
    shown = [a for tag, a in Reader(html.render(made)).tags if tag == "svg" and a.get("aria-hidden") != "true"]
    pictures = [each for each in shown if each.get("class") != "sign"]
    assert len(pictures) == 4
    assert all(picture["role"] == "img" and picture["aria-labelledby"] for picture in pictures)


def test_every_table_has_a_caption_and_headings_do_not_jump(made):
    page = html.render(made)
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert page.count("<table") == page.count("<caption>")
    assert '<html lang="en">' in page
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_report_about_nothing_is_a_page_too():
    found = report_of([])
    page = html.render(found)
    assert found.verdict.outcome == "INCONCLUSIVE"
    assert "Nothing was examined." in page
    assert Reader(page).open == []


def test_a_limit_on_one_order_is_labelled():
    two = policy_of(
        limits=(
            {"id": "forgotten", "task": "forget", "max": 0.5},
            {"id": "narrow", "task": "forget", "max": 0.6, "metric": "acc"},
        )
    )
    told = [(trial_of("none"), 25, "ok"), (trial_of(source="forget"), 95, "ok")]
    page = html.render(report_of(told, policy=two))
    assert page.count("<figure>") == 4
    assert "Filled points are acc" in page
    assert "Filled points are acc_permuted" in page
    assert "limit on" in page


def test_measurements_without_bits_and_trials_that_no_one_planned_are_drawn():
    extra = trial_of("extra")
    found = report_of([(trial_of("none"), 25, "ok"), (extra, 60, "ok")], extra=(extra,))
    blank = found.trials[0].measurements[0].model_copy(update={"correct": {}})
    assert "not declared by the policy" in html.render(found)
    first = found.trials[0].model_copy(update={"measurements": (blank, *found.trials[0].measurements[1:])})
    assert "<!doctype html>" in html.render(found.model_copy(update={"trials": (first, *found.trials[1:])}))


def test_a_large_battery_stays_under_a_megabyte_and_says_what_it_does_not_draw():
    told = [(trial_of("none"), 25, "ok")]
    told += [(trial_of(source=f"corpus{n}", method="lora", rank=n), 20 + n % 60, "ok") for n in range(100)]
    found = report_of(told, left_out=tuple(gap(f"other{n}") for n in range(100)))
    page = html.render(found)
    assert len(report_table.table(found)) == 201
    assert len(page.encode()) < 1_000_000
    assert f"{201 - drawings.MOST_ROWS} lower rows are in the table only" in page
    assert "and 71 more" in page
    assert all(left_out(each) in page for each in found.left_out)


def test_a_real_page_is_small(made):
    assert len(html.render(made).encode()) < 100_000


def test_nothing_is_ever_marked_safe():
    """The reason why escaping can be trusted: there is no way around it in these files."""
    folder = Path(html.__file__).parent
    for name in ("html.py", "drawings.py", "plots.py", "spelling.py", "report.html.jinja"):
        source = (folder / name).read_text(encoding="utf-8")
        assert "Markup" not in source
        assert not re.search(r"\|\s*safe\b|autoescape\s+false|autoescape=False", source)
