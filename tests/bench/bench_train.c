/*
 * How near a step of training is to the machine's limit: model operations (6 a weight and token, of
 * attention half of the square) beside the peak of products of 512 x 512 x 512, measured in the
 * same run, and where the time went by operator. One rank, random tokens.
 *
 *     bench_train MODEL [ROWS SEQ_LENGTH [f32|bf16 [THREADS [MICRO_BATCH_SIZE]]]]
 */
#include "comm/net_loop.h"
#include "parallel/run/job.h"
#include "runtime/kernel/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { N_WARM = 1, N_STEPS = 3, PEAK_SIDE = 512, N_PRODUCTS = 30 };

static void refuse(ag_status_t status)
{
    if (status != AG_OK) {
        fprintf(stderr, "bench_train: %s\n", ag_error());
        exit(1);
    }
}

static void *take(size_t n_bytes)
{
    void *bytes = aligned_alloc(64, (n_bytes / 64 + 1) * 64);

    if (bytes == NULL) {
        fprintf(stderr, "bench_train: no memory\n");
        exit(1);
    }
    memset(bytes, 0, n_bytes);
    return bytes;
}

typedef struct peak {
    ag_gemm_cache_t *gemm;
    ag_gemm_kind_t kind;
} peak_t;

static void run_products(void *arg, const ag_worker_t *worker)
{
    const peak_t *peak = arg;
    void *a = take(PEAK_SIDE * PEAK_SIDE * 4), *b = take(PEAK_SIDE * PEAK_SIDE * 4);
    void *c = take(PEAK_SIDE * PEAK_SIDE * 4);

    for (int i = 0; i < N_PRODUCTS; i++) {
        refuse(ag_gemm(peak->gemm, worker->thread, peak->kind, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, a,
                       b, c));
    }
    free(a);
    free(b);
    free(c);
}

/* Operations a second. */
static double measure_peak(ag_team_t *team, bool exact)
{
    ag_clock_t clock = ag_clock_monotonic();
    peak_t peak = {.kind = exact ? AG_GEMM_F32 : AG_GEMM_BF16};
    double best = 0;

    refuse(ag_gemm_cache_create(ag_team_size(team), &peak.gemm));
    for (int i = 0; i < 5; i++) {
        uint64_t begin_ns = ag_clock_now_ns(&clock);
        double rate;

        ag_team_run(team, run_products, &peak);
        rate = 2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE * N_PRODUCTS * ag_team_size(team) * 1e9 /
               (double)(ag_clock_now_ns(&clock) - begin_ns);
        best = rate > best ? rate : best;
    }
    ag_gemm_cache_destroy(peak.gemm);
    return best;
}

/* Rows of random tokens, each a document. */
static ag_step_t *make_steps(const ag_plan_t *plan, uint32_t vocab, ag_update_t *update)
{
    uint32_t n_steps = ag_plan_micro_batches(plan), n = plan->batch_tokens;
    uint32_t n_rows = plan->train.micro_batch_size;
    ag_step_t *steps = take(n_steps * sizeof(*steps));
    uint64_t state = 1;

    for (uint32_t m = 0; m < n_steps; m++) {
        int32_t *ints = take((4ull * n + n_rows + 1) * sizeof(*ints));
        int32_t *begins = ints + 4ull * n;

        for (uint32_t i = 0; i < n; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            ints[i] = (int32_t)((state >> 33) % vocab);
            ints[n + i] = (int32_t)(i % plan->context_tokens);
            ints[2ull * n + i] = (int32_t)i;
            ints[3ull * n + i] = i + 1 < n ? 0 : ints[0];
        }
        for (uint32_t i = 0; i + 1 < n; i++) {
            ints[3ull * n + i] = ints[i + 1];
        }
        for (uint32_t r = 0; r <= n_rows; r++) {
            begins[r] = (int32_t)(r * plan->context_tokens);
        }
        steps[m] = (ag_step_t){.counts = {1, n, n, n_rows},
                               .tokens = ints,
                               .positions = ints + n,
                               .outputs = ints + 2ull * n,
                               .targets = ints + 3ull * n,
                               .row_begin = begins,
                               .update = update};
    }
    return steps;
}

/* Of a step: 6 for each weight that a token meets, the table of the embedding once, as the head. */
static double model_ops(const ag_build_t *build, double n_tokens)
{
    const ag_spec_t *spec = build->model->spec;
    const ag_params_t *params = &build->ranks[0].params;
    double n_weights = 0, attended = n_tokens * build->plan->context_tokens / 2;

    for (size_t i = 0; i < params->items.n_items; i++) {
        const ag_graph_param_t *held = &ag_params_held(params)[i];

        n_weights += held->rows > 1 ? (double)held->rows * (double)held->cols : 0;
    }
    if (!spec->tied) {
        n_weights -= (double)spec->vocab * spec->hidden;
    }
    return 6 * n_weights * n_tokens + 12 * attended * spec->n_layers *
                                          spec->layer_kinds[0].n_heads *
                                          spec->layer_kinds[0].head_dim;
}

static void print_profile(ag_job_t *job, double ns)
{
    ag_profile_t profile = {0};

    ag_job_take_profile(job, &profile);
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        uint64_t sum = 0;

        for (int type = 0; type < AG_N_DTYPES; type++) {
            sum += profile.ns[kind][type];
        }
        if ((double)sum > 0.002 * ns) {
            printf("  %-24s %5.1f%%\n", ag_node_name((ag_node_kind_t)kind), 100 * (double)sum / ns);
        }
    }
    printf("  %-24s %5.1f%%\n", "waiting for threads", 100 * (double)profile.barrier_ns / ns);
}

int main(int argc, char **argv)
{
    uint32_t n_rows = argc > 2 ? (uint32_t)atoi(argv[2]) : 4;
    ag_plan_opts_t opts = {.sequence_tokens = argc > 3 ? (uint32_t)atoi(argv[3]) : 512,
                           .global_batch_size = n_rows,
                           .compute = argc > 4 && strcmp(argv[4], "f32") == 0 ? AG_COMPUTE_F32
                                                                              : AG_COMPUTE_AUTO,
                           .micro_batch_size = argc > 6 ? (uint32_t)atoi(argv[6]) : n_rows};
    ag_update_t update = {.loss_scale = 1.0f / (float)(n_rows * opts.sequence_tokens),
                          .learning_rate = 1e-4f,
                          .beta1 = 0.9f,
                          .beta2 = 0.95f,
                          .eps = 1e-8f,
                          .weight_decay = 0.1f,
                          .clip_norm = 1};
    ag_clock_t clock = ag_clock_monotonic();
    float totals[AG_N_TOTALS];
    ag_programs_t programs;
    ag_plan_model_t facts;
    ag_ledger_t *ledger;
    ag_device_t *device;
    ag_model_t *model;
    ag_build_t *build;
    ag_memory_t memory;
    ag_team_t *team;
    ag_step_t *steps;
    ag_plan_t *plan;
    ag_net_t *net;
    ag_job_t *job;
    uint64_t best_ns = UINT64_MAX, sum_ns = 0, planned = 0;
    struct rusage usage;
    double peak, ops;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_train MODEL [ROWS SEQ_LENGTH [f32|bf16 [THREADS "
                        "[MICRO_BATCH_SIZE]]]]\n");
        return 2;
    }
    refuse(ag_model_open(argv[1], &model));
    facts = ag_build_plan_model(model);
    refuse(ag_plan_make(&facts, &opts, &plan));
    refuse(ag_build_create(plan, model, &build));
    refuse(ag_programs_create(build, true, false, &programs));
    refuse(ag_team_create(&(ag_team_opts_t){.n_threads = argc > 5 ? (uint32_t)atoi(argv[5]) : 2},
                          &team));
    memory = ag_memory_foretell(build, &programs, 0, ag_team_size(team), false);
    for (uint32_t i = 0; i < memory.n_parts; i++) {
        planned += memory.parts[i].bytes;
    }
    peak = measure_peak(team, opts.compute == AG_COMPUTE_F32);
    refuse(ag_ledger_create(0, &ledger));
    refuse(ag_device_cpu_open(team, ledger, &device));
    refuse(ag_net_loop_create(1, &net));
    refuse(ag_job_create(&(ag_job_opts_t){.build = build,
                                          .programs = &programs,
                                          .net = net,
                                          .team = team,
                                          .device = device,
                                          .clock = clock},
                         &job));
    steps = make_steps(plan, model->spec->vocab, &update);
    ops = model_ops(build, (double)n_rows * opts.sequence_tokens);
    for (int i = 0; i < N_WARM + N_STEPS; i++) {
        uint64_t begin_ns = ag_clock_now_ns(&clock), ns;
        ag_profile_t profile = {0};

        update.number = (uint64_t)i + 1;
        if (i == N_WARM) {
            ag_job_take_profile(job, &profile);
        }
        refuse(ag_job_train(job, steps, totals));
        ns = ag_clock_now_ns(&clock) - begin_ns;
        best_ns = i >= N_WARM && ns < best_ns ? ns : best_ns;
        sum_ns += i >= N_WARM ? ns : 0;
    }
    getrusage(RUSAGE_SELF, &usage);
    printf(
        "%u x %u tokens in micro-batches of %u, %u threads: %.0f tokens/s, %.0f GFLOP/s, %.2f of "
        "the peak of %.0f; peak memory %.0f MiB, planned %.0f MiB; loss %.4f\n",
        n_rows, opts.sequence_tokens, opts.micro_batch_size, ag_team_size(team),
        (double)n_rows * opts.sequence_tokens * 1e9 / (double)best_ns, ops / (double)best_ns,
        ops * 1e9 / (double)best_ns / peak, peak * 1e-9, (double)usage.ru_maxrss / 1024,
        (double)planned / 1048576, (double)totals[AG_TOTAL_LOSS] / (n_rows * opts.sequence_tokens));
    print_profile(job, (double)sum_ns);
    return 0;
}
