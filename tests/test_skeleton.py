"""The shape: who may import whom, what is declared, what the wheel holds, how the commands are configured."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from conftest import RunHere
from hydra import compose, initialize_config_module
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("generation", "detection", "conf", "scripts")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = sorted(path.stem for path in (ROOT / "conf").glob("*.yaml") if path.stem != "base")
DATA_FILES = {".yaml", ".j2", ".safetensors", ".json", ".md"}

MAY_IMPORT = {
    "generation": ("generation",),
    "detection": ("detection", "generation.records"),
    "conf": (),
    "scripts": ("scripts", "generation", "detection"),
}


def tracked() -> list[Path]:
    """The project's files: what git has or would add; without git, all but what a checkout never holds."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (ROOT / ".git").exists():
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    hidden = {"__pycache__", ".venv", "runs", "build"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not hidden & set(path.relative_to(ROOT).parts)]


def imports(path: Path) -> Iterator[str]:
    """Full dotted names that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_arrows_between_packages(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        if name.split(".")[0] in PACKAGES
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[package])
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["generation", "detection"])
def test_packages_never_see_hydra(package: str) -> None:
    for path in sources(package):
        assert not {"hydra", "omegaconf"} & {name.split(".")[0] for name in imports(path)}, path


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    names = {name.split(".")[0] for path in sources("generation", "detection", "scripts") for name in imports(path)}
    foreign = names - set(sys.stdlib_module_names) - set(PACKAGES)
    found = metadata.packages_distributions()
    made_by = {name: {canonicalize_name(item) for item in found[name]} for name in foreign}
    needed = {canonicalize_name(Requirement(item).name) for item in PROJECT["dependencies"]}
    extra = {
        canonicalize_name(Requirement(i).name) for items in PROJECT["optional-dependencies"].values() for i in items
    }
    assert {name for name, makers in made_by.items() if not makers & (needed | extra)} == set()
    assert needed - set().union(*made_by.values()) == set()


def test_every_dependency_has_one_tested_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    assert list(pinned) == sorted(pinned)
    asked = [*PROJECT["dependencies"], *(item for items in PROJECT["optional-dependencies"].values() for item in items)]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_top_level() -> None:
    allowed = (
        "pyproject.toml constraints.txt README.md LICENSE CITATION.cff Makefile conf generation detection scripts tests"
    )
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} == set(allowed.split())


def test_no_file_names_a_machine() -> None:
    """No absolute path of somebody's machine, no package index."""
    machine = re.compile(
        rb"(?<![\w.:/])/(?:home|root|work|opt|Users)/|index[-_]url|find[-_]links|\bpypi\.|\.pythonhosted\."
    )
    text = [path for path in tracked() if path.suffix not in {".png", ".safetensors", ".parquet", ".jpg"}]
    named = [
        f"{path.relative_to(ROOT)}: {hit.group()!r}" for path in text for hit in machine.finditer(path.read_bytes())
    ]
    assert [item for item in named if not item.startswith("tests/test_skeleton.py")] == []


def test_no_check_is_switched_off_wholesale() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert config["strict"] is True
    assert set(config["packages"]) == {"generation", "detection", "scripts"}
    for override in config["overrides"]:
        assert set(override) == {"module", "ignore_missing_imports"}
        assert "*" not in override["module"]
    for path in sources("generation", "detection", "scripts"):
        assert not re.search(r"#\s*(type: ignore(?!\[)|mypy:(?! disable-error-code=)|noqa(?!: ))", path.read_text()), (
            path
        )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_configuration_composes_and_has_its_command(name: str) -> None:
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(name)
    assert config.seed == 0
    assert f'@entry("{name}"' in (ROOT / "scripts" / f"{name}.py").read_text()


def test_every_command_has_its_configuration() -> None:
    command = re.compile(r'^@entry\("(\w+)"(?:, .+)?\)$', re.M)
    names = [name for path in sources("scripts") for name in command.findall(path.read_text())]
    assert sorted(names) == COMMANDS


def test_hydra_is_entered_at_one_place_and_instantiates_nothing() -> None:
    users = [path.name for path in sources("scripts") if "hydra.main(" in path.read_text()]
    assert users == ["door.py"]
    assert 'hydra.main(version_base="1.3"' in (ROOT / "scripts" / "door.py").read_text()
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert "_target_" not in path.read_text(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked():
        copy = folder / "tree" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "tree", check=True, capture_output=True)
    (made,) = folder.glob("vicious_cycle-*.whl")
    return made


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
    ours = [path.relative_to(ROOT) for path in tracked()]
    wanted = {str(path) for path in ours if path.parts[0] in PACKAGES and path.suffix in {".py", *DATA_FILES}}
    assert held == wanted
    assert {"conf/base.yaml", "conf/logger/wandb.yaml", "detection/templates/report.html.j2"} <= held
    assert {"METADATA", "licenses/LICENSE"} <= about


def test_commands_run_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import scripts.door, conf, sys; print(scripts.door.__file__, conf.__file__)"
    run = {"cwd": tmp_path, "env": {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin"}, "text": True}
    where = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, **run)  # type: ignore[call-overload]
    assert where.stdout.split() == [str(tmp_path / "site" / name) for name in ("scripts/door.py", "conf/__init__.py")]
    shown = subprocess.run(
        [sys.executable, "-m", "scripts.arms_race", "--cfg", "job"],
        capture_output=True,
        check=True,
        **run,  # type: ignore[call-overload]
    )
    assert "rounds: 3" in shown.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_started_as_a_file_is_its_command(name: str, run_here: RunHere) -> None:
    """`--cfg job` shows the configuration and does nothing."""
    script = str(ROOT / "scripts" / f"{name}.py")
    done = run_here(lambda: runpy.run_path(script, run_name="__main__"), "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "seed:" in done.stdout


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "setup", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed: make setup PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_setup_is_done_once_and_loop_needs_nothing_else(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def planned() -> list[str]:
        done = subprocess.run(
            ["make", "--no-print-directory", "-n", "loop"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    before = planned()
    assert any("-m venv .venv" in line for line in before)
    assert any("pip install" in line and "--constraint constraints.txt" in line for line in before)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    assert planned() == [".venv/bin/python scripts/arms_race.py"]
