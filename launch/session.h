/* What every command that computes needs: host, net, team, model, plan, memory; opened on all ranks
 * alike. */
#pragma once

#include <signal.h>

#include "launch/host.h"
#include "launch/input.h"
#include "launch/limits.h"
#include "launch/options.h"
#include "launch/report.h"
#include "runtime/file/aside.h"
#include "runtime/text/tokenizer.h"

/* What every rank knows of every other. */
typedef struct ag_session_rank {
    uint64_t host; /* the same for ranks of one host */
    uint32_t n_threads;
    ag_limits_t limits; /* of the host, on the one rank of it that measured; else n_cores is 0 */
} ag_session_rank_t;

typedef struct ag_session {
    const ag_options_t *options;
    ag_net_t *net;
    ag_host_t host;           /* this rank's place on its machine */
    ag_session_rank_t *ranks; /* (ranks) */
    const ag_isa_t *isa;
    ag_model_t *model;
    ag_tokenizer_t *tokenizer;
    ag_input_bytes_t input; /* rank 0's; set before the plan is made */
    ag_plan_t *plan;
    ag_build_t *build;
    ag_programs_t programs;
    bool evaluates;       /* of the programs: every row of a step may be asked for; of training: one
                             goes forward alone */
    bool may_spare_ranks; /* the first ranks do what a plan of fewer ranks says */
    ag_array_t links;     /* ag_link_t: those that the programs use */
    ag_ledger_t *ledger;
    ag_team_t *team;
    ag_device_t *device;
    ag_trace_t *trace;       /* NULL: not asked for */
    ag_aside_t *trace_file;  /* rank 0's, until it is written */
    double read_bytes_per_s; /* rank 0's host, in the course of the run; 0: as its limits say */
    double best_read_bytes_per_s; /* the most that it read at meanwhile */
    ag_report_t report;           /* rank 0's, when the run was concluded */
    ag_job_t *job;
    bool agreed; /* the failure is every rank's: rank 0 alone tells of it */
} ag_session_t;

/**
 * Host and net; all ranks must have been given the same command.
 * @param parsed  how reading this rank's command line went.
 */
ag_status_t ag_session_start(const ag_options_t *options, ag_status_t parsed,
                             ag_session_t *session);

/**
 * Model, tokenizer, outputs. The first Ctrl-C or SIGTERM is a request to stop from here on; a
 * second one ends the process.
 */
ag_status_t ag_session_open(ag_session_t *session);

/**
 * The plan, compared on all ranks; programs, checked; the limits of the hosts; memory, foretold and
 * held against the budget.
 * @param context_tokens  positions that the work needs, on rank 0; the other ranks are told. 0: no
 *                        particular number: what options or plan file say, else the model's.
 */
ag_status_t ag_session_plan(ag_session_t *session, uint32_t context_tokens, bool evaluates);

/** The same with a plan that all ranks have already. @param plan  the session's from here on. */
ag_status_t ag_session_take_plan(ag_session_t *session, ag_plan_t *plan, bool evaluates);

/** A plan file for the session's model. @return AG_OK, AG_ERR_IO, AG_ERR_INVALID. */
ag_status_t ag_session_read_plan(const ag_session_t *session, const char *path, ag_plan_t **plan_p);

/** All ranks go on, or none: the lowest failing rank's error becomes everybody's. */
ag_status_t ag_session_agree(ag_session_t *session, ag_status_t status);

/** Take the memory and read the weights. */
ag_status_t ag_session_load(ag_session_t *session);

/** Begin --trace's file, on rank 0: what cannot be written is told before the work. */
ag_status_t ag_session_open_trace(ag_session_t *session);

/** All ranks: the events of all of them as an array of JSON. @param file  rank 0's. */
ag_status_t ag_session_collect_trace(ag_session_t *session, FILE *file);

/** Write --trace: rank 0 its own events and those that each other rank sends it. */
ag_status_t ag_session_write_trace(ag_session_t *session);

/**
 * After the work: write the trace, leave together. A job that broke in a step leaves at once, for
 * other ranks may wait for this one in the middle of theirs.
 */
ag_status_t ag_session_finish(ag_session_t *session, ag_status_t status);

/** Give back all that ag_session_plan() and ag_session_load() took: another plan may follow. */
void ag_session_unload(ag_session_t *session);

/** Did the job break, so that the end of all its processes is what comes next? Then nothing is
 * given back: a message may still be on its way to it. */
bool ag_session_is_lost(const ag_session_t *session);

/**
 * Load the plan and work by it on the first ranks, while the others wait for them; then all is
 * given back, unless the job is lost.
 * @param work  what each of the first ranks does with the job.
 */
ag_status_t ag_session_run_first(ag_session_t *session,
                                 ag_status_t (*work)(void *arg, ag_session_t *session), void *arg);

void ag_session_close(ag_session_t *session);

/** Limits of every host, once: one rank of each measures, or reads what was measured. */
ag_status_t ag_session_get_limits(ag_session_t *session);

/** Tell programs which host each rank stands on; after ag_session_get_limits(). */
ag_status_t ag_session_set_hosts(const ag_session_t *session, ag_programs_t *programs);

/** A job of one rank: measure again, and keep the better rates. */
ag_status_t ag_session_renew_limits(ag_session_t *session);

/** The limits of a rank's host; as ag_session_rank(). */
const ag_limits_t *ag_session_limits(const ag_session_t *session, uint32_t rank);

/** What was gathered of a rank; with a plan for more ranks than look at it, the last one's. */
const ag_session_rank_t *ag_session_rank(const ag_session_t *session, uint32_t rank);

/** From here on the first Ctrl-C or SIGTERM is a request to stop, as ag_session_open() has it. */
void ag_session_catch_signals(void);

/** What this process says at once when Ctrl-C or SIGTERM comes, with its line feed; at first
 * nothing. */
void ag_session_set_last_words(const char *text);

/** Has Ctrl-C, or SIGTERM, come? An ag_cancel_t's. */
bool ag_session_is_cancelled(void *arg);
