/* Every collective by every algorithm, proven on the lists of all its ranks; see lists.h. */
#include <criterion/criterion.h>
#include <string.h>

#include "lists.h"
#include "runtime/base/philox.h"

enum { SEEDS = 12, MOST = 7, MUTANTS_EACH = 250, MET = 20 };

/* What the drawn cases were, by collective and algorithm. */
typedef struct met {
    unsigned all, with_zero, with_nothing, no_power_of_two, with_one_host, with_one_rank_hosts,
        with_uneven_hosts;
} met_t;

static uint32_t count_on_host(const ag_drawn_t *drawn, uint32_t host)
{
    uint32_t n = 0;

    for (uint32_t r = 0; r < drawn->shape.n_ranks; r++) {
        n += drawn->hosts[r] == host;
    }
    return n;
}

static uint32_t count_hosts(const ag_drawn_t *drawn)
{
    uint32_t n = 0;

    while (count_on_host(drawn, n) > 0) {
        n++;
    }
    return n;
}

static void meet(met_t *met, const ag_drawn_t *drawn)
{
    uint32_t p = drawn->shape.n_ranks, n_hosts = count_hosts(drawn);
    uint32_t n_columns = drawn->shape.collective == AG_ALL_TO_ALL ? p : 1;
    uint32_t n_zeros = 0, n_other_hosts = 0;

    for (uint32_t r = 0; r < p; r++) {
        for (uint32_t to = 0; to < n_columns; to++) {
            n_zeros += (n_columns > 1 ? drawn->sends[r * p + to] : drawn->counts[r]) == 0;
        }
    }
    for (uint32_t host = 0; host < n_hosts; host++) {
        n_other_hosts += count_on_host(drawn, host) != count_on_host(drawn, 0);
    }
    met->all++;
    met->with_zero += n_zeros > 0;
    met->with_nothing += n_zeros == p * n_columns;
    met->no_power_of_two += (p & (p - 1)) != 0;
    met->with_one_host += n_hosts == 1 && p > 1;
    met->with_one_rank_hosts += n_hosts == p && p > 1;
    met->with_uneven_hosts += n_other_hosts > 0;
}

static void check_met(const met_t *met, ag_collective_t collective, ag_algorithm_t algorithm)
{
    const unsigned counters[] = {
        met->all,           met->with_zero,           met->with_nothing,     met->no_power_of_two,
        met->with_one_host, met->with_one_rank_hosts, met->with_uneven_hosts};

    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        cr_assert_geq(counters[i], MET, "collective %d by %d: kind %zu was met %u times",
                      collective, algorithm, i, counters[i]);
    }
}

static uint64_t count_between(const ag_drawn_t *drawn, uint32_t host, uint32_t other)
{
    uint32_t p = drawn->shape.n_ranks;
    uint64_t n = 0;

    for (uint32_t i = 0; i < p * p; i++) {
        bool is_between = drawn->hosts[i / p] == host && drawn->hosts[i % p] == other;

        n += is_between ? drawn->sends[i] : 0;
    }
    return n;
}

/* Of an exchange every element goes between hosts once, all from one to another in one message. */
static void check_far_exchange(const lists_t *lists, uint32_t n_hosts)
{
    uint64_t n_messages = 0;

    for (uint32_t host = 0; host < n_hosts; host++) {
        uint64_t n_sent = 0;

        for (uint32_t other = 0; other < n_hosts; other++) {
            uint64_t n = host != other ? count_between(lists->drawn, host, other) : 0;

            n_sent += n;
            n_messages += n > 0;
        }
        cr_assert_eq(lists->far_elements[host], n_sent);
    }
    cr_assert_eq(lists->far_messages, n_messages);
}

/* By host, no host sends more than it must: a buffer for each of reduce-scatter and gather; whole
 * buffers along a tree of hosts. */
static void check_far(const lists_t *lists)
{
    const ag_drawn_t *drawn = lists->drawn;
    uint32_t n_hosts = count_hosts(drawn);

    if (drawn->shape.collective == AG_ALL_TO_ALL) {
        check_far_exchange(lists, n_hosts);
        return;
    }
    if (drawn->shape.collective == AG_BROADCAST) {
        cr_assert_eq(lists->far_messages, drawn->shape.n > 0 ? n_hosts - 1 : 0);
        return;
    }
    for (uint32_t host = 0; host < n_hosts; host++) {
        cr_assert_leq(lists->far_elements[host],
                      (drawn->shape.collective == AG_ALL_REDUCE ? 2 : 1) * drawn->shape.n);
    }
}

/* What a rank stages is at most what it receives at once to be added; of an exchange by host, twice
 * what it passes on. */
static uint64_t most_staging(const ag_drawn_t *drawn)
{
    const ag_transfer_shape_t *shape = &drawn->shape;
    bool scatters = shape->collective == AG_REDUCE_SCATTER;
    uint64_t largest = 0, all = 0;

    for (uint32_t i = 0; i < shape->n_ranks * shape->n_ranks; i++) {
        all += drawn->sends[i];
    }
    if (shape->collective == AG_ALL_TO_ALL) {
        return shape->algorithm == AG_BY_HOST ? 2 * all : 0;
    }
    for (uint32_t r = 0; r < shape->n_ranks; r++) {
        largest = drawn->counts[r] > largest ? drawn->counts[r] : largest;
    }
    if (!scatters && shape->collective != AG_ALL_REDUCE) {
        return 0;
    }
    switch (shape->algorithm) {
    case AG_DIRECT:
        return (shape->n_ranks - 1) * (scatters ? largest : shape->n);
    case AG_RING:
        return largest;
    default:
        return shape->n;
    }
}

static void prove(ag_collective_t collective, ag_algorithm_t algorithm, met_t *met)
{
    for (uint32_t p = 1; p <= AG_DRAWN_RANKS; p++) {
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            ag_drawn_t drawn = ag_drawn_make(100 * p + seed, collective, algorithm, p, MOST);
            lists_t lists;
            const char *complaint;

            lists_init(&lists, &drawn);
            complaint = lists_run(&lists);
            cr_assert_null(complaint, "collective %d by %d of %u ranks, seed %u: %s", collective,
                           algorithm, p, (unsigned)seed, complaint);
            if (algorithm == AG_BY_HOST && drawn.has_hosts) {
                check_far(&lists);
            }
            for (uint32_t r = 0; r < p; r++) {
                cr_assert_leq(lists.ranks[r].n[AG_AREA_STAGING], most_staging(&drawn));
            }
            meet(met, &drawn);
            lists_fini(&lists);
        }
    }
}

Test(transfer, every_list_brings_each_ranks_elements_once_to_where_they_belong)
{
    for (int c = 0; c < AG_N_COLLECTIVES; c++) {
        for (int a = 0; a < AG_N_ALGORITHMS; a++) {
            if (ag_transfer_is_offered((ag_collective_t)c, (ag_algorithm_t)a)) {
                met_t met = {0};

                prove((ag_collective_t)c, (ag_algorithm_t)a, &met);
                check_met(&met, (ag_collective_t)c, (ag_algorithm_t)a);
            }
        }
    }
}

typedef enum mutation {
    DROPPED,
    DOUBLED,
    SHIFTED,
    OF_ANOTHER_SIZE,
    WITH_ANOTHER_PEER,
    N_MUTATIONS
} mutation_t;

/* Change transfer i of a list; false where that leaves it as it is. */
static bool mutate(ag_array_t *transfers, size_t i, mutation_t mutation, uint64_t at_random,
                   uint32_t n_ranks)
{
    ag_transfer_t *items = AG_ITEMS(transfers, ag_transfer_t), *t = &items[i], same = *t;
    uint64_t step = at_random % 2 == 0 ? 1 : UINT64_MAX; /* or back */
    bool is_message = t->kind == AG_TRANSFER_SEND || t->kind == AG_TRANSFER_RECV;

    switch (mutation) {
    case DROPPED:
        memmove(t, t + 1, (--transfers->n_items - i) * sizeof(*t));
        return true;
    case DOUBLED:
        cr_assert_eq(ag_array_append(transfers, &same, 1), AG_OK);
        items = AG_ITEMS(transfers, ag_transfer_t);
        memmove(&items[i + 1], &items[i], (transfers->n_items - 1 - i) * sizeof(*items));
        return true;
    case SHIFTED:
        if (t->kind == AG_TRANSFER_SEND || (t->kind != AG_TRANSFER_RECV && at_random % 4 < 2)) {
            t->from += step;
        } else {
            t->to += step;
        }
        return true;
    case OF_ANOTHER_SIZE:
        t->n += step;
        return true;
    default:
        t->peer = (t->peer + 1 + (uint32_t)at_random) % (n_ranks + 1);
        return is_message && t->peer != same.peer;
    }
}

/* @return was there anything to change? */
static bool check_mutant(ag_collective_t collective, ag_algorithm_t algorithm, mutation_t mutation,
                         uint64_t seed)
{
    uint32_t p = 2 + (uint32_t)(ag_philox_uniform(seed, 20, 0) * (AG_DRAWN_RANKS - 1));
    ag_drawn_t drawn = ag_drawn_make(seed, collective, algorithm, p, MOST);
    uint32_t r = (uint32_t)(ag_philox_uniform(seed, 20, 1) * p);
    uint64_t at_random = (uint64_t)(ag_philox_uniform(seed, 20, 2) * 1000);
    lists_t lists;
    ag_array_t *transfers = &lists.ranks[r].transfers;
    bool is_changed;

    lists_init(&lists, &drawn);
    is_changed =
        transfers->n_items > 0 &&
        mutate(transfers, (size_t)(ag_philox_uniform(seed, 20, 3) * (double)transfers->n_items),
               mutation, at_random, p);
    if (is_changed) {
        cr_assert_not_null(lists_run(&lists),
                           "collective %d by %d of %u ranks, seed %u: mutation %d goes unseen",
                           collective, algorithm, p, (unsigned)seed, mutation);
    }
    lists_fini(&lists);
    return is_changed;
}

Test(transfer, a_list_with_one_thing_changed_is_rejected)
{
    for (int c = 0; c < AG_N_COLLECTIVES; c++) {
        for (int a = 0; a < AG_N_ALGORITHMS; a++) {
            for (int m = 0; m < N_MUTATIONS; m++) {
                uint64_t seed = 0;

                for (int n = 0; ag_transfer_is_offered((ag_collective_t)c, (ag_algorithm_t)a) &&
                                n < MUTANTS_EACH;
                     seed++) {
                    n += check_mutant((ag_collective_t)c, (ag_algorithm_t)a, (mutation_t)m, seed);
                }
            }
        }
    }
}

Test(transfer, the_choice_is_by_bytes_ranks_and_hosts)
{
    static const uint32_t two_hosts[] = {0, 1, 0, 1, 1, 0, 0, 0},
                          apart[] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const struct {
        ag_collective_t collective;
        uint64_t n;
        const uint32_t *hosts;
        ag_algorithm_t wanted;
    } cases[] = {{AG_ALL_REDUCE, 0, two_hosts, AG_DIRECT},
                 {AG_ALL_REDUCE, 2340, NULL, AG_DIRECT},
                 {AG_ALL_REDUCE, 2341, NULL, AG_DOUBLING},
                 {AG_ALL_REDUCE, 10922, NULL, AG_DOUBLING},
                 {AG_ALL_REDUCE, 10923, NULL, AG_RING},
                 {AG_ALL_REDUCE, 10923, apart, AG_RING},
                 {AG_ALL_REDUCE, 10923, two_hosts, AG_BY_HOST},
                 {AG_REDUCE_SCATTER, 16384, NULL, AG_DIRECT},
                 {AG_REDUCE_SCATTER, 16385, NULL, AG_RING},
                 {AG_ALL_GATHER, 16384, NULL, AG_DIRECT},
                 {AG_ALL_GATHER, 1 << 20, two_hosts, AG_BY_HOST},
                 {AG_BROADCAST, 1, NULL, AG_TREE},
                 {AG_BROADCAST, 1 << 20, two_hosts, AG_RING},
                 {AG_BROADCAST, 1 << 16, two_hosts, AG_BY_HOST}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_transfer_shape_t shape = {.collective = cases[i].collective,
                                     .n_ranks = 8,
                                     .hosts = cases[i].hosts,
                                     .element_bytes = sizeof(float),
                                     .n = cases[i].n};

        cr_expect_eq(ag_transfer_choose(&shape), cases[i].wanted, "case %zu", i);
        shape.n_ranks = 1;
        cr_expect(ag_transfer_is_offered(shape.collective, ag_transfer_choose(&shape)));
    }
}

/* Of the one element more than may go by host in the mean, it may be any rank's. */
Test(transfer, an_exchange_goes_by_host_while_it_is_small_and_all_know_all_of_it)
{
    enum { P = 5, MEAN = 16384 };
    static const uint32_t two_hosts[] = {0, 1, 0, 1, 1}, apart[] = {0, 1, 2, 3, 4};
    uint64_t counts[P * P] = {[7] = P * MEAN - 3, [P * P - 1] = 3};
    ag_transfer_shape_t shape = {.collective = AG_ALL_TO_ALL,
                                 .n_ranks = P,
                                 .hosts = two_hosts,
                                 .element_bytes = sizeof(float),
                                 .all_counts = counts};

    cr_expect_eq(ag_transfer_choose(&shape), AG_BY_HOST);
    counts[3]++;
    cr_expect_eq(ag_transfer_choose(&shape), AG_PAIRWISE);
    counts[3]--;
    shape.hosts = apart;
    cr_expect_eq(ag_transfer_choose(&shape), AG_PAIRWISE);
    shape.hosts = NULL;
    cr_expect_eq(ag_transfer_choose(&shape), AG_PAIRWISE);
    shape.hosts = two_hosts;
    shape.all_counts = NULL;
    cr_expect_eq(ag_transfer_choose(&shape), AG_PAIRWISE);
}

Test(transfer, staging_for_any_exchange_up_to_a_bound_is_enough)
{
    unsigned n_by_host = 0;

    for (uint64_t seed = 0; seed < 300; seed++) {
        uint32_t p = 2 + (uint32_t)seed % (AG_DRAWN_RANKS - 1);
        ag_drawn_t drawn = ag_drawn_make(seed, AG_ALL_TO_ALL, AG_BY_HOST, p, 2000);
        uint64_t all = 0;

        for (uint32_t i = 0; i < p * p; i++) {
            all += drawn.sends[i];
        }
        for (uint32_t me = 0; me < p; me++) {
            ag_transfer_shape_t shape = ag_drawn_shape(&drawn, me), largest = shape;

            largest.all_counts = NULL;
            largest.n = (all + p - 1) / p;
            shape.algorithm = ag_transfer_choose(&shape);
            n_by_host += shape.algorithm == AG_BY_HOST;
            cr_assert_leq(ag_transfer_stage_elements(&shape, me),
                          ag_transfer_most_stage_elements(&largest, me));
        }
    }
    cr_expect_gt(n_by_host, 300);
}

Test(transfer, staging_for_any_size_up_to_a_bound_is_enough)
{
    for (uint32_t p = 1; p <= AG_DRAWN_RANKS; p++) {
        ag_drawn_t drawn = ag_drawn_make(p, AG_ALL_REDUCE, AG_RING, p, 1);
        ag_transfer_shape_t shape = {
            .n_ranks = p, .hosts = drawn.hosts, .element_bytes = sizeof(float), .n = 40000};

        for (uint32_t me = 0; me < p; me++) {
            uint64_t most = ag_transfer_most_stage_elements(&shape, me);

            cr_assert_leq(most, shape.n);
            for (uint64_t n = 0; n < shape.n; n += 97) {
                ag_transfer_shape_t smaller = shape;

                smaller.n = n;
                smaller.algorithm = ag_transfer_choose(&smaller);
                cr_assert_leq(ag_transfer_stage_elements(&smaller, me), most);
            }
        }
    }
}

Test(transfer, a_shape_that_contradicts_itself_is_told)
{
    static const uint64_t counts[] = {1, 2, 3}, others[] = {1, 3, 3}, same[] = {1, 2, 1};
    static const uint64_t all[] = {0, 1, 0, 1, 2, 3, 0, 1, 0};
    static const uint32_t hosts[] = {0, 2, 0};
    const ag_transfer_shape_t good = {.collective = AG_ALL_REDUCE,
                                      .algorithm = AG_RING,
                                      .n_ranks = 3,
                                      .element_bytes = 4,
                                      .n = 6,
                                      .counts = counts};
    ag_transfer_shape_t bad[9] = {good, good, good, good, good};
    ag_array_t transfers = AG_ARRAY(ag_transfer_t);

    bad[0].counts = others;
    bad[1].element_bytes = 6;
    bad[2].element_bytes = 0;
    bad[3].hosts = hosts;
    bad[4].root = 3;
    bad[5] = (ag_transfer_shape_t){.collective = AG_ALL_TO_ALL,
                                   .algorithm = AG_PAIRWISE,
                                   .n_ranks = 3,
                                   .element_bytes = 1,
                                   .send_counts = counts,
                                   .recv_counts = others};
    bad[6] = bad[5];
    bad[6].recv_counts = same;
    bad[6].algorithm = AG_BY_HOST;
    bad[7] = bad[6];
    bad[7].all_counts = all; /* of which this rank receives {1, 2, 1}, and sends others */
    bad[7].send_counts = same;
    bad[8] = good;
    bad[8].algorithm = AG_TREE;
    cr_expect_eq(ag_transfer_list(&good, 3, &transfers), AG_ERR_INVALID);
    for (int i = 0; i < 9; i++) {
        cr_expect_eq(ag_transfer_list(&bad[i], 1, &transfers),
                     i < 8 ? AG_ERR_INVALID : AG_ERR_UNSUPPORTED, "shape %d", i);
    }
    cr_expect_eq(ag_transfer_list(&good, 1, &transfers), AG_OK);
    bad[7].send_counts = counts;
    cr_expect_eq(ag_transfer_list(&bad[7], 1, &transfers), AG_OK);
    ag_array_fini(&transfers);
}
