"""Checks a CDI specification by the rules of the Container Device Interface (SPEC.md, version 0.5.0), and prints the mounts
of a device: "HOST CONTAINER" a line. usage: cdi.py FILE KIND=DEVICE"""
import json
import re
import sys

VENDOR = re.compile(r"^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
CLASS = re.compile(r"^[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$")
NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$")
VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
# Version that brought each member in; ours says which it needs.
SPEC = {"cdiVersion": str, "kind": str, "devices": list, "containerEdits": dict}
DEVICE = {"name": str, "containerEdits": dict}
EDITS = {"env": list, "deviceNodes": list, "hooks": list, "mounts": list}
NODE = {"path": str, "hostPath": str, "type": str, "major": int, "minor": int, "fileMode": int, "permissions": str, "uid": int, "gid": int}
MOUNT = {"hostPath": str, "containerPath": str, "type": str, "options": list}
OPTIONS = {"bind", "rbind", "ro", "rw", "nosuid", "nodev", "noexec"}


def members(thing, known, what, needed=()):
    assert isinstance(thing, dict), f"{what}: no object"
    for key, value in thing.items():
        assert key in known, f"{what}: \"{key}\" is unknown"
        assert isinstance(value, known[key]), f"{what}: \"{key}\" is {value!r}"
    for key in needed:
        assert thing.get(key), f"{what}: no \"{key}\""


def edits_check(edits, what):
    members(edits, EDITS, what)
    for variable in edits.get("env", []):
        assert VARIABLE.match(variable), f"{what}: env {variable!r}"
    for node in edits.get("deviceNodes", []):
        members(node, NODE, f"{what}: deviceNodes", ["path"])
        assert node["path"].startswith("/dev/") and re.fullmatch("[rwm]*", node.get("permissions", "")), node
    for mount in edits.get("mounts", []):
        members(mount, MOUNT, f"{what}: mounts", ["hostPath", "containerPath"])
        assert mount["hostPath"].startswith("/") and mount["containerPath"].startswith("/"), mount
        assert set(mount.get("options", [])) <= OPTIONS, mount
    assert not edits.get("hooks"), f"{what}: a hook runs a program of the host's in every container"


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    kind, device_name = sys.argv[2].split("=")
    members(spec, SPEC, "specification", ["cdiVersion", "kind", "devices"])
    assert re.fullmatch(r"0\.[3-8]\.0", spec["cdiVersion"]), spec["cdiVersion"]
    vendor, device_class = spec["kind"].split("/")
    assert VENDOR.match(vendor) and CLASS.match(device_class), spec["kind"]
    assert spec["kind"] == kind, spec["kind"]
    names = [device.get("name") for device in spec["devices"]]
    assert len(set(names)) == len(names), names
    edits_check(spec.get("containerEdits", {}), "specification")
    for device in spec["devices"]:
        members(device, DEVICE, "device", ["name", "containerEdits"])
        assert NAME.match(device["name"]), device["name"]
        assert any(device["containerEdits"].values()), f"{device['name']}: changes nothing"
        edits_check(device["containerEdits"], device["name"])
    chosen = spec["devices"][names.index(device_name)]
    for edits in (spec.get("containerEdits", {}), chosen["containerEdits"]):
        for mount in edits.get("mounts", []):
            print(mount["hostPath"], mount["containerPath"])


main()
