/* What a sequence's rows give does not depend, to the bit, on what else is in their step. */
#include <criterion/criterion.h>
#include <string.h>

#include "runtime/base/philox.h"
#include "support.h"

/* More sequences than a few rows are, than a chunk has rows, and than a direct sum takes. */
enum { N = 120, N_DECODED = 3, MOST_PROMPT = 40, MOST_ROWS = 256, BLOCKS = 2 };

typedef struct company {
    work_t work;
    bool alone; /* each sequence in steps of its own; else prompts alone */
    float logits[N][1 + N_DECODED][VOCAB];
} company_t;

/* A step under construction, and whose its outputs are. */
typedef struct build {
    int32_t tokens[MOST_ROWS], positions[MOST_ROWS], row_begin[N + 1], outputs[N];
    int32_t tables[N * BLOCKS];
    uint32_t whose[N];
    ag_step_t step;
} build_t;

static uint32_t prompt_length(uint32_t sequence)
{
    return 2 + sequence * 7 % (MOST_PROMPT - 2);
}

static int32_t token_at(uint32_t sequence, uint32_t position)
{
    return (int32_t)(ag_philox_uniform(sequence, 8, position) * VOCAB);
}

/* Rows of a sequence from a position on; the last gives logits. */
static void add(const company_t *company, build_t *build, uint32_t sequence, uint32_t position,
                uint32_t n)
{
    uint64_t *counts = build->step.counts;
    uint64_t row = counts[AG_COUNT_TOKENS], s = counts[AG_COUNT_SEQUENCES];

    for (uint32_t i = 0; i < n; i++) {
        build->tokens[row + i] = token_at(sequence, position + i);
        build->positions[row + i] = (int32_t)(position + i);
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        build->tables[s * BLOCKS + i] = (int32_t)((company->alone ? 0 : sequence * BLOCKS) + i);
    }
    build->whose[s] = sequence;
    build->outputs[s] = (int32_t)(row + n - 1);
    build->row_begin[s + 1] = (int32_t)(row + n);
    counts[AG_COUNT_ONE] = 1;
    counts[AG_COUNT_TOKENS] += n;
    counts[AG_COUNT_OUTPUTS]++;
    counts[AG_COUNT_SEQUENCES]++;
}

static void run_step(company_t *company, ag_job_t *job, build_t *build, uint32_t number)
{
    const float *logits = NULL;

    build->step.tokens = build->tokens;
    build->step.positions = build->positions;
    build->step.row_begin = build->row_begin;
    build->step.outputs = build->outputs;
    build->step.block_tables = build->tables;
    build->step.table_stride = BLOCKS;
    cr_assert_eq(ag_job_step(job, &build->step, &logits), AG_OK, "%s", ag_error());
    for (uint64_t i = 0; i < build->step.counts[AG_COUNT_OUTPUTS]; i++) {
        memcpy(company->logits[build->whose[i]][number], logits + i * VOCAB, VOCAB * sizeof(float));
    }
    memset(build, 0, sizeof(*build));
}

/* The step of a sequence, or of all from one on where they decode together. */
static uint32_t run_some(company_t *company, ag_job_t *job, uint32_t first, uint32_t number)
{
    static build_t build;
    bool one = company->alone || number == 0;
    uint32_t i = first;

    memset(&build, 0, sizeof(build));
    for (; i < N && (!one || i == first); i++) {
        uint32_t n_prompt = prompt_length(i);

        add(company, &build, i, number == 0 ? 0 : n_prompt + number - 1,
            number == 0 ? n_prompt : 1);
    }
    run_step(company, job, &build, number);
    return i;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    company_t *company = turn->arg;
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        for (uint32_t s = 0; s < (company->alone ? N : 1); s++) {
            for (uint32_t number = 0; number <= N_DECODED; number++) {
                uint32_t i = s;

                do {
                    i = run_some(company, rank.job, i, number);
                } while (!company->alone && i < N);
            }
        }
        status = ag_job_stop(rank.job);
    }
    close_rank(&rank);
    return status;
}

static void run_company(company_t *company, uint32_t n_ranks)
{
    ag_status_t statuses[5];

    ag_turns_run(n_ranks, 1, run_rank, company, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "rank %u of %u: %s", r, n_ranks,
                     ag_status_name(statuses[r]));
    }
}

static void expect_same_bits(ag_plan_opts_t opts, const char *model, uint32_t n_ranks,
                             const char *what)
{
    static company_t alone, together;

    memset(&alone, 0, sizeof(alone));
    opts.context_tokens = BLOCKS * AG_KV_BLOCK_TOKENS;
    alone.work.opts = opts;
    alone.work.model = model;
    together = alone;
    alone.alone = true;
    together.work.opts.n_sequences = N;
    run_company(&alone, n_ranks);
    run_company(&together, n_ranks);
    for (uint32_t s = 0; s < N; s++) {
        for (uint32_t i = 0; i <= N_DECODED; i++) {
            cr_expect_eq(
                memcmp(alone.logits[s][i], together.logits[s][i], sizeof(alone.logits[s][i])), 0,
                "%s: logits %u of sequence %u", what, i, s);
        }
    }
}

Test(company, exact_kernels)
{
    expect_same_bits((ag_plan_opts_t){.compute = AG_COMPUTE_F32}, NULL, 1, "exact");
}

Test(company, fast_kernels)
{
    expect_same_bits((ag_plan_opts_t){.compute = AG_COMPUTE_AUTO}, NULL, 1, "fast");
}

/* Chunks of not many more rows than sequences. */
Test(company, short_chunks)
{
    expect_same_bits((ag_plan_opts_t){.compute = AG_COMPUTE_F32, .batch_tokens = MOST_PROMPT}, NULL,
                     1, "short chunks");
}

Test(company, sums_of_four_ranks)
{
    expect_same_bits((ag_plan_opts_t){.tp = "4", .compute = AG_COMPUTE_F32}, NULL, 4, "tp 4");
}

Test(company, experts)
{
    expect_same_bits((ag_plan_opts_t){.compute = AG_COMPUTE_AUTO}, "/tiny/mixtral", 1, "experts");
}
