/* The limits of a job's hosts. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/session.h"
#include "runtime/base/hash.h"

/* A file for each place that a program is run from, so that two builds do not undo each other's. */
static const char *cache_path(const char *program, char *path, size_t n_bytes)
{
    unsigned long long place = ag_hash_bytes(AG_HASH_SEED, program, strlen(program));
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char host[128] = "host";

    gethostname(host, sizeof(host) - 1);
    if (cache != NULL && cache[0] == '/') {
        snprintf(path, n_bytes, "%s/argosy/limits-%s-%llx.json", cache, host, place);
    } else if (home != NULL && home[0] == '/') {
        snprintf(path, n_bytes, "%s/.cache/argosy/limits-%s-%llx.json", home, host, place);
    } else {
        return NULL;
    }
    return path;
}

/* This host's. */
static ag_status_t host_limits(const ag_session_t *session, bool renew, bool forget,
                               ag_limits_t *limits)
{
    char cache[4096], program[4096];
    ag_status_t status;

    ag_limits_own_path(program, sizeof(program));
    status =
        ag_limits_get(&(ag_limits_opts_t){.cache_path = cache_path(program, cache, sizeof(cache)),
                                          .program_path = program,
                                          .n_cores = session->host.n_cores,
                                          .cores = &session->host.cores,
                                          .renew = renew,
                                          .forget = forget},
                      limits);
    return ag_session_is_cancelled(NULL) /* the child was told, too */
               ? ag_fail(AG_ERR_INTERRUPTED, "interrupted while measuring the machine's limits")
               : status;
}

ag_status_t ag_session_get_limits(ag_session_t *session)
{
    const ag_options_t *options = session->options;
    ag_status_t status = AG_OK;

    if (session->ranks[0].limits.n_cores > 0) { /* known, on all ranks alike */
        return AG_OK;
    }
    if (session->host.local_rank == 0) {
        status = host_limits(
            session,
            (ag_command_measures(options->command) || options->command == AG_COMMAND_TRAIN) &&
                !options->dry_run,
            options->renew_limits, &session->ranks[session->net->rank].limits);
    }
    status = ag_session_agree(session, status);
    return status == AG_OK
               ? ag_agree_gather(session->net, NULL, session->ranks, sizeof(*session->ranks))
               : status;
}

const ag_session_rank_t *ag_session_rank(const ag_session_t *session, uint32_t rank)
{
    uint32_t n_ranks = (uint32_t)session->net->n_ranks;

    return &session->ranks[rank < n_ranks ? rank : n_ranks - 1];
}

const ag_limits_t *ag_session_limits(const ag_session_t *session, uint32_t rank)
{
    uint64_t host = ag_session_rank(session, rank)->host;
    int r = 0;

    while (r + 1 < session->net->n_ranks &&
           (session->ranks[r].host != host || session->ranks[r].limits.n_cores == 0)) {
        r++;
    }
    return &session->ranks[r].limits;
}

ag_status_t ag_session_set_hosts(const ag_session_t *session, ag_programs_t *programs)
{
    uint32_t n_ranks = (uint32_t)session->net->n_ranks;
    uint32_t *hosts = calloc(n_ranks, sizeof(*hosts)); /* by the first rank on each */
    ag_status_t status;

    if (hosts == NULL) {
        return ag_fail_nomem("giving out hosts", n_ranks * sizeof(*hosts));
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        while (session->ranks[hosts[r]].host != session->ranks[r].host) {
            hosts[r]++;
        }
    }
    status = ag_programs_set_hosts(programs, hosts, n_ranks);
    free(hosts);
    return status;
}

ag_status_t ag_session_renew_limits(ag_session_t *session)
{
    ag_limits_t fresh;
    ag_status_t status = host_limits(session, true, false, &fresh);

    if (status == AG_OK) {
        ag_limits_merge(&session->ranks[0].limits, &fresh);
        session->ranks[0].limits = fresh;
    }
    return status;
}
