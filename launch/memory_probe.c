#include "launch/memory_probe.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 256 << 20 };

void ag_pass_rates_add(ag_pass_rates_t *rates, const ag_probe_pass_t *pass)
{
    if (pass->n_bytes == 0 || pass->seconds <= 0) {
        return;
    }
    if (!pass->alone) {
        rates->n_disturbed++;
        return;
    }
    rates->rates[rates->n_alone++ % AG_MAX_KEPT_PASSES] = (double)pass->n_bytes / pass->seconds;
}

static int by_rate(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double ag_pass_rates_median(const ag_pass_rates_t *rates)
{
    uint32_t n = rates->n_alone < AG_MAX_KEPT_PASSES ? rates->n_alone : AG_MAX_KEPT_PASSES;
    double sorted[AG_MAX_KEPT_PASSES];

    if (n < AG_LEAST_PASSES) {
        return 0;
    }
    memcpy(sorted, rates->rates, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_rate);
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

double ag_pass_rates_best(const ag_pass_rates_t *rates)
{
    uint32_t n = rates->n_alone < AG_MAX_KEPT_PASSES ? rates->n_alone : AG_MAX_KEPT_PASSES;
    double best = 0;

    for (uint32_t i = 0; i < n; i++) {
        best = rates->rates[i] > best ? rates->rates[i] : best;
    }
    return best;
}

static ag_probe_pass_t read_next(ag_memory_probe_t *probe)
{
    size_t left = probe->n_bytes - probe->at, n = left < MOST_BYTES ? left : MOST_BYTES;
    ag_probe_pass_t pass =
        ag_probe_read_pass(probe->team, probe->bytes + probe->at, n, probe->n_streams);

    probe->at = probe->at + n < probe->n_bytes ? probe->at + n : 0;
    return pass;
}

void ag_memory_probe_init(ag_memory_probe_t *probe, ag_team_t *team, const void *bytes,
                          size_t n_bytes)
{
    unsigned best_streams = 1;
    double best = 0;

    *probe = (ag_memory_probe_t){.team = team, .bytes = bytes, .n_bytes = n_bytes};
    for (unsigned n = 1; n <= 8 && n_bytes > 0; n *= 2) {
        probe->n_streams = n;
        for (int i = 0; i < 3; i++) {
            ag_probe_pass_t pass = read_next(probe);

            if (pass.seconds > 0 && (double)pass.n_bytes > best * pass.seconds) {
                best = (double)pass.n_bytes / pass.seconds;
                best_streams = n;
            }
        }
    }
    probe->n_streams = best_streams;
}

void ag_memory_probe_pass(ag_memory_probe_t *probe)
{
    ag_probe_pass_t pass;

    if (probe->n_bytes > 0) {
        pass = read_next(probe);
        ag_pass_rates_add(&probe->rates, &pass);
    }
}
