/*
 * How near to the machine's limit a linear layer is, by type of weight and number of rows: what the
 * choice in runtime/kernel/linear*.c stands on. Limits are measured in the same run: reading
 * memory, and oneDNN's products of 512 rows. Weights are read from memory, not from a cache: as
 * many copies are passed through as do not fit there. Every figure is the best of many runs.
 *
 *     bench_linear [--isa NAME] [--threads N] [--all] [--shape KxN] [type]...
 *
 * --all: every implementation that can, not the chosen one alone.
 */
#include "measure.h"
#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 512, MOST_THREADS = 16, COLD_BYTES = 96 << 20 };

static const uint64_t rows[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};
static const ag_linear_impl_t *const impls[] = {&ag_linear_r16, &ag_linear_onednn,
                                                &ag_linear_unpack_gemm, &ag_linear_reference};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]), N_IMPLS = sizeof(impls) / sizeof(impls[0]) };

typedef struct bench {
    ag_linear_t linear;
    const ag_linear_impl_t *impl;
    ag_gemm_cache_t *gemm;
    const ag_isa_t *isa;
    ag_team_t *team;
    unsigned n_threads;
    unsigned n_copies; /* of the weight */
    size_t weight_bytes, file_bytes;
    const unsigned char *weights;
    float *x, *y; /* (MOST_ROWS, k), (MOST_ROWS, n) */
    uint64_t n_rows;
    void *scratch[MOST_THREADS];
    ag_gemm_kind_t kind; /* of the limit */
    volatile uint64_t sink[MOST_THREADS];
} bench_t;

typedef struct limits {
    double read_bytes_per_ns, ops_per_ns[AG_N_GEMM_KINDS];
} limits_t;

static double best_ns(bench_t *bench, ag_region_fn_t region)
{
    return best_of(bench->team, region, bench, NULL);
}

static void run_linear(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_linear_t linear = bench->linear;
    ag_kernel_context_t context = {.worker = worker,
                                   .scratch = bench->scratch[worker->thread],
                                   .gemm = bench->gemm,
                                   .isa = bench->isa};

    for (unsigned i = 0; i < bench->n_copies; i++) {
        linear.weight = bench->weights + i * bench->weight_bytes;
        bench->impl->run(&context, &linear, bench->x, bench->n_rows, bench->y);
    }
}

static void read_memory(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    size_t share = bench->weight_bytes / worker->n_threads / 512 * 512;
    const uint64_t *words = (const uint64_t *)(const void *)(bench->weights) +
                            worker->thread * share / sizeof(uint64_t);
    typedef uint64_t lanes_t __attribute__((vector_size(16)));
    lanes_t sums[8] = {0};
    uint64_t sum = 0;

    for (size_t i = 0; i < share / sizeof(uint64_t); i += 16) {
        for (int j = 0; j < 8; j++) {
            sums[j] += *(const lanes_t *)(const void *)(words + i + 2 * j);
        }
    }
    for (int j = 0; j < 8; j++) {
        sum += sums[j][0] + sums[j][1];
    }
    bench->sink[worker->thread] = sum;
}

enum { PEAK_SIDE = 512 };

static void run_gemm(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    float *mine = bench->scratch[worker->thread];

    (void)ag_gemm(bench->gemm, worker->thread, bench->kind, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, mine,
                  mine + PEAK_SIDE * PEAK_SIDE, mine + 2 * PEAK_SIDE * PEAK_SIDE);
}

static limits_t measure_limits(bench_t *bench)
{
    limits_t limits;
    unsigned char *bytes = take(2 * COLD_BYTES);

    memset(bytes, 1, 2 * COLD_BYTES);
    bench->weights = bytes;
    bench->weight_bytes = 2 * COLD_BYTES;
    limits.read_bytes_per_ns = (double)bench->weight_bytes / best_ns(bench, read_memory);
    free(bytes);
    for (unsigned t = 0; t < bench->n_threads; t++) {
        bench->scratch[t] = take(3 * PEAK_SIDE * PEAK_SIDE * sizeof(float));
        memset(bench->scratch[t], 0, 3 * PEAK_SIDE * PEAK_SIDE * sizeof(float));
    }
    for (int kind = 0; kind < AG_N_GEMM_KINDS; kind++) {
        bench->kind = (ag_gemm_kind_t)kind;
        limits.ops_per_ns[kind] =
            2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE * bench->n_threads / best_ns(bench, run_gemm);
    }
    for (unsigned t = 0; t < bench->n_threads; t++) {
        free(bench->scratch[t]);
    }
    printf("read %.1f GB/s; f32 %.0f, bf16 %.0f, int8 %.0f GOP/s; %u threads, %s\n",
           limits.read_bytes_per_ns, limits.ops_per_ns[AG_GEMM_F32],
           limits.ops_per_ns[AG_GEMM_BF16], limits.ops_per_ns[AG_GEMM_INT8], bench->n_threads,
           ag_isa_name(bench->isa));
    return limits;
}

/* Bytes that are never NaN or infinite in any type, and never subnormal as a scale. */
static void make_weights(bench_t *bench)
{
    ag_linear_t *linear = &bench->linear;
    const ag_packing_info_t *packing = ag_packing_info(linear->packing);
    uint64_t row_bytes = ag_dtype_bytes(linear->dtype, linear->k);
    unsigned char *row = take(row_bytes), *at;
    const unsigned char *group[AG_PACKING_MAX_ROWS];

    for (size_t i = 0; i < row_bytes; i++) {
        row[i] = (unsigned char)(i * 7 % 23 + 0x20);
    }
    for (int r = 0; r < AG_PACKING_MAX_ROWS; r++) {
        group[r] = row;
    }
    bench->file_bytes = linear->n * row_bytes;
    bench->weight_bytes = ag_packing_bytes(linear->packing, linear->dtype, linear->n, linear->k);
    bench->n_copies = (unsigned)(COLD_BYTES / bench->weight_bytes + 1);
    at = take(bench->n_copies * bench->weight_bytes);
    bench->weights = at;
    for (unsigned i = 0; i < bench->n_copies; i++) {
        for (uint64_t n = 0; n < linear->n; n += packing->group_rows) {
            packing->pack(linear->dtype, group, linear->k, at);
            at += packing->group_bytes(linear->dtype, linear->k);
        }
    }
    free(row);
}

static void bench_impl(bench_t *bench, const limits_t *limits, const ag_linear_impl_t *impl)
{
    double peak = limits->ops_per_ns[ag_linear_arithmetic(&bench->linear, false)];

    bench->impl = impl;
    printf("%-5s %5ux%-6u %-11s", ag_dtype_info(bench->linear.dtype)->name,
           (unsigned)bench->linear.k, (unsigned)bench->linear.n, impl->name);
    for (int r = 0; r < N_ROWS; r++) {
        double ops = 2.0 * (double)(bench->linear.n * bench->linear.k * rows[r]), ns, limit;

        bench->n_rows = rows[r];
        ns = best_ns(bench, run_linear) / bench->n_copies;
        limit = (double)bench->file_bytes / limits->read_bytes_per_ns;
        limit = ops / peak > limit ? ops / peak : limit;
        printf(" %7.0f %4.2f", ns / 1000, limit / ns);
        fflush(stdout);
    }
    printf("\n");
}

static void bench_type(bench_t *bench, const limits_t *limits, ag_dtype_t dtype, bool all)
{
    ag_linear_t *linear = &bench->linear;

    linear->dtype = dtype;
    linear->packing = ag_packing_choose(dtype, linear->k);
    make_weights(bench);
    for (unsigned t = 0; t < bench->n_threads; t++) {
        bench->scratch[t] = take(ag_linear_scratch_bytes(linear));
    }
    for (int i = 0; i < N_IMPLS; i++) {
        const ag_linear_impl_t *chosen =
            ag_linear_choose(bench->gemm, bench->isa, linear, MOST_ROWS, false);

        if (all ? impls[i]->can(bench->gemm, bench->isa, linear, false) : impls[i] == chosen) {
            bench_impl(bench, limits, impls[i]);
        }
    }
    for (unsigned t = 0; t < bench->n_threads; t++) {
        free(bench->scratch[t]);
    }
    free((void *)bench->weights);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
                                        "q4_k", "q6_k", "bf16", "f16",  "f32"};
    bench_t bench = {.isa = ag_isa_best(), .n_threads = 1, .linear = {.k = 2048, .n = 5632}};
    unsigned k = 0, n = 0;
    int at = 1, n_types;
    bool all = false;
    limits_t limits;

    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--all") == 0) {
            all = true;
        } else if (strcmp(argv[at], "--isa") == 0 && at + 1 < argc) {
            check(ag_isa_find(argv[++at], &bench.isa));
        } else if (strcmp(argv[at], "--threads") == 0 && at + 1 < argc) {
            bench.n_threads = (unsigned)atoi(argv[++at]);
        } else if (strcmp(argv[at], "--shape") == 0 && at + 1 < argc &&
                   sscanf(argv[++at], "%ux%u", &k, &n) == 2) {
            bench.linear.k = k;
            bench.linear.n = n;
        }
    }
    if (bench.n_threads < 1 || bench.n_threads > MOST_THREADS) {
        fprintf(stderr, "bench_linear: 1 to %d threads\n", MOST_THREADS);
        return 1;
    }
    check(ag_gemm_cache_create(MOST_THREADS, &bench.gemm));
    check(ag_team_create(&(ag_team_opts_t){.n_threads = bench.n_threads}, &bench.team));
    limits = measure_limits(&bench);
    bench.x = take(MOST_ROWS * bench.linear.k * sizeof(float));
    bench.y = take(MOST_ROWS * bench.linear.n * sizeof(float));
    for (uint64_t i = 0; i < MOST_ROWS * bench.linear.k; i++) {
        bench.x[i] = (float)(i % 13) - 6;
    }
    printf("microseconds and share of the limit, rows:");
    for (int r = 0; r < N_ROWS; r++) {
        printf(" %u", (unsigned)rows[r]);
    }
    printf("\n");
    n_types = at < argc ? argc - at : (int)(sizeof(usual) / sizeof(usual[0]));
    for (int i = 0; i < n_types; i++) {
        ag_dtype_t dtype;

        check(ag_dtype_from_name(at < argc ? argv[at + i] : usual[i], &dtype));
        bench_type(&bench, &limits, dtype, all);
    }
    free(bench.x);
    free(bench.y);
    ag_team_destroy(bench.team);
    ag_gemm_cache_destroy(bench.gemm);
    return 0;
}
