/*
 * How near to the machine's limit the kernels of training are: the three products of a linear layer
 * and attention beside oneDNN's own products of 512 x 512 x 512, what touches each element once
 * beside the rate at which memory is read. Limits are measured in the same run. Weights and their
 * gradients come from memory: as many copies are passed through as do not fit a cache. Every figure
 * is the best of many runs.
 *
 *     bench_train_kernels [--threads N] [--rows N]...
 */
#include "measure.h"
#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_THREADS = 16,
    MOST_COUNTS = 8,
    COLD_BYTES = 64 << 20,
    SCRATCH_BYTES = 16 << 20,
    PEAK_SIDE = 512,
    HIDDEN = 576,
    HEADS = 9,
    KV_HEADS = 3,
    HEAD_DIM = 64,
    VOCABULARY = 49152,
    FFN = 1536,
};

typedef struct bench {
    ag_gemm_cache_t *gemm;
    ag_team_t *team;
    unsigned n_threads, n_copies, copy; /* of the weights; the one at hand */
    void *scratch[MOST_THREADS];
    double peaks[AG_N_GEMM_KINDS], read; /* operations, bytes a nanosecond */
    bool exact;
    /* what is measured */
    ag_linear_t linear;
    ag_gemm_kind_t kind;
    uint64_t n_rows;
    float *x, *y, *weights; /* (rows, k), (rows, n), (copies, n, k) */
    ag_step_t step;
    ag_self_attention_t attention;
    ag_self_attention_saved_t saved;
    float *grads[3], *lse;
    int32_t *targets;
    volatile uint64_t sink[MOST_THREADS];
} bench_t;

static float *take_floats(uint64_t n)
{
    float *values = take(n * sizeof(float));

    for (uint64_t i = 0; i < n; i++) {
        values[i] = (float)(i % 13) / 64 - 0.1f;
    }
    return values;
}

static void turn_copies(void *arg)
{
    bench_t *bench = arg;

    bench->copy = bench->n_copies > 0 ? (bench->copy + 1) % bench->n_copies : 0;
}

static double best_ns(bench_t *bench, ag_region_fn_t region)
{
    return best_of(bench->team, region, bench, turn_copies);
}

static ag_kernel_context_t context_of(bench_t *bench, const ag_worker_t *worker)
{
    return (ag_kernel_context_t){.worker = worker,
                                 .step = &bench->step,
                                 .scratch = bench->scratch[worker->thread],
                                 .gemm = bench->gemm,
                                 .isa = ag_isa_best()};
}

/* Limits */

static void run_peak(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    float *mine = bench->scratch[worker->thread];

    (void)ag_gemm(bench->gemm, worker->thread, bench->kind, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, mine,
                  mine + PEAK_SIDE * PEAK_SIDE, mine + 2 * PEAK_SIDE * PEAK_SIDE);
}

static void run_read(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    typedef uint64_t lanes_t __attribute__((vector_size(16)));
    const lanes_t *lanes = (const lanes_t *)(const void *)bench->weights;
    size_t n = COLD_BYTES / sizeof(lanes_t) / worker->n_threads / 8 * 8;
    lanes_t sums[8] = {0};

    for (size_t i = worker->thread * n; i < (worker->thread + 1) * n; i += 8) {
        for (int j = 0; j < 8; j++) {
            sums[j] += lanes[i + (size_t)j];
        }
    }
    for (int j = 0; j < 8; j++) {
        bench->sink[worker->thread] += sums[j][0] + sums[j][1];
    }
}

static void measure_limits(bench_t *bench)
{
    for (int kind = AG_GEMM_F32; kind <= AG_GEMM_BF16; kind++) {
        bench->kind = (ag_gemm_kind_t)kind;
        bench->peaks[kind] =
            2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE * bench->n_threads / best_ns(bench, run_peak);
    }
    bench->weights = take_floats(COLD_BYTES / sizeof(float));
    bench->read = COLD_BYTES / best_ns(bench, run_read);
    free(bench->weights);
    printf("limits, GFLOP/s: f32 %.0f, bf16 %.0f; read %.1f GB/s\n", bench->peaks[AG_GEMM_F32],
           bench->peaks[AG_GEMM_BF16], bench->read);
}

/* Products */

static float *weight_at_hand(bench_t *bench)
{
    return bench->weights + bench->copy * bench->linear.n * bench->linear.k;
}

static void run_forward(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_linear_t linear = bench->linear;

    linear.weight = weight_at_hand(bench);
    ag_kernel_train_linear(&context, &linear, ag_floats(bench->x), bench->n_rows, bench->exact,
                           ag_floats(bench->y));
}

static void run_input_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_linear_t linear = bench->linear;

    linear.weight = weight_at_hand(bench);
    ag_kernel_linear_input_grad(&context, &linear, ag_floats(bench->y), bench->n_rows, bench->exact,
                                false, ag_floats(bench->x));
}

static void run_weight_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);

    ag_kernel_linear_weight_grad(&context, &bench->linear, ag_floats(bench->y), ag_floats(bench->x),
                                 bench->n_rows, bench->exact, weight_at_hand(bench), NULL);
}

static void bench_products(bench_t *bench, uint64_t n, uint64_t k)
{
    static const ag_region_fn_t regions[] = {run_forward, run_input_grad, run_weight_grad};
    uint64_t bytes = n * k * sizeof(float);

    bench->linear = (ag_linear_t){.dtype = AG_F32, .n = n, .k = k};
    bench->copy = 0;
    bench->n_copies = (unsigned)((COLD_BYTES + bytes - 1) / bytes);
    bench->weights = take_floats(bench->n_copies * n * k);
    bench->x = take_floats(bench->n_rows * k);
    bench->y = take_floats(bench->n_rows * n);
    printf("%6u x %5u x %5u", (unsigned)bench->n_rows, (unsigned)n, (unsigned)k);
    for (int exact = 0; exact < 2; exact++) {
        bench->exact = exact;
        for (int i = 0; i < 3; i++) {
            double ops = 2.0 * (double)(bench->n_rows * n * k);
            double rate = ops / best_ns(bench, regions[i]);

            printf("  %5.0f %4.2f", rate, rate / bench->peaks[exact ? AG_GEMM_F32 : AG_GEMM_BF16]);
            fflush(stdout);
        }
    }
    printf("\n");
    free(bench->weights);
    free(bench->x);
    free(bench->y);
}

/* Attention of sequences of 512, or of all rows where they are fewer. */

static void run_attention(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);

    ag_kernel_self_attention(&context, &bench->attention, bench->saved.q, bench->saved.k,
                             bench->saved.v, ag_floats(bench->y), bench->lse);
}

static void run_attention_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);

    ag_kernel_self_attention_grad(&context, &bench->attention, &bench->saved, ag_floats(bench->x),
                                  bench->grads[0], bench->grads[1], bench->grads[2]);
}

static void bench_attention(bench_t *bench, uint32_t *kv_head)
{
    uint64_t n_rows = bench->n_rows, length = n_rows < 512 ? n_rows : 512, n = n_rows / length;
    int32_t *row_begin = take((n + 1) * sizeof(int32_t));
    /* of a score and a weighted sum for half of all pairs */
    double ops = 2.0 * (double)(n_rows * length * HEADS * HEAD_DIM);

    for (uint64_t i = 0; i <= n; i++) {
        row_begin[i] = (int32_t)(i * length);
    }
    bench->step = (ag_step_t){.counts = {1, n_rows, 0, n}, .row_begin = row_begin};
    for (int i = 0; i < 3; i++) {
        bench->grads[i] = take_floats(n_rows * HEADS * HEAD_DIM);
    }
    bench->x = take_floats(n_rows * HIDDEN);
    bench->y = take_floats(n_rows * HIDDEN);
    bench->lse = take_floats(n_rows * HEADS);
    bench->saved =
        (ag_self_attention_saved_t){.q = ag_floats(take_floats(n_rows * HEADS * HEAD_DIM)),
                                    .k = ag_floats(take_floats(n_rows * KV_HEADS * HEAD_DIM)),
                                    .v = ag_floats(take_floats(n_rows * KV_HEADS * HEAD_DIM)),
                                    .y = ag_floats(bench->y),
                                    .lse = bench->lse};
    printf("%6u rows in sequences of %u", (unsigned)n_rows, (unsigned)length);
    for (int exact = 0; exact < 2; exact++) {
        double peak = bench->peaks[exact ? AG_GEMM_F32 : AG_GEMM_BF16], rate;

        bench->attention = (ag_self_attention_t){.n_heads = HEADS,
                                                 .n_kv_heads = KV_HEADS,
                                                 .head_dim = HEAD_DIM,
                                                 .kv_head = kv_head,
                                                 .scale = 0.125f,
                                                 .exact = exact};
        rate = ops / best_ns(bench, run_attention);
        printf("  %5.0f %4.2f", rate, rate / peak);
        rate = 2.5 * ops / best_ns(bench, run_attention_grad);
        printf("  %5.0f %4.2f", rate, rate / peak);
    }
    printf("\n");
    for (int i = 0; i < 3; i++) {
        free(bench->grads[i]);
    }
    free(bench->x);
    free(bench->y);
    free(bench->lse);
    free(bench->saved.q.data);
    free(bench->saved.k.data);
    free(bench->saved.v.data);
    free(row_begin);
}

/* What touches each element once: weights is a pool of three parts of (rows, FFN) or more. */

static float *part(bench_t *bench, int i)
{
    return bench->weights + (uint64_t)i * bench->n_rows * FFN;
}

static void run_glu_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);

    ag_kernel_glu_grad(&context, &(ag_glu_t){.act = AG_ACT_SILU}, ag_floats(part(bench, 0)),
                       ag_floats(part(bench, 1)), ag_floats(part(bench, 2)), bench->n_rows, FFN, 0,
                       ag_floats(part(bench, 3)), ag_floats(part(bench, 4)));
}

static ag_norm_t norm_of(bench_t *bench)
{
    return (ag_norm_t){
        .kind = AG_NORM_RMS, .width = HIDDEN, .eps = 1e-5f, .weight = part(bench, 4)};
}

static void run_norm_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_norm_t norm = norm_of(bench);

    ag_kernel_norm_grad(&context, &norm, part(bench, 0), ag_floats(part(bench, 1)), bench->n_rows,
                        true, part(bench, 2), part(bench, 3));
}

static void run_norm_weight_grad(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_norm_t norm = norm_of(bench);

    ag_kernel_norm_weight_grad(&context, &norm, part(bench, 0), ag_floats(part(bench, 1)),
                               part(bench, 3), bench->n_rows, part(bench, 2), NULL);
}

static void run_loss(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_loss_t loss = {.vocab_end = VOCABULARY, .n_parts = 1};
    uint64_t n_rows = COLD_BYTES / sizeof(float) / VOCABULARY;

    ag_kernel_loss_statistics(&context, &loss, ag_floats(bench->weights), bench->targets, n_rows,
                              bench->x);
    ag_team_barrier(worker);
    ag_kernel_loss(&context, &loss, bench->x, bench->targets, n_rows, 1, ag_floats(bench->weights),
                   bench->y);
}

static void run_adamw(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);
    ag_adamw_t adamw = {.lr = 1e-3f,
                        .beta1 = 0.9f,
                        .beta2 = 0.95f,
                        .eps = 1e-8f,
                        .weight_decay = 0.1f,
                        .correction1 = 0.1f,
                        .correction2 = 0.05f,
                        .gradient_factor = 1};
    uint64_t n = COLD_BYTES / sizeof(float) / 4;

    ag_kernel_adamw(&context, &adamw, n, bench->weights, bench->weights + n, bench->weights + 2 * n,
                    bench->weights + 3 * n);
}

static void run_squares(void *arg, const ag_worker_t *worker)
{
    bench_t *bench = arg;
    ag_kernel_context_t context = context_of(bench, worker);

    ag_kernel_sum_squares(&context, bench->weights, COLD_BYTES / sizeof(float),
                          (double *)(void *)bench->x);
}

static void bench_elements(bench_t *bench)
{
    double n = (double)bench->n_rows;
    const struct {
        const char *name;
        ag_region_fn_t region;
        double bytes;
    } cases[] = {
        {"glu_grad silu", run_glu_grad, 20 * n * FFN},
        {"norm_grad rms", run_norm_grad, 16 * n * HIDDEN},
        {"norm_weight_grad", run_norm_weight_grad, 8 * n * HIDDEN},
        {"loss (logits 3 times)", run_loss, 3.0 * COLD_BYTES},
        {"adamw", run_adamw, 28.0 / 16 * COLD_BYTES},
        {"sum_squares", run_squares, COLD_BYTES},
    };
    uint64_t pool = 5 * bench->n_rows * FFN, cold = COLD_BYTES / sizeof(float);

    bench->weights = take_floats(pool > cold ? pool : cold);
    bench->x = take_floats(1 << 20);
    bench->y = take_floats(1 << 20);
    bench->targets = take(4096 * sizeof(int32_t));
    memset(bench->targets, 0, 4096 * sizeof(int32_t));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double ns = best_ns(bench, cases[i].region);

        printf("%24s  %7.0f us  %5.1f GB/s  %4.2f\n", cases[i].name, ns / 1000, cases[i].bytes / ns,
               cases[i].bytes / ns / bench->read);
    }
    free(bench->weights);
    free(bench->x);
    free(bench->y);
    free(bench->targets);
}

static int parse(int argc, char **argv, bench_t *bench, uint64_t *rows)
{
    int n = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0) {
            bench->n_threads = (unsigned)atoi(argv[i + 1]);
        } else if (strcmp(argv[i], "--rows") == 0 && n < MOST_COUNTS) {
            rows[n++] = strtoull(argv[i + 1], NULL, 10);
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    static const uint64_t shapes[][2] = {
        {HIDDEN, HIDDEN}, {192, HIDDEN}, {FFN, HIDDEN}, {HIDDEN, FFN}, {VOCABULARY, HIDDEN}};
    bench_t bench = {.n_threads = 2};
    uint64_t rows[MOST_COUNTS] = {512, 2048};
    int n_counts = parse(argc, argv, &bench, rows);
    uint32_t kv_head[HEADS];

    n_counts = n_counts == 0 ? 2 : n_counts;
    if (bench.n_threads < 1 || bench.n_threads > MOST_THREADS) {
        fprintf(stderr, "bench_train_kernels: 1 to %d threads\n", MOST_THREADS);
        return 1;
    }
    check(ag_gemm_cache_create(MOST_THREADS, &bench.gemm));
    check(ag_team_create(&(ag_team_opts_t){.n_threads = bench.n_threads}, &bench.team));
    for (unsigned t = 0; t < bench.n_threads; t++) {
        bench.scratch[t] = take_floats(SCRATCH_BYTES / sizeof(float));
    }
    measure_limits(&bench);
    for (uint32_t h = 0; h < HEADS; h++) {
        kv_head[h] = h / (HEADS / KV_HEADS);
    }
    printf("rows x n x k, GFLOP/s and share of the peak: forward, input's and weight's gradient, "
           "bf16, then f32\n");
    for (int i = 0; i < n_counts; i++) {
        bench.n_rows = rows[i];
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            bench_products(&bench, shapes[s][0], shapes[s][1]);
        }
    }
    printf("attention and its gradient (operations of half the pairs, of 2 and 5 products), bf16, "
           "then f32\n");
    for (int i = 0; i < n_counts; i++) {
        bench.n_rows = rows[i];
        bench_attention(&bench, kv_head);
    }
    printf("each element once, %u rows: share of the rate at which memory is read\n",
           (unsigned)bench.n_rows);
    bench_elements(&bench);
    for (unsigned t = 0; t < bench.n_threads; t++) {
        free(bench.scratch[t]);
    }
    ag_team_destroy(bench.team);
    ag_gemm_cache_destroy(bench.gemm);
    return 0;
}
