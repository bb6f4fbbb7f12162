/* What the commands share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/budget.h"
#include "launch/command.h"
#include "launch/train.h"
#include "parallel/program/text.h"
#include "runtime/base/log.h"

ag_status_t ag_write_out(const char *bytes, size_t n_bytes)
{
    bool written = n_bytes == 0 || fwrite(bytes, 1, n_bytes, stdout) == n_bytes;

    if (!written || fflush(stdout) != 0) {
        return ag_fail(AG_ERR_IO, "writing to standard output: %s", strerror(errno));
    }
    return AG_OK;
}

ag_status_t ag_print_json_line(ag_json_t *json)
{
    char *text;
    ag_status_t status = ag_json_text(json, AG_JSON_LINE, &text);

    ag_json_destroy(json);
    if (status == AG_OK) {
        status = ag_write_out(text, strlen(text));
        free(text);
    }
    return status == AG_OK ? ag_write_out("\n", 1) : status;
}

/* Ranks of one host are one entry; rank 0's is the first. */
static uint32_t list_hosts(const ag_session_t *session, ag_report_host_t *hosts)
{
    uint32_t n_hosts = 0;

    for (int r = 0; r < session->net->n_ranks; r++) {
        uint64_t id = session->ranks[r].host;
        uint32_t h = 0;

        while (h < n_hosts && hosts[h].id != id) {
            h++;
        }
        if (h == n_hosts) {
            hosts[n_hosts++] =
                (ag_report_host_t){.id = id, .limits = *ag_session_limits(session, (uint32_t)r)};
        }
        hosts[h].n_threads += session->ranks[r].n_threads;
    }
    if (session->read_bytes_per_s > 0) {
        hosts[0].limits.read_bytes_per_s[0] = session->read_bytes_per_s / hosts[0].n_threads;
        hosts[0].limits.read_bytes_per_s[1] = session->read_bytes_per_s;
    }
    return n_hosts;
}

ag_status_t ag_make_report(ag_session_t *session, const ag_run_figures_t *figures,
                           ag_report_t *report)
{
    ag_plan_t *one = NULL;
    ag_report_host_t *hosts = calloc((size_t)session->net->n_ranks, sizeof(*hosts));
    ag_build_t *whole = NULL;
    ag_programs_t programs = {0};
    ag_status_t status = hosts == NULL ? ag_fail_nomem("making a report", sizeof(*hosts)) : AG_OK;

    if (status == AG_OK) {
        status = ag_plan_on_one(session->plan, &one);
    }
    if (status == AG_OK) {
        status = ag_build_create(one, session->model, &whole);
    }
    if (status == AG_OK) {
        status = ag_programs_create(whole, false, false, &programs);
    }
    if (status == AG_OK) {
        ag_report_job_t job = {.plan = session->plan,
                               .whole = whole,
                               .whole_programs = &programs,
                               .build = session->build,
                               .programs = &session->programs,
                               .hosts = hosts,
                               .n_hosts = list_hosts(session, hosts),
                               .n_threads = session->ranks[0].n_threads,
                               .links = session->links.items,
                               .n_links = session->links.n_items};

        job.balance = ag_job_balance(session->job, &job.slowest_rank);
        *report = ag_report_make(&job, figures);
    }
    ag_programs_destroy(&programs);
    ag_build_destroy(whole);
    ag_plan_destroy(one);
    free(hosts);
    return status;
}

ag_status_t ag_conclude(ag_session_t *session, const ag_run_figures_t *figures)
{
    ag_report_t *report = &session->report;
    ag_status_t status = ag_make_report(session, figures, report);

    /* memory is at times faster than in the middle of its passes: never faster than in the best */
    if (status == AG_OK && session->read_bytes_per_s > 0 && ag_report_is_above(&report->decode)) {
        session->read_bytes_per_s = session->best_read_bytes_per_s;
        status = ag_make_report(session, figures, report);
    }
    if (status == AG_OK && session->net->n_ranks == 1 && !ag_session_is_cancelled(NULL) &&
        (ag_report_is_above(&report->prefill) ||
         (session->read_bytes_per_s == 0 && ag_report_is_above(&report->decode))) &&
        ag_session_renew_limits(session) == AG_OK) { /* else they stay, and the line says so */
        status = ag_make_report(session, figures, report);
    }
    return status;
}

void ag_print_figures(const ag_session_t *session)
{
    char line[512];

    ag_report_line(&session->report, line, sizeof(line));
    ag_log(AG_LOG_INFO, "%s", line);
}

static void print_table(const ag_session_t *session)
{
    uint32_t n_ranks = ag_plan_ranks(session->plan);

    for (uint32_t r = 0; r < n_ranks; r++) {
        ag_memory_t memory = ag_session_memory(session, r);
        const ag_rank_build_t *build = &session->build->ranks[r];
        const ag_stage_t *stage = &session->plan->stages[build->place.stage];
        const ag_layer_shard_t *layer = &build->shard.layers[0];
        uint64_t total = 0;

        fprintf(stderr,
                "rank %-3u stage %u, layers %u to %u, heads %u to %u, feed-forward %u to %u\n", r,
                build->place.stage, stage->layer_begin, stage->layer_end, layer->head_begin,
                layer->head_end, layer->ffn_begin, layer->ffn_end);
        for (uint32_t i = 0; i < memory.n_parts; i++) {
            total += memory.parts[i].bytes;
            fprintf(stderr, "  %-22s %10.1f MiB\n", memory.parts[i].name,
                    (double)memory.parts[i].bytes / 1048576.0);
        }
        fprintf(stderr, "  %-22s %10.1f MiB\n", "together", (double)total / 1048576.0);
    }
}

ag_status_t ag_print_plan(ag_session_t *session)
{
    ag_json_t *json = ag_plan_to_json(session->plan), *predicted = ag_json_new_object();
    ag_json_t *ranks = ag_json_new_array();
    char *text = NULL, hash[17];
    ag_status_t status;

    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        ag_memory_t memory = ag_session_memory(session, r);
        ag_json_t *rank = ag_json_new_object(), *parts = ag_json_new_object();
        uint64_t total = 0;

        for (uint32_t i = 0; i < memory.n_parts; i++) {
            total += memory.parts[i].bytes;
            ag_json_set(parts, memory.parts[i].name,
                        ag_json_new_integer((int64_t)memory.parts[i].bytes));
        }
        ag_json_set(rank, "rank", ag_json_new_integer(r));
        ag_json_set(rank, "peak_bytes", ag_json_new_integer((int64_t)total));
        ag_json_set(rank, "parts", parts);
        ag_json_append(ranks, rank);
    }
    ag_json_set(predicted, "memory", ranks);
    print_table(session);
    status =
        session->plan->train.sequence_tokens > 0 ? ag_train_foretell(session, predicted) : AG_OK;
    if (status == AG_OK) {
        status = ag_plan_hash(session->plan, hash);
    }
    ag_json_set(json, "hash", ag_json_new_string(hash, status == AG_OK ? 16 : 0));
    ag_json_set(json, "predicted", predicted);
    if (status == AG_OK) {
        status = ag_json_text(json, AG_JSON_INDENTED, &text);
    }
    if (status == AG_OK) {
        status = ag_write_out(text, strlen(text));
    }
    if (status == AG_OK) {
        status = ag_write_out("\n", 1);
    }
    if (status == AG_OK) {
        status = ag_session_check_budgets(session);
    }
    free(text);
    ag_json_destroy(json);
    return status;
}

ag_status_t ag_command_plan(ag_session_t *session)
{
    ag_status_t status = ag_session_plan(session, 0, false);

    /* under mpirun one rank tells for all */
    return status == AG_OK && session->net->rank == 0 ? ag_print_plan(session) : status;
}

ag_status_t ag_command_show(ag_session_t *session)
{
    ag_status_t status = ag_session_plan(session, 0, false);
    bool tells = status == AG_OK && session->net->rank == 0;
    uint32_t n_ranks = status == AG_OK ? ag_plan_ranks(session->plan) : 0;

    if (status == AG_OK && session->options->rank_given && session->options->rank >= n_ranks) {
        status = ag_session_agree(session, ag_fail(AG_ERR_INVALID,
                                                   "--rank %u: the plan has the ranks 0 to %u",
                                                   session->options->rank, n_ranks - 1));
    }
    for (uint32_t i = 0; tells && i < session->programs.n && status == AG_OK; i++) {
        const ag_program_t *program = session->programs.programs[i];

        fputs(i > 0 ? "\n" : "", stdout);
        ag_program_print_heading(program, stdout);
        for (uint32_t r = 0; r < n_ranks; r++) {
            if (!session->options->rank_given || session->options->rank == r) {
                ag_program_print_rank(program, r, stdout);
            } else {
                ag_program_print_no_rank(r, stdout);
            }
        }
        status = ag_write_out("", 0);
    }
    return status;
}
