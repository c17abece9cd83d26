"""Policy gradients beside evolution: how near does an estimate of 64 episodes come to the gradient?

REINFORCE samples actions, evolution samples parameters, both estimate a gradient from returns
alone. The same environment (`pendulum` without its time limit), the same network (one hidden layer
of 32, 161 parameters), the same number of episodes an estimate, each its own start; horizons of 50,
200 and 1,000 steps. REINFORCE, with and without a baseline (the mean of the other episodes) and
reward-to-go, has the objective E[return] under Gaussian noise of the actions, evolution that under
Gaussian noise of the parameters; each is compared with the gradient of its own objective.

Parts, each row written as it comes; rows that the output has already are not measured again:

    policy     what the two policies earn, and how much the noises of actions and parameters change
    reference  of each objective, the mean of 1,564 estimates (100,096 episodes) by an unbiased
               estimator of little noise, and its own cosine with the true gradient, from the spread
               of the estimates; whether its length is within the interval of the slope in its
               direction, which differences of returns tell
    gradient   200 other estimates by each estimator: the mean of their cosines with the reference
               and its interval, and the signal-to-noise ratio |∇J|² / tr Cov; also the derivative
               through the physics, which is no black box
    noise      the participation ratio of an estimate's noise, about the number of directions in
               which it lies, and the share of its variance that lies along the reference
    curve      returns of the policy without noise, 5 seeds: Adam on each estimate, its learning
               rate the best of at least five over 2 other seeds by the return at the end: as long
               as the best is the outermost one, the next is tried, from 0.0001 to 1

Gradients are taken at two policies: `initial` is the network's initialization, `trained` one that
20 generations of CEM have found. Intervals are Student's. The verdicts at the end say what falls
with the horizon, and who comes further; returns are compared seed by seed.

    python benchmarks/reinforce.py [--parts policy,reference,gradient,noise,curve]
        [--cpu-devices N] [--output benchmarks/results/reinforce-cpu.json]
        [--draw docs/policy_gradients.svg]

With --draw nothing is measured: the picture is drawn from the output.
"""

from pathlib import Path

import jax
import machine
from reinforce_cosines import gradient_rows, noise_rows, policy_rows, reference_rows
from reinforce_curves import curve_rows
from reinforce_text import draw, growth, verdicts

from jaxes.devices import num_cores

OUTPUT = Path(__file__).parent / "results" / "reinforce-cpu.json"
PARTS = {
    "policy": policy_rows,
    "reference": reference_rows,
    "gradient": gradient_rows,
    "noise": noise_rows,
    "curve": curve_rows,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--cpu-devices", type=machine.count, default=num_cores())
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args()
    rows = [row for row in machine.rows_of(options.output) if row["part"] in PARTS]
    if options.draw:
        if not rows:
            parser.error(f"--draw: there are no rows in {options.output}")
        return draw(rows, options.draw)
    # Devices alone: the flags of `jaxes.use_cpu_devices` are for physics, and with them the matrix
    # products of gradients took twice as long.
    jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    parts = {part: PARTS[part]() for part in options.parts}
    machine.measure(rows, parts, {row["name"] for row in rows}, options.output)
    rows += growth(rows) + verdicts(rows)
    machine.write(options.output, rows=rows)
    return None


if __name__ == "__main__":
    main()
