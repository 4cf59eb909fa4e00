"""One commit of a Hugging Face repository: downloaded once, afterwards taken from the shared cache.

Honours HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN. No other commit is ever used in place of the
named one, with or without network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from robustness_gate.errors import CheckpointError, FileError, SetupError, UsageError
from robustness_gate.system import writing


def snapshot(
    kind: Literal["model", "dataset"],
    repository: str,
    commit: str,
    patterns: Sequence[str],
    *,
    where: str,
    refusal: type[CheckpointError] | type[FileError],
) -> Path:
    """The folder with the files of a commit that match a pattern, and perhaps others fetched before.

    Args:
        kind: which of the hub's two name spaces.
        repository: OWNER/NAME.
        commit: 40 hexadecimal digits.
        patterns: for fnmatch; `*` matches folders too.
        where: the reference as the user wrote it, for errors.
        refusal: the error for a commit that is not available.

    Raises:
        refusal: no such commit, no access, no network and not in the cache.
        UsageError: the name does not have the hub's form.
        SetupError: huggingface_hub is not installed.
        WriteError: the disk is full, or the cache cannot be written.
    """
    _installed()
    from huggingface_hub import snapshot_download

    quiet = _without_bars() if kind == "dataset" else nullcontext()  # progress bars are useful for a model alone
    with _in_words(kind, repository, where, refusal), quiet:
        return Path(snapshot_download(repository, repo_type=kind, revision=commit, allow_patterns=list(patterns)))


def commit_of(kind: Literal["model", "dataset"], repository: str, revision: str, *, where: str) -> str:
    """The commit, 40 hexadecimal digits, that a branch, a tag or a commit of a repository is now. It asks the hub.

    Raises:
        FileError: there is no such repository or revision, no access, or no network.
        UsageError, SetupError: as `snapshot` does.
    """
    _installed()
    from huggingface_hub import HfApi

    with _in_words(kind, repository, where, FileError):
        return str(HfApi().repo_info(repository, repo_type=kind, revision=revision).sha)


def page(kind: Literal["model", "dataset"], repository: str) -> str:
    """The address of a repository's page, where the terms of a gated one are accepted."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repository}"


def _installed() -> None:
    try:
        import huggingface_hub  # noqa: F401 - only whether it is there
    except ImportError:
        raise SetupError(
            "huggingface_hub is not installed.",
            remedy="What lies on the hub needs robustness-gate[run]; or give a directory.",
        ) from None


@contextmanager
def _in_words(
    kind: Literal["model", "dataset"],
    repository: str,
    where: str,
    refusal: type[CheckpointError] | type[FileError],
) -> Iterator[None]:
    """The client's errors as the gate's, each with what to do next."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.HFValidationError:
        raise UsageError(f"'{repository}' names no repository.", remedy="Write OWNER/NAME@COMMIT.") from None
    except Exception as error:  # noqa: BLE001 - no access, no network, no space: the user can correct any of these
        if _is_gated(error):
            raise refusal(
                f"this {kind} is gated: its terms must be accepted before it can be read",
                remedy=f"Read them at {page(kind, repository)} and accept them with your account; then set HF_TOKEN to "
                "a token of that account that may read gated repositories.",
                where=where,
                code="gated",
            ) from None
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) and constants.HF_HUB_OFFLINE:
            raise refusal(
                "HF_HUB_OFFLINE is set and this commit is not in the cache, or not whole",
                remedy="Download it first, or point HF_HOME to the cache that holds it.",
                where=where,
            ) from None
        if isinstance(error, OSError) and error.errno in writing.NO_FAULT_OF_OURS:
            remedy = "Make room, or let HF_HOME name another place."
            raise writing.unwritten(Path(constants.HF_HUB_CACHE), error, remedy) from None
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
        raise refusal(
            f"the hub does not give it ({type(error).__name__}: {first})",
            remedy=f"Check name, commit, network and, for a private or gated {kind}, HF_TOKEN.",
            where=where,
        ) from None


def _is_gated(error: BaseException) -> bool:
    """Whether the hub refused because of terms: the client may raise another error because of that one."""
    from huggingface_hub import errors

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, errors.GatedRepoError):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


def listing(kind: Literal["model", "dataset"], repository: str, commit: str) -> dict[str, int] | None:
    """Every file of a commit with its size in bytes; None where the list is not available.

    It comes from the hub, or without network from huggingface_hub's stored list of a downloaded commit. The reason for
    a missing list is not returned: `snapshot`, which is called next, raises it.
    """
    try:
        import huggingface_hub
    except ImportError:
        return None

    def asked() -> Iterator[object]:
        return iter(huggingface_hub.HfApi().list_repo_tree(repository, recursive=True, revision=commit, repo_type=kind))

    def kept() -> Iterator[object]:
        return iter(huggingface_hub.get_cached_repo_tree(repository, repo_type=kind, revision=commit))

    for source in (kept, asked):  # a commit does not change, so the stored list is valid
        try:
            return {each.path: each.size for each in source() if isinstance(each, huggingface_hub.hf_api.RepoFile)}
        except Exception:  # noqa: BLE001 - no network, no access, or a client without stored lists
            continue
    return None


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars inside the block, unless an environment variable sets them."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
