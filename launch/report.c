#include "launch/report.h"

#include <stdio.h>
#include <string.h>

/* What all hosts together can do. */
typedef struct rates {
    double read_bytes_per_s, flops_per_s;
} rates_t;

static rates_t sum_rates(const ag_plan_t *plan, const ag_report_host_t *hosts, uint32_t n_hosts)
{
    rates_t rates = {0};

    for (uint32_t i = 0; i < n_hosts; i++) {
        const ag_limits_t *limits = &hosts[i].limits;
        bool bf16 = plan->compute == AG_COMPUTE_AUTO && limits->bf16_flops_per_s[1] > 0;
        const double *flops = bf16 ? limits->bf16_flops_per_s : limits->f32_flops_per_s;

        rates.read_bytes_per_s +=
            ag_limits_at(limits->read_bytes_per_s, limits->n_cores, hosts[i].n_threads);
        rates.flops_per_s += ag_limits_at(flops, limits->n_cores, hosts[i].n_threads);
    }
    return rates;
}

/* Seconds that a step takes at least, and whether memory or arithmetic says so. */
static double bound_seconds(const ag_build_t *whole, const ag_programs_t *programs,
                            const rates_t *rates, const ag_cost_shape_t *shape, bool *memory_p)
{
    const ag_array_t *segments = &programs->programs[0]->ranks[0].segments;
    ag_cost_t sum = {0};
    double read_s, compute_s;

    for (size_t i = 0; i < segments->n_items; i++) {
        const ag_graph_t *graph = AG_ITEMS(segments, ag_segment_t)[i].inside;

        if (graph != NULL) {
            ag_cost_t cost = ag_graph_cost(graph, ag_params_held(&whole->ranks[0].params), shape);

            sum.linear_ops += cost.linear_ops;
            sum.attention_ops += cost.attention_ops;
            sum.weight_bytes += cost.weight_bytes;
            sum.kv_bytes += cost.kv_bytes;
        }
    }
    read_s = (sum.weight_bytes + sum.kv_bytes) / rates->read_bytes_per_s;
    compute_s = (sum.linear_ops + sum.attention_ops) / rates->flops_per_s;
    *memory_p = read_s >= compute_s;
    return read_s > compute_s ? read_s : compute_s;
}

/*
 * Where the time of a phase went: what the limit takes anyway, what rank 0 computed beyond that,
 * and what it waited; the largest of the three has the name.
 */
static const char *name_holder(const ag_plan_t *plan, double seconds, double compute_s,
                               double bound_s, bool memory)
{
    double waited_s = seconds - compute_s, beyond_s = compute_s - bound_s;

    if (bound_s >= waited_s && bound_s >= beyond_s) {
        return memory ? "memory bandwidth" : "arithmetic";
    }
    if (beyond_s >= waited_s) {
        return "overhead";
    }
    return plan->n_stages > 1 ? "bubble" : "exposed communication";
}

ag_report_t ag_report_make(const ag_plan_t *plan, const ag_build_t *whole,
                           const ag_programs_t *programs, const ag_report_host_t *hosts,
                           uint32_t n_hosts, const ag_run_figures_t *figures)
{
    rates_t rates = sum_rates(plan, hosts, n_hosts);
    double element_bytes = (double)ag_dtype_info(plan->kv_type)->block_bytes;
    double steps = (double)(figures->prefill_steps > 0 ? figures->prefill_steps : 1);
    ag_report_t report = {.held_back_by = "overhead"};
    bool memory = false;

    if (figures->prefill_tokens > 0 && figures->prefill_ns > 0) {
        double tokens = (double)figures->prefill_tokens, bound_s;
        double seconds = (double)figures->prefill_ns * 1e-9;
        ag_cost_shape_t shape = {
            .counts = {[AG_COUNT_ONE] = 1,
                       [AG_COUNT_TOKENS] = tokens / steps,
                       [AG_COUNT_OUTPUTS] = (double)figures->prefill_outputs / steps,
                       [AG_COUNT_SEQUENCES] = 1},
            .attended = (double)figures->prefill_attended / steps,
            .kv_positions = tokens / steps,
            .kv_bytes_per_element = element_bytes,
        };

        bound_s = steps * bound_seconds(whole, programs, &rates, &shape, &memory);
        report.prefill_tokens_per_s = tokens / seconds;
        report.prefill_limit = tokens / bound_s;
        report.held_back_by =
            name_holder(plan, seconds, (double)figures->prefill_compute_ns * 1e-9, bound_s, memory);
    }
    if (figures->decode_tokens > 0 && figures->decode_ns > 0) {
        double tokens = (double)figures->decode_tokens, bound_s;
        double seconds = (double)figures->decode_ns * 1e-9;
        double depth = (double)figures->decode_attended / tokens;
        ag_cost_shape_t shape = {
            .counts = {1, 1, 1, 1},
            .attended = depth,
            .kv_positions = depth,
            .kv_bytes_per_element = element_bytes,
        };

        bound_s = tokens * bound_seconds(whole, programs, &rates, &shape, &memory);
        report.decode_tokens_per_s = tokens / seconds;
        report.decode_limit = tokens / bound_s;
        report.held_back_by =
            name_holder(plan, seconds, (double)figures->decode_compute_ns * 1e-9, bound_s, memory);
    }
    return report;
}

void ag_report_line(const ag_report_t *report, char *line, size_t n_bytes)
{
    size_t n = 0;

    line[0] = '\0';
    if (report->prefill_tokens_per_s > 0) {
        snprintf(line, n_bytes, "prefill %.1f tokens/s of %.0f possible here (%.1f%%)",
                 report->prefill_tokens_per_s, report->prefill_limit,
                 100 * report->prefill_tokens_per_s / report->prefill_limit);
        n = strlen(line);
    }
    if (report->decode_tokens_per_s > 0) {
        snprintf(line + n, n_bytes - n, "%sdecode %.1f tokens/s of %.0f (%.1f%%)",
                 n > 0 ? ", " : "", report->decode_tokens_per_s, report->decode_limit,
                 100 * report->decode_tokens_per_s / report->decode_limit);
        n = strlen(line);
    }
    if (n == 0) {
        snprintf(line, n_bytes, "nothing was computed");
        return;
    }
    snprintf(line + n, n_bytes - n, "; held back by %s", report->held_back_by);
}
