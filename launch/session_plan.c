/* The plan of a job: made, compared, built, and its memory held against the budget. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/budget.h"
#include "launch/session.h"
#include "parallel/run/catalog.h"
#include "runtime/base/line.h"
#include "runtime/base/log.h"
#include "runtime/base/quote.h"
#include "runtime/model/unused.h"

ag_status_t ag_session_read_plan(const ag_session_t *session, const char *path, ag_plan_t **plan_p)
{
    ag_plan_model_t model = ag_build_plan_model(session->model);
    ag_plan_t *plan = NULL;
    ag_json_t *json;
    ag_status_t status = ag_json_read(path, &json);

    if (status != AG_OK) { /* a file that is no plan is a wrong argument, whatever is wrong in it */
        return status == AG_ERR_FORMAT ? AG_ERR_INVALID : status;
    }
    status = ag_plan_from_json(json, path, &plan);
    ag_json_destroy(json);
    if (status == AG_OK) {
        status = ag_plan_check_model(plan, &model);
        status = status == AG_OK ? AG_OK : ag_fail_context(status, "%s", path);
    }
    if (status != AG_OK) {
        ag_plan_destroy(plan);
        return status;
    }
    *plan_p = plan;
    return AG_OK;
}

/* The options that the plan was made of; NULL: it came from a file. */
static const ag_plan_opts_t *plan_opts(const ag_session_t *session)
{
    return session->options->plan_file == NULL ? &session->options->plan : NULL;
}

/* A failure names what was given. */
static ag_status_t build_plan(const ag_session_t *session, ag_build_t **build_p)
{
    ag_status_t status = ag_build_create(session->plan, session->model, build_p);
    char given[256];

    if (status != AG_ERR_INVALID) {
        return status;
    }
    ag_plan_opts_text(plan_opts(session), given, sizeof(given));
    return ag_fail_context(status, "%s", given);
}

/* An ag_plan_trial_t of the session's model. */
static bool plan_works(void *arg, const ag_plan_opts_t *opts)
{
    const ag_session_t *session = arg;
    ag_plan_model_t model = ag_build_plan_model(session->model);
    ag_plan_t *plan = NULL;
    ag_build_t *build = NULL;
    bool works = ag_plan_make(&model, opts, &plan) == AG_OK &&
                 ag_build_create(plan, session->model, &build) == AG_OK;

    ag_build_destroy(build);
    ag_plan_destroy(plan);
    return works;
}

static ag_status_t check_ranks(ag_session_t *session)
{
    uint32_t n_started = (uint32_t)session->net->n_ranks, n = ag_plan_ranks(session->plan);
    ag_build_t *build = NULL;
    ag_status_t status;

    if (n == n_started || (n < n_started && session->may_spare_ranks) ||
        !ag_command_computes(session->options->command) || session->options->dry_run) {
        return AG_OK;
    }
    status = build_plan(session, &build); /* what no number of ranks can carry out is told first */
    ag_build_destroy(build);
    return status == AG_OK
               ? ag_plan_check_ranks(session->plan, plan_opts(session), n_started,
                                     &(ag_plan_trial_t){.works = plan_works, .arg = session})
               : status;
}

/* eval puts a BOS before a window, and outside of what --context or the model let it hold. */
static ag_status_t make_plan(ag_session_t *session, uint32_t context_tokens, bool evaluates)
{
    enum { EVAL_BATCH = 128 }; /* all its rows have logits */
    ag_plan_model_t model = ag_build_plan_model(session->model);
    ag_plan_opts_t opts = session->options->plan;
    bool has_windows = evaluates && opts.sequence_tokens == 0;
    ag_status_t status;

    if (has_windows) {
        model.context_tokens +=
            session->model->spec->n_positions == 0 && context_tokens == model.context_tokens + 1;
        opts.context_tokens += opts.context_tokens > 0 && context_tokens == opts.context_tokens + 1;
    }
    if (opts.sequence_tokens > model.context_tokens) {
        return ag_fail(AG_ERR_INVALID,
                       "--seq-length %u is beyond the model's context of %u: give at most that",
                       opts.sequence_tokens, model.context_tokens);
    }
    if (session->options->plan_file != NULL) {
        status = ag_session_read_plan(session, session->options->plan_file, &session->plan);
        if (status == AG_OK && session->plan->context_tokens < context_tokens) {
            status = ag_fail(AG_ERR_INVALID,
                             "%s has a context of %u tokens, %u are needed: make the plan with "
                             "--context %u",
                             session->options->plan_file, session->plan->context_tokens,
                             context_tokens, context_tokens);
        }
    } else {
        opts.context_tokens = opts.context_tokens > 0 ? opts.context_tokens : context_tokens;
        opts.batch_tokens = has_windows ? EVAL_BATCH : 0;
        status = ag_plan_make(&model, &opts, &session->plan);
    }
    return status == AG_OK ? check_ranks(session) : status;
}

/* All ranks must work by the same plan. */
static ag_status_t compare_plans(ag_session_t *session)
{
    int n_ranks = session->net->n_ranks;
    char(*hashes)[17] = calloc((size_t)n_ranks, sizeof(*hashes));
    ag_status_t status = hashes == NULL ? ag_fail_nomem("comparing plans", (size_t)n_ranks * 17)
                                        : ag_plan_hash(session->plan, hashes[session->net->rank]);

    status = ag_session_agree(session, status);
    if (status == AG_OK) {
        status = ag_agree_gather(session->net, NULL, hashes, sizeof(*hashes));
    }
    for (int r = 1; r < n_ranks && status == AG_OK; r++) {
        if (strcmp(hashes[r], hashes[0]) != 0) {
            status = ag_fail(AG_ERR_INVALID,
                             "rank %d has the plan %s, rank 0 has %s: give all ranks the same "
                             "model, options and plan file",
                             r, hashes[r], hashes[0]);
            session->agreed = true;
        }
    }
    free(hashes);
    return status;
}

/* Files may hold more than the model is computed with: then it may be another model. */
static ag_status_t warn_of_unused(const ag_session_t *session)
{
    enum { MOST_NAMED = 3 };
    uint32_t n_ranks = session->build->n_ranks;
    const ag_params_t **params = calloc(n_ranks, sizeof(const ag_params_t *));
    ag_array_t names = AG_ARRAY(const char *);
    char some[MOST_NAMED * 260] = "";
    ag_status_t status = AG_OK;

    if (params == NULL) {
        return ag_fail_nomem("looking for unused tensors", n_ranks * sizeof(const ag_params_t *));
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        params[r] = &session->build->ranks[r].params;
    }
    status = ag_unused_find(session->model, params, n_ranks, &names);
    for (size_t i = 0; i < names.n_items && i < MOST_NAMED; i++) {
        ag_line_append(some, sizeof(some), "%s%.256s", i > 0 ? ", " : "",
                       AG_ITEMS(&names, const char *)[i]);
    }
    if (names.n_items > 0) {
        ag_log(AG_LOG_WARNING,
               "%s: %zu tensor%s not used, as if absent (%s%s): answers may be wrong if this is "
               "another architecture than %s",
               ag_model_files_path(session->model->files), names.n_items,
               names.n_items == 1 ? " is" : "s are", some, names.n_items > MOST_NAMED ? ", …" : "",
               session->model->family->name);
    }
    ag_array_fini(&names);
    free(params);
    return status;
}

/* A setting that nobody looks at may be one that changes the arithmetic. */
static ag_status_t warn_of_settings(const ag_session_t *session)
{
    enum { MOST_NAMED = 8 };
    ag_array_t names;
    char some[MOST_NAMED * 100] = "";
    ag_status_t status = ag_unused_settings(session->model, &names);

    for (size_t i = 0; i < names.n_items && i < MOST_NAMED; i++) {
        ag_line_append(some, sizeof(some), "%s%s", i > 0 ? ", " : "",
                       ag_quote_string(AG_ITEMS(&names, ag_setting_name_t)[i].text).text);
    }
    if (names.n_items > 0) {
        ag_log(AG_LOG_WARNING, "%s: config.json: %zu setting%s not looked at (%s%s)",
               ag_model_files_path(session->model->files), names.n_items,
               names.n_items == 1 ? " is" : "s are", some, names.n_items > MOST_NAMED ? ", …" : "");
    }
    ag_array_fini(&names);
    return status;
}

/* Ranks that a plan has no use for leave their memory to the others of their machine. */
static void count_neighbours(ag_session_t *session)
{
    const ag_session_rank_t *ranks = session->ranks;
    uint32_t n = 0;

    for (uint32_t r = 0; r < ag_plan_ranks(session->plan); r++) {
        n += ranks[r].host == ranks[session->net->rank].host;
    }
    session->host.n_local = n > 0 ? n : 1;
}

/* Compared, built, held against the budget. */
static ag_status_t prepare_plan(ag_session_t *session)
{
    uint32_t rank = (uint32_t)session->net->rank;
    bool computes = ag_command_computes(session->options->command) && !session->options->dry_run;
#ifdef ARGOSY_CHECK
    bool check = true;
#else
    bool check = false;
#endif
    ag_status_t status = compare_plans(session);

    if (status == AG_OK) {
        status = build_plan(session, &session->build);
        if (status == AG_OK) {
            status =
                ag_programs_create(session->build, session->evaluates, check, &session->programs);
        }
        if (status == AG_OK && session->plan->train.sequence_tokens > 0 &&
            session->options->train.save_steps > 0) {
            status = ag_catalog_foretell(session->build);
        }
        status = ag_session_agree(session, status);
    }
    if (status == AG_OK) { /* last: it may take seconds */
        status = ag_session_get_limits(session);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, ag_session_set_hosts(session, &session->programs));
    }
    if (status == AG_OK && computes && session->may_spare_ranks) {
        count_neighbours(session);
    }
    if (status == AG_OK && computes) {
        status = ag_session_agree(session, rank < ag_plan_ranks(session->plan)
                                               ? ag_session_check_budget(session, rank)
                                               : AG_OK);
    }
    return status;
}

ag_status_t ag_session_plan(ag_session_t *session, uint32_t context_tokens, bool evaluates)
{
    ag_status_t status =
        ag_agree_broadcast(session->net, NULL, 0, &context_tokens, sizeof(context_tokens));

    session->evaluates = evaluates;
    if (status == AG_OK) {
        status = ag_session_agree(session, make_plan(session, context_tokens, evaluates));
    }
    if (status == AG_OK) {
        status = prepare_plan(session);
    }
    if (status == AG_OK && session->net->rank == 0) {
        status = warn_of_unused(session);
    }
    return status == AG_OK && session->net->rank == 0 ? warn_of_settings(session) : status;
}

ag_status_t ag_session_take_plan(ag_session_t *session, ag_plan_t *plan, bool evaluates)
{
    ag_status_t status;

    session->plan = plan;
    session->evaluates = evaluates;
    status = ag_session_agree(session, check_ranks(session));
    return status == AG_OK ? prepare_plan(session) : status;
}
