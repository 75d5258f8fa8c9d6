"""What can be held of docker/ without a container engine. What only a build shows is listed in docs/docker.md."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
TARGETS = ("sim", "train", "robot")
CONTEXT = {".ci/setup", "constraints.txt", "docker/entrypoint", "docker/ros2", "LICENSE", "pyproject.toml"}
SECRET = re.compile(r"password|passwd|secret|token|api_?key|private_?key|credential", re.IGNORECASE)


@dataclass
class Stage:
    """One FROM and what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, keyword: str) -> list[str]:
        return [value for name, value in self.steps if name == keyword]


def instructions() -> list[tuple[str, str]]:
    """Keyword and the rest of every instruction, continued lines joined, comments left out."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(words[0].upper(), words[1].strip()) for line in lines if len(words := line.split(None, 1)) == 2]


def stages() -> dict[str, Stage]:
    """Every stage by name, in order; ARGs before the first FROM put in."""
    defaults: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for keyword, value in instructions():
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()
            base = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
            found[name] = stage = Stage(name, base)
        elif not found:
            assert keyword == "ARG"
            defaults.update([value.split("=", 1)])
        else:
            stage.steps.append((keyword, value))
    return found


def lineage(target: str) -> list[Stage]:
    """A stage and what it is built on, the outermost first."""
    known, line = stages(), []
    while target in known:
        line.insert(0, known[target])
        target = known[target].base
    return line


def services() -> dict[str, dict]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


def test_the_targets_of_the_design_exist_and_begin_with_the_image_of_ros():
    known = stages()
    for target in TARGETS:
        assert target in known
        assert lineage(target)[0].base == "ros:jazzy"


def test_stages_build_on_stages_before_them_or_on_an_image_with_a_tag_that_is_not_latest():
    seen: set[str] = set()
    for stage in stages().values():
        if stage.base not in seen:
            assert re.fullmatch(r"[\w./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})", stage.base), stage.base
            assert not stage.base.endswith(":latest")
        seen.add(stage.name)


def test_robot_torch_may_be_cpu_or_cuda():
    assert {"dependencies-cpu", "dependencies-cuda"} <= stages().keys()


def test_every_source_of_a_copy_is_in_the_repository_and_in_the_context():
    allowed = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert allowed == CONTEXT | {"ros2_ws/src"}, "The context shall hold what is copied, nothing else."
    for stage in stages().values():
        for value in stage.arguments("COPY"):
            options = re.findall(r"--(\S+)=(\S+)", value)
            *sources, _ = re.sub(r"--\S+", "", value).split()
            if origin := dict(options).get("from"):
                assert origin in stages()
                continue
            for source in sources:
                assert (ROOT / source).exists(), f"{stage.name} copies {source}, which is not there"
                assert source in allowed, f"{source} is copied, but docker/Dockerfile.dockerignore leaves it out"


def test_stages_that_are_copied_from_are_defined():
    origins = [match for _, value in instructions() for match in re.findall(r"--from=(\S+)", value)]
    assert origins and set(origins) <= stages().keys()


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_runs_as_root(target):
    users = [value for stage in lineage(target) for value in stage.arguments("USER")]
    assert users, f"{target} has no USER"
    assert users[-1].split(":")[0] not in ("root", "0")


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_says_how_it_is_started_ended_and_looked_after(target):
    steps = [step for stage in lineage(target) for step in stage.steps]
    last = dict(steps)  # later ones replace earlier ones, as in an image
    assert json.loads(last["CMD"])
    assert last["STOPSIGNAL"] == "SIGINT", "The graph ends in order on SIGINT, on SIGTERM it does not."
    check = json.loads(last["HEALTHCHECK"].split("CMD", 1)[1])
    assert check[0] in ("entrypoint", "bash"), "A health check does not run behind the entry point."
    if check[:3] == ["entrypoint", "python", "-m"]:
        module = ROOT / "ros2_ws" / "src" / check[3].split(".")[0] / Path(*check[3].split(".")).with_suffix(".py")
        assert module.is_file()


def test_packages_come_without_recommends_and_without_lists_left_behind():
    runs = [value for stage in stages().values() for value in stage.arguments("RUN") if "apt-get" in value]
    assert runs
    for run in runs:
        assert run.count("apt-get install") == run.count("--no-install-recommends")
        assert "rm -rf /var/lib/apt/lists/*" in run


def test_python_packages_come_from_the_set_up_script_of_make_and_never_ros_from_pypi():
    setups = [
        match
        for stage in stages().values()
        for run in stage.arguments("RUN")
        for match in re.findall(r"\.ci/setup venv (\S+)", run)
    ]
    project = (ROOT / "pyproject.toml").read_text()
    assert len(setups) == 2
    for extras in setups:
        assert "ros" not in extras.split(",")
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"pyproject.toml has no extra {extra}"
    assert not re.search(r"\bpip3? install", DOCKERFILE.read_text())
    assert "--system-site-packages" in DOCKERFILE.read_text(), "Or rclpy of apt is not found."


def test_the_image_looks_for_nobody_beyond_its_host():
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST" in " ".join(stages()["base"].arguments("ENV"))
    for name, service in services().items():
        told = service.get("environment", {}).get("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        assert told.endswith(("LOCALHOST", ":-LOCALHOST}")), name


def test_there_are_no_secrets():
    for keyword, value in instructions():
        if keyword in ("ENV", "ARG", "LABEL"):
            assert not SECRET.search(value), value
    assert not SECRET.search((DOCKER / "compose.yaml").read_text())


def test_every_service_has_its_own_profile_and_builds_a_target_that_exists():
    assert {"sim", "train", "robot", "emulated"} <= services().keys()
    for name, service in services().items():
        assert service["profiles"] == [name]
        assert service["build"]["target"] in TARGETS
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]) == DOCKERFILE
        assert not service["image"].endswith(":latest") and ":" in service["image"]


def test_published_ports_are_those_of_this_host_alone():
    for name, service in services().items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name} lets others in at {port}"


def test_containers_have_no_privileges_and_are_not_started_again_by_themselves():
    for name, service in services().items():
        assert not service.get("privileged"), name
        assert service["cap_drop"] == ["ALL"] and not service.get("cap_add")
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["restart"] == "no", f"{name}: a robot that stopped waits for a person"


def test_simulation_and_robot_on_one_host_never_share_a_graph():
    domains = {name: service["environment"]["ROS_DOMAIN_ID"] for name, service in services().items() if name != "train"}
    numbers = [re.fullmatch(r"\$\{\w+:-(\d+)\}", domain)[1] for domain in domains.values()]
    assert len(set(numbers)) == len(domains)
    assert all(int(number) <= 101 for number in numbers), "Above, its ports meet those that Linux hands out."


def test_images_and_simulated_worlds_have_the_shared_memory_they_need():
    for name, service in services().items():
        assert int(re.fullmatch(r"(\d+)gb", service["shm_size"])[1]) >= 1, name


def test_the_launch_arguments_of_compose_exist():
    from piper_bringup.graph.graphs import GRAPHS
    from vla_policy.launch_arguments import fill, parse

    for name, service in services().items():
        command = service.get("command", [])
        if command[:3] == ["ros2", "launch", "piper_bringup"]:
            graph = GRAPHS[command[3].removesuffix(".launch.py")]
            assert graph.nodes(fill(graph.arguments, parse(command[4:]))), name


@pytest.mark.parametrize("name", ["entrypoint", "ros2"])
def test_scripts_may_be_run_and_are_bash(name):
    script = DOCKER / name
    assert os.access(script, os.X_OK)
    result = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_entry_point_puts_the_virtual_environment_before_ros_and_becomes_the_command(tmp_path):
    here = tmp_path / "vla-piper"
    (here / "bin").mkdir(parents=True)
    (here / "install").mkdir()
    (here / "install" / "setup.bash").write_text('export PATH="/opt/of/ros/bin:$PATH" AMENT_PREFIX_PATH=/of/install\n')
    for name in ("entrypoint", "ros2"):
        (here / "bin" / name).write_text((DOCKER / name).read_text().replace("/opt/ros/", f"{tmp_path}/ros/"))
        (here / "bin" / name).chmod(0o755)
    ros = tmp_path / "ros" / "jazzy"
    (ros / "bin").mkdir(parents=True)
    (ros / "setup.bash").write_text("export ROS_VERSION=2\n")
    (ros / "bin" / "ros2").write_text("import os, sys\nprint(sys.argv[1:], os.environ['PATH'])\n")
    python = here / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "of the venv"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = {"ROS_DISTRO": "jazzy", "PATH": os.environ["PATH"]}
    command = [str(here / "bin" / "ros2"), "launch", "a b"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    first, second = result.stdout.splitlines()
    assert first == "of the venv"
    assert second.startswith("['launch', 'a b'] ")
    assert second.split()[-1].startswith(f"{here}/bin:{here}/venv/bin:/opt/of/ros/bin")
