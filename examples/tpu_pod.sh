#!/bin/bash
# One run on all workers of a Cloud TPU pod:    bash examples/tpu_pod.sh
# jaxes and jax[tpu] must be installed on all of them.
TPU=YOUR_TPU
ZONE=YOUR_ZONE
CONFIG=humanoid
RUN_DIR=runs/one # on process 0's worker; a mounted bucket outlives the pod
MOST=20          # restarts: an error of one's own code comes again each time

# The same command on every worker: on one alone it waits for the others. JAX's own port, 8482, is
# not open by the firewall's default rules on all kinds of pods; 8476 is.
command="JAX_COORDINATOR_PORT=8476 \
jaxes train $CONFIG --hosts auto --resume --run-dir $RUN_DIR"

for restart in $(seq 0 "$MOST"); do
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$command"
    code=$? # if it is not the workers', a run that is done ends at once when it is started again
    case $code in
        0 | 2 | 130 | 143) exit "$code" ;; # done, refused, or asked to end
    esac
    echo "code $code after $restart restarts" >&2
    sleep 5
done
exit "$code"
