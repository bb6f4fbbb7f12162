#include <criterion/criterion.h>
#include <string.h>

#include "parallel/plan/layout.h"
#include "runtime/base/philox.h"

enum { MOST_RANKS = 6, MOST_EXTENT = 40, N_TRIALS = 4000 };

/* Numbers below n, one after the other. */
typedef struct dice {
    uint64_t seed, n_thrown;
} dice_t;

static uint32_t throw_dice(dice_t *dice, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(dice->seed, 0, dice->n_thrown++) * n);
}

typedef struct holding {
    uint32_t ranks[MOST_RANKS];
    ag_range_t ranges[MOST_RANKS];
    ag_layout_t layout;
} holding_t;

/* Some of the ranks 0 to 7, each once, with ranges that may overlap, be empty or leave gaps. */
static void random_holding(dice_t *dice, uint64_t extent, holding_t *holding)
{
    uint32_t n = 0, n_ranks = 1 + throw_dice(dice, MOST_RANKS);

    for (uint32_t rank = throw_dice(dice, 3); n < n_ranks; rank = (rank + 3) % 8) {
        uint32_t a = throw_dice(dice, (uint32_t)extent + 1);
        uint32_t b = throw_dice(dice, (uint32_t)extent + 1);

        if (throw_dice(dice, 4) == 0) { /* a replica of the whole, often */
            a = 0;
            b = (uint32_t)extent;
        }
        holding->ranks[n] = rank;
        holding->ranges[n++] = (ag_range_t){a < b ? a : b, a < b ? b : a};
    }
    holding->layout = (ag_layout_t){extent, n_ranks, holding->ranks, holding->ranges};
}

static bool rank_holds(const ag_layout_t *layout, uint32_t rank, uint64_t item)
{
    for (uint32_t i = 0; i < layout->n_ranks; i++) {
        if (layout->ranks[i] == rank && layout->ranges[i].begin <= item &&
            item < layout->ranges[i].end) {
            return true;
        }
    }
    return false;
}

static bool somebody_holds(const ag_layout_t *layout, uint64_t item)
{
    for (uint32_t i = 0; i < layout->n_ranks; i++) {
        if (rank_holds(layout, layout->ranks[i], item)) {
            return true;
        }
    }
    return false;
}

static bool all_is_held(const ag_layout_t *from, const ag_layout_t *to)
{
    for (uint32_t i = 0; i < to->n_ranks; i++) {
        for (uint64_t item = to->ranges[i].begin; item < to->ranges[i].end; item++) {
            if (!somebody_holds(from, item)) {
                return false;
            }
        }
    }
    return true;
}

/* Each wanted item once, in order, from one who holds it, at home where home holds it. */
static void expect_covers(const ag_layout_t *from, const ag_layout_t *to, const ag_array_t *copies)
{
    const ag_reshard_copy_t *copy = copies->items, *end = copy + copies->n_items;

    for (uint32_t i = 0; i < to->n_ranks; i++) {
        uint64_t at = to->ranges[i].begin;

        while (at < to->ranges[i].end) {
            cr_assert(copy < end, "item %llu of rank %u is missing", (unsigned long long)at,
                      to->ranks[i]);
            cr_assert_eq(copy->to_rank, to->ranks[i]);
            cr_assert_eq(copy->range.begin, at);
            cr_assert_gt(copy->range.end, at);
            cr_assert_leq(copy->range.end, to->ranges[i].end);
            for (; at < copy->range.end; at++) {
                cr_assert(rank_holds(from, copy->from_rank, at));
                cr_assert(copy->from_rank == copy->to_rank || !rank_holds(from, copy->to_rank, at));
            }
            copy++;
        }
    }
    cr_expect_eq(copy, end, "copies that nobody asked for");
}

Test(reshard, random_layouts_are_covered_once_by_holders_and_at_home_first)
{
    dice_t dice = {.seed = 1};
    int n_planned = 0, n_refused = 0;

    for (int trial = 0; trial < N_TRIALS; trial++) {
        ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);
        uint64_t extent = throw_dice(&dice, MOST_EXTENT);
        holding_t from, to;
        ag_status_t status;

        random_holding(&dice, extent, &from);
        random_holding(&dice, extent, &to);
        status = ag_reshard_plan(&from.layout, &to.layout, &copies);
        if (all_is_held(&from.layout, &to.layout)) {
            cr_assert_eq(status, AG_OK);
            expect_covers(&from.layout, &to.layout, &copies);
            n_planned++;
        } else {
            cr_assert_eq(status, AG_ERR_INVALID);
            cr_assert_eq(copies.n_items, 0);
            n_refused++;
        }
        ag_array_fini(&copies);
    }
    cr_expect_gt(n_planned, N_TRIALS / 10);
    cr_expect_gt(n_refused, N_TRIALS / 10);
}

/*
 * Ranks 0 to n_holders - 1 have the whole; MOST_RANKS ranks from `first` on want it, in some order:
 * those below n_holders are served at home, the others by the holders.
 */
static void expect_shared_sending(dice_t *dice, uint32_t n_holders, uint32_t first)
{
    static const uint32_t holders[] = {0, 1, 2, 3, 4};
    static const ag_range_t whole[MOST_RANKS] = {{0, 9}, {0, 9}, {0, 9}, {0, 9}, {0, 9}, {0, 9}};
    uint32_t wanting[MOST_RANKS], sent[16] = {0}, most = 0, n_apart = 0;
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);

    for (uint32_t i = 0; i < MOST_RANKS; i++) {
        uint32_t j = throw_dice(dice, i + 1);

        if (j != i) { /* shuffled as it grows */
            wanting[i] = wanting[j];
        }
        wanting[j] = first + i;
        n_apart += first + i >= n_holders;
    }
    cr_assert_eq(ag_reshard_plan(&(ag_layout_t){9, n_holders, holders, whole},
                                 &(ag_layout_t){9, MOST_RANKS, wanting, whole}, &copies),
                 AG_OK);
    for (size_t i = 0; i < copies.n_items; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&copies, ag_reshard_copy_t)[i];

        sent[copy->from_rank] += copy->from_rank != copy->to_rank;
    }
    for (uint32_t i = 0; i < n_holders; i++) {
        most = sent[i] > most ? sent[i] : most;
    }
    cr_expect_eq(most, (n_apart + n_holders - 1) / n_holders, "%u holders, %u others: %u",
                 n_holders, n_apart, most);
    ag_array_fini(&copies);
}

Test(reshard, holders_of_the_whole_share_the_sending_whatever_the_order)
{
    dice_t dice = {.seed = 3};

    for (int trial = 0; trial < 20; trial++) {
        for (uint32_t n_holders = 1; n_holders <= 5; n_holders++) {
            for (uint32_t first = 0; first <= n_holders; first++) {
                expect_shared_sending(&dice, n_holders, first);
            }
        }
    }
}

Test(reshard, what_nobody_holds_is_an_error_that_leaves_the_list_as_it_was)
{
    static const uint32_t ranks[] = {0, 1};
    static const ag_range_t held[] = {{0, 4}, {5, 9}}, wanted[] = {{0, 4}, {3, 9}};
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);
    ag_reshard_copy_t before = {7, 7, {1, 2}};

    cr_assert_eq(ag_array_append(&copies, &before, 1), AG_OK);
    cr_expect_eq(ag_reshard_plan(&(ag_layout_t){9, 2, ranks, held},
                                 &(ag_layout_t){9, 2, ranks, wanted}, &copies),
                 AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "item 4") != NULL, "%s", ag_error());
    cr_expect(strstr(ag_error(), "rank 1") != NULL, "%s", ag_error());
    cr_expect_eq(copies.n_items, 1);
    ag_array_fini(&copies);
}

Test(reshard, tensors_of_different_extent_do_not_become_each_other)
{
    static const uint32_t ranks[] = {0};
    static const ag_range_t ranges[] = {{0, 4}};
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);

    cr_expect_eq(ag_reshard_plan(&(ag_layout_t){4, 1, ranks, ranges},
                                 &(ag_layout_t){5, 1, ranks, ranges}, &copies),
                 AG_ERR_INVALID);
    ag_array_fini(&copies);
}

/* How many whole or ragged units each share gets. */
static void expect_units(uint64_t total, uint64_t unit, uint32_t n, const uint32_t *shares,
                         const uint64_t *units)
{
    ag_range_t ranges[MOST_RANKS];

    cr_assert_eq(ag_shares_split(total, unit, shares, n, ranges), AG_OK);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t items = ranges[i].end - ranges[i].begin;

        cr_expect_eq((items + unit - 1) / unit, units[i], "share %u has %llu items", i,
                     (unsigned long long)items);
    }
}

#define EXPECT_UNITS(total, unit, n, shares, units)                                                \
    expect_units(total, unit, n, (const uint32_t[])shares, (const uint64_t[])units)
#define LIST(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

Test(shares, nine_heads_are_given_out_as_the_largest_remainders_say)
{
    EXPECT_UNITS(9, 1, 2, LIST(5, 4), LIST(5, 4));
    EXPECT_UNITS(9, 1, 2, LIST(1, 1), LIST(5, 4)); /* a tie: the lower index */
    EXPECT_UNITS(9, 1, 3, LIST(7, 1, 1), LIST(7, 1, 1));
    EXPECT_UNITS(9, 1, 2, LIST(20, 1), LIST(9, 0));
    EXPECT_UNITS(9, 1, 3, LIST(1, 0, 2), LIST(3, 0, 6));
    EXPECT_UNITS(9, 1, 5, LIST(1, 1, 1, 1, 1), LIST(2, 2, 2, 2, 1));
}

Test(shares, the_last_unit_may_be_ragged_and_those_behind_it_are_empty_at_the_end)
{
    ag_range_t ranges[3];

    cr_assert_eq(ag_shares_split(100, 32, (const uint32_t[]){1, 1, 0}, 3, ranges), AG_OK);
    cr_expect_eq(ranges[0].begin, 0);
    cr_expect_eq(ranges[0].end, 64);
    cr_expect_eq(ranges[1].begin, 64);
    cr_expect_eq(ranges[1].end, 100);
    cr_expect_eq(ranges[2].begin, 100);
    cr_expect_eq(ranges[2].end, 100);
}

Test(shares, random_shares_cover_in_whole_units_and_more_never_gets_less)
{
    dice_t dice = {.seed = 2};

    for (int trial = 0; trial < N_TRIALS; trial++) {
        uint32_t n = 1 + throw_dice(&dice, MOST_RANKS), shares[MOST_RANKS];
        uint32_t most = trial % 2 == 0 ? 5 : UINT32_MAX;
        uint64_t unit = 1 + throw_dice(&dice, 70), total = throw_dice(&dice, 3000), at = 0, sum = 0;
        ag_range_t ranges[MOST_RANKS];

        for (uint32_t i = 0; i < n; i++) {
            shares[i] = throw_dice(&dice, most);
            sum += shares[i];
        }
        if (sum == 0) {
            cr_assert_eq(ag_shares_split(total, unit, shares, n, ranges), AG_ERR_INVALID);
            continue;
        }
        cr_assert_eq(ag_shares_split(total, unit, shares, n, ranges), AG_OK);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t n_units = (total + unit - 1) / unit;
            uint64_t units = (ranges[i].end - ranges[i].begin + unit - 1) / unit;

            cr_assert_eq(ranges[i].begin, at);
            at = ranges[i].end;
            cr_assert(at % unit == 0 || at == total);
            cr_assert(shares[i] > 0 || units == 0);
            /* largest remainder never leaves the neighbourhood of the exact quota */
            cr_assert_geq(units, n_units * shares[i] / sum);
            cr_assert_leq(units, n_units * shares[i] / sum + 1);
            for (uint32_t j = 0; j < i; j++) {
                uint64_t others = (ranges[j].end - ranges[j].begin + unit - 1) / unit;

                cr_assert(shares[j] <= shares[i] || others >= units);
                cr_assert(shares[j] >= shares[i] || others <= units);
            }
        }
        cr_assert_eq(at, total);
    }
}

Test(shares, the_largest_numbers_do_not_overflow)
{
    const uint64_t total = UINT64_MAX - 1;
    ag_range_t ranges[2];

    cr_assert_eq(ag_shares_split(total, 1, (const uint32_t[]){UINT32_MAX, UINT32_MAX}, 2, ranges),
                 AG_OK);
    cr_expect_eq(ranges[0].end, total / 2);
    cr_expect_eq(ranges[1].end, total);
    cr_assert_eq(ag_shares_split(UINT64_MAX, 64, (const uint32_t[]){0, 1}, 2, ranges), AG_OK);
    cr_expect_eq(ranges[0].end, 0);
    cr_expect_eq(ranges[1].end, UINT64_MAX);
}

Test(shares, nothing_to_go_by_is_an_error)
{
    ag_range_t ranges[2];

    cr_expect_eq(ag_shares_split(9, 1, (const uint32_t[]){0, 0}, 2, ranges), AG_ERR_INVALID);
    cr_expect_eq(ag_shares_split(9, 0, (const uint32_t[]){1, 1}, 2, ranges), AG_ERR_INVALID);
    cr_expect_eq(ag_shares_split(9, 1, NULL, 0, ranges), AG_ERR_INVALID);
}
