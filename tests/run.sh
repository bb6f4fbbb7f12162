#!/usr/bin/env bash
# Install what the tests need, build, and run them all: tests/run.sh [OPTION OF CTEST...]
#
# A test's label says in which build it runs: sanitize, under AddressSanitizer and
# UndefinedBehaviorSanitizer (unit/, ranks/); release, on the program that users run (whole models);
# clang, a build that has to compile and runs the fuzzers (fuzz/) from their seeds. Options narrow that:
# -R NAME runs what matches, each once. The last line is "N passed, N failed, N skipped"; the exit code
# is 1 where a test failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/support/common.sh

# run_tests PRESET JOBS CTEST OPTION...: those with the preset's label
run_tests() {
    local preset=$1 jobs=$2 junit
    shift 2
    junit=$PWD/build/log/tests-$preset.xml
    say "testing, preset $preset"
    rm -f "$junit"
    # failures are counted by the summary; only a run without a result ends here
    ctest --test-dir "build/$preset" --label-regex "^$preset\$" --parallel "$jobs" --timeout 600 --output-junit "$junit" "$@" \
        </dev/null || [[ -s $junit ]] || die "ctest in build/$preset left no result"
}

install_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
build debug debug argosy # no test runs in it: it is what contributors build, and has to compile
build clang debug all -DCMAKE_C_COMPILER=clang-14
build sanitize sanitize all
build release release argosy # its tests run whole models only
get_smollm2
get_gemma3
make_venv numpy==2.4.6 gguf==0.19.0 safetensors==0.8.0 tokenizers==0.23.3
export ARGOSY_SMOLLM2=$PWD/$SMOLLM2 ARGOSY_GEMMA3=$PWD/$GEMMA3
export OMPI_MCA_rmaps_base_oversubscribe=1 # some tests have more ranks than the machine has cores
allow_mpi_as_root
unlabelled=$(ctest --test-dir build/clang --show-only --label-exclude '^(sanitize|clang|release)$')
[[ $unlabelled == *"Total Tests: 0" ]] || die "each test needs a label: $unlabelled"
run_tests sanitize "$(nproc)" "$@"
run_tests clang "$(nproc)" "$@"
run_tests release 1 "$@"
python3 tests/support/summary.py build/log/tests-{sanitize,clang,release}.xml
