/* A step in two halves gives what it gives undivided, wherever it is cut. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { N_SEQUENCES = 3, MOST_ROWS = 24, BLOCKS = 4, N_STEPS = 5 };

/* Rows of each sequence, in each of the steps that follow each other: cuts between sequences and in
 * them, an odd row, a sequence cut in its first row, rows alone, and a step of one row. */
static const int32_t n_rows[N_STEPS][N_SEQUENCES] = {
    {5, 1, 7}, {8, 4, 4}, {1, 1, 2}, {1, 1, 1}, {0, 0, 1}};

typedef struct halves {
    work_t work;
    uint32_t n_logits;
    float all[N_STEPS * MOST_ROWS * VOCAB];
} halves_t;

static ag_status_t run_steps(ag_job_t *job, halves_t *halves)
{
    int32_t at[N_SEQUENCES] = {0}, tables[N_SEQUENCES * BLOCKS];
    ag_status_t status = AG_OK;

    for (int32_t i = 0; i < N_SEQUENCES * BLOCKS; i++) {
        tables[i] = N_SEQUENCES * BLOCKS - 1 - i;
    }
    for (int i = 0; i < N_STEPS && status == AG_OK; i++) {
        int32_t tokens[MOST_ROWS], positions[MOST_ROWS], outputs[MOST_ROWS], n = 0;
        int32_t row_begin[N_SEQUENCES + 1] = {0}, step_tables[N_SEQUENCES * BLOCKS];
        uint32_t n_sequences = 0;
        const float *logits;

        for (int s = 0; s < N_SEQUENCES; s++) {
            for (int32_t r = 0; r < n_rows[i][s]; r++, n++) {
                tokens[n] = (17 * n + 5 * s + 31 * i) % VOCAB;
                outputs[n] = n;
                positions[n] = at[s]++;
            }
            if (n_rows[i][s] > 0) {
                memcpy(step_tables + n_sequences * BLOCKS, tables + s * BLOCKS,
                       BLOCKS * sizeof(*tables));
                row_begin[++n_sequences] = n;
            }
        }
        status = ag_job_step(job,
                             &(ag_step_t){.counts = {1, (uint64_t)n, (uint64_t)n, n_sequences},
                                          .tokens = tokens,
                                          .positions = positions,
                                          .row_begin = row_begin,
                                          .outputs = outputs,
                                          .block_tables = step_tables,
                                          .table_stride = BLOCKS},
                             &logits);
        if (status == AG_OK) {
            memcpy(halves->all + halves->n_logits, logits, (size_t)n * VOCAB * sizeof(float));
            halves->n_logits += (uint32_t)n * VOCAB;
        }
    }
    return status;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    cr_assert_eq(status, AG_OK, "%s", ag_error());
    if (turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else {
        status = run_steps(rank.job, (halves_t *)turn->arg);
        cr_expect_eq(ag_job_stop(rank.job), AG_OK);
    }
    close_rank(&rank);
    return status;
}

/* All steps run with the largest class, also those of rows alone. */
static void keep_largest(void *arg, ag_programs_t *programs)
{
    (void)arg;
    while (programs->n > 1) {
        ag_program_destroy(programs->programs[0]);
        programs->n--;
        memmove(programs->programs, programs->programs + 1,
                programs->n * sizeof(*programs->programs));
    }
}

static void run_halves(const char *tp, const char *split, uint32_t n_ranks, const char *overlap,
                       halves_t *halves)
{
    ag_status_t statuses[8];

    halves->n_logits = 0;
    halves->work = (work_t){.opts = {.tp = tp,
                                     .tensor_split = split,
                                     .compute = AG_COMPUTE_F32,
                                     .batch_tokens = MOST_ROWS,
                                     .n_sequences = 2 * N_SEQUENCES, /* of two stages each */
                                     .overlap_tokens = overlap},
                            .change = keep_largest};
    ag_turns_run(n_ranks, 7, run_rank, halves, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "rank %u: %s", r, ag_status_name(statuses[r]));
    }
}

/* Not the same bits: products of another number of rows may add up in another order, and so may the
 * sums of more than two ranks. */
Test(halves, give_what_the_whole_gives, .timeout = 60)
{
    static const struct {
        const char *tp, *split;
        uint32_t n_ranks;
    } cases[] = {{"2", NULL, 2}, {"2", "5,4", 2}, {"3", "4,1,2", 3}, {"2,3", NULL, 5}};
    static halves_t whole, halves;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        double worst = 0;

        run_halves(cases[i].tp, cases[i].split, cases[i].n_ranks, "0", &whole);
        run_halves(cases[i].tp, cases[i].split, cases[i].n_ranks, "2", &halves);
        cr_assert_eq(halves.n_logits, whole.n_logits);
        for (uint32_t l = 0; l < whole.n_logits; l++) {
            worst = fmax(worst, fabs((double)halves.all[l] - (double)whole.all[l]));
        }
        cr_expect_leq(worst, 2e-5, "--tp %s: logits differ by %g", cases[i].tp, worst);
    }
}
