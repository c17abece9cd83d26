"""What a process is told before it is one of many."""

import jax
import pytest

import jaxes
from jaxes.hosts import join

FORM = "auto, off, or ADDR:PORT,NUM,ID"


@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        ("localhost", FORM),
        ("localhost:9000", FORM),
        ("localhost:9000,2", FORM),
        ("localhost:9000,2,-1", FORM),
        (2, FORM),
        ("localhost:0,2,0", "a port from 1 to 65535"),
        ("localhost:65536,2,0", "a port from 1 to 65535"),
        ("localhost:9000,2,2", "ID from 0 to NUM - 1"),
    ],
)
def test_another_form_is_refused(hosts, allowed):
    with pytest.raises(ValueError, match=f"^hosts must be .*{allowed}.*, got {hosts!r}$"):
        jaxes.use_hosts(hosts)


@pytest.mark.parametrize("name", ["timeout", "patience"])
def test_seconds_are_positive(name):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got 0$"):
        jaxes.use_hosts("off", **{name: 0})


def test_hosts_come_before_anything_else():
    jax.devices()
    assert jaxes.use_hosts("off") == 0
    with pytest.raises(RuntimeError, match="before JAX does anything else"):
        jaxes.use_hosts("localhost:9000,2,0")


@pytest.mark.parametrize("launcher", join.STEPS)
def test_a_process_that_a_launcher_started_among_others_is_told_that_it_is_alone(
    launcher, monkeypatch
):
    size, rank = join.STEPS[launcher]
    assert join.said_of_launcher() is None
    monkeypatch.setenv(size, "1")
    assert join.said_of_launcher() is None
    monkeypatch.setenv(size, "3")
    monkeypatch.setenv(rank, "2")
    assert f"process 2 of 3 that {launcher} has started" in join.said_of_launcher()
