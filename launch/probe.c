#include "launch/probe.h"

#include <stdlib.h>
#include <string.h>

#include "comm/net_mpi.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/kernel/gemm.h"

enum {
    READ_BYTES = 192 << 20, /* beyond every cache */
    READ_PASSES = 6,
    GEMM_M = 512,
    GEMM_N = 256,
    GEMM_K = 1024,
    GEMM_PASSES = 12,
    N_STREAMS = 8,
};

typedef struct read_probe {
    const uint64_t *words;
    uint64_t n_words;
    uint64_t *sums; /* (threads, 8) so that nothing is optimised away */
} read_probe_t;

/* Sum a contiguous share, several independent streams at a time. */
static void read_share(void *arg, const ag_worker_t *worker)
{
    const read_probe_t *probe = arg;
    uint64_t begin, end, lane_words, sums[N_STREAMS] = {0};

    ag_worker_share(worker, probe->n_words, 4096, &begin, &end);
    lane_words = (end - begin) / N_STREAMS;
    for (uint64_t i = 0; i + 8 <= lane_words; i += 8) {
        for (int stream = 0; stream < N_STREAMS; stream++) {
            const uint64_t *at = probe->words + begin + (uint64_t)stream * lane_words + i;

            sums[stream] += at[0] ^ at[1] ^ at[2] ^ at[3] ^ at[4] ^ at[5] ^ at[6] ^ at[7];
        }
    }
    for (int stream = 0; stream < N_STREAMS; stream++) {
        probe->sums[worker->thread * 8] += sums[stream];
    }
}

static double best_seconds(ag_team_t *team, ag_region_fn_t fn, void *arg, int n_passes)
{
    ag_clock_t clock = ag_clock_monotonic();
    double best = 1e9;

    for (int i = 0; i < n_passes; i++) {
        uint64_t begin_ns = ag_clock_now_ns(&clock);
        double seconds;

        ag_team_run(team, fn, arg);
        seconds = (double)(ag_clock_now_ns(&clock) - begin_ns) * 1e-9;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static ag_status_t probe_read(ag_team_t *team, double *rate_p)
{
    read_probe_t probe = {.n_words = READ_BYTES / sizeof(uint64_t)};
    uint64_t *words = aligned_alloc(4096, READ_BYTES);
    ag_status_t status = AG_OK;

    probe.sums = calloc((size_t)ag_team_size(team) * 8, sizeof(*probe.sums));
    if (words == NULL || probe.sums == NULL) {
        status = ag_fail_nomem("measuring the memory's rate", READ_BYTES);
    } else {
        memset(words, 1, READ_BYTES);
        probe.words = words;
        *rate_p = READ_BYTES / best_seconds(team, read_share, &probe, READ_PASSES);
    }
    free(words);
    free(probe.sums);
    return status;
}

typedef struct gemm_probe {
    ag_gemm_cache_t *cache;
    ag_gemm_kind_t kind;
    unsigned char *buffers; /* (threads, bytes each) */
    size_t thread_bytes;
} gemm_probe_t;

static void run_gemm(void *arg, const ag_worker_t *worker)
{
    const gemm_probe_t *probe = arg;
    unsigned char *a = probe->buffers + worker->thread * probe->thread_bytes;
    unsigned char *b = a + GEMM_M * GEMM_K * sizeof(float);
    unsigned char *c = b + GEMM_N * GEMM_K * sizeof(float);

    for (int i = 0; i < 4; i++) {
        if (ag_gemm(probe->cache, worker->thread, probe->kind, GEMM_M, GEMM_N, GEMM_K, a, b, c) !=
            AG_OK) {
            return;
        }
    }
}

static ag_status_t probe_gemm(ag_team_t *team, ag_gemm_cache_t *cache, ag_gemm_kind_t kind,
                              double *rate_p)
{
    gemm_probe_t probe = {.cache = cache, .kind = kind};
    double n_ops = 4.0 * 2.0 * GEMM_M * GEMM_N * GEMM_K * ag_team_size(team);

    if (!ag_gemm_is_fast(cache, kind)) {
        *rate_p = 0;
        return AG_OK;
    }
    probe.thread_bytes =
        (GEMM_M * GEMM_K + GEMM_N * GEMM_K + GEMM_M * GEMM_N) * sizeof(float);
    probe.buffers = aligned_alloc(4096, probe.thread_bytes * ag_team_size(team));
    if (probe.buffers == NULL) {
        return ag_fail_nomem("measuring products", probe.thread_bytes * ag_team_size(team));
    }
    memset(probe.buffers, 0, probe.thread_bytes * ag_team_size(team));
    *rate_p = n_ops / best_seconds(team, run_gemm, &probe, GEMM_PASSES);
    free(probe.buffers);
    return AG_OK;
}

static ag_status_t probe_threads(uint32_t n_threads, int at, ag_limits_t *limits)
{
    ag_gemm_cache_t *cache = NULL;
    ag_team_t *team;
    ag_status_t status = ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &team);

    if (status != AG_OK) {
        return status;
    }
    status = ag_gemm_cache_create(n_threads, &cache);
    if (status == AG_OK) {
        status = probe_read(team, &limits->read_bytes_per_s[at]);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_F32, &limits->f32_flops_per_s[at]);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_BF16, &limits->bf16_flops_per_s[at]);
    }
    if (status == AG_OK) {
        status = probe_gemm(team, cache, AG_GEMM_INT8, &limits->int8_ops_per_s[at]);
    }
    ag_gemm_cache_destroy(cache);
    ag_team_destroy(team);
    return status;
}

ag_status_t ag_probe_rates(uint32_t n_cores, ag_limits_t *limits)
{
    ag_status_t status = probe_threads(1, 0, limits);

    return status == AG_OK ? probe_threads(n_cores, 1, limits) : status;
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
