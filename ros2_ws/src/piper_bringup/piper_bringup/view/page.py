"""A page of this machine that shows the robot, what its cameras see and how it is, and takes the operator's requests.

Everything is drawn by the browser (viser): arms from the measured joints, objects from where the twin says they are.
"""

from __future__ import annotations

import functools
import html
import socket
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import viser
from PIL import Image as PillowImage

from piper_bringup.view.status_board import StatusBoard
from piper_twin.appearance import Appearance, Shape
from vla_policy.errors import VlaError
from vla_policy.types import Image

Array = npt.NDArray[np.float64]

TILE_WIDTH = 192
"""Of the smaller camera images on the page [px]; the first camera's is twice as wide."""
_VIEWPOINT, _LOOK_AT = (1.15, -0.95, 0.95), (0.2, 0.0, 0.12)
_GREY = (134, 142, 150)
_BUTTON_COLOURS = {"Stop": (224, 49, 49), "Enable": (47, 158, 68), "Release": (25, 113, 194)}


class Page:
    """Any thread may call any method."""

    def __init__(
        self, host: str, port: int, requests: Mapping[str, Callable[[], None]], instruct: Callable[[str], None]
    ) -> None:
        """Serve the page, with the empty cell.

        Args:
            host: Address to serve at; others than 127.0.0.1 let other machines move the robot.
            port: To serve at.
            requests: A button for each; what it does when pressed.
            instruct: What is done with a new instruction.

        Raises:
            VlaError: this address cannot be served at.
        """
        _require_free(host, port)
        self._server = viser.ViserServer(host=host, port=port, label="VLA-Piper", verbose=False)
        self.address = f"http://{host}:{self._server.get_port()}"
        scene, camera = self._server.scene, self._server.initial_camera
        scene.set_up_direction("+z")
        scene.configure_environment_map(None)
        camera.position, camera.look_at = _VIEWPOINT, _LOOK_AT
        self.frames: dict[str, viser.FrameHandle] = {}
        """What moves, by body."""
        self._build_panel(requests, instruct)
        self.show(Appearance())

    def _build_panel(self, requests: Mapping[str, Callable[[], None]], instruct: Callable[[str], None]) -> None:
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        self._headline = gui.add_html("")
        for label, request in requests.items():
            button = gui.add_button(label, color=_BUTTON_COLOURS.get(label, _GREY))
            button.on_click(functools.partial(_call, request))
        self._answer = gui.add_html("")
        self._instruction = gui.add_text("Instruction", "", multiline=True)
        gui.add_button("Tell the policy", color=_GREY).on_click(lambda _: instruct(self._instruction.value.strip()))
        self._pictures = gui.add_image(np.zeros((TILE_WIDTH, 2 * TILE_WIDTH, 3), np.uint8), label="no camera yet")
        with gui.add_folder("Diagnostics"):
            self._table = gui.add_html("")

    @property
    def num_viewers(self) -> int:
        """How many browsers look."""
        return len(self._server.get_clients())

    def show(self, appearance: Appearance) -> None:
        """Draw another cell; what moves is placed by `move`."""
        scene = self._server.scene
        with self._server.atomic():
            scene.reset()
            scene.configure_default_lights(enabled=False)
            scene.add_light_ambient("/ambient", intensity=1.3)
            scene.add_light_directional("/sun", intensity=1.6, position=(0.4, -0.5, 2.0), cast_shadow=True)
            self.frames = {body: scene.add_frame(f"/{body}", show_axes=False) for body in appearance.bodies}
            for number, shape in enumerate(appearance.shapes):
                _draw(scene, f"/{shape.body}/{number}", shape)

    def move(self, poses: Mapping[str, Array]) -> None:
        """Place bodies: position [m] and orientation (w, x, y, z), shape (7,)."""
        with self._server.atomic():
            for body, pose in poses.items():
                frame = self.frames.get(body)
                if frame is not None and _differ(frame, pose):
                    frame.position, frame.wxyz = pose[:3], pose[3:]

    def pictures(self, images: Mapping[str, Image]) -> None:
        """Show what the cameras see: the first one large, the others below it."""
        self._pictures.image = mosaic(list(images.values()))
        self._pictures.label = ", ".join(images)

    def tell(self, board: StatusBoard, now: float) -> None:
        """Show how everything is at `now` [s]."""
        for place, content in ((self._headline, board.headline(now)), (self._table, board.table(now))):
            if place.content != content:
                place.content = content

    def answer(self, text: str) -> None:
        """Show what became of the last request."""
        self._answer.content = f'<div style="padding:2px 12px;font-size:13px">{html.escape(text)}</div>'

    def instruction(self, text: str) -> None:
        """Show what the policy is told."""
        self._instruction.value = text

    def close(self) -> None:
        """End the page."""
        self._server.stop()


def _require_free(host: str, port: int) -> None:
    """Or viser would take the next port that is free, or wait for ever for an address that is not ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise VlaError(f"no page can be served at {host}:{port} ({error}); choose another port") from error


def _call(request: Callable[[], None], event: object) -> None:
    del event
    request()


def mosaic(images: Sequence[Image]) -> Image:
    """One picture of several: the first large, the others side by side below it."""
    small = [_scaled(image, TILE_WIDTH) for image in images[1:]]
    below = np.zeros((max((len(image) for image in small), default=0), TILE_WIDTH * max(2, len(small)), 3), np.uint8)
    for place, image in enumerate(small):
        below[: len(image), place * TILE_WIDTH : (place + 1) * TILE_WIDTH] = image
    return np.concatenate([_scaled(images[0], below.shape[1]), below])


def _scaled(image: Image, width: int) -> Image:
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BILINEAR))


def _differ(frame: viser.FrameHandle, pose: Array) -> bool:
    return bool(np.abs(frame.position - pose[:3]).max() > 1e-4 or np.abs(frame.wxyz - pose[3:]).max() > 1e-4)


def _draw(scene: viser.SceneApi, name: str, shape: Shape) -> None:
    red, green, blue = (round(255 * channel) for channel in shape.colour)
    colour, position, wxyz = (red, green, blue), shape.pose[:3], shape.pose[3:]
    if shape.kind == "mesh":
        scene.add_mesh_simple(
            name, shape.vertices.astype(np.float32), shape.faces.astype(np.uint32), color=colour, side="double",
            position=position, wxyz=wxyz,
        )  # fmt: skip
    elif shape.kind == "box":
        x, y, z = (2.0 * half for half in shape.size)
        scene.add_box(
            name, color=colour, dimensions=(x, y, z), position=position, wxyz=wxyz,
            receive_shadow=shape.name != "floor",  # too far away for the shadow map to be fine there
        )  # fmt: skip
    elif shape.kind == "sphere":
        scene.add_icosphere(name, shape.size[0], colour, position=position)
    else:
        radius, half = shape.size[0], shape.size[1]
        scene.add_frame(name, show_axes=False, position=position, wxyz=wxyz)
        scene.add_cylinder(f"{name}/side", radius, 2.0 * half, colour)
        if shape.kind == "capsule":
            for end in (-half, half):
                scene.add_icosphere(f"{name}/end{end}", radius, colour, position=(0.0, 0.0, end))
