#include "kernel_call.h"

#include "runtime/base/philox.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t uneven[MOST_THREADS] = {600, 1000, 70, 1000, 330};
static const ag_team_opts_t teams[] = {{.n_threads = 1, .spin_us = 1},
                                       {.n_threads = 2, .spin_us = 1, .speeds = uneven},
                                       {.n_threads = 3, .spin_us = 1},
                                       {.n_threads = MOST_THREADS, .spin_us = 1, .speeds = uneven}};
enum { N_TEAMS = sizeof(teams) / sizeof(teams[0]), NOT_WRITTEN = 0xa5 };

bool isa_at(int i, const ag_isa_t **isa_p)
{
    static const char *const names[N_ISAS] = {NULL, "base", "avx2", "avx512"};

    *isa_p = NULL;
    return names[i] == NULL || ag_isa_find(names[i], isa_p) == AG_OK;
}

void *take(size_t n_bytes)
{
    void *bytes = malloc(n_bytes > 0 ? n_bytes : 1);

    cr_assert_not_null(bytes);
    return bytes;
}

typedef struct run {
    const kernel_call_t *call;
    float *y;
    void *scratch[MOST_THREADS];
    unsigned n_yields;
} run_t;

static void count_yield(void *arg)
{
    (*(unsigned *)arg)++;
}

static void run_region(void *arg, const ag_worker_t *worker)
{
    run_t *run = arg;
    ag_yield_t yield = {.fn = count_yield, .arg = &run->n_yields};
    ag_kernel_context_t context = {.worker = worker,
                                   .yield = worker->thread == 0 ? &yield : NULL,
                                   .step = run->call->step,
                                   .scratch = run->scratch[worker->thread],
                                   .gemm = run->call->gemm,
                                   .isa = run->call->isa};

    run->call->fn(&context, run->call->arg, run->y);
}

static float *run_on(const kernel_call_t *call, const ag_team_opts_t *opts, uint64_t n,
                     const char *what)
{
    run_t run = {.call = call, .y = take(n * sizeof(float))};
    unsigned n_threads = opts->n_threads;
    ag_team_t *team = NULL;

    if (call->y_at_first != NULL) {
        memcpy(run.y, call->y_at_first, n * sizeof(float));
    } else {
        memset(run.y, NOT_WRITTEN, n * sizeof(float));
    }
    for (unsigned t = 0; t < n_threads; t++) {
        run.scratch[t] = aligned_alloc(64, ag_align_up(call->scratch_bytes));
        cr_assert(run.scratch[t] != NULL || call->scratch_bytes == 0);
    }
    cr_assert_eq(ag_team_create(opts, &team), AG_OK);
    ag_team_run(team, run_region, &run);
    ag_team_destroy(team);
    cr_expect(!call->yields || n_threads > 1 || run.n_yields > 0, "%s: never yields", what);
    for (unsigned t = 0; t < n_threads; t++) {
        free(run.scratch[t]);
    }
    return run.y;
}

float *kernel_call(const kernel_call_t *call, uint64_t n, const char *what)
{
    float *first = run_on(call, &teams[0], n, what);

    for (int i = 1; i < N_TEAMS; i++) {
        float *y = run_on(call, &teams[i], n, what);

        cr_assert_eq(memcmp(y, first, n * sizeof(float)), 0, "%s: %u threads give other bits", what,
                     teams[i].n_threads);
        free(y);
    }
    return first;
}

float *random_floats(uint64_t seed, uint64_t n, double scale)
{
    float *values = take(n * sizeof(float));

    for (uint64_t i = 0; i < n; i++) {
        values[i] = (float)(scale * (2 * ag_philox_uniform(seed, 0, i) - 1));
    }
    return values;
}

uint64_t random_below(uint64_t seed, uint64_t index, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(seed, 1, index) * (double)n);
}

/* Where a type's blocks have their halves, or that their first byte is an exponent; other bytes may
 * be anything. */
static const struct {
    int n_scales;
    uint32_t at[2];
    double scale; /* so that values are near 1 */
    uint8_t exponent;
} scales[AG_N_DTYPES] = {
    [AG_Q8_0] = {.n_scales = 1, .at = {0}, .scale = 1.0 / 128},
    [AG_Q4_0] = {.n_scales = 1, .at = {0}, .scale = 1.0 / 8},
    [AG_Q4_1] = {.n_scales = 2, .at = {0, 2}, .scale = 1.0 / 8},
    [AG_Q6_K] = {.n_scales = 1, .at = {208}, .scale = 1.0 / 4096},
    [AG_Q4_K] = {.n_scales = 2, .at = {0, 2}, .scale = 1.0 / 1024},
    [AG_Q5_0] = {.n_scales = 1, .at = {0}, .scale = 1.0 / 16},
    [AG_Q5_1] = {.n_scales = 2, .at = {0, 2}, .scale = 1.0 / 16},
    [AG_MXFP4] = {.exponent = 124},
    [AG_Q5_K] = {.n_scales = 2, .at = {0, 2}, .scale = 1.0 / 2048},
    [AG_Q2_K] = {.n_scales = 2, .at = {80, 82}, .scale = 1.0 / 64},
    [AG_Q3_K] = {.n_scales = 1, .at = {108}, .scale = 1.0 / 128},
    [AG_IQ4_NL] = {.n_scales = 1, .at = {0}, .scale = 1.0 / 128},
    [AG_IQ4_XS] = {.n_scales = 1, .at = {0}, .scale = 1.0 / 4096},
};

/* Up to 1.75. */
static unsigned char small_f8(unsigned char byte)
{
    return (unsigned char)((byte & 128) | (byte & 127) % 63);
}

static void random_element(ag_dtype_t dtype, float value, unsigned char *bytes)
{
    uint16_t half = dtype == AG_F16 ? ag_f32_to_f16(value) : ag_f32_to_bf16(value);

    if (dtype == AG_F8_E4M3) {
        *bytes = small_f8(*bytes);
    } else if (dtype == AG_F32) {
        memcpy(bytes, &value, sizeof(value));
    } else {
        memcpy(bytes, &half, sizeof(half));
    }
}

void *random_weights(ag_dtype_t dtype, uint64_t seed, uint64_t n)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    uint64_t n_blocks = n / info->block_elements;
    unsigned char *bytes = take(n_blocks * info->block_bytes);

    cr_assert_eq(n % info->block_elements, 0);
    for (uint64_t i = 0; i < n_blocks * info->block_bytes; i++) {
        bytes[i] = (unsigned char)random_below(seed, i, 256);
    }
    for (uint64_t i = 0; i < n_blocks; i++) {
        unsigned char *block = bytes + i * info->block_bytes;
        float value = (float)(2 * ag_philox_uniform(seed, 2, i) - 1);

        if (info->block_elements == 1) {
            random_element(dtype, value, block);
            continue;
        }
        if (dtype == AG_F8_E4M3_128) {
            random_element(AG_F32, value, block);
            for (uint32_t j = 4; j < info->block_bytes; j++) {
                block[j] = small_f8(block[j]);
            }
            continue;
        }
        if (scales[dtype].exponent > 0) {
            block[0] = (unsigned char)(scales[dtype].exponent + block[0] % 2);
            continue;
        }
        cr_assert_gt(scales[dtype].n_scales, 0, "say where %s has its scales", info->name);
        for (int j = 0; j < scales[dtype].n_scales; j++) {
            random_element(AG_F16, value * (float)scales[dtype].scale, block + scales[dtype].at[j]);
        }
    }
    return bytes;
}

float *decode(ag_dtype_t dtype, const void *weights, uint64_t n)
{
    float *values = take(n * sizeof(float));

    ag_dtype_info(dtype)->unpack(weights, values, n / ag_dtype_info(dtype)->block_elements);
    return values;
}

double act_of(ag_act_t act, double x)
{
    switch (act) {
    case AG_ACT_SILU:
        return x / (1 + exp(-x));
    case AG_ACT_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case AG_ACT_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case AG_ACT_RELU:
        return fmax(x, 0);
    case AG_ACT_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case AG_N_ACTS:
        break;
    }
    return NAN;
}

double glu_of(const ag_glu_t *glu, double gate, double up)
{
    double most = glu->limit > 0 ? (double)glu->limit : INFINITY;

    return act_of(glu->act, fmin(gate, most)) *
           (fmax(fmin(up, most), -most) + (double)glu->up_offset);
}
