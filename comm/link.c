#include "comm/link.h"

#include <stdlib.h>

enum { SMALL_BYTES = 8, LARGE_BYTES = 1 << 20, SMALL_ROUNDS = 50, LARGE_ROUNDS = 6 };

typedef struct probe {
    ag_net_t *net;
    const ag_idle_t *idle;
    int peer;
    unsigned char *bytes;
} probe_t;

static ag_status_t pass(const probe_t *probe, bool sends, size_t n_bytes)
{
    return sends ? ag_net_send(probe->net, probe->idle, probe->peer, probe->bytes, n_bytes)
                 : ag_net_recv(probe->net, probe->idle, probe->peer, probe->bytes, n_bytes);
}

/* Half of the shortest round trip. */
static ag_status_t measure(const probe_t *probe, const ag_clock_t *clock, size_t n_bytes,
                           int n_rounds, double *seconds_p)
{
    bool first = probe->net->rank < probe->peer;
    uint64_t best_ns = UINT64_MAX;
    ag_status_t status = AG_OK;

    for (int i = 0; i < n_rounds && status == AG_OK; i++) {
        uint64_t begin_ns = ag_clock_now_ns(clock), ns;

        status = pass(probe, first, n_bytes);
        if (status == AG_OK) {
            status = pass(probe, !first, n_bytes);
        }
        ns = ag_clock_now_ns(clock) - begin_ns;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    *seconds_p = (double)best_ns * 0.5e-9;
    return status;
}

ag_status_t ag_link_measure(ag_net_t *net, const ag_idle_t *idle, int peer, const ag_clock_t *clock,
                            ag_link_rates_t *rates_p)
{
    probe_t probe = {.net = net, .idle = idle, .peer = peer, .bytes = calloc(1, LARGE_BYTES)};
    double large_s = 0;
    ag_status_t status;

    if (probe.bytes == NULL) {
        return ag_fail_nomem("measuring a link", LARGE_BYTES);
    }
    status = measure(&probe, clock, SMALL_BYTES, SMALL_ROUNDS, &rates_p->latency_s);
    if (status == AG_OK) {
        status = measure(&probe, clock, LARGE_BYTES, LARGE_ROUNDS, &large_s);
    }
    rates_p->bytes_per_s = large_s > 0 ? LARGE_BYTES / large_s : 0;
    free(probe.bytes);
    return status;
}
