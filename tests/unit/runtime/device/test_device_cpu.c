#include "runtime/device/device.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct setup {
    ag_team_t *team;
    ag_ledger_t *ledger;
    ag_device_t *device;
} setup_t;

static setup_t open_device(unsigned n_threads, uint64_t budget_bytes)
{
    setup_t s = {0};

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads, .spin_us = 1}, &s.team),
                 AG_OK);
    cr_assert_eq(ag_ledger_create(budget_bytes, &s.ledger), AG_OK);
    cr_assert_eq(ag_device_cpu_open(s.team, s.ledger, &s.device), AG_OK);
    return s;
}

static void close_device(setup_t *s)
{
    cr_expect_eq(ag_ledger_total(s->ledger), 0);
    ag_device_close(s->device);
    ag_ledger_destroy(s->ledger);
    ag_team_destroy(s->team);
}

Test(device_cpu, memory_is_zeroed_and_in_the_ledger_while_it_is_held)
{
    const size_t bytes = (5u << 20) + 123; /* several threads' shares, and a ragged end */

    for (unsigned i = 0; i < 9; i++) {
        static const size_t shares[] = {0, 4096, 2u << 20};
        setup_t s = open_device(1 + i % 3, 0);
        ag_region_t region = {0};
        const ag_ledger_entry_t *entries;
        size_t n_entries;

        cr_assert_eq(s.device->ops->alloc(s.device, "weights", bytes, shares[i / 3], &region),
                     AG_OK);
        entries = ag_ledger_entries(s.ledger, &n_entries);
        cr_assert_eq(n_entries, 1);
        cr_expect_str_eq(entries[0].part, "weights");
        cr_expect_geq(ag_ledger_total(s.ledger), bytes);
        for (size_t at = 0; at < bytes; at++) {
            cr_assert_eq(((unsigned char *)region.base)[at], 0, "byte %zu", at);
        }
        memset(region.base, 1, bytes);
        s.device->ops->free(s.device, &region);
        close_device(&s);
    }
}

Test(device_cpu, no_bytes_may_be_asked_for)
{
    setup_t s = open_device(2, 0);
    ag_region_t region = {0};

    cr_assert_eq(s.device->ops->alloc(s.device, "kv cache", 0, 4096, &region), AG_OK);
    s.device->ops->free(s.device, &region);
    close_device(&s);
}

Test(device_cpu, what_the_budget_does_not_hold_is_refused_and_nothing_taken)
{
    setup_t s = open_device(1, 1 << 20);
    ag_region_t region = {0};

    cr_expect_eq(s.device->ops->alloc(s.device, "weights", 2 << 20, 4096, &region), AG_ERR_BUDGET);
    cr_expect_not_null(strstr(ag_error(), "weights"), "%s", ag_error());
    cr_expect_eq(ag_ledger_total(s.ledger), 0);
    close_device(&s);
}

typedef struct visits {
    unsigned n_threads;
    unsigned by_thread[4];
} visits_t;

static void visit(void *arg, const ag_worker_t *worker)
{
    visits_t *visits = arg;

    visits->by_thread[worker->thread]++;
    if (worker->thread == 0) {
        visits->n_threads = worker->n_threads;
    }
}

Test(device_cpu, a_launched_region_has_run_on_every_thread_of_the_team_when_launch_returns)
{
    for (unsigned n_threads = 1; n_threads <= 4; n_threads++) {
        setup_t s = open_device(n_threads, 0);
        visits_t visits = {0};

        for (uint32_t stream = 0; stream < 3; stream++) {
            cr_assert_eq(s.device->ops->launch(s.device, stream, visit, &visits), AG_OK);
            cr_expect_eq(visits.n_threads, n_threads);
            for (unsigned t = 0; t < 4; t++) {
                cr_expect_eq(visits.by_thread[t], t < n_threads ? stream + 1 : 0);
            }
        }
        cr_expect_null((void *)s.device->ops->query, "launch is synchronous");
        close_device(&s);
    }
}

Test(device_cpu, no_device_may_be_closed)
{
    ag_device_close(NULL);
}
