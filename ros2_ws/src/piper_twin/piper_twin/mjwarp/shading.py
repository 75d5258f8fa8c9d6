"""One pixel of one camera of one world, lit as OpenGL lights it.

mujoco_warp casts the rays; its own renderer then shades without the lights' colours and without textures on boxes, so
a policy would see other pictures than MuJoCo draws. Here the colour is that of MuJoCo's fixed-function OpenGL
(`render_gl3.c`): ambient + diffuse + specular of every light, Blinn's half vector, clamped, then times the texture.
Left out: what the twin does not have (shadows, fog, emission, transparency, lamps that are not directional).
"""

from __future__ import annotations

import mujoco
import warp as wp
from mujoco_warp._src.render import cast_ray  # the package shows `render` alone; its version is pinned
from mujoco_warp._src.render_util import compute_ray

# Warp reads the annotations of kernels when it compiles them, and its structs are classes only to Warp.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false
# ruff: noqa: UP018, RUF046  Warp takes `0` for a constant, and `int(0)` for a variable

wp.set_module_options({"fast_math": True})  # a colour has 256 levels

PLAIN_SPECULAR, PLAIN_SHININESS = wp.constant(0.5), wp.constant(0.5)
"""Of geoms without a material, as mjv_updateScene sets them."""
FULL_SHININESS = wp.constant(128.0)
"""OpenGL's exponent at a shininess of 1."""
DEFAULT_GREY = wp.constant(0.5)
"""A geom of this colour takes its material's."""
MESH, BOX = wp.constant(int(mujoco.mjtGeom.mjGEOM_MESH)), wp.constant(int(mujoco.mjtGeom.mjGEOM_BOX))
RGB_ROLE = wp.constant(int(mujoco.mjtTextureRole.mjTEXROLE_RGB))


@wp.struct
class Shapes:
    """What rays can meet: arrays of mujoco_warp's model, data and render context under their names there."""

    geom_type: wp.array(dtype=int)
    geom_dataid: wp.array2d(dtype=int)
    geom_size: wp.array2d(dtype=wp.vec3)
    geom_xpos: wp.array2d(dtype=wp.vec3)
    geom_xmat: wp.array2d(dtype=wp.mat33)
    flex_vertadr: wp.array(dtype=int)
    flex_edge: wp.array(dtype=wp.vec2i)
    flex_radius: wp.array(dtype=float)
    flexvert_xpos: wp.array2d(dtype=wp.vec3)
    flex_geom_flexid: wp.array(dtype=int)
    flex_geom_edgeid: wp.array(dtype=int)
    flex_bvh_id: wp.array(dtype=wp.uint64)
    flex_group_root: wp.array2d(dtype=int)
    bvh_id: wp.uint64
    group_root: wp.array(dtype=int)
    bvh_ngeom: int
    bvh_nflexgeom: int
    enabled_geom_ids: wp.array(dtype=int)
    mesh_bvh_id: wp.array(dtype=wp.uint64)
    hfield_bvh_id: wp.array(dtype=wp.uint64)


@wp.struct
class Looks:
    """What decides a point's colour, likewise."""

    geom_matid: wp.array2d(dtype=int)
    geom_rgba: wp.array2d(dtype=wp.vec4)
    mat_texid: wp.array3d(dtype=int)
    mat_texrepeat: wp.array2d(dtype=wp.vec2)
    mat_rgba: wp.array2d(dtype=wp.vec4)
    mat_specular: wp.array(dtype=float)
    mat_shininess: wp.array(dtype=float)
    mesh_faceadr: wp.array(dtype=int)
    face_corners: wp.array2d(dtype=wp.vec3)
    """Of every mesh's triangles, in the geom's frame (faces, 3)."""
    face_normals: wp.array2d(dtype=wp.vec3)
    """At these corners."""
    nlight: int
    light_diffuse: wp.array2d(dtype=wp.vec3)
    light_specular: wp.array(dtype=wp.vec3)
    light_xdir: wp.array2d(dtype=wp.vec3)
    head_ambient: wp.vec3
    head_diffuse: wp.vec3
    head_camera: int
    """The headlight shines along this camera's view, whichever camera looks."""


@wp.struct
class Cameras:
    """Where rays begin."""

    cam_projection: wp.array(dtype=int)
    cam_fovy: wp.array2d(dtype=float)
    cam_sensorsize: wp.array(dtype=wp.vec2)
    cam_intrinsic: wp.array2d(dtype=wp.vec4)
    cam_xpos: wp.array2d(dtype=wp.vec3)
    cam_xmat: wp.array2d(dtype=wp.mat33)
    znear: float
    numbers: wp.array(dtype=int)
    """Of the cameras that are drawn."""
    size: int
    """Of an image [px]."""


@wp.struct
class Geom:
    """A geom that a ray met."""

    position: wp.vec3
    rotation: wp.mat33
    size: wp.vec3
    hit: wp.vec3


TILE_WIDTH, TILE_HEIGHT = wp.constant(8), wp.constant(4)
"""A GPU's 32 threads that run in step draw a tile, whose rays meet much the same shapes."""


@wp.func
def in_tiles(number: int, size: int) -> int:
    """The pixel, counted along rows, that is drawn by a thread of an image's `size` squared; sides are whole tiles."""
    tile, within = number // (TILE_WIDTH * TILE_HEIGHT), number % (TILE_WIDTH * TILE_HEIGHT)
    across = size // TILE_WIDTH
    row = (tile // across) * TILE_HEIGHT + within // TILE_WIDTH
    return row * size + (tile % across) * TILE_WIDTH + within % TILE_WIDTH


@wp.func
def ray_through(cameras: Cameras, number: int, world: int, pixel: int) -> wp.vec3:
    """The way a camera looks through a pixel, of length 1, in its own frame."""
    return compute_ray(
        cameras.cam_projection[number],
        cameras.cam_fovy[world % cameras.cam_fovy.shape[0], number],
        cameras.cam_sensorsize[number],
        cameras.cam_intrinsic[world % cameras.cam_intrinsic.shape[0], number],
        cameras.size,
        cameras.size,
        pixel % cameras.size,
        pixel // cameras.size,
        cameras.znear,
    )


@wp.func
def colour_of(looks: Looks, world: int, geom: int, material: int) -> wp.vec3:
    """A geom's own colour; its material's where it has one and no colour of its own."""
    rgba = looks.geom_rgba[world, geom]
    colour = wp.vec3(rgba[0], rgba[1], rgba[2])
    if material >= 0 and rgba[0] == DEFAULT_GREY and rgba[1] == DEFAULT_GREY and rgba[2] == DEFAULT_GREY:
        of_material = looks.mat_rgba[world, material]
        colour = wp.vec3(of_material[0], of_material[1], of_material[2])
    return colour


@wp.func
def lit(
    colour: wp.vec3,
    surface: wp.vec2,
    normal: wp.vec3,
    to_eye: wp.vec3,
    to_light: wp.vec3,
    diffuse: wp.vec3,
    specular: wp.vec3,
) -> wp.vec3:
    """What one directional light adds; `surface` is how specular and how shiny the point is."""
    facing = wp.dot(normal, to_light)
    added = wp.vec3(0.0, 0.0, 0.0)
    if facing > 0.0:
        half = wp.normalize(to_light + to_eye)
        shine = wp.pow(wp.max(wp.dot(normal, half), 0.0), surface[1] * FULL_SHININESS)
        added = wp.cw_mul(colour, diffuse) * facing + specular * (surface[0] * shine)
    return added


@wp.func
def lit_by_all(
    looks: Looks, cameras: Cameras, world: int, colour: wp.vec3, surface: wp.vec2, normal: wp.vec3, to_eye: wp.vec3
) -> wp.vec3:
    """Headlight and lamps together, at most white."""
    head = cameras.cam_xmat[world, looks.head_camera]
    back = wp.vec3(head[0, 2], head[1, 2], head[2, 2])  # a camera looks along its -z
    total = wp.cw_mul(colour, looks.head_ambient)
    total += lit(colour, surface, normal, to_eye, back, looks.head_diffuse, wp.vec3(0.0, 0.0, 0.0))
    for light in range(looks.nlight):
        to_light = -looks.light_xdir[world, light]
        diffuse, specular = looks.light_diffuse[world, light], looks.light_specular[light]
        total += lit(colour, surface, normal, to_eye, to_light, diffuse, specular)
    return wp.min(total, wp.vec3(1.0, 1.0, 1.0))


@wp.func
def lit_on_triangle(
    looks: Looks,
    cameras: Cameras,
    world: int,
    colour: wp.vec3,
    surface: wp.vec2,
    eye: wp.vec3,
    geom: Geom,
    face: int,
    share: wp.vec3,
) -> wp.vec3:
    """A point of a mesh: OpenGL lights the corners and blends between them."""
    shade = wp.vec3(0.0, 0.0, 0.0)
    for corner in range(3):
        normal = wp.normalize(geom.rotation @ looks.face_normals[face, corner])
        to_eye = wp.normalize(eye - (geom.position + geom.rotation @ looks.face_corners[face, corner]))
        shade += lit_by_all(looks, cameras, world, colour, surface, normal, to_eye) * share[corner]
    return shade


@wp.func
def lit_on_box(
    looks: Looks,
    cameras: Cameras,
    world: int,
    colour: wp.vec3,
    surface: wp.vec2,
    normal: wp.vec3,
    eye: wp.vec3,
    geom: Geom,
) -> wp.vec3:
    """A point of a box, likewise; highlights between the corners are lost."""
    facing = wp.transpose(geom.rotation) @ normal
    across = int(0)
    if wp.abs(facing[1]) > 0.5:
        across = 1
    if wp.abs(facing[2]) > 0.5:
        across = 2
    one, two = (across + 1) % 3, (across + 2) % 3
    local = wp.transpose(geom.rotation) @ (geom.hit - geom.position)
    shade = wp.vec3(0.0, 0.0, 0.0)
    for corner in range(4):
        side_one, side_two = float(2 * (corner % 2) - 1), float(2 * (corner // 2) - 1)
        place = wp.vec3(0.0, 0.0, 0.0)
        place[across] = wp.sign(facing[across]) * geom.size[across]
        place[one] = side_one * geom.size[one]
        place[two] = side_two * geom.size[two]
        to_eye = wp.normalize(eye - (geom.position + geom.rotation @ place))
        share = 0.25 * (1.0 + side_one * local[one] / geom.size[one]) * (1.0 + side_two * local[two] / geom.size[two])
        shade += lit_by_all(looks, cameras, world, colour, surface, normal, to_eye) * share
    return shade


@wp.func
def texel_of_box(geom: Geom, repeat: wp.vec2) -> wp.vec2:
    """Where a point of a box lies in its 2D texture: OpenGL's object-linear map over the unit box."""
    local = wp.transpose(geom.rotation) @ (geom.hit - geom.position)
    s = 0.5 * repeat[0] * local[0] / geom.size[0] - 0.5
    t = -0.5 * repeat[1] * local[1] / geom.size[1] - 0.5
    return wp.vec2(s - wp.floor(s), t - wp.floor(t))


@wp.kernel(enable_backward=False)
def draw(
    shapes: Shapes,
    looks: Looks,
    cameras: Cameras,
    textures: wp.array(dtype=wp.Texture2D),
    is_wanted: wp.array(dtype=bool),
    images: wp.array4d(dtype=wp.uint8),
) -> None:
    """Fill images (worlds, cameras, size * size, 3) of the worlds that are wanted; one thread a pixel."""
    world, camera, thread = wp.tid()
    if not is_wanted[world]:
        return
    pixel = in_tiles(thread, cameras.size)
    number = cameras.numbers[camera]
    ray = ray_through(cameras, number, world, pixel)
    eye = cameras.cam_xpos[world, number]
    direction = cameras.cam_xmat[world, number] @ ray
    begin = eye + direction * (cameras.znear / -ray[2])  # nothing nearer is drawn
    # fmt: off
    geom, distance, normal, u, v, face, mesh = cast_ray(
        shapes.geom_type, shapes.geom_dataid, shapes.geom_size, shapes.flex_vertadr, shapes.flex_edge,
        shapes.flex_radius, shapes.geom_xpos, shapes.geom_xmat, shapes.flexvert_xpos, shapes.bvh_id,
        shapes.group_root[world], world, shapes.bvh_ngeom, shapes.bvh_nflexgeom, shapes.enabled_geom_ids,
        shapes.mesh_bvh_id, shapes.hfield_bvh_id, shapes.flex_geom_flexid, shapes.flex_geom_edgeid,
        shapes.flex_bvh_id, shapes.flex_group_root, begin, direction, True,
    )
    # fmt: on
    shade = wp.vec3(0.0, 0.0, 0.0)
    if geom >= 0:
        rotation, material = shapes.geom_xmat[world, geom], looks.geom_matid[world, geom]
        colour, surface = colour_of(looks, world, geom, material), wp.vec2(PLAIN_SPECULAR, PLAIN_SHININESS)
        if material >= 0:
            surface = wp.vec2(looks.mat_specular[material], looks.mat_shininess[material])
        met = Geom(shapes.geom_xpos[world, geom], rotation, shapes.geom_size[0, geom], begin + direction * distance)
        if shapes.geom_type[geom] == BOX:
            shade = lit_on_box(looks, cameras, world, colour, surface, normal, eye, met)
            if material >= 0 and looks.mat_texid[0, material, RGB_ROLE] >= 0:
                place = texel_of_box(met, looks.mat_texrepeat[0, material])
                texel = wp.texture_sample(textures[looks.mat_texid[0, material, RGB_ROLE]], place, dtype=wp.vec4)
                shade = wp.cw_mul(shade, wp.vec3(texel[0], texel[1], texel[2]))
        elif shapes.geom_type[geom] == MESH:
            triangle, share = looks.mesh_faceadr[mesh] + face, wp.vec3(u, v, 1.0 - u - v)
            shade = lit_on_triangle(looks, cameras, world, colour, surface, eye, met, triangle, share)
        else:
            shade = lit_by_all(looks, cameras, world, colour, surface, normal, -direction)
    for channel in range(3):
        images[world, camera, pixel, channel] = wp.uint8(255.0 * shade[channel] + 0.5)
