# Sourced by the scripts beside it: `launch ARGUMENTS` runs `sfbench ARGUMENTS` on every GPU of the
# job, and puts the job back into the queue when it is asked to stop.

# The first machine is where the processes meet; a port of the job's own, for jobs that share one.
MASTER="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
PORT=$((20000 + SLURM_JOB_ID % 20000))

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"
export TORCH_NCCL_ASYNC_ERROR_HANDLING=1   # a rank that is lost ends the others, not a hang
export TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC=1800  # half an hour, as in the authors' own trainer
export TORCH_NCCL_DUMP_ON_TIMEOUT=1        # and it says where each rank stood
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
export PYTHONUNBUFFERED=1
# export NCCL_SOCKET_IFNAME=ib0            # where NCCL picks the wrong network card

# --resume goes on from the newest complete checkpoint, at this or another number of GPUs.
requeue() {
  echo "$(date -u +%FT%TZ) asked to stop: ending the run, and back into the queue"
  trap '' USR1 TERM
  if [ -n "${!:-}" ]; then
    kill -TERM "$!" 2>/dev/null || true  # srun passes it on to torchrun, and that to its processes
    wait "$!" || true
  fi
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}

launch() {
  trap requeue USR1 TERM  # before there is a step: a signal that comes first must not end the script
  # --kill-on-bad-exit: a machine that fails ends the step. Checkpoints are written whole or not at
  # all, so it does not matter when.
  srun --kill-on-bad-exit=1 --wait=60 \
    torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-8}" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$MASTER:$PORT" \
    --rdzv-conf join_timeout=900 \
    --max-restarts 0 \
    --module sfbench "$@" &
  wait "$!"  # in the background and waited for, because a shell hears signals only then
}
