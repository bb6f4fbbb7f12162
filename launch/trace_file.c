/* The trace of all ranks, as one file on rank 0's host. */
#include <stdio.h>
#include <stdlib.h>

#include "launch/session.h"

/*
 * The moment that this rank's times are counted from: when the first event of its host began.
 * Clocks of one host are one; those of two have nothing in common but that work begins about
 * together.
 */
static ag_status_t find_origin(const ag_session_t *session, uint64_t *origin_ns_p)
{
    int n_ranks = session->net->n_ranks, rank = session->net->rank;
    uint64_t *begins_ns = calloc((size_t)n_ranks, sizeof(*begins_ns));
    ag_status_t status =
        begins_ns == NULL ? ag_fail_nomem("writing the trace", sizeof(*begins_ns)) : AG_OK;

    status = ag_agree(session->net, NULL, status, NULL);
    if (status == AG_OK) {
        begins_ns[rank] = ag_trace_begin_ns(session->trace);
        status = ag_agree_gather(session->net, NULL, begins_ns, sizeof(*begins_ns));
    }
    *origin_ns_p = UINT64_MAX;
    for (int r = 0; r < n_ranks && status == AG_OK; r++) {
        if (session->ranks[r].host == session->ranks[rank].host && begins_ns[r] < *origin_ns_p) {
            *origin_ns_p = begins_ns[r];
        }
    }
    free(begins_ns);
    return status;
}

/* This rank's events as text. @param text_p  out: free() it. */
static ag_status_t trace_text(const ag_session_t *session, uint64_t origin_ns, char **text_p,
                              size_t *n_bytes_p)
{
    FILE *file = open_memstream(text_p, n_bytes_p);
    ag_status_t status;

    if (file == NULL) {
        return ag_fail_nomem("writing the trace", 1);
    }
    if (session->net->rank == 0) {
        ag_report_trace(&session->report, file);
    }
    status = ag_trace_write(session->trace, file, (uint32_t)session->net->rank, origin_ns,
                            ag_stream_names, AG_N_STREAMS);
    return fclose(file) == 0 || status != AG_OK ? status : ag_fail_nomem("writing the trace", 1);
}

ag_status_t ag_session_open_trace(ag_session_t *session)
{
    return session->options->trace == NULL || session->options->dry_run
               ? AG_OK
               : ag_aside_open(session->options->trace, &session->trace_file);
}

/* Rank 0: its own text and what each other rank sends, between brackets. */
static ag_status_t write_texts(ag_session_t *session, const char *text, size_t n_bytes, FILE *file)
{
    ag_status_t status = AG_OK;

    fputs("[\n", file);
    fwrite(text, 1, n_bytes, file);
    for (int r = 1; r < session->net->n_ranks && status == AG_OK; r++) {
        uint64_t n = 0;
        char *theirs;

        status = ag_net_recv(session->net, NULL, r, &n, sizeof(n));
        theirs = malloc(n + 1);
        if (status == AG_OK && theirs == NULL) {
            status = ag_fail_nomem("writing the trace", n);
        }
        if (status == AG_OK) {
            status = ag_net_recv(session->net, NULL, r, theirs, n);
        }
        if (status == AG_OK) {
            fwrite(theirs, 1, n, file);
        }
        free(theirs);
    }
    if (status != AG_OK) {
        return status;
    }
    /* every event before ends in a comma; this is the default, and says nothing */
    fputs("{\"ph\":\"M\",\"pid\":0,\"name\":\"process_sort_index\","
          "\"args\":{\"sort_index\":0}}]\n",
          file);
    return AG_OK;
}

ag_status_t ag_session_collect_trace(ag_session_t *session, FILE *file)
{
    char *text = NULL;
    size_t n_bytes = 0;
    uint64_t origin_ns;
    ag_status_t status = ag_session_agree(session, find_origin(session, &origin_ns));

    if (status == AG_OK) {
        status = ag_session_agree(session, trace_text(session, origin_ns, &text, &n_bytes));
    }
    if (status == AG_OK && session->net->rank == 0) {
        status = write_texts(session, text, n_bytes, file);
    } else if (status == AG_OK) {
        status = ag_net_send(session->net, NULL, 0, &(uint64_t){n_bytes}, sizeof(uint64_t));
        status = status == AG_OK ? ag_net_send(session->net, NULL, 0, text, n_bytes) : status;
    }
    free(text);
    return ag_session_agree(session, status);
}

ag_status_t ag_session_write_trace(ag_session_t *session)
{
    ag_aside_t *aside = session->trace_file;
    ag_status_t status =
        ag_session_collect_trace(session, aside != NULL ? ag_aside_stream(aside) : NULL);

    if (status == AG_OK && aside != NULL) {
        session->trace_file = NULL;
        status = ag_aside_complete(aside);
    }
    return ag_session_agree(session, status);
}
