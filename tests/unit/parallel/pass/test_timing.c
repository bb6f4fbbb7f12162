/* What a schedule costs by itself: the published bubbles where stages are alike, by hand where they
 * are not. */
#include <criterion/criterion.h>
#include <math.h>

#include "parallel/program/timing.h"
#include "support.h"

/* A layer's half takes a second forward and two back. */
static double seconds_of(void *arg, uint32_t rank, const ag_op_t *op)
{
    const setup_t *setup = arg;
    const ag_array_t *parts =
        &AG_ITEMS(&setup->program->ranks[rank].segments, ag_segment_t)[op->subject].parts;
    double seconds = 0;

    for (size_t i = 0; i < parts->n_items; i++) {
        uint32_t kind = AG_ITEMS(parts, ag_part_t)[i].kind;

        seconds += kind == AG_PART_ATTN || kind == AG_PART_FFN       ? 1
                   : kind == AG_PART_ATTN_B || kind == AG_PART_FFN_B ? 2
                                                                     : 0;
    }
    return seconds;
}

static void time_plan(ag_plan_opts_t opts, ag_rank_time_t times[2])
{
    setup_t setup;

    opts.pp = 2;
    opts.sequence_tokens = 16;
    opts.micro_batch_size = 1;
    opts.compute = AG_COMPUTE_F32;
    cr_assert_eq(open_model("/variants/llama6", &opts,
                            (uint64_t[AG_N_SIZE_COUNTERS]){1, 16, 16, 16}, &setup),
                 AG_OK, "%s", ag_error());
    cr_assert_eq(ag_program_time(setup.program, seconds_of, &setup, times), AG_OK, "%s",
                 ag_error());
    close_setup(&setup);
}

static void expect_bubble(ag_plan_opts_t opts, double m, double v)
{
    ag_rank_time_t times[2];
    double busy = 6 * 3 * m;

    time_plan(opts, times);
    for (int r = 0; r < 2; r++) {
        cr_expect_float_eq(times[r].busy_s, busy, 1e-9, "%g", times[r].busy_s);
    }
    cr_expect_float_eq(fmax(times[0].end_s, times[1].end_s), busy * (1 + 1 / (v * m)), 1e-9,
                       "%g and %g", times[0].end_s, times[1].end_s);
}

Test(timing, alike_stages_have_the_published_bubble)
{
    expect_bubble((ag_plan_opts_t){.schedule = "gpipe", .global_batch_size = 4}, 4, 1);
    expect_bubble((ag_plan_opts_t){.schedule = "1f1b", .global_batch_size = 6}, 6, 1);
    expect_bubble(
        (ag_plan_opts_t){.schedule = "interleaved", .virtual_stages = 3, .global_batch_size = 4}, 4,
        3);
}

/* 1F1B of stages whose micro-batches take 8 and 16 seconds, and 4 and 8. */
Test(timing, uneven_stages_have_their_own)
{
    ag_rank_time_t times[2];

    time_plan((ag_plan_opts_t){.schedule = "1f1b", .global_batch_size = 4, .pipeline_split = "4,2"},
              times);
    cr_expect_float_eq(times[0].busy_s, 96, 1e-9, "%g", times[0].busy_s);
    cr_expect_float_eq(times[1].busy_s, 48, 1e-9, "%g", times[1].busy_s);
    cr_expect_float_eq(times[0].end_s, 100, 1e-9, "%g", times[0].end_s);
    cr_expect_float_eq(times[1].end_s, 100, 1e-9, "%g: they add their totals up", times[1].end_s);
}
