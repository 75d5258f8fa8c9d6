"""What colcon builds and installs; pip reads the root pyproject.toml instead."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "piper_bringup"
SHARE = f"share/{NAME}"


def files_in(folder: str) -> list[str]:
    """Files directly in a folder, none when it does not exist."""
    return sorted(str(path) for path in Path(folder).glob("*") if path.is_file())


setup(
    name=NAME,
    version="0.1.0",
    description="The body: drivers, safety, control loop, recorder, node graph and launch files.",
    maintainer="The VLA-Piper authors",
    maintainer_email="maintainers@vla-piper.org",
    license="Apache-2.0",
    packages=find_packages(exclude=["test*"]),
    package_data={"": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files_in("launch")),
        (f"{SHARE}/config", files_in("config")),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    entry_points={"can.interface": ["piper_loopback = piper_bringup.can.bus:LoopbackBus"]},
)
