"""A hub on this machine that holds what a test gives it: as much of its protocol as the installed clients speak.

Large files are answered as the hub does it: `resolve` tells commit, hash and size and sends the client elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.policy_language import load_policy
from robustness_gate.policy_language.load import open_values
from robustness_gate.policy_language.show import page
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import in_format
from robustness_gate.records.suite import Suite

WMDP_SUITE = {
    "cais/wmdp@7125571f22f032c56415e7980f48d877dd830ff8/wmdp-bio/test": 1273,
    "cais/wmdp@7125571f22f032c56415e7980f48d877dd830ff8/wmdp-cyber/test": 1987,
    "cais/wmdp@7125571f22f032c56415e7980f48d877dd830ff8/wmdp-chem/test": 408,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/college_biology/test": 144,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/virology/test": 166,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/medical_genetics/test": 100,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/computer_security/test": 100,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/all/validation": 1531,
    "cais/mmlu@c30699e8356da336a370243923dbaf21066bb9fe/elementary_mathematics/test": 378,
}
"""Every pinned place of suites/wmdp-smoke.yaml with its number of items, as the cards of both datasets give them."""
CLOZE_SET, ROBUST_SET = "EleutherAI/wmdp_bio_cloze", "EleutherAI/wmdp_bio_robust_mcqa"
"""Data sets that the shipped WMDP suites do not pin."""


def made_up(name: str) -> str:
    """A commit for a data set that is not pinned."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


BIO = next(iter(WMDP_SUITE))
ROBUST = (
    "bioweapons_and_bioterrorism",
    "dual_use_virology",
    "enhanced_potential_pandemic_pathogens",
    "expanding_access_to_threat_vectors",
    "reverse_genetics_and_easy_editing",
    "viral_vector_research",
)
WMDP_PARTS = {
    f"{CLOZE_SET}@{made_up(CLOZE_SET)}/default/cloze_compatible": slice(1076),
    **{
        f"{ROBUST_SET}@{made_up(ROBUST_SET)}/{config}/robust": slice(at, end)
        for config, at, end in zip(ROBUST, range(300, 1168, 145), (*range(445, 1168, 145), 1168), strict=True)
    },
}
"""Their places in the suites, pinned so, and which of the rows of `BIO` they have: 1,076, and 868 in six configs."""


def pinned(suite: str) -> str:
    """A shipped suite's text with made-up commits in the place of those that it does not know."""
    for name in set(re.findall(r"([\w.-]+/[\w.-]+)@UNPINNED", suite)):
        suite = suite.replace(f"{name}@UNPINNED: UNPINNED", f"{name}@{made_up(name)}: never")
        suite = suite.replace(f"{name}@UNPINNED", f"{name}@{made_up(name)}")
    return suite


def pinned_suite(path: Path, folder: Path) -> Path:
    """The suite itself, or where it does not know all its commits a copy of it with made-up ones."""
    text = path.read_text(encoding="utf-8")
    if "UNPINNED" not in text:
        return path
    (folder / path.name).write_text(pinned(text), encoding="utf-8")
    return folder / path.name


def pinned_policy(
    path: Path, read: Loaded[Suite] | None = None, data: SuiteData | None = None, models: Mapping[str, str] = {}
) -> Loaded[Policy]:
    """A shipped policy with the values that it leaves open: those of a suite's data, else made-up ones.

    `models` are digests of the original and of controls, by name.
    """
    given: dict[str, Any] = {str(at[1]): {"items": 900} for at in open_values(path) if at[0] == "tasks"}
    if read is not None and data is not None:
        for name, pin in load_policy(path, unpinned=True).record.tasks.items():
            asked = in_format(name, pin.formats[0])
            pins = {"sha256": data.refs[asked].sha256, "questions": data.question_ids[asked].pin}
            given[name] = {**pins, "items": data.refs[asked].items, "source": read.record.tasks[name].source}
    controls: dict[str, Any] = {name: {"sha256": digest} for name, digest in models.items()}
    whole = {"tasks": given, "controls": controls, "original": models.get("original")}
    return load_policy(path, unpinned=True, given=whole)


def pinned_policy_file(path: Path, folder: Path, *data: Any) -> Path:
    """The same as a file; the policy itself where it leaves nothing open."""
    if not open_values(path):
        return path
    (folder / path.name).write_text(page(pinned_policy(path, *data)), encoding="utf-8")
    return folder / path.name


def unchecked(suite: str) -> str:
    """A suite's text without the days on which its commits were seen, for a test that puts files in their place."""
    return re.sub(r"^checked:.*\n(?:  .*\n)+", "", suite, flags=re.MULTILINE)


LARGE = (".safetensors", ".parquet", ".bin")


@dataclass
class Hub:
    """What is served, where, and what was asked for."""

    repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]]
    """`models/OWNER/NAME` or `datasets/OWNER/NAME`, then commit, then path: the file."""
    endpoint: str = ""
    main: Mapping[str, str] = field(default_factory=dict)
    """The commit of each repository's branch `main`."""
    gated: Mapping[str, str] = field(default_factory=dict)
    """Repositories whose files need a token, with that token. Their lists of files do not."""
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of every request."""

    def fetched(self) -> set[str]:
        """The paths whose bytes or hashes were asked for."""
        return {line.split("/resolve/")[1].split("/", 1)[1] for line in self.asked if "/resolve/" in line}


@contextmanager
def serving(repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]], **more: Mapping[str, str]) -> Iterator[Hub]:
    """A hub for the length of the block; `more` are further fields of `Hub`."""
    hub = Hub(repositories, **more)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on stderr: what was asked is in `Hub.asked`."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            self.send(200, self.by_hash(parts[1]))
        elif parts[0] == "api" and len(parts) > 3:
            self.api("/".join(parts[1:4]), parts[4:], body)
        elif "resolve" in parts[2:4]:
            kind = "" if parts[0] == "datasets" else "models/"
            at = parts.index("resolve")
            self.resolve(kind + "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]))
        else:
            self.refuse("EntryNotFound")

    def api(self, name: str, rest: list[str], body: str) -> None:
        verb, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        revision = self.hub.main.get(name, revision) if revision == "main" else revision
        files = self.files(name, revision)
        if files is None:
            return
        if verb == "paths-info":
            paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            self.tell([_entry(path, files[path]) for path in paths if path in files])
        elif verb == "tree":
            self.tree(files, "/".join(rest[2:]))
        elif verb == "revision":
            siblings = [{"rfilename": path} for path in sorted(files)]
            self.tell(
                {"id": name.split("/", 1)[1], "sha": revision, "siblings": siblings, "private": False, "tags": []}
            )
        else:
            self.refuse("EntryNotFound")

    def tree(self, files: Mapping[str, bytes], folder: str) -> None:
        """A folder's files and folders, or with `recursive` all files below it."""
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("true", "1")
        start = f"{folder}/" if folder else ""
        below = {path: content for path, content in sorted(files.items()) if path.startswith(start)}
        if not below:
            self.refuse("EntryNotFound")
            return
        here = {path: content for path, content in below.items() if recursive or "/" not in path[len(start) :]}
        folders = sorted({start + path[len(start) :].split("/")[0] for path in below.keys() - here.keys()})
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
        self.tell(listed + [_entry(path, content) for path, content in here.items()])

    def resolve(self, name: str, revision: str, path: str) -> None:
        files = self.files(name, revision)
        if files is None:
            return
        if path not in files:
            self.refuse("EntryNotFound", {"X-Repo-Commit": revision})
            return
        if self.headers.get("Authorization") != f"Bearer {self.hub.gated.get(name, '')}" and name in self.hub.gated:
            self.refuse("GatedRepo", {"X-Repo-Commit": revision}, status=403)
            return
        content, told = files[path], {"X-Repo-Commit": revision}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            told |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
            self.send(302, b"", told | {"Location": f"http://localhost:{self.server.server_address[1]}/cdn/{sha256}"})
        else:
            self.send(200, content, told | {"ETag": f'"{_oid(content)}"'})

    def files(self, name: str, revision: str) -> Mapping[str, bytes] | None:
        if name not in self.hub.repositories:
            self.refuse("RepoNotFound")
        elif revision not in self.hub.repositories[name]:
            self.refuse("RevisionNotFound")
        else:
            return self.hub.repositories[name][revision]
        return None

    def by_hash(self, sha256: str) -> bytes:
        held = (c for commits in self.hub.repositories.values() for files in commits.values() for c in files.values())
        return next(content for content in held if hashlib.sha256(content).hexdigest() == sha256)

    def tell(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, code: str, told: Mapping[str, str] | None = None, status: int = 404) -> None:
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code}: not on this hub", **(told or {})})

    def send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: str, content: bytes) -> dict[str, object]:
    told: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
    if path.endswith(LARGE):
        told["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return told


def _oid(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
