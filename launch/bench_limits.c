/* argosy bench limits: memory and arithmetic by threads, the disk of a folder, the links between
 * ranks. */
#include <stdlib.h>
#include <string.h>

#include "comm/link.h"
#include "launch/command.h"
#include "launch/cores.h"
#include "launch/probe.h"
#include "offload/disk.h"

enum { DISK_BYTES = 1 << 30 };

typedef struct link {
    int from, to;
    ag_link_rates_t rates;
} link_t;

/* Ctrl-C ends it at the next step; what fails meanwhile fails of that: children are told, too. */
static ag_status_t unless_cancelled(ag_status_t status)
{
    return ag_session_is_cancelled(NULL)
               ? ag_fail(AG_ERR_INTERRUPTED, "interrupted while measuring this machine's limits")
               : status;
}

static double gigas(double rate)
{
    return rate * 1e-9;
}

static void print_rates(const ag_limits_t *limits, uint32_t n_threads)
{
    printf("%3u thread%s  read %6.1f GB/s  copy %6.1f GB/s  f32 %7.1f  bf16 %7.1f  int8 %7.1f "
           "GOP/s%s\n",
           n_threads, n_threads == 1 ? " " : "s",
           gigas(ag_limits_at(limits->read_bytes_per_s, limits->n_cores, n_threads)),
           gigas(ag_limits_at(limits->copy_bytes_per_s, limits->n_cores, n_threads)),
           gigas(ag_limits_at(limits->f32_flops_per_s, limits->n_cores, n_threads)),
           gigas(ag_limits_at(limits->bf16_flops_per_s, limits->n_cores, n_threads)),
           gigas(ag_limits_at(limits->int8_ops_per_s, limits->n_cores, n_threads)),
           limits->disturbed ? ", disturbed by others" : "");
}

/* 1, 2, 4 … threads and the number asked for; those of the whole host are known already. */
static ag_status_t by_threads(const ag_session_t *session, ag_json_t *list, bool *disturbed_p)
{
    const ag_limits_t *known = ag_session_limits(session, 0);
    uint32_t most = session->ranks[0].n_threads, n = 1;
    ag_status_t status = AG_OK;

    while (status == AG_OK) {
        ag_limits_t limits = *known;

        if (n != 1 && n != known->n_cores) {
            status = ag_limits_measure(&session->host.cores, n, &limits);
        }
        status = unless_cancelled(status);
        *disturbed_p |= limits.disturbed != 0;
        if (status == AG_OK) {
            ag_json_t *row = ag_limits_to_json(&limits, n);

            ag_json_set(row, "threads", ag_json_new_integer(n));
            ag_json_append(list, row);
            if (!session->options->json) {
                print_rates(&limits, n);
                status = ag_write_out("", 0); /* as they come */
            }
        }
        if (n == most) {
            break;
        }
        n = 2 * n < most ? 2 * n : most;
    }
    return status;
}

static ag_status_t disk(const ag_session_t *session, ag_json_t *json)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates;
    ag_json_t *row;
    ag_cancel_t cancel = {.is_asked = ag_session_is_cancelled};
    ag_status_t status =
        ag_disk_measure(session->options->dir, DISK_BYTES, &clock, &cancel, &rates);

    if (status != AG_OK) {
        return status;
    }
    row = ag_json_new_object();
    ag_json_set(row, "read_bytes_per_s", ag_json_new_real(rates.read_bytes_per_s));
    ag_json_set(row, "write_bytes_per_s", ag_json_new_real(rates.write_bytes_per_s));
    ag_json_set(json, "disk", row);
    if (!session->options->json) {
        printf("disk of %s: read %.2f GB/s, write %.2f GB/s\n", session->options->dir,
               gigas(rates.read_bytes_per_s), gigas(rates.write_bytes_per_s));
    }
    return AG_OK;
}

/* One pair after the other; rank 0 hears what the first of each found. */
static ag_status_t links(ag_session_t *session, ag_json_t *list)
{
    int n_ranks = session->net->n_ranks, rank = session->net->rank;
    ag_clock_t clock = ag_clock_monotonic();
    link_t *found = calloc((size_t)n_ranks, sizeof(*found));
    ag_cores_t cores;
    ag_status_t status =
        found == NULL ? ag_fail_nomem("measuring links", (size_t)n_ranks * sizeof(*found)) : AG_OK;

    status = ag_session_agree(session, status);
    ag_cores_stand_apart(&session->host, &cores);
    for (int a = 0; a < n_ranks && status == AG_OK; a++) {
        for (int b = a + 1; b < n_ranks && status == AG_OK; b++) {
            found[rank] = (link_t){.from = a, .to = b};
            if (rank == a || rank == b) {
                status = ag_link_measure(session->net, NULL, rank == a ? b : a, &clock,
                                         &found[rank].rates);
            }
            status = ag_session_agree(session, unless_cancelled(status));
            if (status == AG_OK) {
                status = ag_agree_gather(session->net, NULL, found, sizeof(*found));
            }
            if (status == AG_OK && rank == 0) {
                ag_json_t *row = ag_json_new_object();

                ag_json_set(row, "from", ag_json_new_integer(a));
                ag_json_set(row, "to", ag_json_new_integer(b));
                ag_json_set(row, "latency_s", ag_json_new_real(found[a].rates.latency_s));
                ag_json_set(row, "bytes_per_s", ag_json_new_real(found[a].rates.bytes_per_s));
                ag_json_append(list, row);
                if (!session->options->json) {
                    printf("link of ranks %d and %d: %.2f us, %.2f GB/s\n", a, b,
                           found[a].rates.latency_s * 1e6, gigas(found[a].rates.bytes_per_s));
                }
            }
        }
    }
    ag_cores_go_back(&cores);
    free(found);
    return status;
}

/* Rank 0's part; the others rest meanwhile. */
static ag_status_t measure_host(ag_session_t *session, ag_json_t *json)
{
    const ag_limits_t *limits = ag_session_limits(session, 0);
    ag_json_t *threads = ag_json_new_array();
    bool disturbed = false;
    ag_status_t status;

    ag_json_set(json, "cpu", ag_json_new_string(limits->cpu, strlen(limits->cpu)));
    ag_json_set(json, "threads", ag_json_new_integer(session->ranks[0].n_threads));
    ag_json_set(json, "ranks", ag_json_new_integer(session->net->n_ranks));
    ag_json_set(json, "limits", ag_limits_to_json(limits, session->ranks[0].n_threads));
    if (!session->options->json) {
        printf("%s, %u cores\n", limits->cpu, limits->n_cores);
    }
    status = by_threads(session, threads, &disturbed);
    ag_json_set(json, "disturbed", ag_json_new_bool(disturbed));
    ag_json_set(json, "by_threads", threads);
    return status == AG_OK && session->options->dir != NULL ? disk(session, json) : status;
}

/* What can be told before the seconds that measuring takes. */
static ag_status_t check(const ag_session_t *session)
{
    const char *dir = session->options->dir;
    ag_status_t status;

    if (session->net->rank != 0) {
        return AG_OK;
    }
    status = ag_probe_check(session->ranks[0].n_threads, session->host.available_bytes);
    return status == AG_OK && dir != NULL ? ag_disk_check(dir, DISK_BYTES) : status;
}

ag_status_t ag_command_bench_limits(ag_session_t *session)
{
    bool root = session->net->rank == 0;
    ag_json_t *json = ag_json_new_object(), *list = ag_json_new_array();
    ag_status_t status = ag_session_agree(session, check(session));

    if (status == AG_OK) {
        status = ag_session_get_limits(session);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, root ? measure_host(session, json) : AG_OK);
    }
    if (status == AG_OK) {
        status = ag_session_agree(session, unless_cancelled(links(session, list)));
    }
    ag_json_set(json, "links", list);
    if (status == AG_OK && root && session->options->json) {
        status = ag_print_json_line(json);
    } else {
        ag_json_destroy(json);
        status = status == AG_OK ? ag_write_out("", 0) : status;
    }
    return session->agreed ? status : ag_session_agree(session, status);
}
