"""What is read from the hub, through the real clients and the real command line, from a hub on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub import BIO, WMDP_PARTS, WMDP_SUITE, serving

from robustness_gate import organisms
from robustness_gate.errors import FileError, UsageError
from robustness_gate.inputs import hub as client
from robustness_gate.inputs.checkpoint.manifest import inspect

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
STONES = f"hf-dataset://lab/stones@{COMMIT}/rare/test"
READ = """
import json, sys
from robustness_gate.inputs import datasets as sources
print(json.dumps({place: [i.question.stem for i in sources.read_items(place)] for place in sys.argv[1:]}))
"""


def rows(count: int, tag: str) -> list[dict[str, Any]]:
    draw = random.Random(tag)
    return [
        {
            "answer": draw.randrange(4),
            "question": f"Which stone is {tag} number {i}?",
            "choices": [f"{stone} {i}" for stone in ("agate", "beryl", "coral", "diorite")],
        }
        for i in range(count)
    ]


def parquet(content: list[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as format_

    file = io.BytesIO()
    format_.write_table(pyarrow.Table.from_pylist(content), file)
    return file.getvalue()


def card(*configs: tuple[str, str]) -> bytes:
    """A dataset's card as the hub's tools write it: each config's splits with the pattern of their files."""
    lines = ["language:", "- en", "configs:"]
    for config, split in configs:
        lines += [f"- config_name: {config}", "  data_files:", f"  - split: {split}", f"    path: {config}/{split}-*"]
    return "\n".join(["---", *lines, "---", "# A card", "", "---", "configs: none of the head's", ""]).encode()


def wmdp_and_mmlu() -> dict[str, dict[str, dict[str, bytes]]]:
    """Both datasets as the hub has them, at their commits, with as many rows: of an invented world."""
    found: dict[str, dict[str, dict[str, bytes]]] = {}
    held = {place: rows(count, place.split("/", 2)[2].replace("/", " ")) for place, count in WMDP_SUITE.items()}
    held |= {place: held[BIO][part] for place, part in WMDP_PARTS.items()}
    for place, content in held.items():
        name, _, rest = place.partition("@")
        commit, config, split = rest.split("/")
        files = found.setdefault(f"datasets/{name}", {}).setdefault(commit, {})
        files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(content)
        files[f"{config}/dev-00000-of-00001.parquet"] = b"nobody asked for this split"
    for commits in found.values():
        for files in commits.values():
            named = [tuple(path.split("-00000")[0].split("/")) for path in files]
            files["README.md"] = card(*((config, split) for config, split in named if split != "dev"))
    return found


@dataclass
class Machine:
    """A machine with a cache of its own, from whose commands a hub is in reach or not."""

    home: Path
    endpoint: str = "http://127.0.0.1:9"  # the port of the protocol `discard`: no one listens

    def call(self, *command: str, offline: bool = False, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_HOME": str(self.home), "HF_ENDPOINT": self.endpoint, "NO_PROXY": "127.0.0.1,localhost"}
        env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        return subprocess.run(
            [sys.executable, *command], env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
        )

    def read(self, *places: str, **more: Any) -> dict[str, list[str]]:
        done = self.call("-c", READ, *places, **more)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path / "home")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


# --- datasets ---------------------------------------------------------------------------------------------------------


def child_of(policy: Path, held: Any, folder: Path) -> None:
    """A policy that extends a shipped one, with what `policy pin` prints in place of what that leaves open."""
    pinning = Machine(folder / "elsewhere")
    with serving(held) as hub:
        pinning.endpoint = hub.endpoint
        command = ["policy", "pin", str(policy), "--suite", str(folder / "suite.yaml")]
        done = pinning.call("-m", "robustness_gate", *command)
    assert done.returncode == 0, done.stderr
    (folder / policy.name).write_bytes(policy.read_bytes())
    tasks = done.stdout[: done.stdout.index("data:")]
    controls = f"{{never_taught: {{sha256: {'b' * 64}}}, never_taught_cyber: {{sha256: {'c' * 64}}}}}"
    (folder / "policy.yaml").write_text(
        "schema: robustness-gate/policy/v1\nid: ours\nversion: 1.0.0\n"
        f"extends: {{file: {policy.name}, sha256: {hashlib.sha256(policy.read_bytes()).hexdigest()}}}\n"
        f"original: {'a' * 64}\ncontrols: {controls}\n{tasks}",
        encoding="utf-8",
    )


@pytest.mark.slow  # 10 s: thousands of made-up questions
def test_the_wmdp_suite_is_planned_from_a_hub_and_then_from_the_cache_that_this_filled(machine, root, tmp_path):
    files = ["--policy", str(tmp_path / "policy.yaml"), "--suite", str(tmp_path / "suite.yaml")]
    plan = ["-m", "robustness_gate", "plan", "organism:rmu", *files]
    held = wmdp_and_mmlu()
    with serving(held, main={name: next(iter(commits)) for name, commits in held.items()}) as hub:
        machine.endpoint = hub.endpoint
        # the commits that the suite does not know; all others stay as they are
        done = machine.call(
            "-m", "robustness_gate", "suites", "pin", "wmdp-smoke", "--out", str(tmp_path / "suite.yaml")
        )
        assert done.returncode == 0, done.stderr
        pins = hub.fetched()
    assert pins <= {"README.md"}, "every count is known, so no data are read"
    child_of(root / "policies" / "wmdp-open-weights.yaml", held, tmp_path)
    line = one_line(machine.call(*plan, offline=True))
    assert "HF_HUB_OFFLINE is set and this commit is not in the cache" in line
    assert "Download it first" in line

    with serving(held) as hub:
        machine.endpoint = hub.endpoint
        first = machine.call(*plan, "--json")
        assert (first.returncode, first.stderr) == (0, ""), "no progress bars for ten small files"
        asked = {path for path in hub.fetched() if path != "README.md"}
    assert asked == {f"{place.split('/', 2)[2]}-00000-of-00001.parquet" for place in (*WMDP_SUITE, *WMDP_PARTS)}, (
        "one split, no more"
    )
    sizes = {task["name"]: task["items"] for task in json.loads(first.stdout)[0]["tasks"]}
    assert 949 <= sizes.pop("wmdp-bio-cloze") < 1076, "what attackers have in letters is not asked in cloze either"
    assert 949 <= sizes.pop("wmdp-bio-margin") < 1076
    assert 741 <= sizes.pop("wmdp-bio-robust") < 868
    assert sizes == {
        "wmdp-bio": 1146, "wmdp-bio-choices-only": 1146, "wmdp-cyber": 1788, "wmdp-chem": 367, "college-biology": 144,
        "virology": 166, "medical-genetics": 100, "computer-security": 100, "mmlu": 1531,
    }  # fmt: skip

    again = machine.call(*plan, "--json", offline=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_a_commit_is_never_answered_with_another_one(machine, tmp_path):
    """`datasets.load_dataset` does: offline with the last commit it saw, and with a folder of the same name."""
    commits = {
        commit: {"README.md": card(("rare", "test")), "rare/test-00000-of-00001.parquet": parquet(rows(3, tag))}
        for commit, tag in ((COMMIT, "one"), (OTHER, "other"))
    }
    here = tmp_path / "here" / "lab" / "stones" / "rare"
    here.mkdir(parents=True)
    (here / "test-00000-of-00001.parquet").write_bytes(parquet(rows(3, "planted")))
    other = STONES.replace(COMMIT, OTHER)
    with serving({"datasets/lab/stones": commits}) as hub:
        machine.endpoint = hub.endpoint
        assert machine.read(STONES, cwd=tmp_path / "here")[STONES][0] == "Which stone is one number 0?"
        done = machine.call("-c", READ, other, offline=True)
        assert f"FileError: {other}: HF_HUB_OFFLINE is set and this commit is not in the cache" in done.stderr
        assert machine.read(other)[other][0] == "Which stone is other number 0?"
    both = machine.read(STONES, other, offline=True, cwd=tmp_path / "here")
    assert [stems[0].split()[3] for stems in both.values()] == ["one", "other"]


TELL = """
import sys
from robustness_gate.inputs import datasets as sources
from robustness_gate.errors import FileError
for place in sys.argv[1:]:
    try:
        print(len(sources.read_items(place)))
    except FileError as error:
        print(error)
"""


def told(machine: Machine, repositories: list[Mapping[str, bytes]], *more: str) -> list[str]:
    """How many items each dataset has, or in one line why not; the split `test` of `rare` is asked for."""
    with serving({f"datasets/lab/stones-{i}": {COMMIT: files} for i, files in enumerate(repositories)}) as hub:
        machine.endpoint = hub.endpoint
        places = [STONES.replace("stones", f"stones-{i}") for i in range(len(repositories))]
        done = machine.call("-c", TELL, *places, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_the_hub_does_not_know_is_one_line_with_what_to_do(machine):
    unknown = {"RevisionNotFoundError": STONES.replace("stones", "stones-0").replace(COMMIT, OTHER),
               "RepositoryNotFoundError": STONES.replace("stones", "gems")}  # fmt: skip
    known, *lines = told(machine, [{"rare/test-0.parquet": parquet(rows(2, "a"))}], *unknown.values())
    assert known == "2"
    for line, (kind, place) in zip(lines, unknown.items(), strict=True):
        assert line.startswith(f"{place}: the hub does not give it ({kind}: ")
        assert line.endswith("HF_TOKEN.")


LINES = "\n".join(json.dumps(row) for row in rows(4, "lines")).encode()
LISTED = b"---\nconfigs:\n- config_name: rare\n  data_files:\n  - {split: test, path: [b/*.jsonl, './a.jsonl']}\n---\n"


FOUND: list[tuple[Mapping[str, bytes], int]] = [
    ({f"rare/test-0000{i}-of-00002.parquet": parquet(rows(2 + i, f"{i}")) for i in range(2)}, 5),
    ({"rare/test.jsonl": LINES, "rare/train.jsonl": b"{"}, 4),
    ({"rare/test/0000.parquet": parquet(rows(3, "branch")), "rare/train/0000.parquet": b"not asked for"}, 3),
    ({"README.md": LISTED.replace(b"b/*.jsonl", b"a.json").replace(b"./a.jsonl", b"a.json"), "a.json": LINES}, 4),
    ({"README.md": b"A card without a head.", "rare/test.parquet": parquet(rows(2, "a"))}, 2),
    ({"README.md": LISTED, "a.jsonl": LINES, "b/c.jsonl": LINES, "rare/test.parquet": b"not named"}, 8),
    ({"README.md": b"---\nconfigs: {}\n---\n", "rare/test.parquet": parquet(rows(2, "a"))}, 2),
]
REFUSED: list[tuple[Mapping[str, bytes], str]] = [
    ({"common/test-0.parquet": b""}, "has no file for the split 'test' of 'rare'"),
    ({"README.md": card(("rare", "train")), "rare/train-0.parquet": b""}, "names no files for the split 'test'"),
    ({"README.md": b"---\n{\n---\n", "rare/test.jsonl": LINES}, "card cannot be read"),
    ({"README.md": b"---\nconfigs:\n- {config_name: rare, data_files: 7}\n---\n"}, "names no files"),
    ({"rare/test.csv": b"question,answer"}, "neither JSON lines nor Parquet"),
    ({"rare/test-0.parquet": b"PAR1 and then nothing"}, "cannot be read as Parquet"),
    ({"rare/test-0.parquet": b"", "rare/test-1.jsonl": b""}, "one kind of file"),
    ({"README.md": LISTED.replace(b"./a.jsonl", b"../../../../../**").replace(b"b/*", b"/etc/*")}, "has no file"),
]


def test_a_split_is_found_where_its_card_says_or_where_the_hubs_tools_write_it(machine):
    assert told(machine, [files for files, _ in FOUND]) == [str(items) for _, items in FOUND]


def test_a_dataset_of_another_shape_is_refused_in_words(machine):
    lines = told(machine, [files for files, _ in REFUSED])
    assert len(lines) == len(REFUSED)
    for line, (_, says) in zip(lines, REFUSED, strict=True):
        assert says in line


def test_a_name_that_the_hub_does_not_allow_is_refused():
    with pytest.raises(UsageError, match="names no repository"):
        client.snapshot("dataset", "lab/sto..nes", COMMIT, ["*"], where="here", refusal=FileError)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_downloaded_without_pickles_or_code_and_then_found_in_the_cache(machine, root):
    files = {path.name: path.read_bytes() for path in organisms.checkpoint("rmu").iterdir()}
    beside = {"pytorch_model.bin": b"\x80\x04.", "modeling.py": b"raise SystemExit", "README.md": b"prose"}
    files_of = ["--policy", str(root / "policies/organism.yaml"), "--suite", str(root / "suites/organism-smoke.yaml")]
    plan = ["-m", "robustness_gate", "plan", f"hf://lab/rmu@{COMMIT}", *files_of, "--json"]
    with serving({"models/lab/rmu": {COMMIT: {**files, **beside}}}) as hub:
        machine.endpoint = hub.endpoint
        first = machine.call(*plan)
        assert first.returncode == 0, first.stderr
        assert hub.fetched() == set(files) - {"README.md"}
        unknown = [*plan[:3], f"hf://lab/rmu@{OTHER}", *plan[4:]]
        line = one_line(machine.call(*unknown))
        assert line.startswith(f"error: hf://lab/rmu@{OTHER}: the hub does not give it (RevisionNotFoundError")
    assert json.loads(first.stdout)[0]["subject"] == inspect(organisms.checkpoint("rmu")).digest
    begun = time.monotonic()
    again = machine.call(*plan, offline=True)
    assert again.stdout == first.stdout, again.stderr
    assert time.monotonic() - begun < 20, "nobody waits for a hub that is not asked"
    assert "HF_HUB_OFFLINE is set" in one_line(machine.call(*unknown, offline=True))
