/* OUT/report.html: one page without anything from elsewhere; its drawings are made here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/budget.h"
#include "launch/train.h"
#include "runtime/file/aside.h"

enum { WIDTH = 920, CURVE_HEIGHT = 180, TRACK_HEIGHT = 14, MOST_POINTS = 2000 };

#define MIB 1048576.0

/* Text of a user's, as HTML has it. */
static void put_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

static void put_head(const ag_training_t *training, FILE *file)
{
    const ag_train_settings_t *settings = &training->session->options->train;

    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>argosy "
          "train</title>\n<style>body{font:14px sans-serif;margin:2em;max-width:960px}"
          "table{border-collapse:collapse}td,th{padding:2px 12px 2px 0;text-align:right}"
          "td:first-child,th:first-child{text-align:left}svg{background:#f6f6f6}"
          "pre{background:#f6f6f6;padding:1em;overflow:auto;max-height:24em}</style></head>\n"
          "<body><h1>",
          file);
    put_text(file, training->output.dir);
    fputs("</h1>\n<p>", file);
    put_text(file, training->session->options->model);
    fputs(" on ", file);
    put_text(file, settings->data.items[0]);
    fprintf(file, ", to step %llu: loss %.4f, %.0f tokens/s, MFU %.1f%% of %.1f GFLOP/s</p>\n",
            (unsigned long long)training->end.done_steps, training->last_loss,
            training->train_ns > 0
                ? (double)training->n_learned / ((double)training->train_ns * 1e-9)
                : 0.0,
            training->train_ns > 0 ? 100 * training->flops / ((double)training->train_ns * 1e-9) /
                                         training->peak_flops_per_s
                                   : 0.0,
            training->peak_flops_per_s * 1e-9);
}

/* One curve of metrics.jsonl over the steps. */
static void put_curve(const ag_json_t *lines, const char *key, FILE *file)
{
    size_t n = ag_json_size(lines), every = n / MOST_POINTS + 1;
    double least = INFINITY, most = -INFINITY;

    for (size_t i = 0; i < n; i++) {
        double value = ag_json_number(ag_json_get(ag_json_at(lines, i), key), 0);

        least = fmin(least, value);
        most = fmax(most, value);
    }
    fprintf(file,
            "<h3>%s</h3><svg width=\"%d\" height=\"%d\"><text x=\"4\" y=\"14\">%.6g</text><text "
            "x=\"4\" y=\"%d\">%.6g</text><polyline fill=\"none\" stroke=\"#2060a0\" points=\"",
            key, WIDTH, CURVE_HEIGHT, most, CURVE_HEIGHT - 4, least);
    for (size_t i = 0; i < n; i += every) {
        double value = ag_json_number(ag_json_get(ag_json_at(lines, i), key), 0);
        double x = n > 1 ? (double)i / (double)(n - 1) : 0.5;
        double y = most > least ? (value - least) / (most - least) : 0.5;

        fprintf(file, "%.1f,%.1f ", 80 + x * (WIDTH - 90), 6 + (1 - y) * (CURVE_HEIGHT - 12));
    }
    fputs("\"/></svg>\n", file);
}

/* metrics.jsonl as an array. @return NULL: nothing is there. */
static ag_json_t *read_metrics(const ag_training_t *training)
{
    ag_json_t *lines = ag_json_new_array();
    char path[4300], *line = NULL;
    size_t n_bytes = 0;
    ssize_t n;
    FILE *file;

    snprintf(path, sizeof(path), "%s/metrics.jsonl", training->output.dir);
    file = fopen(path, "r");
    while (file != NULL && (n = getline(&line, &n_bytes, file)) > 0) {
        ag_json_t *json = NULL;

        if (ag_json_parse(line, (size_t)n, path, &json) == AG_OK) {
            ag_json_append(lines, json);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    free(line);
    return lines;
}

static void put_curves(const ag_training_t *training, FILE *file)
{
    static const char *const keys[] = {"loss", "grad_norm", "lr", "tokens_per_s"};
    ag_json_t *lines = read_metrics(training);

    fputs("<h2>Curves</h2>\n", file);
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        put_curve(lines, keys[i], file);
    }
    ag_json_destroy(lines);
}

static void put_plan(const ag_training_t *training, FILE *file)
{
    const ag_plan_t *plan = training->session->plan;
    ag_json_t *json = ag_plan_to_json(plan);
    char *text;

    fprintf(file,
            "<h2>Plan</h2>\n<p>%u rank%s, %u stage%s, schedule %s, %u micro-batches of %u x %u "
            "tokens.</p>\n<pre>",
            ag_plan_ranks(plan), ag_plan_ranks(plan) == 1 ? "" : "s", plan->n_stages,
            plan->n_stages == 1 ? "" : "s", plan->train.schedule, ag_plan_micro_batches(plan),
            plan->train.micro_batch_size, plan->train.sequence_tokens);
    if (ag_json_text(json, AG_JSON_INDENTED, &text) == AG_OK) {
        put_text(file, text);
        free(text);
    }
    fputs("</pre>\n", file);
    ag_json_destroy(json);
}

/* Of stages that are all alike, as published. */
static double bubble_of_formula(const ag_plan_t *plan)
{
    double m = ag_plan_micro_batches(plan) / plan->stages[0].n_replicas, p = plan->n_stages;

    return (p - 1) / (m * plan->train.virtual_stages + p - 1);
}

/* What the schedule leaves idle, foretold by the operations of each stage, beside what was. */
static ag_status_t put_bubble(const ag_training_t *training, const ag_json_t *trace, FILE *file)
{
    const ag_plan_t *plan = training->session->plan;
    ag_training_t full = ag_train_full_step(training->session);
    uint32_t n_ranks = ag_plan_ranks(plan);
    ag_rank_time_t *times = calloc((size_t)n_ranks + 1, sizeof(*times));
    double end_s = 0, foretold = 0, measured = 0;
    ag_status_t status =
        times == NULL ? ag_fail_nomem("writing a report", 0) : ag_train_time(&full, times);

    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        end_s = fmax(end_s, times[r].end_s);
    }
    fputs(
        "<h2>Idle in a step</h2>\n<table><tr><th>rank</th><th>by the schedule</th><th>measured in "
        "the last one</th><th>GFLOP a step</th></tr>\n",
        file);
    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        double idle = end_s > 0 ? 1 - times[r].busy_s / end_s : 0;
        double busy_us = ag_train_busy_us(trace, r, (double)training->step_ns * 1e-3);
        double was = fmax(0, 1 - busy_us / ((double)training->step_ns * 1e-3));

        foretold += idle / n_ranks;
        measured += was / n_ranks;
        fprintf(file, "<tr><td>%u</td><td>%.1f%%</td><td>%.1f%%</td><td>%.3f</td></tr>\n", r,
                100 * idle, 100 * was, ag_train_program_flops(&full, r) * 1e-9);
    }
    fprintf(file,
            "</table><p>The schedule's bubble, of these stages by their operations in a step whose "
            "rows are full, as argosy plan tells it, at the rates measured in this run: %.1f%% "
            "(were all alike: %.1f%%); measured: %.1f%%, with sums and messages that nothing "
            "hides, and what is between steps.</p>\n",
            100 * foretold, 100 * bubble_of_formula(plan), 100 * measured);
    free(times);
    return status;
}

static void put_memory(const ag_training_t *training, FILE *file)
{
    const ag_session_t *session = training->session;
    double most = 0;

    fputs("<h2>Memory</h2>\n<table><tr><th>rank</th><th>predicted, MiB</th><th>largest "
          "parts</th></tr>\n",
          file);
    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        ag_memory_t memory = ag_session_memory(session, r);
        double total = 0;

        for (uint32_t i = 0; i < memory.n_parts; i++) {
            total += (double)memory.parts[i].bytes;
        }
        most = fmax(most, total);
        fprintf(file, "<tr><td>%u</td><td>%.1f</td><td>", r, total / MIB);
        for (uint32_t i = 0; i < memory.n_parts; i++) {
            if ((double)memory.parts[i].bytes > 0.02 * total) {
                fprintf(file, "%s %.1f; ", memory.parts[i].name,
                        (double)memory.parts[i].bytes / MIB);
            }
        }
        fputs("</td></tr>\n", file);
    }
    fprintf(file, "</table><p>The largest rank: %.1f MiB predicted, %.1f measured.</p>\n",
            most / MIB, (double)training->peak_bytes / MIB);
}

/* Operations of each rank's program, by kind. */
static void put_operations(const ag_training_t *training, FILE *file)
{
    static const char *const kinds[AG_N_OP_KINDS] = {
        [AG_OP_SEGMENT] = "segments",
        [AG_OP_SEND] = "sends",
        [AG_OP_RECV] = "receives",
        [AG_OP_ALL_REDUCE] = "all-reduces",
        [AG_OP_REDUCE_SCATTER] = "reduce-scatters",
        [AG_OP_ALL_GATHER] = "all-gathers",
        [AG_OP_ALL_TO_ALL] = "all-to-alls",
    };
    const ag_program_t *program = training->session->programs.programs[0];

    fputs("<h2>Operations of a step</h2>\n<table><tr><th>rank</th>", file);
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        fprintf(file, "<th>%s</th>", kinds[kind]);
    }
    fputs("</tr>\n", file);
    for (uint32_t r = 0; r < ag_plan_ranks(training->session->plan); r++) {
        const ag_rank_program_t *rank = &program->ranks[r];
        uint32_t counts[AG_N_OP_KINDS] = {0};

        for (uint32_t i = 0; i < rank->ops.n_items; i++) {
            counts[ag_rank_ops(rank)[i].kind]++;
        }
        fprintf(file, "<tr><td>%u</td>", r);
        for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
            fprintf(file, "<td>%u</td>", counts[kind]);
        }
        fputs("</tr>\n", file);
    }
    fputs("</table>\n", file);
}

static void put_links(const ag_training_t *training, FILE *file)
{
    const ag_session_t *session = training->session;
    const uint64_t *bounds = session->programs.programs[0]->bounds;

    fputs("<h2>Bytes on each link</h2>\n<table><tr><th>from, to</th><th>MiB a step, at "
          "most</th><th>messages</th><th>for</th></tr>\n",
          file);
    for (size_t i = 0; i < session->links.n_items; i++) {
        const ag_link_t *link = &AG_ITEMS(&session->links, ag_link_t)[i];
        double bytes = 0;

        for (int c = 0; c < AG_N_SIZE_COUNTERS; c++) {
            bytes += link->unit_bytes[c] * (double)bounds[c];
        }
        fprintf(file, "<tr><td>%u, %u</td><td>%.3f</td><td>%.0f</td><td>%s</td></tr>\n", link->from,
                link->to, bytes / MIB, link->n_messages,
                link->of_sums ? "sums of a stage" : "stages");
    }
    fputs(session->links.n_items > 0 ? "</table>\n" : "</table><p>none: one rank</p>\n", file);
}

/* Rank 0's time by operator, the longest first. */
static void put_profile(const ag_training_t *training, FILE *file)
{
    enum { MOST_ROWS = 24 };
    uint64_t ns[AG_N_NODE_KINDS] = {0}, sum = 0;
    const ag_profile_t *profile = &training->profile;

    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            ns[kind] += profile->ns[kind][type];
        }
        sum += ns[kind];
    }
    fprintf(file,
            "<h2>Time by operator, on rank 0</h2>\n<p>%.1f s in operators of %.1f s; threads "
            "waited for each other for %.1f s.</p>\n<table>",
            (double)sum * 1e-9, (double)training->train_ns * 1e-9,
            (double)profile->barrier_ns * 1e-9);
    for (int row = 0; row < MOST_ROWS; row++) {
        int longest = 0;

        for (int kind = 1; kind < AG_N_NODE_KINDS; kind++) {
            longest = ns[kind] > ns[longest] ? kind : longest;
        }
        if (ns[longest] == 0) {
            break;
        }
        fprintf(file,
                "<tr><td>%s</td><td>%.1f%%</td><td><svg width=\"400\" height=\"12\"><rect "
                "width=\"%.1f\" height=\"12\" fill=\"#2060a0\"/></svg></td></tr>\n",
                ag_node_name((ag_node_kind_t)longest), 100.0 * (double)ns[longest] / (double)sum,
                400.0 * (double)ns[longest] / (double)sum);
        ns[longest] = 0;
    }
    fputs("</table>\n", file);
}

/* A colour that a name always has. */
static unsigned hue_of(const char *name)
{
    unsigned hash = 7;

    for (; *name != '\0'; name++) {
        hash = hash * 31 + (unsigned char)*name;
    }
    return hash % 360;
}

/* One row for each stream of each rank. */
static void put_event(const ag_json_t *event, double begin_us, double span_us, FILE *file)
{
    const char *name = ag_json_string(ag_json_get(event, "name"), NULL);
    double at = ag_json_number(ag_json_get(event, "ts"), -1) - begin_us;
    double width = ag_json_number(ag_json_get(event, "dur"), 0) / span_us * WIDTH;
    int64_t row = ag_json_integer(ag_json_get(event, "pid"), 0) * AG_N_STREAMS +
                  ag_json_integer(ag_json_get(event, "tid"), 0);

    if (name == NULL || at < 0 || width < 0.2) {
        return;
    }
    fprintf(file,
            "<rect x=\"%.1f\" y=\"%lld\" width=\"%.1f\" height=\"%d\" fill=\"hsl(%u,55%%,60%%)\">"
            "<title>%s %lld, %.0f us</title></rect>\n",
            at / span_us * WIDTH, (long long)row * TRACK_HEIGHT, width, TRACK_HEIGHT - 1,
            hue_of(name), name, (long long)ag_json_integer(ag_json_path(event, "args.detail"), 0),
            ag_json_number(ag_json_get(event, "dur"), 0));
}

/* The last step, as its events say. @param trace  NULL: there is none. */
static void put_timeline(const ag_training_t *training, const ag_json_t *trace, FILE *file)
{
    double end_us = 0, span_us = (double)training->step_ns * 1e-3;

    for (size_t i = 0; i < ag_json_size(trace); i++) {
        const ag_json_t *event = ag_json_at(trace, i);

        end_us = fmax(end_us, ag_json_number(ag_json_get(event, "ts"), 0) +
                                  ag_json_number(ag_json_get(event, "dur"), 0));
    }
    fprintf(file,
            "<h2>The last step</h2>\n<p>%.1f ms from left to right; of each rank the streams %s",
            span_us * 1e-3, ag_stream_names[0]);
    for (int i = 1; i < AG_N_STREAMS; i++) {
        fprintf(file, ", %s", ag_stream_names[i]);
    }
    fprintf(file, ". What a box is stands in its title.</p>\n<svg width=\"%d\" height=\"%u\">\n",
            WIDTH, ag_plan_ranks(training->session->plan) * AG_N_STREAMS * TRACK_HEIGHT);
    for (size_t i = 0; i < ag_json_size(trace) && span_us > 0; i++) {
        put_event(ag_json_at(trace, i), end_us - span_us, span_us, file);
    }
    fputs("</svg>\n", file);
}

/* Rank 0. @param text  the events of all ranks as JSON. */
static ag_status_t write_page(const ag_training_t *training, const char *text, size_t n_bytes)
{
    ag_json_t *trace = NULL;
    char path[4300];
    ag_aside_t *aside;
    FILE *file;
    ag_status_t status = ag_json_parse(text, n_bytes, "the trace", &trace);

    if (status != AG_OK) {
        return status;
    }
    snprintf(path, sizeof(path), "%s/report.html", training->output.dir);
    status = ag_aside_open(path, &aside);
    if (status == AG_OK) {
        file = ag_aside_stream(aside);
        put_head(training, file);
        put_curves(training, file);
        put_profile(training, file);
        put_timeline(training, trace, file);
        put_memory(training, file);
        put_links(training, file);
        put_operations(training, file);
        status = training->train_ns > 0 ? put_bubble(training, trace, file) : AG_OK;
        put_plan(training, file);
        fputs("</body></html>\n", file);
        if (status == AG_OK) {
            status = ag_aside_complete(aside);
        } else {
            ag_aside_discard(aside);
        }
    }
    ag_json_destroy(trace);
    return status;
}

ag_status_t ag_train_report(ag_training_t *training)
{
    ag_session_t *session = training->session;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = session->net->rank == 0 ? open_memstream(&text, &n_bytes) : NULL;
    ag_status_t status =
        session->net->rank == 0 && file == NULL ? ag_fail_nomem("writing a report", 1) : AG_OK;

    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = ag_session_collect_trace(session, file);
    }
    if (file != NULL) {
        fclose(file);
    }
    if (status == AG_OK) {
        status = ag_session_agree(
            session, session->net->rank == 0 ? write_page(training, text, n_bytes) : AG_OK);
    }
    free(text);
    return status;
}
