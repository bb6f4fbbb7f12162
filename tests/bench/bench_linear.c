/*
 * How long a linear layer takes by each implementation, rows and threads: what the thresholds in
 * runtime/kernel/linear_*.c (FEWEST_ROWS) stand on. Prints microseconds, the best of many runs.
 *
 *     bench_linear [type]...      default: q4_1 q8_0 f32
 */
#include "runtime/base/clock.h"
#include "runtime/kernel/kernel_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 512, MOST_THREADS = 2 };

static const uint64_t sizes[][2] = {/* k, n */
                                    {576, 1536},
                                    {1536, 576},
                                    {576, 49152},
                                    {2048, 5632}};
static const uint64_t rows[] = {1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 512};
static const ag_linear_impl_t *const impls[] = {&ag_linear_reference, &ag_linear_onednn,
                                                &ag_linear_unpack_gemm};
static const uint64_t budget_ns = 60000000; /* of each figure; one run at least */

enum { N_SIZES = 4, N_ROWS = sizeof(rows) / sizeof(rows[0]), N_IMPLS = 3 };

typedef struct bench {
    ag_linear_t linear;
    const ag_linear_impl_t *impl;
    ag_gemm_cache_t *gemm;
    const float *x;
    float *y;
    uint64_t n_rows;
    void *scratch[MOST_THREADS];
} bench_t;

static void *take(size_t n_bytes)
{
    void *bytes = aligned_alloc(64, ag_align_up(n_bytes + 1));

    if (bytes == NULL) {
        fprintf(stderr, "bench_linear: no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    return bytes;
}

static void region(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = {
        .worker = worker, .scratch = bench->scratch[worker->thread], .gemm = bench->gemm};

    bench->impl->run(&context, &bench->linear, bench->x, bench->n_rows, bench->y);
}

/* Bytes that are never NaN or infinite in any type, and never subnormal as a scale. */
static void *make_weight(const ag_linear_t *linear)
{
    size_t n_bytes = ag_dtype_bytes(linear->dtype, linear->n * linear->k);
    unsigned char *bytes = take(n_bytes);

    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (unsigned char)(i * 7 % 23 + 0x20);
    }
    return bytes;
}

static double best_us(bench_t *bench, ag_team_t *team, const ag_clock_t *clock)
{
    uint64_t begin = ag_clock_now_ns(clock), best = UINT64_MAX, now = begin;

    ag_team_run(team, region, bench); /* builds primitives, warms caches */
    for (int i = 0; i < 3 || now - begin < budget_ns; i++) {
        uint64_t start = ag_clock_now_ns(clock);

        ag_team_run(team, region, bench);
        now = ag_clock_now_ns(clock);
        best = now - start < best ? now - start : best;
    }
    return (double)best / 1000;
}

static void bench_size(ag_dtype_t dtype, const uint64_t size[2], unsigned n_threads,
                       ag_gemm_cache_t *gemm)
{
    ag_clock_t clock = ag_clock_monotonic();
    bench_t bench = {.linear = {.dtype = dtype, .k = size[0], .n = size[1]}, .gemm = gemm};
    float *x = take(MOST_ROWS * size[0] * sizeof(float));
    void *weight = make_weight(&bench.linear);
    ag_team_t *team = NULL;

    for (uint64_t i = 0; i < MOST_ROWS * size[0]; i++) {
        x[i] = (float)(i % 13) - 6;
    }
    bench.linear.weight = weight;
    bench.x = x;
    bench.y = take(MOST_ROWS * size[1] * sizeof(float));
    for (unsigned t = 0; t < n_threads; t++) {
        bench.scratch[t] = take(ag_linear_scratch_bytes(&bench.linear, MOST_ROWS, false));
    }
    if (ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &team) != AG_OK) {
        fprintf(stderr, "bench_linear: %s\n", ag_error());
        exit(1);
    }
    for (int i = 0; i < N_IMPLS; i++) {
        if (!impls[i]->can(gemm, NULL, &bench.linear, MOST_ROWS, impls[i] == &ag_linear_onednn)) {
            continue;
        }
        printf("%-5s %5u x %-6u %u thr  %-12s", ag_dtype_info(dtype)->name, (unsigned)size[0],
               (unsigned)size[1], n_threads, impls[i]->name);
        bench.impl = impls[i];
        for (int r = 0; r < N_ROWS; r++) {
            bench.n_rows = rows[r];
            printf(" %9.0f", best_us(&bench, team, &clock));
            fflush(stdout);
        }
        printf("\n");
    }
    ag_team_destroy(team);
    for (unsigned t = 0; t < n_threads; t++) {
        free(bench.scratch[t]);
    }
    free(bench.y);
    free(weight);
    free(x);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"q4_1", "q8_0", "f32"};
    int n_types = argc > 1 ? argc - 1 : 3;
    ag_gemm_cache_t *gemm = NULL;

    if (ag_gemm_cache_create(MOST_THREADS, &gemm) != AG_OK) {
        fprintf(stderr, "bench_linear: %s\n", ag_error());
        return 1;
    }
    printf("microseconds for rows:%23s", "");
    for (int r = 0; r < N_ROWS; r++) {
        printf(" %9u", (unsigned)rows[r]);
    }
    printf("\n");
    for (int i = 0; i < n_types; i++) {
        ag_dtype_t dtype;

        if (ag_dtype_from_name(argc > 1 ? argv[i + 1] : usual[i], &dtype) != AG_OK) {
            fprintf(stderr, "bench_linear: %s\n", ag_error());
            return 1;
        }
        for (int s = 0; s < N_SIZES; s++) {
            for (unsigned n_threads = 1; n_threads <= MOST_THREADS; n_threads++) {
                bench_size(dtype, sizes[s], n_threads, gemm);
            }
        }
    }
    ag_gemm_cache_destroy(gemm);
    return 0;
}
