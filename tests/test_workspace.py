"""The workspace as its two builders see it: colcon for ROS, pip for everything else."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "ros2_ws" / "src"

SIBLINGS = {
    "vla_policy": set(),
    "piper_twin": {"vla_policy"},
    "vla_rl_trainer": {"vla_policy", "piper_twin"},
    "piper_bringup": {"vla_policy", "piper_twin"},
}

LITTER = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", "build", "install", "log")


def package_files(package: str) -> set[str]:
    """Every file below the importable folder of a package, as "package/module.py": code and data alike."""
    return {
        path.relative_to(SOURCE / package).as_posix()
        for path in (SOURCE / package / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(command: list[str], folder: Path) -> str:
    """Run a tool of this environment away from the sources; returns what it prints, fails the test with it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}
    environment |= {"COLCON_HOME": str(folder / "colcon_home"), "COLCON_LOG_PATH": str(folder / "log")}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def colcon(*arguments: str, folder: Path) -> str:
    program = Path(sys.executable).with_name("colcon")
    assert program.is_file(), f"colcon is missing beside {sys.executable}: pip install -c constraints.txt -e '.[dev]'"
    return run([str(program), *arguments], folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ros2_ws, built by colcon."""
    copy = tmp_path_factory.mktemp("colcon") / "ros2_ws"
    shutil.copytree(ROOT / "ros2_ws", copy, ignore=LITTER)
    colcon("build", "--executor", "sequential", folder=copy)
    return copy


def test_colcon_lists_every_package_as_ament_python(tmp_path: Path):
    listed = colcon("list", "--base-paths", str(SOURCE), folder=tmp_path)
    kinds = {line.split()[0]: line.split()[-1] for line in listed.splitlines()}
    wrong = "A plain (python) here means that package.xml is not valid, often its maintainer's e-mail."
    assert kinds == dict.fromkeys(SIBLINGS, "(ros.ament_python)"), wrong


@pytest.mark.parametrize("package", SIBLINGS)
def test_colcon_installs_what_ros_looks_for(workspace: Path, package: str):
    share = workspace / "install" / package / "share"
    assert (share / package / "package.xml").is_file()
    assert (share / "ament_index" / "resource_index" / "packages" / package).is_file()
    for folder in ("launch", "config"):
        wanted = {path.name for path in (SOURCE / package / folder).glob("*") if path.is_file()}
        installed = {path.name for path in (share / package / folder).glob("*")}
        assert installed == wanted, f"{package}/{folder} is not what share/{package}/{folder} holds: see data_files."


@pytest.mark.parametrize("package", SIBLINGS)
def test_colcon_installs_every_module_and_data_file(workspace: Path, package: str):
    (site,) = (workspace / "install" / package / "lib").glob("python*/site-packages")
    missing = {name for name in package_files(package) if not (site / name).is_file()}
    assert not missing, f"Declare them in packages or package_data of {package}/setup.py: {sorted(missing)}"


def test_the_wheel_of_the_root_holds_all_four_packages_with_their_data(tmp_path: Path):
    project = tmp_path / "project"
    shutil.copytree(ROOT / "ros2_ws" / "src", project / "ros2_ws" / "src", ignore=LITTER)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path), str(project)], tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = set().union(*map(package_files, SIBLINGS))
    assert packed == wanted, f"Packed and on disk differ, see [tool.setuptools] in pyproject.toml: {packed ^ wanted}"


@pytest.mark.parametrize("package", SIBLINGS)
def test_package_xml_names_the_siblings_a_package_may_import(package: str):
    tree = ElementTree.parse(SOURCE / package / "package.xml")
    named = {element.text for element in tree.iter("exec_depend")} & set(SIBLINGS)
    assert named == SIBLINGS[package], "colcon builds in this order: keep exec_depend equal to DESIGN 2."


def test_one_version_everywhere():
    versions = {"pyproject.toml": re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)}
    for package in SIBLINGS:
        folder = SOURCE / package
        versions[f"{package}/setup.py"] = re.findall(r'version="(.+?)"', (folder / "setup.py").read_text())
        versions[f"{package}/package.xml"] = re.findall(
            r"<version>(.+)</version>", (folder / "package.xml").read_text()
        )
    assert len({tuple(found) for found in versions.values()}) == 1, f"Set them all to the same: {versions}"
