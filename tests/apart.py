"""Scripts that run in a process of their own, since JAX's devices are chosen once in one."""

import json
import subprocess
import sys


def ran(script, *arguments):
    """What the script prints, by lines; it must end well."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def said_by(script, *arguments):
    """What the last line of that says, which is JSON."""
    return json.loads(ran(script, *arguments)[-1])
