#!/usr/bin/env bash
# Install what tests/bench measures against: llama.cpp, as PyPI's llama-cpp-python builds it, for this
# machine in build/bench-venv and for AVX2 in build/bench-venv-avx2. SmolLM2 and Gemma 3 270M
# come, too.
#
#     tests/bench/setup.sh [native|avx2]...      # both if none is named; 5 to 20 minutes each
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/support/common.sh

PACKAGES=(llama-cpp-python==0.3.36 gguf==0.19.0 numpy==2.4.6)
NATIVE="-DGGML_NATIVE=ON"
AVX2="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF"

# make_peer FOLDER CMAKE_ARGS: a Python with llama.cpp built so; one that is complete stays.
make_peer() {
    local venv=$1 args=$2 made="${PACKAGES[*]} $2"
    if [[ -f $venv/made && $(<"$venv/made") == "$made" ]]; then
        return 0
    fi
    say "building llama.cpp in $venv ($args)"
    quietly build/log/bench-venv.txt python3 -m venv --clear "$venv"
    # no wheel from pip's cache: it does not know with which arguments that was built
    quietly "build/log/${venv##*/}.txt" env CMAKE_ARGS="$args" "$venv/bin/pip" install \
        --disable-pip-version-check --no-cache-dir --no-binary llama-cpp-python "${PACKAGES[@]}"
    echo "$made" >"$venv/made"
}

install_packages build-essential python3-venv
get_smollm2
get_gemma3
if (($# == 0)); then
    set -- native avx2
fi
for peer in "$@"; do
    case $peer in
    native) make_peer build/bench-venv "$NATIVE" ;;
    avx2) make_peer build/bench-venv-avx2 "$AVX2" ;;
    *) die "$peer is not known: native or avx2" ;;
    esac
done
