#include "comm/link.h"

#include <stdlib.h>

enum { SMALL_BYTES = 8, LARGE_BYTES = 1 << 20, LEAST_ROUNDS = 6 };

/* Time that is enough for two ranks which stand on one core to be moved apart. */
static const uint64_t LEAST_NS = 30000000;

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

/* Half of the shortest round trip. The lower rank says in its message whether it is the last. */
static ag_status_t measure(const probe_t *probe, const ag_clock_t *clock, size_t n_bytes,
                           double *seconds_p)
{
    bool first = probe->net->rank < probe->peer;
    uint64_t best_ns = UINT64_MAX, all_ns = 0;
    ag_status_t status = AG_OK;

    probe->bytes[0] = 0;
    for (int i = 1; probe->bytes[0] == 0 && status == AG_OK; i++) {
        uint64_t begin_ns = ag_clock_now_ns(clock), ns;

        if (first) {
            probe->bytes[0] = i >= LEAST_ROUNDS && all_ns >= LEAST_NS;
        }
        status = pass(probe, first, n_bytes);
        if (status == AG_OK) {
            status = pass(probe, !first, n_bytes);
        }
        ns = ag_clock_now_ns(clock) - begin_ns;
        best_ns = ns < best_ns ? ns : best_ns;
        all_ns += ns;
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
    status = measure(&probe, clock, SMALL_BYTES, &rates_p->latency_s);
    if (status == AG_OK) {
        status = measure(&probe, clock, LARGE_BYTES, &large_s);
    }
    rates_p->bytes_per_s = large_s > 0 ? LARGE_BYTES / large_s : 0;
    free(probe.bytes);
    return status;
}
