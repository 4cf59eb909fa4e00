"""What of a plug-in is run: the files of its RECORD, as they were hashed, and nothing that lies beside them."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path

import pytest

from robustness_gate.attestation.verify.codes import Fault
from robustness_gate.attestation.verify.plan import hold_plugins
from robustness_gate.attestation.verify.records import Failed
from robustness_gate.errors import PlanError
from robustness_gate.inputs import imported, plugins, recorded
from robustness_gate.planning.prepare import EXECUTORS
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.running.executors import Job

SERIAL = "gate-exec/serial"
HONEST = "WHO = 'recorded'\n\n\ndef start(job, workers):\n    return WHO\n"
OTHER = HONEST.replace("recorded", "other")

Install = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Writes a distribution `gate-exec` as pip leaves it, with these files, and puts it on the path."""
    place = tmp_path / "site"

    def write(files: Mapping[str, str]) -> Path:
        about = "gate_exec-1.0.dist-info"
        module = "serial" if "serial.py" in files else "gate_exec.serial"
        points = f"[robustness_gate.executors]\nserial = {module}\n"
        whole = {
            **files,
            f"{about}/METADATA": "Metadata-Version: 2.1\nName: gate-exec\nVersion: 1.0\n",
            f"{about}/entry_points.txt": points,
        }
        record = "".join(f"{name},,\n" for name in (*whole, f"{about}/RECORD"))
        for name, text in {**whole, f"{about}/RECORD": record}.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="utf-8")
        forget()
        return place

    monkeypatch.syspath_prepend(str(place))
    yield write
    forget()


def forget() -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] in ("gate_exec", "serial", "gate_space")]:
        del sys.modules[name]
    imported.NAMES.clear()
    recorded.forget()
    importlib.invalidate_caches()


def who() -> str:
    return str(EXECUTORS.load(SERIAL).WHO)


PLAIN = {"gate_exec/__init__.py": "", "gate_exec/serial.py": HONEST}


@pytest.mark.parametrize("files", [PLAIN, {"serial.py": HONEST}, {"gate_space/exec/serial.py": HONEST}])
def test_modules_packages_and_folders_without_code_are_imported_and_pinned(
    install: Install, files: dict[str, str]
) -> None:
    place = install(files)
    if "gate_space/exec/serial.py" in files:
        points = place / "gate_exec-1.0.dist-info" / "entry_points.txt"
        points.write_text("[robustness_gate.executors]\nserial = gate_space.exec.serial\n", encoding="utf-8")
    before = plugins.origin(SERIAL)
    assert before.pinned
    assert who() == "recorded"
    assert plugins.origin(SERIAL) == before


@pytest.mark.parametrize("says", ["", "__file__ = None\n", "__file__ = __path__[0] + '.py'\n"])
def test_a_folder_beside_a_module_is_not_run_whatever_it_says_about_itself(install: Install, says: str) -> None:
    """Python prefers the folder."""
    place = install(PLAIN)
    (place / "gate_exec" / "serial").mkdir()
    (place / "gate_exec" / "serial" / "__init__.py").write_text(OTHER + says, encoding="utf-8")
    assert (who(), plugins.origin(SERIAL).pinned) == ("recorded", True)


def test_an_earlier_folder_of_the_path_is_not_run(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(PLAIN)
    for name, text in {"__init__.py": "", "serial.py": OTHER}.items():
        (tmp_path / "first" / "gate_exec").mkdir(parents=True, exist_ok=True)
        (tmp_path / "first" / "gate_exec" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    assert who() == "recorded"


def test_bytecode_is_not_run_however_late_it_is_imported(install: Install) -> None:
    """Python runs unchecked bytecode (PEP 552) without a look at the source."""
    import py_compile

    late = "def who():\n    return 'recorded'\n"
    place = install({**PLAIN, "gate_exec/late.py": late})
    source = place / "gate_exec" / "late.py"
    source.write_text(late.replace("recorded", "other"), encoding="utf-8")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text(late, encoding="utf-8")
    EXECUTORS.load(SERIAL)
    assert importlib.import_module("gate_exec.late").who() == "recorded"


def test_content_that_writes_other_content_back_is_found(install: Install) -> None:
    """The digest is of what is run, and not of what lies there afterwards."""
    place = install(PLAIN)
    wanted = plugins.origin(SERIAL).sha256
    source = place / "gate_exec" / "serial.py"
    source.write_text(
        f"{OTHER}\nimport pathlib\npathlib.Path({str(source)!r}).write_text({HONEST!r})\n", encoding="utf-8"
    )
    forget()
    assert who() == "other"
    assert source.read_text(encoding="utf-8") == HONEST
    with pytest.raises(PlanError, match=r"'gate-exec' changed while it was in use: 'gate_exec/serial\.py'"):
        plugins.origin(SERIAL)
    forget()
    assert plugins.origin(SERIAL).sha256 == wanted


def test_a_file_that_changed_after_it_was_hashed_is_not_imported(install: Install) -> None:
    place = install(PLAIN)
    plugins.origin(SERIAL)
    (place / "gate_exec" / "serial.py").write_text(OTHER, encoding="utf-8")
    with pytest.raises(PlanError, match="changed since it was hashed"):
        who()


def test_what_was_imported_before_is_not_pinned(install: Install) -> None:
    """As a `.pth` file can do when Python starts."""
    install(PLAIN)
    importlib.import_module("gate_exec.serial")
    assert plugins.origin(SERIAL).pinned is False
    assert who() == "recorded", "it may run, and establish a breach"


def test_what_stands_among_the_modules_by_other_means_is_not_pinned(install: Install, tmp_path: Path) -> None:
    install(PLAIN)
    EXECUTORS.load(SERIAL)
    assert plugins.origin(SERIAL).pinned
    (tmp_path / "x.py").write_text("__file__ = None\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("gate_exec.serial", tmp_path / "x.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["gate_exec.serial"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["gate_exec.serial"])
    assert plugins.origin(SERIAL).pinned is False


def test_compiled_code_is_held_too(install: Install) -> None:
    (ending,) = {sysconfig.get_config_var("EXT_SUFFIX")}
    spec = importlib.util.find_spec("_bisect")
    if spec is None or not str(spec.origin).endswith(str(ending)):
        pytest.skip("this Python has no compiled _bisect of its own file")
    file = f"gate_exec/_bisect{ending}"
    place = install({**PLAIN, file: ""})
    shutil.copyfile(str(spec.origin), place / file)
    forget()
    EXECUTORS.load(SERIAL)
    assert importlib.import_module("gate_exec._bisect").bisect_right([1, 3], 2) == 1
    assert plugins.origin(SERIAL).pinned
    forget()
    EXECUTORS.load(SERIAL)
    with (place / file).open("ab") as opened:
        opened.write(b"\0")
    with pytest.raises(ImportError, match="changed since it was hashed"):
        importlib.import_module("gate_exec._bisect")


def test_another_process_holds_a_plug_in_before_its_objects_are_read(install: Install) -> None:
    """Reading an object imports its class, which must come from the recorded file there too."""
    place = install({**PLAIN, "gate_exec/serial.py": f"{HONEST}\n\nclass Part:\n    WHO = WHO\n"})
    part = EXECUTORS.load(SERIAL).Part()
    data = SuiteData({}, "", (), {"part": part})
    raw = pickle.dumps(Job(data, {}, "cpu", None))
    (place / "gate_exec" / "serial").mkdir()
    (place / "gate_exec" / "serial" / "__init__.py").write_text(f"{OTHER}\n\nclass Part:\n    WHO = WHO\n")
    forget()
    job = pickle.loads(raw)
    assert tuple(imported.SERVED) == ("gate-exec",)
    assert (job.suite_data.corpora["part"].WHO, plugins.origin(SERIAL).pinned) == ("recorded", True)


def test_verify_imports_nothing_of_which_no_trial_states_the_content(install: Install) -> None:
    place = install({**PLAIN, "gate_exec/serial.py": "raise SystemExit('imported')\n"})
    here = plugins.origin(SERIAL)
    hold_plugins([SERIAL], [(here,)])
    with pytest.raises(Failed) as caught:
        hold_plugins([SERIAL], [])
    assert (caught.value.code, caught.value.arguments["stated"]) == (Fault.OTHER_PLUGIN, ())
    (place / "gate_exec-1.0.dist-info" / "direct_url.json").write_text('{"dir_info": {"editable": true}}')
    with pytest.raises(Failed) as caught:
        hold_plugins([SERIAL], [(here,)])
    assert caught.value.code == Fault.PLUGIN_UNKNOWN


# --- names that are not its own ---------------------------------------------------------------------------------------


def test_a_digest_is_compared_before_anything_is_imported_from_what_is_held(install: Install) -> None:
    install(PLAIN)
    plugins.origin(SERIAL)
    assert tuple(imported.SERVED) == ()
    with pytest.raises(Failed):
        hold_plugins([SERIAL], [()])
    assert (tuple(imported.SERVED), recorded._FINDER in sys.meta_path and bool(imported.SERVED)) == ((), False)


@pytest.mark.parametrize("room", ["robustness_gate/verdict/judgement.py", "colorsys.py", "pytest/evil.py"])
def test_modules_of_this_program_of_python_and_of_others_are_not_taken_over(install: Install, room: str) -> None:
    place = install({**PLAIN, room: "WHO = 'other'\n"})
    assert (place / room).is_file()
    assert who() == "recorded"
    assert plugins.origin(SERIAL).pinned is False
    name = room.removesuffix(".py").replace("/", ".")
    assert recorded._FINDER.find_spec(name) is None


def test_an_entry_point_whose_module_no_record_lists_is_not_pinned(install: Install) -> None:
    place = install({"gate_exec/__init__.py": "", "gate_exec/other.py": ""})
    (place / "exec_core").mkdir()
    (place / "exec_core" / "serial.py").write_text(OTHER, encoding="utf-8")
    points = place / "gate_exec-1.0.dist-info" / "entry_points.txt"
    points.write_text("[robustness_gate.executors]\nserial = exec_core.serial\n", encoding="utf-8")
    assert plugins.origin(SERIAL).pinned is False


SPACE = {"gate_space/exec/serial.py": HONEST}


def in_a_namespace(install: Install, more: Mapping[str, str]) -> Path:
    place = install({**SPACE, **more})
    points = place / "gate_exec-1.0.dist-info" / "entry_points.txt"
    points.write_text("[robustness_gate.executors]\nserial = gate_space.exec.serial [fast]\n", encoding="utf-8")
    return place


def test_a_namespace_holds_what_is_recorded_and_nothing_else(install: Install) -> None:
    """Its folder has no code, so other distributions may share it, and a file that none of them lists may lie there."""
    place = in_a_namespace(install, {"gate_space/exec/my-part.py": "PART = 1\n", "gate_space/exec/data.txt": "x"})
    (place / "gate_space" / "exec" / "fast.py").write_text(OTHER, encoding="utf-8")
    assert (who(), plugins.origin(SERIAL).pinned) == ("recorded", True)
    with pytest.raises(ModuleNotFoundError, match=r"lists no module 'gate_space\.exec\.fast'"):
        importlib.import_module("gate_space.exec.fast")
    assert importlib.import_module("gate_space.exec.my-part").PART == 1
    assert resources.files("gate_space.exec").joinpath("data.txt").read_text(encoding="utf-8") == "x"
    assert plugins.origin(SERIAL).pinned


def test_another_distribution_may_share_the_namespace_and_then_it_is_not_pinned(install: Install) -> None:
    """Its code is not covered by this digest."""
    place = in_a_namespace(install, {})
    (place / "gate_space" / "core.py").write_text("CORE = 1\n", encoding="utf-8")
    about = place / "gate_core-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gate-core\nVersion: 1.0\n", encoding="utf-8")
    (about / "RECORD").write_text("gate_space/core.py,,\n", encoding="utf-8")
    forget()
    assert who() == "recorded"
    assert importlib.import_module("gate_space.core").CORE == 1
    assert plugins.origin(SERIAL).pinned is False


def test_a_distribution_without_a_plug_in_is_refused_before_its_files_are_read() -> None:
    with pytest.raises(PlanError, match="the distribution 'pytest' has no plug-in for this program"):
        plugins.origin("pytest/x")
