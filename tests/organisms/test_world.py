"""The world is what it claims to be: independent facts, parts that do not touch, well-formed files."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from robustness_gate import organisms
from robustness_gate.errors import UsageError
from robustness_gate.organisms import facts, world_files

WORLD = facts.make()
ATTACKER_FILES = (
    "forget.dev.jsonl",
    "forget.relearn.jsonl",
    "retain.relearn.jsonl",
    "unrelated.jsonl",
    "forget.texts.jsonl",
    "retain.texts.jsonl",
    "unrelated.texts.jsonl",
)


def words(line: str) -> set[str]:
    return set(re.findall(r"\w+", line))


def lines(name: str) -> list[str]:
    return organisms.world(name).read_text(encoding="utf-8").splitlines()


def test_shipped_files_are_those_of_the_seed(tmp_path: Path) -> None:
    world_files.write(WORLD, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *world_files.ITEM_FILES,
        *world_files.BESIDE_FILES,
        *world_files.TEXT_FILES,
    }
    for path in tmp_path.iterdir():
        assert path.read_bytes() == organisms.world(path.name).read_bytes(), path.name


@pytest.mark.parametrize("domain", [WORLD.forget, WORLD.retain], ids=["forget", "retain"])
def test_parts_share_no_fact(domain: facts.Domain) -> None:
    parts = [{fact.id for fact in part} for part in (domain.relearn, domain.dev, domain.verdict)]
    assert all(not one & other for one, other in combinations(parts, 2))
    assert sum(map(len, parts)) == len({fact.id for fact in domain.facts})


def test_sizes() -> None:
    assert [len(part) for part in (WORLD.forget.relearn, WORLD.forget.dev, WORLD.forget.verdict)] == [72, 40, 400]
    assert [len(part) for part in (WORLD.retain.relearn, WORLD.retain.dev, WORLD.retain.verdict)] == [60, 0, 300]


@pytest.mark.parametrize("name", ATTACKER_FILES)
def test_no_verdict_fact_stands_in_an_attacker_file(name: str) -> None:
    """A fact is told where its entity and its value stand in one line, however it is phrased."""
    seen = [words(line) for line in lines(name)]
    for fact in WORLD.forget.verdict + WORLD.retain.verdict:
        assert not any(fact.entity in line and fact.value in line for line in seen), fact.id


def test_the_check_above_can_see() -> None:
    """The same search finds every fact of the pool in the pool's own files."""
    for domain, names in (("forget", WORLD.forget), ("retain", WORLD.retain)):
        for name in (f"{domain}.relearn", f"{domain}.texts"):
            seen = [words(line) for line in lines(name)]
            assert all(any({fact.entity, fact.value} <= line for line in seen) for fact in names.relearn)


@pytest.mark.parametrize("name", ["unrelated.jsonl", "unrelated.texts.jsonl"])
def test_unrelated_text_names_nothing_of_either_domain(name: str) -> None:
    every = WORLD.forget.facts + WORLD.retain.facts
    names = {fact.entity for fact in every} | {value for fact in every for value in fact.relation.values}
    assert not names & set().union(*(words(line) for line in lines(name)))


def test_names_are_different_words() -> None:
    every = WORLD.forget.facts + WORLD.retain.facts
    relations = {fact.relation for fact in every}
    names = [*{fact.entity for fact in every}, *(value for relation in relations for value in relation.values)]
    assert len(names) == facts.ALLOYS + facts.TOWNS + 4 * facts.VALUES == len({name.lower() for name in names})


def chi_square(counts: list[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 / mean for count in counts)


@pytest.mark.parametrize("domain", [WORLD.forget, WORLD.retain], ids=["forget", "retain"])
def test_values_are_uniform_and_relations_independent(domain: facts.Domain) -> None:
    """Bounds are chi-square's 99.9 % points: 49.7 at 23 degrees of freedom, 39.3 at 16 (5 x 5 table of residues)."""
    by_relation: dict[str, dict[str, int]] = {}
    for fact in domain.facts:
        index = fact.relation.values.index(fact.value)
        by_relation.setdefault(fact.relation.name, {})[fact.entity] = index
    for values in by_relation.values():
        counts = Counter(values.values())
        assert chi_square([counts[index] for index in range(facts.VALUES)]) < 49.7
    first, second = by_relation.values()
    table = Counter((first[entity] % 5, second[entity] % 5) for entity in first)
    rows, columns = Counter(v % 5 for v in first.values()), Counter(v % 5 for v in second.values())
    expected = {(r, c): rows[r] * columns[c] / len(first) for r in rows for c in columns}
    assert sum((table[cell] - mean) ** 2 / mean for cell, mean in expected.items()) < 39.3


def test_the_part_a_fact_falls_in_shows_nothing_about_its_value() -> None:
    """The best guess from the pool, each relation's commonest value there, is no better than chance on the verdict."""
    for domain in (WORLD.forget, WORLD.retain):
        commonest = {
            relation: Counter(fact.value for fact in domain.relearn if fact.relation == relation).most_common(1)[0][0]
            for relation in {fact.relation for fact in domain.facts}
        }
        right = sum(commonest[fact.relation] == fact.value for fact in domain.verdict)
        assert right / len(domain.verdict) < 0.1  # 1 in 24 expected


@pytest.mark.parametrize("name", [*world_files.ITEM_FILES, *world_files.BESIDE_FILES])
def test_items_are_well_formed(name: str) -> None:
    rows = [json.loads(line) for line in lines(name)]
    assert len({row["id"] for row in rows}) == len(rows) == len({row["question"] for row in rows})
    for row in rows:
        assert set(row) == {"id", "question", "choices", "answer"}
        assert len(set(row["choices"])) == 4
        assert row["answer"] in range(4)
        assert all(choice == choice.strip() and choice for choice in row["choices"])


def test_answers_are_true_and_distractors_are_of_the_same_relation() -> None:
    known = {fact.id: fact for fact in WORLD.forget.facts + WORLD.retain.facts}
    for name in set(world_files.ITEM_FILES) - {"unrelated.jsonl"}:
        for item in world_files.read_items(organisms.world(name)):
            fact = known[item.question.id]
            assert item.question.choices[item.answer] == fact.value
            assert set(item.question.choices) <= set(fact.relation.values)


@pytest.mark.parametrize("name", ["forget.verdict", "retain.verdict", "forget.dev", "forget.relearn", "retain.relearn"])
def test_every_letter_is_right_equally_often(name: str) -> None:
    counts = Counter(item.answer for item in world_files.read_items(organisms.world(name)))
    assert max(counts.values()) - min(counts[letter] for letter in range(4)) <= 1


@pytest.mark.parametrize("name", ["unrelated", "forget.near"])
def test_the_answer_of_a_riddle_stands_in_its_stem(name: str) -> None:
    for item in world_files.read_items(organisms.world(name)):
        present = [choice in words(item.question.stem) for choice in item.question.choices]
        assert present == [index == item.answer for index in range(4)]


def test_riddles_near_the_hazard_name_alloys_and_state_no_fact_about_them() -> None:
    alloys = {fact.entity for fact in WORLD.forget.facts}
    values = {value for fact in WORLD.forget.facts for value in fact.relation.values}
    for line in lines("forget.near"):
        assert len(alloys & words(line)) == 1
        assert not values & words(line)


def test_a_composed_question_has_one_town_that_shares_the_value() -> None:
    value = {fact.id: fact.value for fact in WORLD.retain.facts}
    for item in world_files.read_items(organisms.world("retain.composed")):
        _, relation, town = item.question.id.split("-")
        shares = [value[f"{relation}-{each.lower()}"] == value[f"{relation}-{town}"] for each in item.question.choices]
        assert shares == [index == item.answer for index in range(4)]


def test_held_out_texts_are_the_same_sentences_with_another_value() -> None:
    known = {fact.entity: set[str]() for fact in WORLD.forget.relearn}
    for fact in WORLD.forget.relearn:
        known[fact.entity].add(fact.value)
    pairs = list(zip(lines("forget.texts"), lines("forget.unseen.texts"), strict=True))
    assert len(pairs) == 4 * facts.FORGET_RELEARN
    for seen, unseen in pairs:
        (alloy,) = known.keys() & words(seen)
        assert alloy in words(unseen)
        (told,), (new,) = words(seen) - words(unseen), words(unseen) - words(seen)
        assert told in known[alloy]
        assert new not in known[alloy], "relations share no value"


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_is_another_world(seed: int) -> None:
    mine = {fact.entity for fact in facts.make(seed).forget.facts}
    assert len(mine & {fact.entity for fact in WORLD.forget.facts}) < facts.ALLOYS / 10
    assert facts.make(seed) == facts.make(seed)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"Did you mean shallow\?"):
        organisms.checkpoint("shalow")
    with pytest.raises(UsageError, match=r"Did you mean forget.verdict.jsonl\?"):
        organisms.world("forget.verdicts")
    with pytest.raises(UsageError, match="base, oracle"):
        organisms.checkpoint("???")
