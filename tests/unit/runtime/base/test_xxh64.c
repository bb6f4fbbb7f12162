#include "runtime/base/xxh64.h"

#include <criterion/criterion.h>

enum { N_BYTES = 1000 };

/* What libxxhash 0.8.1 gives for the first n of bytes (131 i + 7) mod 251. */
static const struct {
    size_t n;
    uint64_t sum;
} known[] = {
    {0, 0xef46db3751d8e999},   {1, 0xa96c7f0ce858bbb7},    {3, 0x340815731509cc08},
    {4, 0x5fa711205d86e9da},   {7, 0xc56370b3a8e8a7bb},    {8, 0xdf40710b591268c9},
    {12, 0x0593898b9f36dc8e},  {15, 0xe2584329be3be768},   {31, 0xb1f705faa66f113e},
    {32, 0xe4d66d9393e3a596},  {33, 0x2f77e96907a9337b},   {63, 0xdaa92a8f02a3fa78},
    {64, 0x7d4e619b9ab28955},  {100, 0x03e12a53974cdcd9},  {255, 0x0e4aed52b4257a18},
    {999, 0xc9de2a3a61e70cee}, {1000, 0xe04669f618d13c00},
};

Test(xxh64, gives_the_sums_of_its_authors_library)
{
    unsigned char bytes[N_BYTES];

    for (size_t i = 0; i < N_BYTES; i++) {
        bytes[i] = (unsigned char)((131 * i + 7) % 251);
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        cr_expect_eq(ag_xxh64(bytes, known[i].n), known[i].sum, "%zu bytes", known[i].n);
    }
}

Test(xxh64, sees_every_bit)
{
    unsigned char bytes[101] = {0};
    uint64_t sum = ag_xxh64(bytes, sizeof(bytes));

    for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        cr_expect_neq(ag_xxh64(bytes, sizeof(bytes)), sum, "bit %zu", bit);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
