# The steps of scripts/gpu_check.sh and of a bundle's run.sh (scripts/gpu_bundle.sh): what is run on a GPU, and the table
# that is printed of it. Sourced, with these set: bench, gpubench, test_gpu (programs), launch (how ranks of bench start),
# single (how one rank starts), ranks, results_dir, log; begin_steps first.

# begin_steps LIMIT_S: from now on that long.
begin_steps() {
  end=$((SECONDS + $1))
  results=()
  failed=0
  trap summary EXIT
}

# step NAME COMMAND...: runs it within what is left of the time and notes how it ended.
step() {
  local name=$1 begin=$SECONDS outcome=ok
  shift
  local left=$((end - SECONDS))
  if ((left <= 5)); then
    results+=("$(printf '%-28s %-8s' "$name" "no time")")
    failed=1
    return 1
  fi
  echo "== $name" | tee -a "$log"
  if ! timeout --kill-after=10 "$left" "$@" 2>&1 | tee -a "$log"; then
    outcome=FAILED
    failed=1
  fi
  results+=("$(printf '%-28s %-8s %5d s' "$name" "$outcome" $((SECONDS - begin)))")
  [[ $outcome == ok ]]
}

summary() {
  echo
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.draw,clocks_throttle_reasons.active \
    --format=csv || true
  printf '%s\n' "${results[@]}"
  echo "log: $log"
}

# The system file of the GPU that is here, to hold its predictions against; nothing for one that has none.
gpu_system() {
  case $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) in
    *H200*) echo h200 ;;
    *H100*) echo h100 ;;
    *GB300*) echo gb300 ;;
    *GB200*) echo gb200 ;;
    *B300*) echo b300 ;;
    *B200*) echo b200 ;;
    *"RTX PRO 6000"*) echo rtx-pro-6000 ;;
  esac
}

gpu_steps() {
  local system sizes
  step "ops against fp64" "$test_gpu" || true
  step "verify" "${launch[@]}" verify --backend cuda --model tiny-gqa,tiny-mla,tiny-dsa,tiny-qwen3-moe,tiny-gpt-oss,tiny-gemma3,tiny-command-r --context 300 \
    --batch 3,40 --weight-dtype bf16,fp8,nvfp4 --kv-dtype bf16,fp8,nvfp4 || true
  # A single GPU has nobody to exchange with: NCCL all the same, in issued and in recorded steps.
  step "NCCL of one rank" env HELIX_NCCL_SINGLE_RANK=1 "${single[@]}" --backend cuda --model tiny-gqa --context 300 \
    --batch 3 --ranks 1 --max-time 0.2 --out "$results_dir/nccl" || true
  step "kernels" "$gpubench" || true
  # On all ranks, and on few layers: 8 GPUs have some 25 such points, and 70 on any number of ranks.
  sizes=(--backend cuda --model llama-3.2-1b,deepseek-v2-lite --context 4k,64k --batch 1,8 --weight-dtype bf16,nvfp4
    --ranks "$ranks" --layers 4 --max-time 1)
  step "sweep" "${launch[@]}" "${sizes[@]}" --out "$results_dir/sweep" || true
  system=$(gpu_system)
  if [[ -n $system ]]; then
    step "sweep against $system.yaml" "${launch[@]}" "${sizes[@]}" --system "$system" --out "$results_dir/sweep-$system" || true
  else
    results+=("$(printf '%-28s %-8s %s' "sweep against a system" skipped "this GPU has no system file")")
  fi
  # Last, since a fault of a kernel takes the process with it: no GPU had run these when this was written.
  case $system in
    b200 | b300 | gb200 | gb300)
      if "$bench" list kernels | grep -q '^trtllm-gen .*kernels in '; then
        step "verify, trtllm-gen" "${launch[@]}" verify --backend cuda --model tiny-gqa,tiny-mla --context 300,5000 --batch 3 \
          --kernels trtllm-gen || true
        step "sweep, own and trtllm-gen" "${launch[@]}" "${sizes[@]}" --weight-dtype bf16 --kernels own,trtllm-gen \
          --out "$results_dir/trtllm-gen" || true
      fi
      ;;
  esac
  if "$bench" report "$results_dir/sweep" >>"$log" 2>&1; then
    results+=("$(printf '%-28s %-8s' report ok)")
  else
    results+=("$(printf '%-28s %-8s %s' report skipped "$(tail -n 1 "$log")")")
  fi
}
