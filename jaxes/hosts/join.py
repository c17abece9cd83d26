"""`jaxes.use_hosts`: processes, on one machine or many, become one."""

import atexit
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import xla_bridge

from jaxes import parallel
from jaxes.checks import brief, check, check_positive
from jaxes.exits import DidNotMeetError
from jaxes.hosts import agree, leaving, watch, world
from jaxes.hosts.rendezvous import Place, meet
from jaxes.versions import versions

TIMEOUT, PATIENCE = 300.0, 600.0
PACKAGES = ("jaxes", "jax", "jaxlib", "brax", "flax", "optax", "mujoco")
# What other launchers say of a process: those of PyTorch.
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
# What says how many processes a launcher has started, and which this is.
STEPS = {
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}


def use_hosts(hosts: str = "auto", *, timeout: float = TIMEOUT, patience: float = PATIENCE) -> int:
    """Makes this process one of many that run as one; in all of them, before JAX does anything.

    From then on `jaxes.train` and `jaxes.sweep`, called alike in all processes, divide the episodes
    of a generation among the devices of all, and the first process alone reads and writes their
    directory. Results are those of one process, to the last bit. Messages travel as plain text:
    within a network that you trust.

    Args:
      hosts: `auto` asks the cluster, as `jax.distributed.initialize` finds it (Slurm, Open MPI, a
        TPU pod, Kubernetes), or MASTER_ADDR, MASTER_PORT, WORLD_SIZE and RANK; `ADDR:PORT,NUM,ID`
        says it: where process 0 listens, how many processes there are, and which this is, from 0;
        `off` leaves this process alone.
      timeout: seconds in which all processes must have come.
      patience: seconds without a finished chunk of generations after which all processes end.

    Returns:
      Which process this is.

    Raises:
      ValueError: another form, a process that comes twice, a port in use, or processes with other
        versions or numbers of devices.
      jaxes.exits.DidNotMeetError: a process did not come, or did not answer, in time.
      RuntimeError: JAX has started already.

    Example:
      >>> jaxes.use_hosts("10.0.0.1:9000,4,0")  # and in the others ...,1 and ...,2 and ...,3
    """
    check_positive("timeout", timeout)
    check_positive("patience", patience)
    check("hosts", hosts, isinstance(hosts, str), "auto, off, or ADDR:PORT,NUM,ID")
    if hosts == "off":
        return world.index()
    said = None if hosts == "auto" else _parsed(hosts)
    if world.joined():
        raise RuntimeError("use_hosts was called already: this process is one of many")
    if xla_bridge.backends_are_initialized():
        raise RuntimeError("use_hosts must be called before JAX does anything else")
    place, devices = _found(timeout) if said is None else (said, None)
    if place.size == 1:
        return 0
    meet(place, timeout)
    _connect(place, devices, timeout)
    world.enter(place.size, place.place)
    _begin_watching(patience)
    with leaving.together():
        _begin_together()
    return world.index()


def _parsed(hosts: str) -> Place:
    allowed = "auto, off, or ADDR:PORT,NUM,ID, as 10.0.0.1:9000,4,0"
    found = re.fullmatch(r"(.+):(\d+),(\d+),(\d+)", hosts)
    check("hosts", hosts, found is not None, allowed)
    assert found is not None
    address, port, size, index = found[1].strip("[]"), *map(int, found.groups()[1:])
    check("hosts", hosts, 0 < port < 2**16, "an address with a port from 1 to 65535")
    check("hosts", hosts, index < size, "ADDR:PORT,NUM,ID with ID from 0 to NUM - 1")
    return Place(address, port, size, index)


def _found(timeout: float) -> tuple[Place, Any]:
    """What the launcher says, and which devices it leaves to this process; None for all."""
    values = [os.environ.get(name) for name in VARIABLES]
    if all(values):
        try:
            return _parsed("{}:{},{},{}".format(*values)), None
        except ValueError as error:
            said = ", ".join(
                f"{name}={value}" for name, value in zip(VARIABLES, values, strict=True)
            )
            raise ValueError(f"hosts: auto finds {said}: {error}") from error
    from jax._src.clusters import ClusterEnv  # JAX asks it, but starts at once

    try:
        address, size, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, round(timeout)
        )
    except Exception as error:
        raise ValueError(f"hosts: auto fails: {brief(error)[:300]}") from error
    if address is None or size is None or index is None:
        raise ValueError(
            "hosts: auto finds no cluster that JAX knows (Slurm, Open MPI, a TPU pod, Kubernetes), "
            f"nor {', '.join(VARIABLES)}; say ADDR:PORT,NUM,ID"
        )
    return _parsed(f"{address},{size},{index}"), devices


def _connect(place: Place, devices: Any, timeout: float) -> None:
    """By JAX's runtime."""
    # It would swallow SIGTERM, which asks for a checkpoint and an end here.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            str(place),
            place.size,
            place.place,
            devices,
            cluster_detection_method="deactivate",
            initialization_timeout=round(max(timeout, 60)),
            heartbeat_timeout_seconds=100,  # later than our own watch, which names who is lost
            shutdown_timeout_seconds=86_400,  # of those that wait for the first one to write
        )
    except RuntimeError as error:
        raise DidNotMeetError(
            f"hosts: JAX does not connect {place}: {brief(error)[:300]}"
        ) from error


def _begin_watching(patience: float) -> None:
    leaving.begin()
    atexit.register(leaving.end)  # before JAX's own, which was registered first
    atexit.register(watch.begin(patience).stop)


def _begin_together() -> None:
    """The first exchange of a group of devices must begin on all of them within 30 s, so that it
    comes before anything is compiled; and before that, that all are alike."""
    here = versions(PACKAGES) | {
        "Python": ".".join(map(str, sys.version_info[:2])),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "devices": f"{jax.local_device_count()} of {jax.local_devices()[0].device_kind}",
        "jax_enable_x64": bool(jax.config.jax_enable_x64),  # type: ignore[attr-defined]
    }
    agree.check_same("versions and devices", here)
    with watch.exchanging(), _silent():
        greeting = parallel.place(np.ones(jax.local_device_count(), np.int32))
        total = jax.jit(parallel.replicated(parallel.all_sum))(greeting)
        jax.block_until_ready(total)
    assert int(jnp.sum(parallel.local(total))) == jax.device_count() * jax.local_device_count()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what the library of collectives prints of each connection."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, fd in zip((1, 2), kept, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.close(nowhere)


def said_of_launcher() -> str | None:
    """What to say where this process was started as one of many and runs alone; None elsewhere."""
    for name, (size, rank) in STEPS.items():
        count = os.environ.get(size, "")
        if count.isdecimal() and int(count) > 1:
            which = os.environ.get(rank, "?")
            return (
                f"this is process {which} of {count} that {name} has started, and hosts are off: "
                "each trains alone and needs a directory of its own (--hosts auto makes them one)"
            )
    return None
