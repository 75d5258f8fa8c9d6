"""Reading a task's goal out of the benchmark's own environment; needs robosuite, runs when a task is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_policy.errors import VlaError
from vla_rl_trainer.libero.predicates import Goal, Grasp, JointRange, Lamp

_PROBE = 10.0
"""Beyond every joint's range [rad], [m]."""
_JOINT_METHODS = {"open": "is_open", "close": "is_close", "turnon": "turn_on", "turnoff": "turn_off"}
_NEEDS_ALL = ("close", "turnoff")


def read_goals(inner: Any) -> tuple[Goal, ...]:
    """Every conjunct of the goal of `inner`, a `BDDLBaseDomain` that has been reset.

    Raises:
        VlaError: the goal uses a predicate that none of the four suites has.
    """
    return tuple(_read_goal(inner, state) for state in inner.parsed_problem["goal_state"])


def _read_goal(inner: Any, state: list[str]) -> Goal:
    word, *names = state
    label = " ".join(state)
    if word in _JOINT_METHODS:
        joints = _joint_ranges(inner, inner.object_states_dict[names[0]], _JOINT_METHODS[word])
        return Goal(name=label, kind="joints", joints=joints, needs_all=word in _NEEDS_ALL)
    if word not in ("in", "on"):
        raise VlaError(f"goal '{label}' uses a predicate that is not known here; known are in, on, open, close, turnon")
    placed, target = names
    body, geoms = inner.obj_body_id[placed], _contact_geoms(inner, placed)
    if target in inner.object_sites_dict:
        site = inner.object_sites_dict[target]
        number, size = inner.sim.model.site_name2id(target), tuple(float(value) for value in site.size)
        if word == "in":
            return Goal(name=label, kind="in_site", body=body, site=number, size=size)
        parent = inner.get_object(site.parent_name)
        touching = () if parent is None else _contact_geoms(inner, site.parent_name)
        return Goal(name=label, kind="on_site", body=body, site=number, size=size, geoms=geoms, other_geoms=touching)
    if word == "in":
        raise VlaError(f"goal '{label}' is not about a site; please report this task")
    return Goal(
        name=label,
        kind="on_object",
        body=body,
        other=inner.obj_body_id[target],
        geoms=geoms,
        other_geoms=_contact_geoms(inner, target),
    )


def _contact_geoms(inner: Any, name: str) -> tuple[int, ...]:
    return tuple(int(inner.sim.model.geom_name2id(geom)) for geom in inner.get_object(name).contact_geoms)


def _joint_ranges(inner: Any, state: Any, method: str) -> tuple[JointRange, ...]:
    is_site = state.object_state_type == "site"
    owner = inner.get_object(state.parent_name if is_site else state.object_name)
    joints = inner.object_sites_dict[state.object_name].joints if is_site else owner.joints
    rule: Callable[[float], bool] = getattr(owner, method)
    edges = [edge for edges in owner.object_properties["articulation"].values() for edge in edges]
    above, threshold = _find_threshold(rule, edges)
    return tuple(
        JointRange(int(inner.sim.model.get_joint_qpos_addr(joint)), above, threshold, bool(rule(threshold)))
        for joint in joints
    )


def _find_threshold(rule: Callable[[float], bool], edges: list[float]) -> tuple[bool, float]:
    """Side and value at which a one-sided rule changes its answer; it does so at one of `edges`."""
    above = bool(rule(_PROBE))
    small = 1e-9
    for edge in edges:
        if bool(rule(edge + small)) == above and bool(rule(edge - small)) != above:
            return above, float(edge)
    raise VlaError("a joint's range could not be read from the benchmark; please report this task")


def read_lamps(inner: Any) -> tuple[Lamp, ...]:
    """Sites that the benchmark shows while an object is turned on."""
    found = []
    for name in inner.visualization_sites_list:
        for site, _ in inner.get_object(name).object_properties["vis_site_names"].values():
            joints = _joint_ranges(inner, inner.object_states_dict[name], "turn_on")
            found.append(Lamp(int(inner.sim.model.site_name2id(site)), joints[-1]))
    return tuple(found)


def read_grasp(inner: Any) -> Grasp:
    """The fingers' pads, and the movable objects that the task is about."""
    geoms = inner.robots[0].gripper.important_geoms
    left, right = (
        tuple(int(inner.sim.model.geom_name2id(geom)) for geom in geoms[f"{side}_fingerpad"])
        for side in ("left", "right")
    )
    objects = {name: _contact_geoms(inner, name) for name in inner.obj_of_interest if name in inner.objects_dict}
    return Grasp(left=left, right=right, objects=objects)
