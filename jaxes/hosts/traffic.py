"""What a compiled program sends between hosts, counted in its text.

Of a group of g processes an all-gather of n bytes each sends (g - 1) n bytes from each, and an
all-reduce of n bytes 2 (g - 1) / g n from each, around a ring.
"""

import math
import re
from collections.abc import Iterator

import numpy as np

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2}
BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(r"(?:to_apply|body|condition|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)


def of_generation(text: str, hosts: int, devices: int, test: bool = False) -> int:
    """Bytes that each process sends to others in one generation of a program.

    Args:
      text: the compiled program, `compiled.as_text()`.
      hosts: processes of the mesh.
      devices: of each process.
      test: counts what conditionals add as well, as in a test.
    """
    sent = sum(
        _sent(line, devices)
        for line in _reached(text, test)
        if hosts > 1 and _crosses(line, devices)
    )
    return round(sent)


def _reached(text: str, test: bool) -> Iterator[str]:
    """The collectives of all computations that a generation comes to, each once."""
    computations: dict[str, list[str]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if (begun := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)) is not None:
            current = begun[2]
            computations[current] = []
            entry = current if begun[1] else entry
        elif current:
            computations[current].append(line)
    waiting, seen = [entry], {entry}
    while waiting:
        for line in computations.get(waiting.pop(), []):
            if _COLLECTIVE.search(line):
                yield line
            called = _CALLED.findall(line)
            if test:
                for several, one in _BRANCHES.findall(line):
                    called += (
                        [name.strip(" %") for name in several.split(",")] if several else [one]
                    )
            waiting += [name for name in called if name not in seen]
            seen.update(called)


def _crosses(line: str, devices: int) -> bool:
    """Whether it is between processes."""
    return any(len({device // devices for device in group}) > 1 for group in _groups(line))


def _sent(line: str, devices: int) -> float:
    """By each process: all its devices take part in a group of their own."""
    found = _COLLECTIVE.search(line)
    assert found is not None
    shapes, kind, start = found.groups()
    size = max(len(group) for group in _groups(line))
    total = sum(
        BYTES[dtype] * math.prod(map(int, filter(None, dims.split(","))))
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        if dtype in BYTES
    )
    if kind == "all-gather":  # which gives what all gave; started, what one gave as well
        each = total / (size + 1) if start else total / size
        return devices * (size - 1) * each
    if kind == "all-reduce":
        return devices * 2 * (size - 1) / size * total
    return devices * total  # none of the others is used here


def _groups(line: str) -> list[list[int]]:
    """The devices of each group, as places in the mesh."""
    if (found := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", line)) is not None:
        return [
            [int(x) for x in part.split(",")] for part in re.findall(r"\{([\d, ]+)\}", found[1])
        ]
    # From jax 0.12 on, along axes of a mesh: mesh['host'=2,'member'=4] {'host'}.
    if (found := re.search(r"replica_groups=mesh\[([^\]]+)\] \{([^}]+)\}", line)) is not None:
        mesh = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        along = re.findall(r"'([^']+)'", found[2])
        sizes = [int(size) for size in mesh.values()]
        axes = [list(mesh).index(name) for name in along]
        places = np.arange(math.prod(sizes)).reshape(sizes)
        last = np.moveaxis(places, axes, range(-len(axes), 0))
        return last.reshape(-1, math.prod(sizes[axis] for axis in axes)).tolist()
    # Of so many groups: all numbers in order, reshaped, transposed, and cut.
    pattern = r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?"
    found = re.search(pattern, line)
    if found is None:
        return [[]]
    shape, dims, order = (
        tuple(map(int, part.split(","))) if part else None for part in found.groups()
    )
    assert shape is not None
    assert dims is not None
    places = np.arange(math.prod(dims)).reshape(dims)
    return (places.transpose(order) if order else places).reshape(shape).tolist()
