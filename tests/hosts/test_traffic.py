"""Bytes between processes: of programs by hand, and of a generation that is compiled."""

import pytest
from apart import said_by

from jaxes.hosts import traffic

ACROSS = "replica_groups={{0,2},{1,3}}"  # of 2 processes with 2 devices each
WITHIN = "replica_groups={{0,1},{2,3}}"

LINES = {
    # Each of a group of two gives 80 bytes; two devices of a process send them.
    "all-gather": (f"f32[4,10]{{1,0}} all-gather(%x), {ACROSS}, dimensions={{0}}", 160),
    "iota, transposed": ("f32[4,10]{1,0} all-gather(%x), replica_groups=[2,2]<=[2,2]T(1,0)", 160),
    "iota of three axes": ("s32[40]{0} all-gather(%x), replica_groups=[2,2]<=[2,1,2]T(2,1,0)", 160),
    "iota within a process": ("f32[4,10]{1,0} all-gather(%x), replica_groups=[2,2]<=[4]", 0),
    "along an axis": (
        "f32[4,10]{1,0} all-gather(%x), replica_groups=mesh['host'=2,'member'=2] {'host'}, "
        "dimensions={0}",
        160,
    ),
    "along the other": (
        "f32[4,10]{1,0} all-gather(%x), replica_groups=mesh['host'=2,'member'=2] {'member'}",
        0,
    ),
    "along both": (
        "f32[10]{0} all-reduce(%x), replica_groups=mesh['host'=2,'member'=2] {'host','member'}",
        120,
    ),
    "started": (f"(f32[2,10]{{1,0}}, f32[4,10]{{1,0}}) all-gather-start(%x), {ACROSS}", 160),
    "done": ("f32[4,10]{1,0} all-gather-done(%all-gather-start)", 0),
    # Two of a group send 2 (2 - 1) / 2 of 40 bytes each.
    "all-reduce": (f"f32[10]{{0}} all-reduce(%x), {ACROSS}, to_apply=%add", 80),
    "all-reduce, started": (f"f32[10]{{0}} all-reduce-start(%x), {ACROSS}, to_apply=%add", 80),
    "of several": (f"(f32[10]{{0}}, s32[5]{{0}}) all-reduce(%x, %y), {ACROSS}, to_apply=%add", 120),
    "of a number": (f"u32[] all-reduce(%x), {ACROSS}, to_apply=%add", 8),
    "of flags": (f"pred[12]{{0}} all-gather(%x), {ACROSS}", 12),
    "of short ones": (f"bf16[12]{{0}} all-gather(%x), {ACROSS}", 24),
    "of long ones": (f"s64[12]{{0}} all-gather(%x), {ACROSS}", 96),
    "within a process": (f"f32[10]{{0}} all-reduce(%x), {WITHIN}, to_apply=%add", 0),
    "no collective": ("f32[4,10]{1,0} add(%x, %y)", 0),
}


def program(line):
    """Text as XLA writes it, in which the line is of a loop's body."""
    return f"""HloModule jit_step, entry_computation_layout={{(f32[2]{{0}})->f32[2]{{0}}}}

%add (a: f32[], b: f32[]) -> f32[] {{
  ROOT %sum = f32[] add(%a, %b)
}}

%never (x: f32[2]) -> f32[2] {{
  %lost = f32[99]{{0}} all-reduce(%x), {ACROSS}, to_apply=%add
}}

%body.1 (x: f32[2]) -> f32[2] {{
  ROOT %found.2 = {line}
}}

%condition.2 (x: f32[2]) -> pred[] {{
  ROOT %less = pred[] compare(%x, %y), direction=LT
}}

ENTRY %main.3 (x: f32[2]) -> f32[2] {{
  %x = f32[2]{{0}} parameter(0)
  ROOT %while.4 = f32[2]{{0}} while(%x), condition=%condition.2, body=%body.1
}}
"""


@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES)
def test_bytes_of_a_collective(line, expected):
    assert traffic.of_generation(program(line), hosts=2, devices=2) == expected
    assert traffic.of_generation(program(line), hosts=2, devices=2, test=True) == expected


@pytest.mark.parametrize("groups", ["{{0,1,2,3}}", "[1,4]<=[4]"])
def test_bytes_of_many_processes_of_a_device(groups):
    gather = program(f"f32[4,10]{{1,0}} all-gather(%x), replica_groups={groups}, dimensions={{0}}")
    reduce = program(f"f32[10]{{0}} all-reduce(%x), replica_groups={groups}, to_apply=%add")
    assert traffic.of_generation(gather, hosts=4, devices=1) == 3 * 40
    assert traffic.of_generation(reduce, hosts=4, devices=1) == 2 * 3 / 4 * 40


def test_a_process_alone_sends_nothing():
    gather = program(f"f32[4,10]{{1,0}} all-gather(%x), {ACROSS}, dimensions={{0}}")
    assert traffic.of_generation(gather, hosts=1, devices=4) == 0


BRANCHES = [
    "branch_computations={%idle, %tested}",
    "true_computation=%tested, false_computation=%idle",
]


@pytest.mark.parametrize("branches", BRANCHES)
def test_what_a_branch_sends_counts_in_a_test_alone(branches):
    text = program(f"f32[2]{{0}} conditional(%p, %x, %x), {branches}").replace(
        "ENTRY",
        f"""%tested (x: f32[2]) -> f32[2] {{
  %gathered = f32[4,10]{{1,0}} all-gather(%x), {ACROSS}, dimensions={{0}}
}}

%idle (x: f32[2]) -> f32[2] {{
  ROOT %zeros = f32[2]{{0}} broadcast(%zero), dimensions={{}}
}}

ENTRY""",
    )
    assert traffic.of_generation(text, hosts=2, devices=2) == 0
    assert traffic.of_generation(text, hosts=2, devices=2, test=True) == 160


GENERATION = """
import json, os
# What LLVM would make of it is not asked here.
os.environ["XLA_FLAGS"] += (
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
import jaxes
jaxes.use_cpu_devices(4)
import jax, numpy as np
from jax.sharding import Mesh
from jaxes import core, parallel
from jaxes.hosts import traffic
from walks import walk

mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("host", "member"))

environment = walk()._replace(measure=lambda state: {"place": state.position})

def sent(policy, population_size):
    problem = jaxes.problems.policy_search(
        environment, policy, num_test_episodes=4, num_lanes=4, normalize_observations=True)
    strategy = jaxes.openai_es(population_size)
    state = jaxes.init(jax.random.key(0), strategy, problem, mesh=mesh)
    generation = jax.jit(core.make_generation(strategy, problem, mesh))
    text = generation.lower(parallel.place(jax.random.key(1), mesh), state).compile().as_text()
    bytes = [traffic.of_generation(text, 2, 2, test) for test in (False, True)]
    return [state.strategy.mean.size, *bytes]

linear, mlp = jaxes.policies.linear(), jaxes.policies.mlp((64, 64))
print(json.dumps([sent(linear, 256), sent(mlp, 256)]))
"""


@pytest.mark.slow
def test_a_generation_sends_no_parameters():
    """Of J jobs, those of the test with them, and O = 2 observations: 16 J + 48 O and a constant
    at most, whatever D is."""
    (few, *least), (many, *same) = said_by(GENERATION)
    assert many > 1000 * few
    assert same == least
    of_generation, of_test = least
    # A return, a length and a flag at least, of half of the jobs.
    assert 12 * 256 / 2 < of_generation < of_test
    assert of_test <= 16 * (256 + 4) + 48 * 2 + 4096
