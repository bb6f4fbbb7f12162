#define _GNU_SOURCE
#include "launch/probe.h"

#include <hwloc.h>
#include <hwloc/cpukinds.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "comm/net_mpi.h"
#include "launch/host_priv.h"
#include "runtime/base/clock.h"
#include "runtime/kernel/gemm.h"

enum {
    LEAST_READ_BYTES = 256 << 20,
    GEMM_M = 512,
    GEMM_N = 256,
    GEMM_K = 1024,
    GEMM_CALLS = 4,
    LEAST_PASSES = 3,
    LINE_WORDS = 8, /* a cache line's, so that threads do not share one */
};

/* A measurement goes on this long; while others disturb it, to the second figure. */
static const double LEAST_SECONDS = 0.08, MOST_SECONDS = 0.25;

/* Run a region. @param alone_p  out: nobody else had the cores meanwhile. @return seconds. */
static double timed_run(ag_team_t *team, ag_region_fn_t fn, void *arg, bool *alone_p)
{
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t begin_ns = ag_clock_now_ns(&clock);
    struct timespec cpu_begin, cpu_end;
    double seconds, cpu_seconds;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_begin);
    ag_team_run(team, fn, arg);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_end);
    seconds = (double)(ag_clock_now_ns(&clock) - begin_ns) * 1e-9;
    cpu_seconds = (double)(cpu_end.tv_sec - cpu_begin.tv_sec) +
                  (double)(cpu_end.tv_nsec - cpu_begin.tv_nsec) * 1e-9;
    *alone_p = cpu_seconds > 0.95 * seconds * ag_team_size(team);
    return seconds;
}

/* The best rate of passes over the same work. @param alone_p  set to false: that one was disturbed.
 */
static double best_rate(ag_team_t *team, ag_region_fn_t fn, void *arg, double work, bool *alone_p)
{
    double best = 0, all_seconds = 0;
    bool alone = false;

    for (int i = 0;
         i < LEAST_PASSES || all_seconds < LEAST_SECONDS || (!alone && all_seconds < MOST_SECONDS);
         i++) {
        bool had_all;
        double seconds = timed_run(team, fn, arg, &had_all);

        all_seconds += seconds;
        if (i > 0 && work / seconds > best) { /* the first pass warms up */
            best = work / seconds;
            alone = had_all;
        }
    }
    *alone_p &= alone;
    return best;
}

typedef uint64_t (*reader_t)(const unsigned char *bytes, size_t lane_bytes, unsigned n_streams);

typedef struct read_probe {
    unsigned char *bytes; /* (threads, thread_bytes) */
    size_t thread_bytes;
    unsigned n_streams;
    uint64_t *sums; /* (threads, LINE_WORDS): so that the reads are not optimised away */
    reader_t sum;
} read_probe_t;

/* 64 bytes: one register of the widest machines, several of others. */
typedef uint64_t wide_t __attribute__((vector_size(64), may_alias));

/*
 * Sum streams that lie one behind the other, 256 bytes of each in turn. A macro, since GCC breaks
 * vectors down to what a function's own target has before it inlines: each target needs the text
 * itself.
 */
#define READER(name, target)                                                                       \
    target static uint64_t name(const unsigned char *bytes, size_t lane_bytes, unsigned n_streams) \
    {                                                                                              \
        wide_t sums[4] = {{0}}, all;                                                               \
        uint64_t sum = 0;                                                                          \
                                                                                                   \
        for (size_t i = 0; i + sizeof(sums) <= lane_bytes; i += sizeof(sums)) {                    \
            for (unsigned stream = 0; stream < n_streams; stream++) {                              \
                const wide_t *chunk = (const void *)(bytes + stream * lane_bytes + i);             \
                                                                                                   \
                sums[0] += chunk[0];                                                               \
                sums[1] += chunk[1];                                                               \
                sums[2] += chunk[2];                                                               \
                sums[3] += chunk[3];                                                               \
            }                                                                                      \
        }                                                                                          \
        all = sums[0] + sums[1] + sums[2] + sums[3];                                               \
        for (int lane = 0; lane < 8; lane++) {                                                     \
            sum += all[lane];                                                                      \
        }                                                                                          \
        return sum;                                                                                \
    }

READER(sum_base, )
#ifdef __x86_64__
READER(sum_avx2, __attribute__((target("avx2"))))
READER(sum_avx512, __attribute__((target("avx512f"))))
#endif

static reader_t best_reader(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        return sum_avx512;
    }
    if (__builtin_cpu_supports("avx2")) {
        return sum_avx2;
    }
#endif
    return sum_base;
}

static void read_share(void *arg, const ag_worker_t *worker)
{
    const read_probe_t *probe = arg;
    const unsigned char *mine = probe->bytes + worker->thread * probe->thread_bytes;

    probe->sums[worker->thread * LINE_WORDS] +=
        probe->sum(mine, probe->thread_bytes / probe->n_streams, probe->n_streams);
}

/* Each thread the first half of its part to the second; the C library knows how. */
static void copy_share(void *arg, const ag_worker_t *worker)
{
    const read_probe_t *probe = arg;
    unsigned char *mine = probe->bytes + worker->thread * probe->thread_bytes;

    memcpy(mine + probe->thread_bytes / 2, mine, probe->thread_bytes / 2);
}

/* Each thread its own part: that is where the pages come from its memory node. */
static void touch_share(void *arg, const ag_worker_t *worker)
{
    const read_probe_t *probe = arg;

    memset(probe->bytes + worker->thread * probe->thread_bytes, 1, probe->thread_bytes);
}

/* What must be known of the machine before it is measured. */
typedef struct machine {
    uint64_t cache_bytes; /* all last-level caches together */
    uint32_t n_core_kinds;
} machine_t;

static machine_t look_at_machine(void)
{
    hwloc_topology_t topology;
    machine_t machine = {.n_core_kinds = 1};

    if (hwloc_topology_init(&topology) != 0) {
        return machine;
    }
    if (hwloc_topology_load(topology) == 0) {
        hwloc_obj_type_t type = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_L3CACHE) > 0
                                    ? HWLOC_OBJ_L3CACHE
                                    : HWLOC_OBJ_L2CACHE;
        int n_kinds = hwloc_cpukinds_get_nr(topology, 0);
        hwloc_obj_t cache = NULL;

        while ((cache = hwloc_get_next_obj_by_type(topology, type, cache)) != NULL) {
            machine.cache_bytes += cache->attr->cache.size;
        }
        machine.n_core_kinds = n_kinds > 1 ? (uint32_t)n_kinds : 1;
    }
    hwloc_topology_destroy(topology);
    return machine;
}

/* Several times the caches, but no more than an eighth of the memory that is free. */
static size_t region_bytes(unsigned n_threads)
{
    uint64_t wanted = 4 * look_at_machine().cache_bytes, most = ag_host_available_bytes("") / 8;

    wanted = wanted > LEAST_READ_BYTES ? wanted : LEAST_READ_BYTES;
    wanted = wanted < most ? wanted : most;
    return (size_t)(wanted / n_threads) & ~(size_t)4095; /* eight streams stay aligned */
}

static ag_status_t probe_memory(ag_team_t *team, double *rate_p, double *copy_p, bool *alone_p)
{
    static const unsigned n_streams[] = {1, 2, 4, 8};
    unsigned n_threads = ag_team_size(team);
    read_probe_t probe = {.thread_bytes = region_bytes(n_threads), .sum = best_reader()};
    size_t all_bytes = probe.thread_bytes * n_threads;
    ag_status_t status = AG_OK;
    bool best_alone = false;

    probe.sums = aligned_alloc(64, (size_t)n_threads * LINE_WORDS * sizeof(*probe.sums));
    probe.bytes = mmap(NULL, all_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe.bytes == MAP_FAILED || probe.sums == NULL) {
        status = ag_fail_nomem("measuring the memory's rate", all_bytes);
        goto unmap;
    }
    madvise(probe.bytes, all_bytes, MADV_HUGEPAGE); /* fewer faults; refused is slower, not wrong */
    memset(probe.sums, 0, (size_t)n_threads * LINE_WORDS * sizeof(*probe.sums));
    ag_team_run(team, touch_share, &probe);
    *rate_p = 0;
    for (int i = 0; i < 4; i++) {
        bool alone = true;
        double rate;

        probe.n_streams = n_streams[i];
        rate = best_rate(team, read_share, &probe, (double)all_bytes, &alone);
        if (rate > *rate_p) {
            *rate_p = rate;
            best_alone = alone;
        }
    }
    *alone_p &= best_alone;
    *copy_p = best_rate(team, copy_share, &probe, (double)(all_bytes / 2), alone_p);
unmap:
    if (probe.bytes != MAP_FAILED) {
        munmap(probe.bytes, all_bytes);
    }
    free(probe.sums);
    return status;
}

ag_probe_pass_t ag_probe_read_pass(ag_team_t *team, const void *bytes, size_t n_bytes,
                                   unsigned n_streams)
{
    unsigned n_threads = ag_team_size(team);
    uint64_t *sums = aligned_alloc(64, (size_t)n_threads * LINE_WORDS * sizeof(*sums));
    read_probe_t probe = {.bytes = (unsigned char *)bytes, /* which are only read */
                          .thread_bytes = n_bytes / n_threads & ~(size_t)4095,
                          .n_streams = n_streams,
                          .sums = sums,
                          .sum = best_reader()};
    ag_probe_pass_t pass = {0};

    if (sums == NULL) {
        return pass;
    }
    memset(sums, 0, (size_t)n_threads * LINE_WORDS * sizeof(*sums));
    pass.seconds = timed_run(team, read_share, &probe, &pass.alone);
    pass.n_bytes = n_threads * probe.thread_bytes;
    free(sums);
    return pass;
}

enum {
    GEMM_BYTES = (GEMM_M * GEMM_K + GEMM_N * GEMM_K + GEMM_M * GEMM_N) * sizeof(float),
    THREAD_BYTES = GEMM_BYTES + (1 << 20), /* its stack, and what oneDNN takes for it */
};

ag_status_t ag_probe_check(uint32_t n_threads, uint64_t available_bytes)
{
    uint64_t needed = (uint64_t)n_threads * THREAD_BYTES;
    uint64_t most = available_bytes / 2; /* others live here, too */

    if (needed <= most) { /* what is read is an eighth of what there is, at most */
        return AG_OK;
    }
    return ag_fail(
        AG_ERR_BUDGET,
        "measuring with --threads %u takes %.1f MiB, more than half of the %.1f MiB that "
        "are free: give --threads %u or less",
        n_threads, (double)needed / 1048576, (double)available_bytes / 1048576,
        (uint32_t)(most / THREAD_BYTES));
}

typedef struct gemm_probe {
    ag_gemm_cache_t *cache;
    ag_gemm_kind_t kind;
    unsigned char *buffers; /* (threads, thread_bytes): a, b, c of each */
    size_t thread_bytes;
    bool failed;
} gemm_probe_t;

static void run_gemm(void *arg, const ag_worker_t *worker)
{
    gemm_probe_t *probe = arg;
    unsigned char *a = probe->buffers + worker->thread * probe->thread_bytes;
    unsigned char *b = a + GEMM_M * GEMM_K * sizeof(float);
    unsigned char *c = b + GEMM_N * GEMM_K * sizeof(float);

    for (int i = 0; i < GEMM_CALLS; i++) {
        if (ag_gemm(probe->cache, worker->thread, probe->kind, GEMM_M, GEMM_N, GEMM_K, a, b, c) !=
            AG_OK) {
            __atomic_store_n(&probe->failed, true, __ATOMIC_RELAXED);
            return;
        }
    }
}

/* The rate of a type; 0 where oneDNN has no fast product of it. */
static ag_status_t probe_gemm(ag_team_t *team, ag_gemm_cache_t *cache, ag_gemm_kind_t kind,
                              double *rate_p, bool *alone_p)
{
    enum { SMALL = 0x3c }; /* as a byte of any of the types: no zero, no denormal, no infinity */
    gemm_probe_t probe = {.cache = cache, .kind = kind};
    double n_ops = 2.0 * GEMM_CALLS * GEMM_M * GEMM_N * GEMM_K * ag_team_size(team);
    size_t all_bytes;

    *rate_p = 0;
    if (!ag_gemm_is_fast(cache, kind) && kind != AG_GEMM_F32) {
        return AG_OK;
    }
    probe.thread_bytes = GEMM_BYTES;
    all_bytes = probe.thread_bytes * ag_team_size(team);
    probe.buffers = aligned_alloc(4096, all_bytes);
    if (probe.buffers == NULL) {
        return ag_fail_nomem("measuring products", all_bytes);
    }
    memset(probe.buffers, SMALL, all_bytes);
    *rate_p = best_rate(team, run_gemm, &probe, n_ops, alone_p);
    free(probe.buffers);
    return !probe.failed ? AG_OK
                         : ag_fail(AG_ERR_UNSUPPORTED, "oneDNN fails to compute the products that "
                                                       "this machine is measured with");
}

static ag_status_t probe_threads(uint32_t n_threads, int at, ag_limits_t *limits, bool *alone_p)
{
    ag_gemm_cache_t *cache = NULL;
    ag_team_t *team;
    ag_status_t status = ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &team);

    if (status != AG_OK) {
        return status;
    }
    status = ag_gemm_cache_create(n_threads, &cache);
    if (status == AG_OK) {
        status = probe_memory(team, &limits->read_bytes_per_s[at], &limits->copy_bytes_per_s[at],
                              alone_p);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_F32, &limits->f32_flops_per_s[at], alone_p);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_BF16, &limits->bf16_flops_per_s[at], alone_p);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_INT8, &limits->int8_ops_per_s[at], alone_p);
    }
    ag_gemm_cache_destroy(cache);
    ag_team_destroy(team);
    return status;
}

ag_status_t ag_probe_rates(uint32_t n_cores, ag_limits_t *limits)
{
    bool alone = true;
    ag_status_t status = probe_threads(1, 0, limits, &alone);

    if (status == AG_OK) {
        status = probe_threads(n_cores, 1, limits, &alone);
    }
    limits->n_disturbed = !alone;
    limits->n_core_kinds = look_at_machine().n_core_kinds;
    return status;
}

/* The products of a first step, small: oneDNN's code comes into memory with them. */
static ag_status_t touch_gemm(void)
{
    static const uint64_t n_rows[] = {1, 8, 64};
    ag_gemm_cache_t *cache;
    ag_status_t status = ag_gemm_cache_create(1, &cache);
    float *buffer = calloc(3 * 256 * 256, sizeof(*buffer));

    for (int kind = 0; kind <= AG_GEMM_BF16 && status == AG_OK && buffer != NULL; kind++) {
        for (int i = 0; i < 3 && ag_gemm_is_fast(cache, (ag_gemm_kind_t)kind); i++) {
            ag_gemm(cache, 0, (ag_gemm_kind_t)kind, n_rows[i], 64, 256, buffer, buffer + 65536,
                    buffer + 131072);
        }
    }
    free(buffer);
    ag_gemm_cache_destroy(cache);
    return status;
}

ag_status_t ag_probe_process(bool with_mpi)
{
    ag_net_t *net = NULL;
    ag_status_t status = with_mpi ? ag_net_mpi_open(&net) : AG_OK;

    if (status == AG_OK) {
        status = touch_gemm();
    }
    ag_net_close(net);
    return status;
}
