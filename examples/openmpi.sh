#!/bin/bash
# One run on all machines of a hostfile, on CPU:    bash examples/openmpi.sh
# Start it on the first machine of the file: process 0 is there, and so is the directory of the run.
HOSTFILE=hosts.txt # a machine a line
CONFIG=quickstart
RUN_DIR=$HOME/runs/one
CORES=32 # of each machine; all must have as many devices
MOST=20  # restarts: an error of one's own code comes again each time

# JAX knows processes of Open MPI 4 by a variable that Open MPI 5 does not set. The variables of
# PyTorch's launchers serve with both.
export MASTER_ADDR MASTER_PORT
MASTER_ADDR=$(hostname -f)

# What runs on each machine. Proxies are for the outside: JAX may hang at its start where it sees
# them.
# shellcheck disable=SC2016
process='
    unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
    export WORLD_SIZE=$OMPI_COMM_WORLD_SIZE RANK=$OMPI_COMM_WORLD_RANK
    exec jaxes train "$0" --hosts auto --cpu-devices "$2" --resume --run-dir "$1"'

for restart in $(seq 0 "$MOST"); do
    MASTER_PORT=$((20000 + RANDOM % 10000)) # another one each time: the last may not be free yet
    # A process a machine. Bound to a core, as mpirun has it by default, all devices would share it.
    # When one process fails mpirun ends all: what was not in a checkpoint is run again, to the same
    # bits.
    mpirun --hostfile "$HOSTFILE" --map-by ppr:1:node --bind-to none \
        -x MASTER_ADDR -x MASTER_PORT -x PATH \
        bash -c "$process" "$CONFIG" "$RUN_DIR" "$CORES"
    code=$?
    case $code in
        0 | 2 | 130 | 143) exit "$code" ;; # done, refused, or asked to end
    esac
    echo "code $code after $restart restarts" >&2
    sleep 5
done
exit "$code"
