#include "launch/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What some threads can do. */
typedef struct rates {
    double read_bytes_per_s, ops_per_s[AG_N_GEMM_KINDS];
} rates_t;

static void add_rates(const ag_report_host_t *host, rates_t *rates)
{
    const ag_limits_t *limits = &host->limits;
    const double *peaks[AG_N_GEMM_KINDS] = {[AG_GEMM_F32] = limits->f32_flops_per_s,
                                            [AG_GEMM_BF16] = limits->bf16_flops_per_s,
                                            [AG_GEMM_INT8] = limits->int8_ops_per_s};

    rates->read_bytes_per_s +=
        ag_limits_at(limits->read_bytes_per_s, limits->n_cores, host->n_threads);
    for (int kind = 0; kind < AG_N_GEMM_KINDS; kind++) {
        /* what the machine has no fast product of is computed in float32 */
        const double *peak = peaks[kind][1] > 0 ? peaks[kind] : peaks[AG_GEMM_F32];

        rates->ops_per_s[kind] += ag_limits_at(peak, limits->n_cores, host->n_threads);
    }
}

static rates_t all_rates(const ag_report_job_t *job)
{
    rates_t rates = {0};

    for (uint32_t i = 0; i < job->n_hosts; i++) {
        add_rates(&job->hosts[i], &rates);
    }
    return rates;
}

/* Rank 0's part of what its host can do. */
static rates_t own_rates(const ag_report_job_t *job)
{
    double share = (double)job->n_threads / (double)job->hosts[0].n_threads;
    rates_t rates = {0};

    add_rates(&job->hosts[0], &rates);
    rates.read_bytes_per_s *= share;
    for (int kind = 0; kind < AG_N_GEMM_KINDS; kind++) {
        rates.ops_per_s[kind] *= share;
    }
    return rates;
}

/* Seconds that work takes at least, and whether memory or arithmetic says so. */
static double bound_seconds(const ag_cost_t *cost, const rates_t *rates, bool *memory_p)
{
    double read_s = cost->bytes / rates->read_bytes_per_s, compute_s = 0;

    for (int kind = 0; kind < AG_N_GEMM_KINDS; kind++) {
        compute_s += cost->ops[kind] / rates->ops_per_s[kind];
    }
    *memory_p = read_s >= compute_s;
    return read_s > compute_s ? read_s : compute_s;
}

/* The mean step of a phase. */
static ag_cost_shape_t shape_of(const ag_plan_t *plan, const ag_phase_t *phase)
{
    double steps = (double)phase->steps, tokens = (double)phase->tokens / steps;
    double sequences = (double)phase->sequences / steps;
    ag_cost_shape_t shape = {
        .counts = {[AG_COUNT_ONE] = 1,
                   [AG_COUNT_TOKENS] = tokens,
                   [AG_COUNT_OUTPUTS] = (double)phase->outputs / steps,
                   [AG_COUNT_SEQUENCES] = sequences},
        .kv_bytes_per_element = (double)ag_dtype_info(plan->kv_type)->block_bytes,
    };

    for (uint32_t i = 0; i < AG_MAX_SIGHTS; i++) {
        double attended = (double)phase->attended.pairs[i] / steps;
        double seen = attended / tokens * sequences; /* what each sequence's mean row sees */

        shape.attended[i] = attended;
        shape.kv_positions[i] = seen > tokens ? seen : tokens;
    }
    return shape;
}

/* The program that steps of this shape run with: the smallest class that holds them. */
static const ag_program_t *program_of(const ag_programs_t *programs, const ag_cost_shape_t *shape)
{
    bool one_row_each = shape->counts[AG_COUNT_TOKENS] <= shape->counts[AG_COUNT_SEQUENCES];

    return programs->programs[one_row_each ? 0 : programs->n - 1];
}

static void costs_by(const ag_graph_param_t *params, const ag_programs_t *programs,
                     const ag_cost_shape_t *shape, ag_costs_t *costs)
{
    const ag_array_t *segments = &program_of(programs, shape)->ranks[0].segments;

    memset(costs, 0, sizeof(*costs));
    for (size_t i = 0; i < segments->n_items; i++) {
        const ag_graph_t *graph = AG_ITEMS(segments, ag_segment_t)[i].inside;

        if (graph != NULL) {
            ag_graph_cost(graph, params, shape, costs);
        }
    }
}

/* What a step of this shape costs on rank 0 of a build, by kernel. */
static void costs_of(const ag_build_t *build, const ag_programs_t *programs,
                     const ag_cost_shape_t *shape, ag_costs_t *costs)
{
    costs_by(ag_params_held(&build->ranks[0].params), programs, shape, costs);
}

/* The same of the bytes that memory holds, where there is room to find out. */
static void held_costs_of(const ag_build_t *build, const ag_programs_t *programs,
                          const ag_cost_shape_t *shape, ag_costs_t *costs)
{
    const ag_array_t *held = &build->ranks[0].params.held;
    ag_graph_param_t *params = calloc(held->n_items + 1, sizeof(*params));

    for (size_t i = 0; params != NULL && i < held->n_items; i++) {
        params[i] = AG_ITEMS(held, ag_graph_param_t)[i];
        if (params[i].rows > 0) { /* a vector is small, and may be held otherwise */
            params[i].file_bytes = ag_packing_bytes(params[i].packing, params[i].dtype,
                                                    params[i].rows, params[i].cols);
        }
    }
    costs_by(params != NULL ? params : AG_ITEMS(held, ag_graph_param_t), programs, shape, costs);
    free(params);
}

static int by_time(const void *a, const void *b)
{
    const ag_report_kernel_t *x = a, *y = b;

    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void list_kernels(const ag_phase_t *phase, const ag_costs_t *costs, const ag_costs_t *held,
                         const rates_t *rates, ag_report_phase_t *report)
{
    double steps = (double)phase->steps;

    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            const ag_cost_t *cost = &costs->of[kind][type];
            ag_report_kernel_t kernel = {
                .node = ag_node_name((ag_node_kind_t)kind),
                .type = kind == AG_NODE_LINEAR ? ag_dtype_info((ag_dtype_t)type)->name : NULL,
                .seconds = (double)phase->profile.ns[kind][type] * 1e-9,
                .bytes = steps * cost->bytes,
                .bound_s = steps * bound_seconds(cost, rates, &kernel.memory),
                .held_s = steps * bound_seconds(&held->of[kind][type], rates, &kernel.held_memory)};

            for (int in = 0; in < AG_N_GEMM_KINDS; in++) {
                kernel.ops += steps * cost->ops[in];
            }
            if (kernel.seconds > 0 && report->n_kernels < AG_MAX_REPORT_KERNELS) {
                report->kernels[report->n_kernels++] = kernel;
            }
        }
    }
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        if (phase->waits_ns[kind] > 0 && report->n_kernels < AG_MAX_REPORT_KERNELS) {
            report->kernels[report->n_kernels++] = (ag_report_kernel_t){
                .node = ag_op_infos[kind].name, .seconds = (double)phase->waits_ns[kind] * 1e-9};
        }
    }
    if (phase->sampling_ns > 0 && report->n_kernels < AG_MAX_REPORT_KERNELS) {
        report->kernels[report->n_kernels++] =
            (ag_report_kernel_t){.node = "SAMPLING", .seconds = (double)phase->sampling_ns * 1e-9};
    }
    qsort(report->kernels, report->n_kernels, sizeof(report->kernels[0]), by_time);
}

/* The link that takes longest for a step. @param link_p  out: NULL where there is none. */
static double links_seconds(const ag_report_job_t *job, const ag_cost_shape_t *shape,
                            const ag_link_t **link_p)
{
    double most = 0;

    *link_p = NULL;
    for (size_t i = 0; i < job->n_links; i++) {
        double seconds = ag_link_seconds(&job->links[i], shape->counts);

        if (seconds > most) {
            most = seconds;
            *link_p = &job->links[i];
        }
    }
    return most;
}

/* What rank 0 waited in for: sums within its stage, or messages between stages. */
static double waited_seconds(const ag_phase_t *phase, bool for_sums)
{
    double seconds = 0;

    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        bool counts = for_sums ? ag_op_infos[kind].is_collective : ag_op_infos[kind].is_message;

        seconds += counts ? (double)phase->waits_ns[kind] * 1e-9 : 0;
    }
    return seconds;
}

/*
 * A wait is a link's, if links take most of it at their best: of sums those of rank 0, at the same
 * time; of messages all, one after the other.
 */
static void name_wait(const ag_report_job_t *job, const ag_cost_shape_t *shape, bool for_sums,
                      double step_wait_s, ag_report_phase_t *report)
{
    const ag_link_t *longest = NULL;
    double links_s = 0, longest_s = 0;

    for (size_t i = 0; i < job->n_links; i++) {
        const ag_link_t *link = &job->links[i];
        double seconds = ag_link_seconds(link, shape->counts);

        if (link->of_sums != for_sums || (for_sums && link->from != 0 && link->to != 0)) {
            continue;
        }
        links_s = for_sums && links_s > seconds ? links_s : for_sums ? seconds : links_s + seconds;
        if (seconds > longest_s) {
            longest_s = seconds;
            longest = link;
        }
    }
    if (longest != NULL && links_s > step_wait_s / 2) {
        snprintf(report->held_back_by, sizeof(report->held_back_by), "link %u-%u", longest->from,
                 longest->to);
    } else {
        snprintf(report->held_back_by, sizeof(report->held_back_by), "%s",
                 for_sums ? "exposed communication" : "bubble");
    }
}

/* Where most of a phase's time went. */
static void name_holder(const ag_report_job_t *job, const ag_phase_t *phase,
                        const ag_cost_shape_t *shape, ag_report_phase_t *report)
{
    enum { OPS, BYTES, SUMS, MESSAGES, BEYOND, N };
    static const char *const names[N] = {
        [OPS] = "arithmetic", [BYTES] = "memory bandwidth", [BEYOND] = "overhead"};
    double parts[N] = {0};
    int most = 0;

    for (uint32_t i = 0; i < report->n_kernels; i++) {
        const ag_report_kernel_t *kernel = &report->kernels[i];

        parts[kernel->held_memory ? BYTES : OPS] +=
            kernel->seconds < kernel->held_s ? kernel->seconds : kernel->held_s;
    }
    parts[SUMS] = waited_seconds(phase, true);
    parts[MESSAGES] = waited_seconds(phase, false);
    parts[BEYOND] = report->seconds;
    for (int i = 0; i < BEYOND; i++) {
        parts[BEYOND] -= parts[i];
    }
    for (int i = 1; i < N; i++) { /* of equals the first but for the bytes */
        most = parts[i] > parts[most] || (i == BYTES && parts[i] >= parts[most]) ? i : most;
    }
    if (most == SUMS || most == MESSAGES) {
        name_wait(job, shape, most == SUMS, parts[most] / (double)phase->steps, report);
    } else {
        snprintf(report->held_back_by, sizeof(report->held_back_by), "%s", names[most]);
    }
}

static void report_phase(const ag_report_job_t *job, const ag_phase_t *phase,
                         ag_report_phase_t *report)
{
    rates_t whole = all_rates(job), own = own_rates(job);
    ag_cost_shape_t shape;
    ag_costs_t costs, held;
    ag_cost_t sum;
    const ag_link_t *link;
    double step_s, link_s;
    bool memory;

    *report = (ag_report_phase_t){.held_back_by = "overhead"};
    if (phase->steps == 0 || phase->tokens == 0 || phase->ns == 0) {
        return;
    }
    shape = shape_of(job->plan, phase);
    costs_of(job->whole, job->whole_programs, &shape, &costs);
    sum = ag_costs_sum(&costs);
    report->seconds = (double)phase->ns * 1e-9;
    report->tokens_per_s = (double)phase->tokens / report->seconds;
    step_s = bound_seconds(&sum, &whole, &memory);
    link_s = links_seconds(job, &shape, &link);
    step_s = step_s > link_s ? step_s : link_s;
    report->limit = (double)phase->tokens / ((double)phase->steps * step_s);
    costs_of(job->build, job->programs, &shape, &costs);
    held_costs_of(job->build, job->programs, &shape, &held);
    list_kernels(phase, &costs, &held, &own, report);
    report->barrier_s = (double)phase->profile.barrier_ns * 1e-9;
    report->other_s = report->seconds - report->barrier_s;
    for (uint32_t i = 0; i < report->n_kernels; i++) {
        report->other_s -= report->kernels[i].seconds;
    }
    name_holder(job, phase, &shape, report);
}

ag_report_t ag_report_make(const ag_report_job_t *job, const ag_run_figures_t *figures)
{
    ag_report_t report;

    ag_report_phase_t *longer;

    report_phase(job, &figures->prefill, &report.prefill);
    report_phase(job, &figures->decode, &report.decode);
    longer = report.decode.seconds >= report.prefill.seconds ? &report.decode : &report.prefill;
    /* One figure for the whole job, most of which the longer phase was; of stages that take turns,
     * for want of sequences, it tells nothing: none holds another back by being shorter. */
    if (job->plan->n_stages <= job->plan->n_sequences && job->balance > 0 && job->balance < 0.75) {
        snprintf(longer->held_back_by, sizeof(longer->held_back_by), "imbalance (rank %u)",
                 job->slowest_rank);
    }
    memcpy(report.held_back_by, longer->held_back_by, sizeof(report.held_back_by));
    return report;
}

bool ag_report_is_above(const ag_report_phase_t *phase)
{
    return phase->tokens_per_s > phase->limit;
}

static bool is_above(const ag_report_t *report)
{
    return ag_report_is_above(&report->prefill) || ag_report_is_above(&report->decode);
}

void ag_report_line(const ag_report_t *report, char *line, size_t n_bytes)
{
    const ag_report_phase_t *prefill = &report->prefill, *decode = &report->decode;
    size_t n = 0;

    line[0] = '\0';
    if (prefill->tokens_per_s > 0) {
        snprintf(line, n_bytes, "prefill %.1f tokens/s of %.0f possible here (%.1f%%)",
                 prefill->tokens_per_s, prefill->limit,
                 100 * prefill->tokens_per_s / prefill->limit);
        n = strlen(line);
    }
    if (decode->tokens_per_s > 0) {
        snprintf(line + n, n_bytes - n, "%sdecode %.1f tokens/s of %.0f (%.1f%%)",
                 n > 0 ? ", " : "", decode->tokens_per_s, decode->limit,
                 100 * decode->tokens_per_s / decode->limit);
        n = strlen(line);
    }
    if (n == 0) {
        snprintf(line, n_bytes, "nothing was computed");
        return;
    }
    snprintf(line + n, n_bytes - n, "; held back by %s%s", report->held_back_by,
             is_above(report) ? "; above the limit, which was measured in a slower moment" : "");
}

static ag_json_t *pair_json(const char *names[2], double prefill, double decode)
{
    ag_json_t *json = ag_json_new_object();

    ag_json_set(json, names[0], ag_json_new_real(prefill));
    ag_json_set(json, names[1], ag_json_new_real(decode));
    return json;
}

static double ratio_of(const ag_report_phase_t *phase)
{
    return phase->limit > 0 ? phase->tokens_per_s / phase->limit : 0;
}

void ag_report_to_json(const ag_report_t *report, ag_json_t *json)
{
    const ag_report_phase_t *prefill = &report->prefill, *decode = &report->decode;

    ag_json_set(json, "prefill_tokens_per_s", ag_json_new_real(prefill->tokens_per_s));
    ag_json_set(json, "decode_tokens_per_s", ag_json_new_real(decode->tokens_per_s));
    ag_json_set(json, "limit",
                pair_json((const char *[]){"prefill_tokens_per_s", "decode_tokens_per_s"},
                          prefill->limit, decode->limit));
    ag_json_set(
        json, "ratio",
        pair_json((const char *[]){"prefill", "decode"}, ratio_of(prefill), ratio_of(decode)));
    ag_json_set(json, "held_back_by",
                ag_json_new_string(report->held_back_by, strlen(report->held_back_by)));
    if (is_above(report)) {
        ag_json_set(json, "above_limit", ag_json_new_bool(true));
    }
}

static void print_row(FILE *file, const char *name, double seconds, double all_s)
{
    fprintf(file, "  %-18s %10.2f ms %5.1f%%", name, seconds * 1e3, 100 * seconds / all_s);
}

static void phase_table(const ag_report_phase_t *phase, const char *name, FILE *file)
{
    fprintf(file, "%s on rank 0, %.2f ms; held back by %s\n", name, phase->seconds * 1e3,
            phase->held_back_by);
    for (uint32_t i = 0; i < phase->n_kernels; i++) {
        const ag_report_kernel_t *kernel = &phase->kernels[i];
        char label[64];

        snprintf(label, sizeof(label), "%s%s%s", kernel->node, kernel->type != NULL ? " " : "",
                 kernel->type != NULL ? kernel->type : "");
        print_row(file, label, kernel->seconds, phase->seconds);
        if (kernel->bound_s > 0) {
            fprintf(file, " %8.2f GB/s %8.1f GOP/s, %5.1f%% of the %s's limit",
                    kernel->bytes / kernel->seconds * 1e-9, kernel->ops / kernel->seconds * 1e-9,
                    100 * kernel->bound_s / kernel->seconds,
                    kernel->memory ? "memory" : "arithmetic");
        }
        fputc('\n', file);
    }
    print_row(file, "between threads", phase->barrier_s, phase->seconds);
    fputc('\n', file);
    print_row(file, "in no kernel", phase->other_s, phase->seconds);
    fputc('\n', file);
}

void ag_report_table(const ag_report_t *report, FILE *file)
{
    if (report->prefill.tokens_per_s > 0) {
        phase_table(&report->prefill, "prefill", file);
    }
    if (report->decode.tokens_per_s > 0) {
        phase_table(&report->decode, "decode", file);
    }
}

static void trace_phase(const ag_report_phase_t *phase, const char *name, FILE *file)
{
    for (uint32_t i = 0; i < phase->n_kernels; i++) {
        const ag_report_kernel_t *kernel = &phase->kernels[i];

        fprintf(file,
                "{\"ph\":\"i\",\"pid\":0,\"tid\":0,\"ts\":0,\"s\":\"g\",\"name\":\"profile of %s\","
                "\"args\":{\"node\":\"%s\",\"type\":\"%s\",\"seconds\":%.9f,\"bytes\":%.0f,"
                "\"ops\":%.0f,\"limit_seconds\":%.9f}},\n",
                name, kernel->node, kernel->type != NULL ? kernel->type : "", kernel->seconds,
                kernel->bytes, kernel->ops, kernel->bound_s);
    }
}

void ag_report_trace(const ag_report_t *report, FILE *file)
{
    trace_phase(&report->prefill, "prefill", file);
    trace_phase(&report->decode, "decode", file);
}
