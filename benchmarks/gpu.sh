#!/usr/bin/env bash
# Everything that ganport does on an NVIDIA GPU, measured in one go, within TIME_LIMIT_S (600) seconds:
# train a DCGAN, export it in fp32 and fp16, hold CUDA against PyTorch with TF32 off and on, and measure provider ×
# precision × batch beside torch eager and torch.compile in fp32 and fp16. Records and pictures go to OUT.
#
#   benchmarks/gpu.sh OUT [DATA]
#
#   OUT    folder for records, pictures, the models and log.txt; made when it is not there
#   DATA   a folder of images to train on (any depth), or a data set by name [fashion-mnist]
#
# It downloads and installs nothing. Python must find torch, onnx, onnxscript, onnxruntime-gpu, numpy, pillow and typer;
# ganport itself is taken from this checkout where it is not installed. Settings from the environment:
#   PYTHON        the interpreter                                    [python3]
#   PROVIDERS     what runs the exports, separated by spaces         [cuda]
#   BATCHES       batch sizes                                        [1,8,25,64,256]
#   TRAIN_S       seconds of training                                [60]
#   TIME_LIMIT_S  after this many seconds no step begins, and the one that runs is ended   [600]
#   WIDTH         ngf and ndf                                        [64]
#   SMALL=1       a narrow network for 28x28, few batches, short windows: to try the script itself, also with PROVIDERS=cpu
set -u -o pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${1#-}" != "$1" ]; then
    sed -n '2,22p' "$0" | sed 's/^# \{0,1\}//' >&2
    exit 2
fi
OUT=$1
DATA=${2:-fashion-mnist}
PYTHON=${PYTHON:-python3}
PROVIDERS=${PROVIDERS:-cuda}
SMALL=${SMALL:-}
TRAIN_S=${TRAIN_S:-$([ -n "$SMALL" ] && echo 5 || echo 60)}
BATCHES=${BATCHES:-$([ -n "$SMALL" ] && echo 1,2 || echo 1,8,25,64,256)}
WIDTH=${WIDTH:-$([ -n "$SMALL" ] && echo 4 || echo 64)}
SIZE=$([ -n "$SMALL" ] && echo 28 || echo 64)
TIME_LIMIT_S=${TIME_LIMIT_S:-600}
ROOT=$(cd "$(dirname "$0")/.." && pwd) || exit 1

mkdir -p "$OUT" || { echo "error: cannot make the folder $OUT" >&2; exit 2; }
OUT=$(cd "$OUT" && pwd) || exit 1
LOG=$OUT/log.txt
: >"$LOG" || { echo "error: cannot write in $OUT" >&2; exit 2; }
if ! "$PYTHON" -c 'import gan_bench' 2>/dev/null; then
    export PYTHONPATH=$ROOT/benchmarks:$ROOT/export:$ROOT/trainer:$ROOT/serve_cli:$ROOT/core${PYTHONPATH:+:$PYTHONPATH}
fi
# One process imports everything: its line tells the versions; it ends with 3 where torch finds no CUDA device.
FOUND=$("$PYTHON" -c '
import importlib, sys, traceback
for package in ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "PIL", "typer", "gan_bench"):
    try:
        importlib.import_module(package)
    except Exception:
        traceback.print_exc()
        print(package)
        sys.exit(1)
import numpy, onnx, onnxruntime, torch
print("python", sys.version.split()[0], "torch", torch.__version__, "cuda", torch.version.cuda, "cudnn",
      torch.backends.cudnn.version(), "onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__,
      onnxruntime.get_available_providers(), "numpy", numpy.__version__)
sys.exit(0 if torch.cuda.is_available() else 3)' 2>>"$LOG")
CODE=$?
if [ $CODE -ne 0 ] && [ $CODE -ne 3 ]; then
    echo "error: $PYTHON cannot import ${FOUND:-torch}" >&2
    echo "hint: set PYTHON, or PYTHONPATH; the reason is in $LOG" >&2
    exit 2
fi
case " $PROVIDERS " in
*" cuda "* | *" tensorrt "*)
    DEVICE=cuda TF32=off,on
    if [ $CODE -eq 3 ]; then
        echo "error: torch finds no CUDA device here" >&2
        echo "hint: to try the script without one: PROVIDERS=cpu SMALL=1 $0 $*" >&2
        exit 2
    fi
    ;;
*) DEVICE=cpu TF32=off ;;
esac

FAILED=()
say() { echo "$*" | tee -a "$LOG" >&2; }

# step TITLE MOST COMMAND… : runs a command for at most MOST seconds, and never past the limit; goes on when it fails.
step() {
    local title=$1 most=$2 left=$((TIME_LIMIT_S - SECONDS)) began=$SECONDS
    shift 2
    if [ "$left" -lt 5 ]; then
        say "[$SECONDS s] $title: left out, the $TIME_LIMIT_S s are over"
        FAILED+=("$title")
        return 1
    fi
    [ "$most" -lt "$left" ] || most=$left
    say "[$SECONDS s] $title"
    if timeout --kill-after=10 "$most" "$@" >>"$LOG" 2>&1; then
        say "[$SECONDS s] $title: done in $((SECONDS - began)) s"
    else
        say "[$SECONDS s] $title: exit code $? after $((SECONDS - began)) s"
        tail -n 3 "$LOG" >&2
        FAILED+=("$title")
        return 1
    fi
}

# run MODULE NAME ARGUMENTS… : a command of ganport, installed or not; the record shows it as typed.
run() {
    local module=$1 name=$2
    shift 2
    "$PYTHON" -P -c "import sys; sys.argv[0] = '$name'; from $module import main; main()" "$@"
}
export -f run
export PYTHON
command_of() { echo "run $(printf '%q ' "$@")"; }

{
    date -u +%FT%TZ
    command -v nvidia-smi >/dev/null && nvidia-smi
    echo "$FOUND"
} >"$OUT/machine.txt" 2>&1
say "$(tail -n 1 "$OUT/machine.txt")"

SHORT=()
[ -z "$SMALL" ] || SHORT=(--quick --rounds 3 --no-roofline)
PEERS=eager,compile,stock
[ -z "$SMALL" ] || PEERS=eager,stock
PROVIDER_OPTIONS=()
for name in $PROVIDERS; do PROVIDER_OPTIONS+=(--provider "$name"); done

rm -rf "$OUT/run"
step "train on $DATA" $((TRAIN_S + 60)) bash -c "$(command_of gan_trainer.cli gan-train --data "$DATA" --arch dcgan \
    --size "$SIZE" --width "$WIDTH" --minutes "$(awk "BEGIN { print $TRAIN_S / 60 }")" --device "$DEVICE" --out "$OUT/run")"
CKPT=$OUT/run/g.pt

MODELS=()
if [ -f "$CKPT" ]; then
    for precision in fp32 fp16; do
        file=$OUT/g.onnx
        [ $precision = fp32 ] || file=$OUT/g.$precision.onnx
        step "export $precision" 120 bash -c "$(command_of gan_export.cli gan-export onnx --ckpt "$CKPT" --out "$file" \
            --precision $precision)" && MODELS+=(--model "$file")
    done
fi

if [ ${#MODELS[@]} -gt 0 ]; then
    for name in $PROVIDERS; do
        step "selftest on $name" 60 bash -c "$(command_of gan_serve.gen.cli gan-gen --model "$OUT/g.onnx" --provider "$name" \
            --selftest)"
    done
    step "benchmark: provider × precision × batch, TF32 $TF32" $((TIME_LIMIT_S - SECONDS - 45)) bash -c "$(command_of gan_bench.cli gan-bench \
        "${MODELS[@]}" --ckpt "$CKPT" "${PROVIDER_OPTIONS[@]}" --tf32 $TF32 --batch "$BATCHES" --peers $PEERS \
        --share-process --seconds 0.3 --rounds 6 ${SHORT[@]+"${SHORT[@]}"} --end-to-end \
        --json "$OUT/$DEVICE-dcgan$SIZE.json" --plot "$OUT/$DEVICE-dcgan$SIZE.png")"
    for first in "${PROVIDERS%% *}"; do
        step "10,000 images on $first" 60 bash -c "$(command_of gan_serve.gen.cli gan-gen --model "$OUT/g.onnx" \
            --provider "$first" --n $([ -n "$SMALL" ] && echo 100 || echo 10000) --out "$OUT/images.npy")"
        rm -f "$OUT/images.npy"
        step "picture" 60 bash -c "$(command_of gan_serve.gen.cli gan-gen --model "$OUT/g.onnx" --provider "$first" --n 25 \
            --out "$OUT/g.png")"
    done
else
    FAILED+=("everything that needs a model")
fi

if [ -f "$OUT/$DEVICE-dcgan$SIZE.json" ]; then
    run gan_bench.cli gan-bench "$OUT/$DEVICE-dcgan$SIZE.json" 2>>"$LOG" | tee -a "$LOG"
fi
say "took $SECONDS s; records, pictures and log.txt are in $OUT"
if [ ${#FAILED[@]} -gt 0 ]; then
    say "error: ${#FAILED[@]} steps failed: $(IFS=,; echo "${FAILED[*]}")"
    exit 1
fi
