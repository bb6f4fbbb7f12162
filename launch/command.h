/* The commands. Each returns a status; its error is the thread's record. */
#pragma once

#include "launch/report.h"
#include "launch/session.h"

ag_status_t ag_command_generate(ag_session_t *session);
ag_status_t ag_command_eval(ag_session_t *session);
ag_status_t ag_command_verify(ag_session_t *session);
ag_status_t ag_command_tokenize(ag_session_t *session);
ag_status_t ag_command_convert(ag_session_t *session);
ag_status_t ag_command_train(ag_session_t *session);
ag_status_t ag_command_plan(ag_session_t *session);
ag_status_t ag_command_show(ag_session_t *session);
ag_status_t ag_command_bench_limits(ag_session_t *session);
ag_status_t ag_command_bench_model(ag_session_t *session);

/** The plan as JSON on standard output, its memory as a table on standard error. */
ag_status_t ag_print_plan(ag_session_t *session);

/** The figures of a run. */
ag_status_t ag_make_report(ag_session_t *session, const ag_run_figures_t *figures,
                           ag_report_t *report);

/**
 * The report of the whole run, as session->report: to be made when the job is stopped, so that it
 * knows of all ranks. A figure beyond its limit says that this was measured in a slow moment: a job
 * of one rank measures again, once, and keeps the better.
 */
ag_status_t ag_conclude(ag_session_t *session, const ag_run_figures_t *figures);

/** The one closing line of a run that was concluded, on standard error. */
void ag_print_figures(const ag_session_t *session);

/** Write to standard output and flush: AG_ERR_IO when it is closed. */
ag_status_t ag_write_out(const char *bytes, size_t n_bytes);

/** A JSON value as one line on standard output; releases it. */
ag_status_t ag_print_json_line(ag_json_t *json);
