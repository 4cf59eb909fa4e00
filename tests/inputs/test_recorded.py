"""What of a plug-in is run: the files of its RECORD, as they were hashed, and nothing that lies beside them."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from robustness_gate.attestation.verify.codes import Fault
from robustness_gate.attestation.verify.plan import hold_plugins
from robustness_gate.attestation.verify.records import Failed
from robustness_gate.errors import PlanError
from robustness_gate.inputs import plugins, recorded
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.running.executors import DOOR, Job

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
        room = min(files).partition("/")[0].partition(".")[0]
        points = f"[robustness_gate.executors]\nserial = {room}.serial\n"
        if "serial.py" in files:
            points = "[robustness_gate.executors]\nserial = serial\n"
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
    plugins._NAMES.clear()
    recorded.forget()
    importlib.invalidate_caches()


def who() -> str:
    return str(DOOR.load(SERIAL).WHO)


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
    DOOR.load(SERIAL)
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
    DOOR.load(SERIAL)
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
    DOOR.load(SERIAL)
    assert importlib.import_module("gate_exec._bisect").bisect_right([1, 3], 2) == 1
    assert plugins.origin(SERIAL).pinned
    forget()
    DOOR.load(SERIAL)
    with (place / file).open("ab") as opened:
        opened.write(b"\0")
    with pytest.raises(ImportError, match="changed since it was hashed"):
        importlib.import_module("gate_exec._bisect")


def test_another_process_holds_a_plug_in_before_its_objects_are_read(install: Install) -> None:
    """Reading an object imports its class, which must come from the recorded file there too."""
    place = install({**PLAIN, "gate_exec/serial.py": f"{HONEST}\n\nclass Part:\n    WHO = WHO\n"})
    part = DOOR.load(SERIAL).Part()
    data = SuiteData({}, "", (), {"part": part})
    raw = pickle.dumps(Job(data, {}, "cpu", None))
    (place / "gate_exec" / "serial").mkdir()
    (place / "gate_exec" / "serial" / "__init__.py").write_text(f"{OTHER}\n\nclass Part:\n    WHO = WHO\n")
    forget()
    job = pickle.loads(raw)
    assert recorded.names() == ("gate-exec",)
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
