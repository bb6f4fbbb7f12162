/* What is true of every device. */
#include <criterion/criterion.h>
#include <string.h>

#include "device_lazy.h"

static ag_status_t open_cpu(ag_team_t *team, ag_ledger_t *ledger, uint64_t seed,
                            ag_device_t **device_p)
{
    (void)seed;
    return ag_device_cpu_open(team, ledger, device_p);
}

static ag_status_t open_lazy(ag_team_t *team, ag_ledger_t *ledger, uint64_t seed,
                             ag_device_t **device_p)
{
    return ag_device_lazy_open(team, ledger, &(ag_device_lazy_opts_t){.seed = seed}, device_p);
}

static ag_status_t (*const open_fns[])(ag_team_t *team, ag_ledger_t *ledger, uint64_t seed,
                                       ag_device_t **device_p) = {open_cpu, open_lazy};

enum { N_DEVICES = sizeof(open_fns) / sizeof(open_fns[0]), N_SEEDS = 40 };

typedef struct setup {
    ag_team_t *team;
    ag_ledger_t *ledger;
    ag_device_t *device;
} setup_t;

static setup_t open_device(uint32_t kind, uint64_t seed, unsigned n_threads, uint64_t budget_bytes)
{
    setup_t s = {0};

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads, .spin_us = 1}, &s.team),
                 AG_OK);
    cr_assert_eq(ag_ledger_create(budget_bytes, &s.ledger), AG_OK);
    cr_assert_eq(open_fns[kind](s.team, s.ledger, seed, &s.device), AG_OK);
    return s;
}

static void close_device(setup_t *s)
{
    cr_expect_eq(ag_ledger_total(s->ledger), 0);
    ag_device_close(s->device);
    ag_ledger_destroy(s->ledger);
    ag_team_destroy(s->team);
}

/* Bytes of the device as the host has them; to be complete before they are looked at. */
static void read_out(const setup_t *s, uint32_t stream, void *to, const void *from, size_t bytes)
{
    if (ag_device_is_host(s->device)) {
        memcpy(to, from, bytes);
    } else {
        cr_assert_eq(s->device->ops->copy_out(s->device, stream, to, from, bytes), AG_OK);
    }
}

static void write_in(const setup_t *s, uint32_t stream, void *to, const void *from, size_t bytes)
{
    if (ag_device_is_host(s->device)) {
        memcpy(to, from, bytes);
    } else {
        cr_assert_eq(s->device->ops->copy_in(s->device, stream, to, from, bytes), AG_OK);
    }
}

static void finish(const setup_t *s, uint32_t stream)
{
    cr_assert_eq(ag_device_finish(s->device, stream), AG_OK);
}

/* A region that says whether memory is all of one byte, and fills it with another. */
typedef struct fill {
    unsigned char *base;
    size_t bytes;
    unsigned char expected, byte;
    uint64_t n_others;
} fill_t;

static void fill_memory(void *arg, const ag_worker_t *worker)
{
    fill_t *fill = arg;

    for (size_t at = 0; at < fill->bytes && worker->thread == 0; at++) {
        fill->n_others += fill->base[at] != fill->expected;
        fill->base[at] = fill->byte;
    }
}

Test(device, memory_is_zeroed_and_in_the_ledger_while_it_is_held)
{
    const size_t bytes = (5u << 20) + 123; /* several threads' shares, and a ragged end */

    for (unsigned i = 0; i < 9 * N_DEVICES; i++) {
        static const size_t shares[] = {0, 4096, 2u << 20};
        setup_t s = open_device(i / 9, i, 1 + i % 3, 0);
        ag_region_t region = {0};
        const ag_ledger_entry_t *entries;
        size_t n_entries;
        fill_t fill;

        cr_assert_eq(s.device->ops->alloc(s.device, "weights", bytes, shares[i / 3 % 3], &region),
                     AG_OK);
        entries = ag_ledger_entries(s.ledger, &n_entries);
        cr_assert_eq(n_entries, 1);
        cr_expect_str_eq(entries[0].part, "weights");
        cr_expect_geq(ag_ledger_total(s.ledger), bytes);
        fill = (fill_t){.base = region.base, .bytes = bytes, .byte = 1};
        cr_assert_eq(s.device->ops->launch(s.device, 0, fill_memory, &fill), AG_OK);
        finish(&s, 0);
        cr_expect_eq(fill.n_others, 0, "%s: %lu bytes are not zero", s.device->ops->name,
                     (unsigned long)fill.n_others);
        s.device->ops->free(s.device, &region);
        close_device(&s);
    }
}

Test(device, no_bytes_may_be_asked_for)
{
    for (uint32_t kind = 0; kind < N_DEVICES; kind++) {
        setup_t s = open_device(kind, 0, 2, 0);
        ag_region_t region = {0};

        cr_assert_eq(s.device->ops->alloc(s.device, "kv cache", 0, 4096, &region), AG_OK);
        s.device->ops->free(s.device, &region);
        s.device->ops->free(s.device, &region); /* zeroed */
        close_device(&s);
    }
}

Test(device, what_the_budget_does_not_hold_is_refused_and_nothing_taken)
{
    for (uint32_t kind = 0; kind < N_DEVICES; kind++) {
        setup_t s = open_device(kind, 0, 1, 1 << 20);
        const ag_device_ops_t *ops = s.device->ops;
        ag_region_t region = {0};

        cr_expect_eq(ops->alloc(s.device, "weights", 2 << 20, 4096, &region), AG_ERR_BUDGET);
        cr_expect_not_null(strstr(ag_error(), "weights"), "%s", ag_error());
        if (ops->alloc_host != NULL) {
            cr_expect_eq(ops->alloc_host(s.device, "messages", 2 << 20, &region), AG_ERR_BUDGET);
            cr_expect_not_null(strstr(ag_error(), "messages"), "%s", ag_error());
        }
        cr_expect_eq(ag_ledger_total(s.ledger), 0);
        close_device(&s);
    }
}

Test(device, what_a_device_can_do_it_can_do_whole)
{
    for (uint32_t kind = 0; kind < N_DEVICES; kind++) {
        setup_t s = open_device(kind, 0, 1, 0);
        const ag_device_ops_t *ops = s.device->ops;

        cr_expect_eq(ops->copy_in == NULL, ops->copy_out == NULL);
        cr_expect_eq(ops->copy_in == NULL, ops->alloc_host == NULL);
        cr_expect_eq(ops->query == NULL, ops->record == NULL);
        cr_expect_eq(ops->query == NULL, ops->wait == NULL);
        close_device(&s);
    }
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

Test(device, a_launched_region_runs_once_on_every_thread_of_the_team)
{
    for (unsigned i = 0; i < 4 * N_DEVICES; i++) {
        unsigned n_threads = 1 + i % 4;
        setup_t s = open_device(i / 4, i, n_threads, 0);
        visits_t visits = {0};

        for (uint32_t stream = 0; stream < 3; stream++) {
            cr_assert_eq(s.device->ops->launch(s.device, stream, visit, &visits), AG_OK);
            finish(&s, stream);
            cr_expect_eq(visits.n_threads, n_threads);
            for (unsigned t = 0; t < 4; t++) {
                cr_expect_eq(visits.by_thread[t], t < n_threads ? stream + 1 : 0);
            }
        }
        close_device(&s);
    }
}

/* A region that lengthens a list in the device's memory: n, then n numbers. */
typedef struct entry {
    uint32_t *list;
    uint32_t number;
} entry_t;

static void add_entry(void *arg, const ag_worker_t *worker)
{
    const entry_t *entry = arg;

    if (worker->thread == 0) {
        entry->list[++entry->list[0]] = entry->number;
    }
}

enum { N_ENTRIES = 12 };

Test(device, work_of_a_stream_runs_in_order)
{
    for (unsigned i = 0; i < N_SEEDS * N_DEVICES; i++) {
        setup_t s = open_device(i / N_SEEDS, i, 1, 0);
        uint32_t got[2][N_ENTRIES + 1], first[2] = {0};
        entry_t entries[2][N_ENTRIES];
        ag_region_t lists[2] = {0};

        for (uint32_t l = 0; l < 2; l++) {
            cr_assert_eq(s.device->ops->alloc(s.device, "lists", sizeof(got[l]), 0, &lists[l]),
                         AG_OK);
        }
        for (uint32_t n = 0; n < N_ENTRIES; n++) {
            for (uint32_t l = 0; l < 2; l++) {
                entries[l][n] = (entry_t){lists[l].base, 100 * l + n};
                cr_assert_eq(s.device->ops->launch(s.device, l, add_entry, &entries[l][n]), AG_OK);
            }
        }
        for (uint32_t l = 0; l < 2; l++) { /* behind the regions, on their stream */
            read_out(&s, l, got[l], lists[l].base, sizeof(got[l]));
            write_in(&s, l, lists[l].base, first, sizeof(first));
            finish(&s, l);
            cr_assert_eq(got[l][0], N_ENTRIES);
            for (uint32_t n = 0; n < N_ENTRIES; n++) {
                cr_expect_eq(got[l][1 + n], 100 * l + n);
            }
        }
        s.device->ops->free(s.device, &lists[0]);
        s.device->ops->free(s.device, &lists[1]);
        close_device(&s);
    }
}

/* a = 2 * b + 1 */
typedef struct sum {
    uint32_t *a;
    const uint32_t *b;
} sum_t;

static void add_up(void *arg, const ag_worker_t *worker)
{
    const sum_t *sum = arg;

    if (worker->thread == 0) {
        *sum->a = 2 * *sum->b + 1;
    }
}

Test(device, a_stream_that_waits_for_a_mark_finds_what_was_done_before_it)
{
    for (unsigned i = 0; i < N_SEEDS * N_DEVICES; i++) {
        setup_t s = open_device(i / N_SEEDS, i, 1, 0);
        uint32_t in = 5, out = 0;
        sum_t sums[N_ENTRIES];
        ag_region_t numbers = {0};
        uint32_t *at;

        cr_assert_eq(
            s.device->ops->alloc(s.device, "numbers", (N_ENTRIES + 1) * sizeof(in), 0, &numbers),
            AG_OK);
        at = numbers.base;
        write_in(&s, 0, at, &in, sizeof(in));
        for (uint32_t n = 0; n < N_ENTRIES; n++) { /* each on the next of three streams */
            ag_mark_t before = ag_device_record(s.device, n % 3);

            sums[n] = (sum_t){at + n + 1, at + n};
            cr_assert_eq(ag_device_wait(s.device, (n + 1) % 3, before), AG_OK);
            cr_assert_eq(s.device->ops->launch(s.device, (n + 1) % 3, add_up, &sums[n]), AG_OK);
        }
        read_out(&s, N_ENTRIES % 3, &out, at + N_ENTRIES, sizeof(out));
        finish(&s, N_ENTRIES % 3);
        cr_expect_eq(out, (6u << N_ENTRIES) - 1);
        for (uint32_t stream = 0; stream < 3; stream++) {
            finish(&s, stream);
        }
        s.device->ops->free(s.device, &numbers);
        close_device(&s);
    }
}

Test(device, a_mark_stands_for_what_was_queued_before_it_alone)
{
    for (unsigned i = 0; i < N_SEEDS * N_DEVICES; i++) {
        setup_t s = open_device(i / N_SEEDS, i, 1, 0);
        ag_mark_t marks[N_ENTRIES];
        visits_t visits[N_ENTRIES] = {0};

        cr_expect_eq(ag_device_query(s.device, ag_device_record(s.device, 7)), AG_OK,
                     "nothing was queued");
        for (uint32_t n = 0; n < N_ENTRIES; n++) {
            cr_assert_eq(s.device->ops->launch(s.device, 0, visit, &visits[n]), AG_OK);
            marks[n] = ag_device_record(s.device, 0);
        }
        for (uint32_t n = 0; n < N_ENTRIES; n++) {
            while (ag_device_query(s.device, marks[n]) == AG_PENDING) {
                cr_assert_eq(visits[n].n_threads, 0, "complete, and yet pending");
            }
            cr_assert_eq(visits[n].n_threads, 1, "said to be complete");
        }
        close_device(&s);
    }
}

Test(device, copies_bring_all_bytes_in_and_out_however_they_lie)
{
    for (unsigned i = 0; i < N_SEEDS * N_DEVICES; i++) {
        setup_t s = open_device(i / N_SEEDS, i, 1, 0);
        unsigned char in[300], out[300] = {0};
        size_t n = 1 + i * 7 % 290, shift = i % 9;
        ag_region_t region = {0};
        unsigned char *at;

        cr_assert_eq(s.device->ops->alloc(s.device, "bytes", 9000, 0, &region), AG_OK);
        at = (unsigned char *)region.base + 4090 + shift; /* over a page's end */
        for (size_t b = 0; b < sizeof(in); b++) {
            in[b] = (unsigned char)(b * 31 + i);
        }
        write_in(&s, 2, at, in, n);
        read_out(&s, 2, out + 1, at, n);
        finish(&s, 2);
        cr_expect_arr_eq(out + 1, in, n);
        cr_expect(out[0] == 0 && out[n + 1] == 0);
        s.device->ops->free(s.device, &region);
        close_device(&s);
    }
}

Test(device, no_device_may_be_closed)
{
    ag_device_close(NULL);
}
