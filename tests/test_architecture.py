"""The cut of DESIGN 2 and the house rules, held by reading every module's syntax tree."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "ros2_ws" / "src"

MAY_IMPORT = {
    "vla_policy": set(),
    "piper_twin": {"vla_policy"},
    "vla_rl_trainer": {"vla_policy", "piper_twin"},
    "piper_bringup": {"vla_policy", "piper_twin"},
}

NUMPY_BASE = (
    "errors",
    "types",
    "embodiment",
    "tokenizer",
    "chunking",
    "normalization",
    "action_frame",
    "baselines",
)
"""Modules of vla_policy that a robot computer can import with numpy alone."""

ROS = {
    "rclpy",
    "launch",
    "launch_ros",
    "ament_index_python",
    "action_msgs",
    "builtin_interfaces",
    "control_msgs",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "trajectory_msgs",
}

DISTRIBUTIONS = {
    "OpenGL": "pyopengl",
    "PIL": "pillow",
    "can": "python-can",
    "cv2": "opencv-python-headless",
    "mujoco_warp": "mujoco-warp",
    "warp": "warp-lang",
    "yaml": "pyyaml",
}
"""Imported name -> name in pyproject.toml, where the two differ."""

HEAVY = {"mujoco", "numpy", "rclpy", "torch", "transformers", "warp"}
"""What `import <package>` alone must not load."""

NAMELESS = {"utils.py", "util.py", "common.py", "helpers.py", "helper.py", "core.py", "misc.py"}

MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_LAUNCH_LINES = 40

LONGER_MODULES: dict[str, int] = {}
"""Path below ros2_ws/src -> lines granted. Say in the pull request why the module is one thing."""

LONGER_FUNCTIONS: dict[str, int] = {}
"""Path below ros2_ws/src, '::', name -> lines granted."""

MACHINE_PATHS = tuple(f"/{folder}/" for folder in ("work", "root", "home"))


def modules(package: str) -> list[Path]:
    """Every module and launch file of a package; setup.py is a build recipe and left out."""
    return sorted(
        path
        for path in (SOURCE / package).rglob("*.py")
        if path.name != "setup.py" and not {"build", "install"} & set(path.relative_to(SOURCE).parts)
    )


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Dotted name and line of everything imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def is_ros_side(path: Path) -> bool:
    """True below <package>/ros/ and in launch/."""
    package, folder, *rest = path.relative_to(SOURCE).parts
    return folder == "launch" or (folder == package and rest[0] == "ros")


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function; decorators and docstring count, nested ones count twice."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def tracked_text_files() -> list[Path]:
    """What git tracks or would track; everything in the folders of the project where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        candidates = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        folders = ("ros2_ws/src", "tests", "docs", "docker", ".ci")
        candidates = [path for folder in folders for path in (ROOT / folder).rglob("*")]
        candidates += [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    suffixes = {".py", ".toml", ".cfg", ".xml", ".yaml", ".yml", ".json", ".md", ".txt", ".sh", ""}
    return [path for path in candidates if path.is_file() and path.suffix in suffixes]


def test_the_workspace_has_exactly_the_four_packages_of_the_design():
    found = {path.parent.name for path in SOURCE.glob("*/package.xml")}
    assert found == set(MAY_IMPORT), "A package came or went: change DESIGN 2 and MAY_IMPORT in the same commit."


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction_only(package):
    forbidden = set(MAY_IMPORT) - {package} - MAY_IMPORT[package]
    wrong = [
        f"{name_of(path)}:{line} imports {imported}"
        for path in modules(package)
        for imported, line in imports(parse(path))
        if imported.split(".")[0] in forbidden
    ]
    assert not wrong, (
        f"{package} may import of its siblings only {sorted(MAY_IMPORT[package])}. Move what is shared to the package "
        f"both may import, or hand it in as an argument:\n" + "\n".join(wrong)
    )


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_are_absolute(package):
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules(package)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, "Write the full module name, relative imports escape this file:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_ros_is_imported_only_under_ros_and_launch(package):
    wrong = [
        f"{name_of(path)}:{line} imports {imported}"
        for path in modules(package)
        if not is_ros_side(path)
        for imported, line in imports(parse(path))
        if imported.split(".")[0] in ROS
    ]
    assert not wrong, f"Move this to {package}/ros/ and give the core plain values:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", NUMPY_BASE)
def test_the_base_of_vla_policy_needs_numpy_alone(module):
    path = SOURCE / "vla_policy" / "vla_policy" / f"{module}.py"
    assert path.is_file(), f"{name_of(path)} is gone: rename it in NUMPY_BASE too."
    allowed = set(sys.stdlib_module_names) | {"numpy"}
    base = {f"vla_policy.{name}" for name in NUMPY_BASE}
    wrong = [
        f"{name_of(path)}:{line} imports {imported}"
        for imported, line in imports(parse(path))
        if imported.split(".")[0] not in allowed
        and imported != "vla_policy"
        and ".".join(imported.split(".")[:2]) not in base
    ]
    assert not wrong, "A robot computer has numpy alone here; move this to a module outside the base:\n" + "\n".join(
        wrong
    )


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_library_imported_is_a_dependency_of_our_own(package):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = text.split("\ndependencies = [\n")[1].split("[tool.")[0]  # extras included
    declared = {name.lower() for name in re.findall(r'"([\w-]+)', re.sub(r"#.*", "", listed))}
    known = set(sys.stdlib_module_names) | set(MAY_IMPORT) | ROS
    wrong = [
        f"{name_of(path)}:{line} imports {imported}"
        for path in modules(package)
        for imported, line in imports(parse(path))
        if (library := imported.split(".")[0]) not in known and DISTRIBUTIONS.get(library, library) not in declared
    ]
    assert not wrong, "Add it to pyproject.toml, what brings it along may stop:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_importing_a_package_root_loads_nothing_heavy(package):
    code = f"import sys, {package}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    path = os.pathsep.join(str(SOURCE / name) for name in MAY_IMPORT)
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.strip()
    assert not loaded, f"{package}/__init__.py loads {loaded}: import from the module that owns the name instead."


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_folder_with_modules_is_a_package(package):
    folders = {path.parent for path in modules(package) if path.relative_to(SOURCE).parts[1] == package}
    missing = [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert not missing, "Add an __init__.py, or pip and colcon leave the folder out:\n" + "\n".join(missing)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_file_has_a_name_that_says_what_it_holds(package):
    wrong = [name_of(path) for path in modules(package) if path.name in NAMELESS]
    assert not wrong, "Name the file after the one thing in it:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_module_says_what_it_is_for(package):
    wrong = [name_of(path) for path in modules(package) if not ast.get_docstring(parse(path))]
    assert not wrong, "Add a module docstring, what and why in one line:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_stay_within_their_budget(package):
    wrong = []
    for path in modules(package):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        usual = MAX_LAUNCH_LINES if path.relative_to(SOURCE).parts[1] == "launch" else MAX_MODULE_LINES
        if lines > LONGER_MODULES.get(name_of(path), usual):
            wrong.append(f"{name_of(path)}: {lines} lines")
    assert not wrong, "Split it along its nouns, or grant it in LONGER_MODULES with a reason:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_functions_stay_within_their_budget(package):
    wrong = [
        f"{name_of(path)}::{function}: {lines} lines"
        for path in modules(package)
        for function, lines in functions(parse(path))
        if lines > LONGER_FUNCTIONS.get(f"{name_of(path)}::{function}", MAX_FUNCTION_LINES)
    ]
    assert not wrong, f"Over {MAX_FUNCTION_LINES} lines: split, or grant it in LONGER_FUNCTIONS:\n" + "\n".join(wrong)


def test_granted_exceptions_are_still_needed():
    stale = []
    for name in LONGER_MODULES:
        path = SOURCE / name
        if not path.is_file() or len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES:
            stale.append(name)
    for entry in LONGER_FUNCTIONS:
        name, function = entry.split("::")
        path = SOURCE / name
        lengths = [lines for found, lines in functions(parse(path)) if found == function] if path.is_file() else []
        if max(lengths, default=0) <= MAX_FUNCTION_LINES:
            stale.append(entry)
    assert not stale, f"Remove these from the dict, they fit the budget or are gone: {stale}"


def test_no_file_names_a_path_of_one_machine():
    wrong = [
        f"{path.relative_to(ROOT)}:{number} has {machine!r}"
        for path in tracked_text_files()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        for machine in MACHINE_PATHS
        if machine in line
    ]
    assert not wrong, "Take the path as an argument or derive it from __file__:\n" + "\n".join(wrong)
