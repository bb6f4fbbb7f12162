#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/command.h"
#include "launch/probe.h"
#include "runtime/base/log.h"

/* DESIGN, promise 4. */
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_BUDGET = 3, EXIT_PEER = 4, EXIT_INTERRUPTED = 130 };

static void print_line(void *arg, ag_log_level_t level, const char *line)
{
    (void)arg;
    fprintf(stderr, "%s%s\n", level == AG_LOG_WARNING ? "argosy: warning: " : "", line);
}

static int exit_code(ag_status_t status)
{
    switch (status) {
    case AG_OK:
        return 0;
    case AG_ERR_INVALID:
        return EXIT_USAGE;
    case AG_ERR_BUDGET:
    case AG_ERR_NOMEM:
        return EXIT_BUDGET;
    case AG_ERR_PEER:
    case AG_ERR_TIMEOUT:
        return EXIT_PEER;
    case AG_ERR_INTERRUPTED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_FAILED;
    }
}

/* Texts and files: one rank does it for all. */
static ag_status_t answer_alone(ag_session_t *session)
{
    const ag_options_t *options = session->options;

    if (session->net->rank != 0) {
        return AG_OK;
    }
    if (options->help) {
        ag_options_help(options->command, options->help_of, stdout);
        return ag_write_out("", 0);
    }
    if (options->version) {
        printf("argosy %s\n", ARGOSY_VERSION);
        return ag_write_out("", 0);
    }
    return options->command == AG_COMMAND_CONVERT ? ag_command_convert(session)
                                                  : ag_command_tokenize(session);
}

static ag_status_t run_session(const ag_options_t *options, ag_status_t parsed,
                               ag_session_t *session)
{
    ag_status_t status = ag_session_start(options, parsed, session);

    if (status != AG_OK) {
        return status;
    }
    if (options->help || options->version || options->command == AG_COMMAND_TOKENIZE ||
        options->command == AG_COMMAND_CONVERT) {
        return ag_session_agree(session, answer_alone(session));
    }
    status = ag_session_open(session);
    if (status != AG_OK) {
        return status;
    }
    switch (options->command) {
    case AG_COMMAND_GENERATE:
        return ag_command_generate(session);
    case AG_COMMAND_EVAL:
        return ag_command_eval(session);
    case AG_COMMAND_VERIFY:
        return ag_command_verify(session);
    case AG_COMMAND_TRAIN:
        return ag_command_train(session);
    case AG_COMMAND_PLAN:
        return ag_command_plan(session);
    case AG_COMMAND_BENCH_LIMITS:
        return ag_command_bench_limits(session);
    case AG_COMMAND_BENCH_MODEL:
        return ag_command_bench_model(session);
    default:
        return ag_command_show(session);
    }
}

/*
 * One line for the whole job: a failure that all ranks agreed on is rank 0's to tell; a rank that
 * fails alone tells it and ends the job, since the others may wait for it.
 */
static int run_command(const ag_options_t *options, ag_status_t parsed)
{
    ag_session_t session = {0};
    ag_status_t status = run_session(options, parsed, &session);
    bool alone = status != AG_OK && !session.agreed;

    if (status != AG_OK && (alone || session.net == NULL || session.net->rank == 0)) {
        fprintf(stderr, "argosy: %s\n", ag_error());
    }
    if (alone && session.net != NULL && session.net->n_ranks > 1) {
        ag_aside_discard(session.trace_file);
        session.net->ops->abort(session.net, exit_code(status));
    }
    ag_session_close(&session);
    return exit_code(status);
}

/* The hidden commands by which the limits are measured. */
static int measure(const ag_options_t *options)
{
    ag_status_t status;

    if (options->command == AG_COMMAND_MEASURE_RATES) {
        status = ag_limits_print(options->threads > 0 ? options->threads : 1);
    } else {
        status = ag_probe_process(options->with_mpi);
        printf("%llu\n", (unsigned long long)ag_process_peak_bytes());
    }
    if (status != AG_OK) {
        fprintf(stderr, "argosy: %s\n", ag_error());
    }
    return exit_code(status);
}

/*
 * Large memory of malloc's is mapped, always: it grows without a second copy, and goes back when it
 * is freed. Without this libc keeps what is freed, in sizes that depend on what came before, and no
 * plan could foretell it.
 */
static void keep_no_freed_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 2 << 20);
}

int main(int argc, char **argv)
{
    ag_options_t options;
    ag_status_t parsed = ag_options_parse(argc, argv, &options);

    keep_no_freed_memory();
    ag_log_set_sink(print_line, NULL);
    return parsed == AG_OK && options.command >= AG_COMMAND_MEASURE_PROCESS
               ? measure(&options)
               : run_command(&options, parsed);
}
