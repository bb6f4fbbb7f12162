#define _GNU_SOURCE
#include "launch/session.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/net_first.h"
#include "comm/net_loop.h"
#include "comm/net_mpi.h"
#include "launch/budget.h"
#include "launch/cores.h"
#include "launch/isa_agree.h"
#include "launch/output.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

static volatile sig_atomic_t stop_asked;

/* What is said when a signal comes, for the process may be killed before it can say more: two
 * texts, of which one is said while the other is written. */
static char last_words[2][512];
static volatile sig_atomic_t words_at;

static void ask_stop(int signal)
{
    const char *words = last_words[words_at];
    size_t n = 0;
    ssize_t n_written = 0;

    (void)signal;
    while (words[n] != '\0') {
        n++;
    }
    if (n > 0 && stop_asked == 0) {
        n_written = write(STDERR_FILENO, words, n);
    }
    (void)n_written;
    stop_asked = 1;
}

void ag_session_set_last_words(const char *text)
{
    int other = 1 - words_at;

    snprintf(last_words[other], sizeof(last_words[other]), "%s", text);
    words_at = other;
}

bool ag_session_is_cancelled(void *arg)
{
    (void)arg;
    return stop_asked != 0;
}

/* Spin 50 us, then let others have the core, then sleep: ranks may outnumber cores. */
static void rest(void *arg, uint64_t waited_ns)
{
    (void)arg;
    if (waited_ns > 1000000) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    } else if (waited_ns > 50000) {
        sched_yield();
    }
}

/* All ranks go on, or none: the lowest failing rank's error becomes everybody's. */
ag_status_t ag_session_agree(ag_session_t *session, ag_status_t status)
{
    status = ag_agree(session->net, NULL, status, NULL);
    session->agreed = status != AG_OK;
    return status;
}

/* What must be the same on all ranks before they can work together. */
typedef struct start_line {
    int32_t command;
    int32_t does; /* 0: the work; 1: --dry-run; 2: help; 3: version; 4: the work, traced */
    char isa[32], dir[256]; /* as given */
} start_line_t;

static ag_status_t compare_option(const char *name, int rank, const char *theirs, const char *first)
{
    return strcmp(theirs, first) == 0
               ? AG_OK
               : ag_fail(AG_ERR_INVALID,
                         "rank %d was given %s%s%s, rank 0 %s%s%s: give all ranks one command",
                         rank, theirs[0] != '\0' ? name : "no ", theirs[0] != '\0' ? " " : name,
                         theirs, first[0] != '\0' ? name : "no ", first[0] != '\0' ? " " : name,
                         first);
}

static start_line_t own_line(const ag_options_t *options)
{
    start_line_t line = {.command = (int32_t)options->command,
                         .does = options->help      ? 2
                                 : options->version ? 3
                                 : options->dry_run ? 1
                                 : options->trace   ? 4
                                                    : 0};

    snprintf(line.isa, sizeof(line.isa), "%s", options->isa != NULL ? options->isa : "");
    snprintf(line.dir, sizeof(line.dir), "%s", options->dir != NULL ? options->dir : "");
    return line;
}

static ag_status_t compare_commands(ag_session_t *session)
{
    static const char *const does[] = {"", " --dry-run", " --help", " --version", " --trace"};
    const ag_options_t *options = session->options;
    int n_ranks = session->net->n_ranks;
    start_line_t *lines = calloc((size_t)n_ranks, sizeof(*lines));
    ag_status_t status = AG_OK;

    if (lines == NULL) {
        return ag_fail_nomem("comparing commands", (size_t)n_ranks * sizeof(*lines));
    }
    lines[session->net->rank] = own_line(options);
    status = ag_agree_gather(session->net, NULL, lines, sizeof(*lines));
    for (int r = 1; r < n_ranks && status == AG_OK; r++) {
        if (lines[r].command != lines[0].command || lines[r].does != lines[0].does) {
            status = ag_fail(
                AG_ERR_INVALID,
                "rank %d was started with \"%s%s\", rank 0 with \"%s%s\": give all "
                "ranks one command",
                r, ag_options_command_name((ag_command_t)lines[r].command), does[lines[r].does],
                ag_options_command_name((ag_command_t)lines[0].command), does[lines[0].does]);
        }
        if (status == AG_OK) {
            status = compare_option("--isa", r, lines[r].isa, lines[0].isa);
        }
        if (status == AG_OK) {
            status = compare_option("--dir", r, lines[r].dir, lines[0].dir);
        }
        session->agreed = status != AG_OK;
    }
    free(lines);
    return status;
}

ag_status_t ag_session_start(const ag_options_t *options, ag_status_t parsed, ag_session_t *session)
{
    char why[1024];
    ag_status_t status;

    snprintf(why, sizeof(why), "%s", parsed == AG_OK ? "" : ag_error());
    *session = (ag_session_t){.options = options};
    status = ag_host_init(&session->host);
    if (status == AG_OK) {
        status = session->host.under_mpirun ? ag_net_mpi_open(&session->net)
                                            : ag_net_loop_create(1, &session->net);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, parsed == AG_OK ? AG_OK : ag_fail(parsed, "%s", why));
    }
    return status == AG_OK ? compare_commands(session) : status;
}

/* What this rank tells the others of itself. */
static ag_status_t describe_rank(ag_session_t *session)
{
    size_t n_ranks = (size_t)session->net->n_ranks;
    char host[256] = "";

    session->ranks = calloc(n_ranks, sizeof(*session->ranks));
    if (session->ranks == NULL) {
        return ag_fail_nomem("meeting the other ranks", n_ranks * sizeof(*session->ranks));
    }
    gethostname(host, sizeof(host) - 1);
    session->ranks[session->net->rank] = (ag_session_rank_t){
        .host = ag_hash_bytes(AG_HASH_SEED, host, strlen(host)),
        .n_threads = session->options->threads > 0 ? session->options->threads
                                                   : ag_host_threads(&session->host)};
    return AG_OK;
}

static bool can_run(void *arg, const char *name)
{
    const ag_isa_t *isa;

    (void)arg;
    return ag_isa_find(name, &isa) == AG_OK;
}

/* As asked for, or the best that all ranks have: results depend on it. */
static ag_status_t choose_isa(ag_session_t *session)
{
    ag_isa_choice_t choice = {.best = ag_isa_name(ag_isa_best()), .can_run = can_run};
    ag_isa_common_t common;
    ag_status_t status;

    if (session->options->isa != NULL) {
        return ag_session_agree(session, ag_isa_find(session->options->isa, &session->isa));
    }
    status = ag_isa_agree(session->net, NULL, &choice, &common);
    if (status == AG_OK) {
        status = ag_session_agree(session, ag_isa_find(common.name, &session->isa));
    }
    if (status == AG_OK && session->net->rank == 0 && common.missed[0] != '\0') {
        ag_log(
            AG_LOG_WARNING,
            "rank %d has no %s instructions: all ranks compute with %s, for results depend on it",
            common.lacking_rank, common.missed, common.name);
    }
    return status;
}

void ag_session_catch_signals(void)
{
    /* once: who asks again wants the process to end, whatever it is in the middle of */
    struct sigaction action = {.sa_handler = ask_stop, .sa_flags = SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static ag_status_t open_outputs(ag_session_t *session)
{
    ag_status_t status = ag_outputs_check(session->options);

    return status == AG_OK ? ag_session_open_trace(session) : status;
}

/* Is there text to encode or to show? Ids are computed with, and plans made, without a tokenizer.
 */
static bool deals_with_text(const ag_options_t *options, const ag_model_files_t *files)
{
    switch (options->command) {
    case AG_COMMAND_EVAL:
        return options->text != NULL || options->window > 0; /* a BOS comes before each window */
    case AG_COMMAND_VERIFY:
        return options->tokens == NULL;
    case AG_COMMAND_TRAIN: /* what was learned is written with its tokenizer: a folder's is copied
                            */
        return !options->tokens_given ||
               (ag_model_files_gguf(files) != NULL && !ag_tokenizer_is_left_out(files));
    case AG_COMMAND_PLAN:
    case AG_COMMAND_SHOW:
        return false;
    default:
        return true;
    }
}

/* One that is not needed is opened all the same where it can be: its memory counts. */
static ag_status_t open_tokenizer(ag_session_t *session)
{
    ag_status_t status = ag_tokenizer_open(session->model->files, &session->tokenizer);
    bool is_odd = status == AG_ERR_IO || status == AG_ERR_FORMAT || status == AG_ERR_UNSUPPORTED;

    return is_odd && !deals_with_text(session->options, session->model->files) ? AG_OK : status;
}

ag_status_t ag_session_open(ag_session_t *session)
{
    const ag_options_t *options = session->options;
    ag_status_t status;

    ag_session_catch_signals();
    status = ag_session_agree(session, describe_rank(session));
    if (status == AG_OK) {
        status = choose_isa(session);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, session->net->rank == 0 ? open_outputs(session) : AG_OK);
    }
    if (status == AG_OK && options->model != NULL) {
        status = ag_model_open(options->model, &session->model);
        if (status == AG_OK) {
            ag_model_files_seed(session->model->files, options->train.seed);
        }
        status = ag_session_agree(session, status);
    }
    if (status == AG_OK &&
        !ag_command_measures(options->command)) { /* rank 0 alone deals with text */
        status =
            ag_session_agree(session, session->net->rank == 0 ? open_tokenizer(session) : AG_OK);
    }
    return status;
}

/* Threads of the ranks before this one on its machine. */
static uint32_t threads_before(const ag_session_t *session)
{
    const ag_session_rank_t *ranks = session->ranks;
    uint32_t n = 0;

    for (int r = 0; r < session->net->rank; r++) {
        n += ranks[r].host == ranks[session->net->rank].host ? ranks[r].n_threads : 0;
    }
    return n;
}

/* A core for each thread; false: the system does not say which there are. */
static bool pick_cores(const ag_session_t *session, uint32_t n_threads, int *cores)
{
    int own[CPU_SETSIZE];
    uint32_t n_own = 0;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return false;
    }
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET((size_t)i, &set)) {
            own[n_own++] = i;
        }
    }
    ag_cores_pick(own, n_own, threads_before(session), n_threads, cores);
    return true;
}

/*
 * Threads on cores of unlike kinds stay where they are, and work is shared out by how fast they are
 * found; alike ones are left to the system, which knows who else wants the machine.
 */
static ag_status_t make_team(ag_session_t *session)
{
    uint32_t rank = (uint32_t)session->net->rank, n = session->ranks[rank].n_threads;
    ag_team_opts_t opts = {.n_threads = n};
    uint32_t *speeds = NULL;
    int *cores = NULL;
    ag_status_t status = AG_OK;

    if (n > 1 && ag_session_limits(session, rank)->n_core_kinds > 1) {
        cores = calloc(n, sizeof(*cores));
        speeds = calloc(n, sizeof(*speeds));
    }
    if (cores != NULL && speeds != NULL && pick_cores(session, n, cores)) {
        opts.cores = cores;
        status = ag_team_create(&opts, &session->team);
        if (status == AG_OK) {
            ag_team_measure(session->team, speeds);
            ag_team_destroy(session->team);
            session->team = NULL;
            opts.speeds = speeds;
        }
    }
    if (status == AG_OK) {
        status = ag_team_create(&opts, &session->team);
    }
    free(cores);
    free(speeds);
    return status;
}

static ag_status_t make_job(ag_session_t *session)
{
    uint32_t rank = (uint32_t)session->net->rank;
    ag_memory_t memory = ag_session_memory(session, rank);
    ag_status_t status = ag_ledger_create(ag_session_budget(session, rank), &session->ledger);

    /* what is not taken by regions stands in the ledger too */
    for (uint32_t i = 0; i < memory.n_parts && status == AG_OK; i++) {
        const ag_memory_part_t *part = &memory.parts[i];

        if (!part->is_region) {
            status = ag_ledger_take(session->ledger, part->name, part->bytes);
        }
    }
    if (status == AG_OK) {
        status = make_team(session);
    }
    if (status == AG_OK) {
        status = ag_device_cpu_open(session->team, session->ledger, &session->device);
    }
    if (status == AG_OK && ag_session_trace_events(session) > 0) {
        status = ag_trace_create(ag_session_trace_events(session), &session->trace);
    }
    if (status != AG_OK) {
        return status;
    }
    return ag_job_create(&(ag_job_opts_t){.build = session->build,
                                          .programs = &session->programs,
                                          .net = session->net,
                                          .team = session->team,
                                          .device = session->device,
                                          .clock = ag_clock_monotonic(),
                                          .wait = {.idle = rest},
                                          .isa = session->isa,
                                          .trace = session->trace,
                                          .cancel = {.is_asked = ag_session_is_cancelled}},
                         &session->job);
}

ag_status_t ag_session_load(ag_session_t *session)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_cores_t cores;
    ag_status_t status;

    session->links = AG_ARRAY(ag_link_t);
    status = ag_session_agree(
        session, ag_links_of(session->build, session->programs.programs[0], &session->links));
    if (status == AG_OK) {
        ag_cores_stand_apart(&session->host, &cores);
        status = ag_links_measure(session->net, NULL, &clock, &session->links);
        ag_cores_go_back(&cores);
    }
    return ag_session_agree(session, status == AG_OK ? make_job(session) : status);
}

ag_status_t ag_session_finish(ag_session_t *session, ag_status_t status)
{
    if (session->job != NULL && ag_job_is_broken(session->job)) {
        return status;
    }
    status = ag_session_agree(session, status);
    return status == AG_OK && session->options->trace != NULL ? ag_session_write_trace(session)
                                                              : status;
}

void ag_session_unload(ag_session_t *session)
{
    ag_job_destroy(session->job);
    ag_trace_destroy(session->trace);
    ag_device_close(session->device);
    ag_team_destroy(session->team);
    ag_ledger_destroy(session->ledger);
    ag_array_fini(&session->links);
    ag_programs_destroy(&session->programs);
    ag_build_destroy(session->build);
    ag_plan_destroy(session->plan);
    session->job = NULL;
    session->trace = NULL;
    session->device = NULL;
    session->team = NULL;
    session->ledger = NULL;
    session->links = (ag_array_t){0};
    session->build = NULL;
    session->plan = NULL;
}

bool ag_session_is_lost(const ag_session_t *session)
{
    return session->job != NULL && ag_job_is_broken(session->job) && session->net->n_ranks > 1;
}

ag_status_t ag_session_run_first(ag_session_t *session,
                                 ag_status_t (*work)(void *arg, ag_session_t *session), void *arg)
{
    uint32_t n_ranks = ag_plan_ranks(session->plan);
    ag_net_t *net = session->net, *first = NULL;
    ag_status_t status = AG_OK;

    if ((uint32_t)net->rank < n_ranks) {
        status = ag_net_first_create(net, n_ranks, &first);
        if (status == AG_OK) {
            session->net = first;
            status = ag_session_load(session);
        }
        status = status == AG_OK ? work(arg, session) : status;
    }
    session->net = net;
    session->agreed = false;
    if (ag_session_is_lost(session)) {
        return status;
    }
    status = ag_session_finish(session, status);
    ag_session_unload(session);
    ag_net_close(first);
    return status;
}

void ag_session_close(ag_session_t *session)
{
    ag_session_unload(session);
    ag_aside_discard(session->trace_file);
    ag_tokenizer_close(session->tokenizer);
    ag_model_close(session->model);
    free(session->ranks);
    ag_net_close(session->net);
}
