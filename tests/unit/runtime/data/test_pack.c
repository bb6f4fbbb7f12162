#include "runtime/data/pack_priv.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"

static uint32_t draw(uint64_t seed, uint64_t index, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(seed, 77, index) * n);
}

Test(order, every_item_comes_once)
{
    static const uint64_t sizes[] = {1, 2, 3, 7, 63, 64, 65, 255, 256, 257, 1000, 4097};

    for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
        ag_order_t order = ag_order(5, AG_ORDER_ROWS, s, sizes[s]);
        unsigned char *seen = calloc(sizes[s], 1);

        for (uint64_t i = 0; i < sizes[s]; i++) {
            uint64_t item = ag_order_at(&order, i);

            cr_assert(item < sizes[s] && !seen[item], "%lu of %lu", (unsigned long)i,
                      (unsigned long)sizes[s]);
            seen[item] = 1;
        }
        free(seen);
    }
}

/* Of four items each of the 24 orders: chi square of 23 degrees, 0.999 quantile 49.7. */
Test(order, every_order_is_as_likely)
{
    enum { N_SEEDS = 24000 };
    unsigned counts[256] = {0};
    double chi = 0;
    unsigned n_orders = 0;

    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        ag_order_t order = ag_order(seed, AG_ORDER_ROWS, seed % 3, 4);
        unsigned code = 0;

        for (uint64_t i = 0; i < 4; i++) {
            code = code * 4 + (unsigned)ag_order_at(&order, i);
        }
        counts[code]++;
    }
    for (int i = 0; i < 256; i++) {
        n_orders += counts[i] > 0;
        chi += counts[i] > 0 ? (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000.0 : 0;
    }
    cr_expect_eq(n_orders, 24);
    cr_expect_lt(chi, 49.7, "chi square %g", chi);
}

/* Checkpoints rely on it. The numbers are those of a few lines of Python that do the same. */
Test(order, it_never_changes)
{
    static const uint64_t first[] = {5, 2, 9, 3, 4, 7, 1, 8, 0, 6};
    static const uint64_t second[] = {47, 51, 83, 85, 18, 0, 55, 31, 19, 92};
    ag_order_t one = ag_order(1, AG_ORDER_ROWS, 0, 10);
    ag_order_t other = ag_order(0x123456789, AG_ORDER_PIECES, (1ull << 32) + 5, 100);

    for (uint64_t i = 0; i < 10; i++) {
        cr_expect_eq(ag_order_at(&one, i), first[i]);
        cr_expect_eq(ag_order_at(&other, i), second[i]);
    }
}

Test(order, seeds_sites_and_epochs_differ)
{
    ag_order_t one = ag_order(1, AG_ORDER_ROWS, 0, 1000);
    ag_order_t others[] = {
        ag_order(2, AG_ORDER_ROWS, 0, 1000), ag_order(1ull << 32 | 1, AG_ORDER_ROWS, 0, 1000),
        ag_order(1, AG_ORDER_PIECES, 0, 1000), ag_order(1, AG_ORDER_ROWS, 1, 1000),
        ag_order(1, AG_ORDER_ROWS, 1ull << 32, 1000)};

    for (size_t o = 0; o < sizeof(others) / sizeof(*others); o++) {
        unsigned n_same = 0;

        for (uint64_t i = 0; i < 1000; i++) {
            n_same += ag_order_at(&one, i) == ag_order_at(&others[o], i);
        }
        cr_expect_lt(n_same, 12, "other %zu has %u of 1000 in their places", o, n_same);
    }
}

/* The rule, as it reads: the longest piece first, into the fullest row that takes it; of rows as
 * full the one that was touched last. */
static uint32_t pack_plainly(const ag_data_piece_t *pieces, const uint32_t *window, uint32_t n,
                             uint32_t seq_length, uint32_t *row_of)
{
    uint32_t *left = calloc(n, sizeof(*left)), *touched = calloc(n, sizeof(*touched)), n_rows = 0;
    bool *done = calloc(n, sizeof(*done));

    for (uint32_t k = 0; k < n; k++) {
        uint32_t longest = n, row = n;

        for (uint32_t i = 0; i < n; i++) {
            if (!done[i] &&
                (longest == n || pieces[window[i]].n_tokens > pieces[window[longest]].n_tokens)) {
                longest = i;
            }
        }
        done[longest] = true;
        for (uint32_t r = 0; r < n_rows; r++) {
            if (left[r] >= pieces[window[longest]].n_tokens - 1 &&
                (row == n || left[r] < left[row] ||
                 (left[r] == left[row] && touched[r] > touched[row]))) {
                row = r;
            }
        }
        if (row == n) {
            row = n_rows++;
            left[row] = seq_length;
        }
        left[row] -= pieces[window[longest]].n_tokens - 1;
        touched[row] = k;
        row_of[longest] = row;
    }
    free(left);
    free(touched);
    free(done);
    return n_rows;
}

/* One window: each row of the packing is one of the plain rule's, in the order of first pieces. */
static void check_window(const ag_data_piece_t *pieces, uint32_t n, uint32_t seq_length,
                         const ag_order_t *order)
{
    uint32_t *window = calloc(n, sizeof(*window)), *row_of = calloc(n, sizeof(*row_of));
    uint32_t at = 0, n_rows;
    bool *done = calloc(n, sizeof(*done));
    ag_packing_t packing;

    for (uint32_t i = 0; i < n; i++) {
        window[i] = order != NULL ? (uint32_t)ag_order_at(order, i) : i;
    }
    n_rows = pack_plainly(pieces, window, n, seq_length, row_of);
    cr_assert_eq(ag_pack(pieces, n, seq_length, order, NULL, &packing), AG_OK);
    cr_assert_eq(packing.n_rows, n_rows);
    for (uint32_t row = 0; row < n_rows; row++) {
        uint32_t first = 0;

        cr_assert_eq(packing.row_begin[row], at);
        while (done[first]) {
            first++;
        }
        for (uint32_t i = first; i < n; i++) {
            if (row_of[i] == row_of[first]) {
                cr_assert_eq(packing.pieces[at++], window[i]);
                done[i] = true;
            }
        }
    }
    cr_assert_eq(packing.row_begin[n_rows], n);
    ag_packing_fini(&packing);
    free(window);
    free(row_of);
    free(done);
}

Test(pack, a_window_is_packed_by_the_rule)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        uint32_t seq_length = 1 + draw(seed, 0, seed % 2 ? 16 : 200), n = 1 + draw(seed, 1, 200);
        ag_data_piece_t pieces[200];
        ag_order_t order = ag_order(seed, AG_ORDER_PIECES, 0, n);

        for (uint32_t i = 0; i < n; i++) {
            pieces[i] = (ag_data_piece_t){.n_tokens = 2 + draw(seed, 2 + i, seq_length)};
        }
        check_window(pieces, n, seq_length, seed % 3 == 0 ? NULL : &order);
    }
}

/* Texts of the web are of all lengths; so are these. */
Test(pack, little_is_wasted_and_every_piece_comes_once)
{
    enum { N = 200000, LENGTH = 512 };
    ag_data_piece_t *pieces = calloc(N, sizeof(*pieces));
    ag_order_t order = ag_order(9, AG_ORDER_PIECES, 0, N);
    unsigned char *seen = calloc(N, 1);
    ag_packing_t packing;
    uint64_t used = 0;

    for (uint32_t i = 0; i < N; i++) {
        uint32_t most = draw(9, 2 * i, 10) < 8 ? 100 : LENGTH;

        pieces[i].n_tokens = 2 + draw(9, 2 * i + 1, most);
        used += pieces[i].n_tokens - 1;
    }
    cr_assert_eq(ag_pack(pieces, N, LENGTH, &order, NULL, &packing), AG_OK);
    for (uint32_t row = 0; row < packing.n_rows; row++) {
        uint32_t length = 0;

        cr_assert_lt(packing.row_begin[row], packing.row_begin[row + 1]);
        for (uint32_t i = packing.row_begin[row]; i < packing.row_begin[row + 1]; i++) {
            cr_assert(packing.pieces[i] < N && !seen[packing.pieces[i]]);
            seen[packing.pieces[i]] = 1;
            length += pieces[packing.pieces[i]].n_tokens - 1;
        }
        cr_assert_leq(length, LENGTH);
    }
    cr_assert_eq(packing.row_begin[packing.n_rows], N);
    cr_expect_lt(packing.n_rows, 1.005 * used / LENGTH, "%u rows for %lu tokens", packing.n_rows,
                 (unsigned long)used);
    ag_packing_fini(&packing);
    free(pieces);
    free(seen);
}

Test(pack, windows_of_many_short_pieces_and_of_rows_of_one_token)
{
    enum { N = AG_PACK_PIECES + 1000 };
    ag_data_piece_t *pieces = calloc(N, sizeof(*pieces));
    static const uint32_t lengths[] = {1, 2, 64, 1000000};

    for (uint32_t i = 0; i < N; i++) {
        pieces[i].n_tokens = 2;
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        ag_packing_t packing;
        uint32_t expected = lengths[i] <= 64 ? (N + lengths[i] - 1) / lengths[i] : 2;

        cr_assert_eq(ag_pack(pieces, N, lengths[i], NULL, NULL, &packing), AG_OK);
        cr_expect_eq(packing.n_rows, expected, "%u rows of %u", packing.n_rows, lengths[i]);
        for (uint32_t p = 0; p < N; p++) {
            cr_assert_eq(packing.pieces[p], p);
        }
        ag_packing_fini(&packing);
    }
    free(pieces);
}

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

Test(pack, it_stops_when_asked_to)
{
    const ag_cancel_t cancel = {.is_asked = yes};
    const ag_data_piece_t piece = {.n_tokens = 2};
    ag_packing_t packing;

    cr_expect_eq(ag_pack(&piece, 1, 4, NULL, &cancel, &packing), AG_ERR_INTERRUPTED);
}
