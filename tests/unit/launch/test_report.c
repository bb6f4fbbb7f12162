#include <criterion/criterion.h>
#include <string.h>

#include "launch/report.h"

/* The tiny model on one rank of one thread; what it can do is chosen by each test. */
typedef struct work {
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    ag_programs_t programs;
    ag_report_host_t host;
    ag_report_job_t job;
} work_t;

static void open_work(work_t *work)
{
    ag_plan_model_t model;

    memset(work, 0, sizeof(*work));
    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/llama", &work->model), AG_OK);
    model = ag_build_plan_model(work->model);
    cr_assert_eq(ag_plan_make(&model, &(ag_plan_opts_t){.compute = AG_COMPUTE_F32}, &work->plan),
                 AG_OK);
    cr_assert_eq(ag_build_create(work->plan, work->model, &work->build), AG_OK);
    cr_assert_eq(ag_programs_create(work->build, false, false, &work->programs), AG_OK);
    work->host = (ag_report_host_t){
        .n_threads = 1,
        .limits = {.n_cores = 1, .read_bytes_per_s = {1e9, 1e9}, .f32_flops_per_s = {1e9, 1e9}}};
    work->job = (ag_report_job_t){.plan = work->plan,
                                  .whole = work->build,
                                  .whole_programs = &work->programs,
                                  .build = work->build,
                                  .programs = &work->programs,
                                  .hosts = &work->host,
                                  .n_hosts = 1,
                                  .n_threads = 1};
}

static void close_work(work_t *work)
{
    ag_programs_destroy(&work->programs);
    ag_build_destroy(work->build);
    ag_plan_destroy(work->plan);
    ag_model_close(work->model);
}

/* Ten steps of one token at depth 5, which took a second and were computing for most of it. */
static ag_run_figures_t make_figures(void)
{
    ag_run_figures_t figures = {.decode = {.steps = 10,
                                           .tokens = 10,
                                           .outputs = 10,
                                           .sequences = 10,
                                           .attended = {{50}},
                                           .ns = 1000000000,
                                           .compute_ns = 990000000}};

    figures.decode.profile.ns[AG_NODE_LINEAR][AG_F32] = 900000000;
    figures.decode.profile.ns[AG_NODE_ATTENTION][AG_F32] = 50000000;
    figures.decode.profile.barrier_ns = 20000000;
    return figures;
}

/* The same of three sequences in each step. */
static ag_run_figures_t make_figures_of_three(void)
{
    ag_run_figures_t figures = make_figures();

    figures.decode.tokens *= 3;
    figures.decode.outputs *= 3;
    figures.decode.sequences *= 3;
    figures.decode.attended.pairs[0] *= 3;
    return figures;
}

/* 3 layers: q 72 and k, v 24 rows, o 72, gate, up and down 187 wide; a head of 307 rows. */
enum { WEIGHTS = 3 * (72 * 72 + 2 * 24 * 72 + 72 * 72 + 3 * 187 * 72) + 307 * 72 };

Test(report, weights_are_read_once_a_step_and_the_cache_of_each_sequence)
{
    ag_run_figures_t figures = make_figures_of_three();
    ag_report_t report;
    work_t work;

    open_work(&work);
    work.host.limits.f32_flops_per_s[0] = work.host.limits.f32_flops_per_s[1] = 1e12;
    report = ag_report_make(&work.job, &figures);
    cr_expect_float_eq(report.decode.limit,
                       3 * 1e9 / (4.0 * (3 * 72 + WEIGHTS) + 3 * (3 * 2 * 24 * 5 * 4)),
                       1e-6 * report.decode.limit);
    cr_expect_float_eq(report.decode.tokens_per_s, 30, 1e-9);
    close_work(&work);
}

Test(report, a_limit_is_bytes_over_the_read_rate_and_kernels_have_theirs)
{
    ag_run_figures_t figures = make_figures();
    ag_report_t report;
    work_t work;
    double bytes;

    open_work(&work);
    work.host.limits.f32_flops_per_s[0] = work.host.limits.f32_flops_per_s[1] = 1e12;
    report = ag_report_make(&work.job, &figures);
    /* the row of the embedding, the weights, and 5 positions of keys and values */
    bytes = 4.0 * (72 + WEIGHTS) + 3 * 2 * 24 * 5 * 4;
    cr_expect_float_eq(report.decode.limit, 1e9 / bytes, 1e-6 * report.decode.limit);
    cr_expect_float_eq(report.decode.tokens_per_s, 10, 1e-9);
    cr_expect_eq(report.prefill.tokens_per_s, 0);
    cr_assert_geq(report.decode.n_kernels, 2);
    cr_expect_str_eq(report.decode.kernels[0].node, "LINEAR");
    cr_expect_str_eq(report.decode.kernels[0].type, "f32");
    cr_expect_float_eq(report.decode.kernels[0].bytes, 10 * 4.0 * WEIGHTS, 1);
    cr_expect_float_eq(report.decode.kernels[0].ops, 10 * 2.0 * WEIGHTS, 1);
    cr_expect(report.decode.kernels[0].memory);
    cr_expect_str_eq(report.decode.kernels[1].node, "ATTENTION");
    cr_expect_float_eq(report.decode.other_s, 0.03, 1e-9);
    close_work(&work);
}

Test(report, sampling_is_listed_with_the_kernels_and_counts_as_overhead)
{
    ag_run_figures_t figures = make_figures();
    ag_report_t report;
    work_t work;

    open_work(&work);
    for (int i = 0; i < 2; i++) { /* all that was computed was at its limit, and yet */
        work.host.limits.read_bytes_per_s[i] = 10 * 4.0 * WEIGHTS / 0.9;
        work.host.limits.f32_flops_per_s[i] = 1e15;
    }
    figures.decode.sampling_ns = 2000000000;
    figures.decode.ns += 2000000000;
    report = ag_report_make(&work.job, &figures);
    cr_expect_float_eq(report.decode.tokens_per_s, 10 / 3.0, 1e-9);
    cr_expect_str_eq(report.decode.kernels[0].node, "SAMPLING");
    cr_expect_float_eq(report.decode.kernels[0].seconds, 2, 1e-9);
    cr_expect_float_eq(report.decode.other_s, 0.03, 1e-9);
    cr_expect_str_eq(report.held_back_by, "overhead");
    close_work(&work);
}

Test(report, what_holds_back_is_where_most_of_the_time_went)
{
    double linear_s = 10 * 4.0 * WEIGHTS; /* at one byte a second */
    ag_run_figures_t figures = make_figures();
    work_t work;

    open_work(&work);
    cr_expect_str_eq(ag_report_make(&work.job, &figures).held_back_by, "overhead",
                     "the kernels take far longer than their limits");
    for (int i = 0; i < 2; i++) { /* LINEAR's limit is 0.8 s */
        work.host.limits.read_bytes_per_s[i] = linear_s / 0.8;
        work.host.limits.f32_flops_per_s[i] = 1e15;
    }
    cr_expect_str_eq(ag_report_make(&work.job, &figures).held_back_by, "memory bandwidth");
    for (int i = 0; i < 2; i++) {
        work.host.limits.read_bytes_per_s[i] = 1e15;
        work.host.limits.f32_flops_per_s[i] = linear_s / 2 / 0.8;
    }
    cr_expect_str_eq(ag_report_make(&work.job, &figures).held_back_by, "arithmetic");
    work.job.balance = 0.6;
    work.job.slowest_rank = 3;
    cr_expect_str_eq(ag_report_make(&work.job, &figures).held_back_by, "imbalance (rank 3)");
    close_work(&work);
}

Test(report, the_line_has_each_figure_its_limit_and_their_ratio)
{
    ag_report_t report = {.prefill = {.tokens_per_s = 210, .limit = 4200},
                          .decode = {.tokens_per_s = 18.25, .limit = 890},
                          .held_back_by = "memory bandwidth"};
    char line[512];

    ag_report_line(&report, line, sizeof(line));
    cr_expect_not_null(strstr(line, "prefill 210.0 tokens/s of 4200"), "%s", line);
    cr_expect_not_null(strstr(line, "5.0%"), "%s", line);
    cr_expect_not_null(strstr(line, "decode 18.2 tokens/s of 890"), "%s", line);
    cr_expect_not_null(strstr(line, "2.1%"), "%s", line);
    cr_expect_not_null(strstr(line, "held back by memory bandwidth"), "%s", line);
    cr_expect_null(strchr(line, '\n'));
}

Test(report, more_than_the_limit_is_said)
{
    ag_report_t report = {.prefill = {.tokens_per_s = 210, .limit = 4200},
                          .decode = {.tokens_per_s = 990, .limit = 890},
                          .held_back_by = "memory bandwidth"};
    ag_json_t *json = ag_json_new_object();
    char line[512];

    cr_expect(ag_report_is_above(&report.decode));
    ag_report_line(&report, line, sizeof(line));
    cr_expect_not_null(strstr(line, "above the limit, which was measured in a slower"), "%s", line);
    ag_report_to_json(&report, json);
    cr_expect_not_null(ag_json_get(json, "above_limit"));
    ag_json_destroy(json);
    report.decode.tokens_per_s = 890;
    cr_expect_not(ag_report_is_above(&report.decode));
    ag_report_line(&report, line, sizeof(line));
    cr_expect_null(strstr(line, "above"), "%s", line);
    json = ag_json_new_object();
    ag_report_to_json(&report, json);
    cr_expect_null(ag_json_get(json, "above_limit"));
    ag_json_destroy(json);
}

Test(report, a_phase_that_was_not_is_not_in_the_line)
{
    ag_report_t report = {.prefill = {.tokens_per_s = 210, .limit = 4200},
                          .held_back_by = "arithmetic"};
    char line[512];

    ag_report_line(&report, line, sizeof(line));
    cr_expect_not_null(strstr(line, "prefill"), "%s", line);
    cr_expect_null(strstr(line, "decode"), "%s", line);
    report =
        (ag_report_t){.decode = {.tokens_per_s = 18, .limit = 890}, .held_back_by = "arithmetic"};
    ag_report_line(&report, line, sizeof(line));
    cr_expect_null(strstr(line, "prefill"), "%s", line);
    cr_expect_not_null(strstr(line, "decode"), "%s", line);
}

Test(report, a_run_that_computed_nothing_says_so)
{
    char line[512];

    ag_report_line(&(ag_report_t){.held_back_by = "overhead"}, line, sizeof(line));
    cr_expect_not_null(strstr(line, "nothing was computed"), "%s", line);
}

Test(report, a_link_that_carries_more_than_it_can_in_time_is_the_limit_and_is_named)
{
    ag_run_figures_t figures = make_figures();
    ag_link_t links[] = {{.from = 0, .to = 1, .n_messages = 2, .rates = {1e-3, 1e9}},
                         {.from = 1,
                          .to = 0,
                          .n_messages = 1,
                          .unit_bytes = {[AG_COUNT_TOKENS] = 5e4},
                          .rates = {1e-3, 1e6}}};
    ag_report_t report;
    work_t work;

    open_work(&work);
    for (int i = 0; i < 2; i++) {
        work.host.limits.read_bytes_per_s[i] = work.host.limits.f32_flops_per_s[i] = 1e15;
    }
    work.job.links = links;
    work.job.n_links = 2;
    report = ag_report_make(&work.job, &figures);
    cr_expect_float_eq(report.decode.limit, 1 / 0.051, 1e-6);
    cr_expect_str_eq(report.held_back_by, "overhead", "one rank waits for nobody");
    close_work(&work);
}

Test(report, what_holds_back_is_told_by_the_bytes_that_memory_holds)
{
    double linear_s = 10 * 4.0 * WEIGHTS; /* at one byte a second */
    ag_run_figures_t figures = make_figures();
    ag_report_t report;
    work_t work;
    ag_array_t *held;

    open_work(&work);
    held = &work.build->ranks[0].params.held;
    for (size_t i = 0; i < held->n_items; i++) { /* as if the file's encoding took an eighth */
        AG_ITEMS(held, ag_graph_param_t)[i].file_bytes /= 8;
    }
    for (int i = 0; i < 2; i++) {
        work.host.limits.read_bytes_per_s[i] = linear_s / 0.8;
        work.host.limits.f32_flops_per_s[i] = 1e15;
    }
    report = ag_report_make(&work.job, &figures);
    cr_expect_str_eq(report.held_back_by, "memory bandwidth");
    cr_expect_float_eq(report.decode.kernels[0].bytes, linear_s / 8, 1, "of the file");
    cr_expect_float_eq(report.decode.kernels[0].bound_s, 0.1, 1e-6);
    cr_expect_float_eq(report.decode.kernels[0].held_s, 0.8, 1e-6);
    close_work(&work);
}

/* Ten steps of 0.1 s, of which most were waited in for one kind of operation. */
static ag_report_t report_of_wait(ag_op_kind_t kind, const ag_link_t *links, size_t n_links)
{
    ag_run_figures_t figures = make_figures();
    ag_report_t report;
    work_t work;

    open_work(&work);
    memset(&figures.decode.profile, 0, sizeof(figures.decode.profile));
    figures.decode.compute_ns = 300000000;
    figures.decode.waits_ns[kind] = 600000000;
    work.job.links = links;
    work.job.n_links = n_links;
    report = ag_report_make(&work.job, &figures);
    close_work(&work);
    return report;
}

Test(report, a_wait_is_named_by_what_was_waited_for)
{
    ag_report_t report = report_of_wait(AG_OP_ALL_REDUCE, NULL, 0);

    cr_expect_str_eq(report.held_back_by, "exposed communication");
    cr_expect_str_eq(report.decode.kernels[0].node, "ALL_REDUCE");
    cr_expect_float_eq(report.decode.kernels[0].seconds, 0.6, 1e-9);
    cr_expect_float_eq(report.decode.other_s, 0.4, 1e-9);
    cr_expect_str_eq(report_of_wait(AG_OP_RECV, NULL, 0).held_back_by, "bubble");
    cr_expect_str_eq(report_of_wait(AG_OP_SEND, NULL, 0).held_back_by, "bubble");
}

Test(report, a_link_that_takes_most_of_a_wait_at_its_best_is_named)
{
    /* seconds of a step; 0.06 are waited in */
    ag_link_t sums[] = {{.from = 2, .to = 3, .of_sums = true, .n_messages = 1, .rates = {1, 1}},
                        {.from = 0, .to = 1, .of_sums = true, .n_messages = 1, .rates = {0.02, 1}},
                        {.from = 1, .to = 0, .of_sums = true, .n_messages = 1, .rates = {0.04, 1}}};
    ag_link_t messages[] = {{.from = 0, .to = 1, .n_messages = 1, .rates = {0.015, 1}},
                            {.from = 1, .to = 2, .n_messages = 1, .rates = {0.018, 1}},
                            {.from = 2, .to = 0, .n_messages = 1, .rates = {0.002, 1}}};

    cr_expect_str_eq(report_of_wait(AG_OP_ALL_REDUCE, sums, 3).held_back_by, "link 1-0");
    cr_expect_str_eq(report_of_wait(AG_OP_ALL_REDUCE, sums, 2).held_back_by,
                     "exposed communication");
    cr_expect_str_eq(report_of_wait(AG_OP_RECV, sums, 3).held_back_by, "bubble");
    cr_expect_str_eq(report_of_wait(AG_OP_RECV, messages, 3).held_back_by, "link 1-2");
    cr_expect_str_eq(report_of_wait(AG_OP_RECV, messages, 1).held_back_by, "bubble");
}

Test(report, an_imbalance_is_the_longer_phases_and_of_one_stage)
{
    ag_run_figures_t figures = make_figures();
    ag_plan_t two_stages;
    ag_report_t report;
    work_t work;

    open_work(&work);
    figures.prefill = figures.decode;
    figures.prefill.ns /= 2;
    work.job.balance = 0.6;
    work.job.slowest_rank = 3;
    report = ag_report_make(&work.job, &figures);
    cr_expect_str_eq(report.decode.held_back_by, "imbalance (rank 3)");
    cr_expect_str_eq(report.prefill.held_back_by, "overhead");
    two_stages = *work.plan;
    two_stages.n_stages = 2;
    work.job.plan = &two_stages;
    cr_expect_str_eq(ag_report_make(&work.job, &figures).held_back_by, "overhead");
    close_work(&work);
}
