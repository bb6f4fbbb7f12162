#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/philox.h"

#include <criterion/criterion.h>

typedef struct known_answer {
    uint32_t key[2], counter[4], words[4];
} known_answer_t;

/* kat_vectors of Random123 1.14, philox4x32 with 10 rounds */
static const known_answer_t known_answers[] = {
    {{0, 0}, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0xa4093822, 0x299f31d0},
     {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

Test(philox, gives_the_words_of_its_authors)
{
    for (size_t i = 0; i < sizeof(known_answers) / sizeof(known_answers[0]); i++) {
        uint32_t words[4];

        ag_philox(known_answers[i].key, known_answers[i].counter, words);
        cr_expect_arr_eq(words, known_answers[i].words, sizeof(words), "vector %zu", i);
    }
}

Test(philox, a_uniform_is_made_of_the_first_53_bits_of_seed_stream_and_index)
{
    uint32_t words[4];
    uint64_t bits;

    ag_philox((uint32_t[]){0x11111111, 0x22222222},
              (uint32_t[]){0x33333333, 0x44444444, 0x55555555, 0x66666666}, words);
    bits = ((uint64_t)words[0] << 32 | words[1]) >> 11;
    cr_expect_eq(ag_philox_uniform(0x2222222211111111, 0x6666666655555555, 0x4444444433333333),
                 (double)bits / 9007199254740992.0);
}

Test(philox, uniforms_fill_the_unit_interval_evenly)
{
    enum { N = 16000, N_BINS = 16 };
    int bins[N_BINS] = {0};

    for (uint64_t i = 0; i < N; i++) {
        double value = ag_philox_uniform(7, 3, i);

        cr_assert(value >= 0 && value < 1);
        bins[(int)(value * N_BINS)]++;
    }
    for (int i = 0; i < N_BINS; i++) {
        cr_expect(bins[i] > 850 && bins[i] < 1150, "bin %d: %d", i, bins[i]);
    }
}

/* The test vectors of FNV-1a's authors. */
Test(hash, is_fnv_1a)
{
    cr_expect_eq(ag_hash_bytes(AG_HASH_SEED, "", 0), 0xcbf29ce484222325);
    cr_expect_eq(ag_hash_bytes(AG_HASH_SEED, "a", 1), 0xaf63dc4c8601ec8c);
    cr_expect_eq(ag_hash_bytes(AG_HASH_SEED, "foobar", 6), 0x85944171f73967e8);
}

Test(hash, of_a_text_is_the_hash_of_its_pieces_in_turn)
{
    uint64_t hash = ag_hash_bytes(AG_HASH_SEED, "foo", 3);

    cr_expect_eq(ag_hash_bytes(hash, "bar", 3), ag_hash_bytes(AG_HASH_SEED, "foobar", 6));
}

Test(hash, mix_is_murmur_hash_3_s_finalizer)
{
    cr_expect_eq(ag_hash_mix(0), 0);
    cr_expect_eq(ag_hash_mix(1), 0xb456bcfc34c2cb2c);
}

static uint64_t count(void *arg)
{
    return ++*(uint64_t *)arg;
}

Test(clock, a_test_can_hold_its_own)
{
    uint64_t ticks = 41;
    ag_clock_t clock = {.now_ns = count, .arg = &ticks};

    cr_expect_eq(ag_clock_now_ns(&clock), 42);
    cr_expect_eq(ag_clock_now_ns(&clock), 43);
}

Test(clock, the_machine_s_does_not_go_back)
{
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t before = ag_clock_now_ns(&clock);

    cr_expect_gt(before, 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = ag_clock_now_ns(&clock);

        cr_assert_geq(now, before);
        before = now;
    }
}
