/* The simulated cluster itself: what tests of many ranks lean on. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "turns.h"

enum { N_RANKS = 4, N_MESSAGES = 6, MESSAGE_BYTES = 1000 };

/* What a run did, for another to be compared with. */
typedef struct story {
    char text[4096];
    size_t n_chars;
    bool was_torn;  /* a message was seen when some of it had arrived */
    bool was_early; /* a send was complete before its receive was posted */
} story_t;

static void tell(story_t *story, const char *what, int rank, uint64_t now_ns)
{
    if (story->n_chars < sizeof(story->text)) {
        story->n_chars +=
            (size_t)snprintf(story->text + story->n_chars, sizeof(story->text) - story->n_chars,
                             "%s %d at %llu\n", what, rank, (unsigned long long)now_ns);
    }
}

/* A message is bytes of its number; before it has arrived they are 0xff. */
static bool is_torn(const unsigned char *data)
{
    size_t n_there = 0;

    for (size_t i = 0; i < MESSAGE_BYTES; i++) {
        n_there += data[i] != 0xff;
    }
    return n_there > 0 && n_there < MESSAGE_BYTES;
}

static ag_status_t receive_all(ag_turn_t *turn, story_t *story)
{
    static unsigned char data[N_MESSAGES][MESSAGE_BYTES];
    ag_net_request_t requests[N_MESSAGES];

    memset(data, 0xff, sizeof(data));
    for (int i = 0; i < N_MESSAGES; i++) {
        cr_assert_eq(ag_net_post_recv(turn->net, 0, 7, data[i], MESSAGE_BYTES, &requests[i]),
                     AG_OK);
    }
    for (int i = 0; i < N_MESSAGES; i++) {
        while (ag_net_test(turn->net, &requests[i]) == AG_PENDING) {
            story->was_torn |= is_torn(data[i]);
            turn->idle.fn(turn->idle.arg);
        }
        tell(story, "got", i, ag_clock_now_ns(&turn->clock));
        for (size_t k = 0; k < MESSAGE_BYTES; k++) {
            cr_assert_eq(data[i][k], i);
        }
    }
    return AG_OK;
}

static ag_status_t send_all(ag_turn_t *turn, story_t *story)
{
    unsigned char data[MESSAGE_BYTES];

    for (int i = 0; i < N_MESSAGES; i++) {
        ag_net_request_t request;

        memset(data, i, sizeof(data));
        cr_assert_eq(ag_net_post_send(turn->net, 1, 7, data, MESSAGE_BYTES, &request), AG_OK);
        story->was_early |= ag_net_test(turn->net, &request) == AG_OK && story->n_chars == 0;
        cr_assert_eq(ag_net_wait(turn->net, &turn->idle, &request), AG_OK);
        memset(data, 0xee, sizeof(data)); /* it is the sender's again */
        tell(story, "sent", i, ag_clock_now_ns(&turn->clock));
    }
    return AG_OK;
}

static ag_status_t pass_messages(ag_turn_t *turn)
{
    switch (turn->net->rank) {
    case 0:
        return send_all(turn, turn->arg);
    case 1:
        return receive_all(turn, turn->arg);
    default:
        return AG_OK;
    }
}

Test(turns, messages_go_in_pieces_and_the_same_seed_gives_the_same_run)
{
    static story_t one, again;
    unsigned n_torn = 0, n_early = 0, n_alike = 0;
    char last[sizeof(one.text)] = "";

    for (uint64_t seed = 0; seed < 50; seed++) {
        ag_status_t statuses[N_RANKS];

        one = again = (story_t){0};
        ag_turns_run(N_RANKS, seed, pass_messages, &one, statuses);
        ag_turns_run(N_RANKS, seed, pass_messages, &again, statuses);
        cr_expect_str_eq(one.text, again.text);
        n_torn += one.was_torn;
        n_early += one.was_early;
        n_alike += strcmp(one.text, last) == 0;
        strcpy(last, one.text);
    }
    cr_expect_gt(n_torn, 10);
    cr_expect_gt(n_early, 10);
    cr_expect_eq(n_alike, 0, "each seed gives another run");
}

static ag_status_t wait_in_a_circle(ag_turn_t *turn)
{
    char data[8];

    return ag_net_recv(turn->net, &turn->idle, (turn->net->rank + 1) % N_RANKS, data, 8);
}

Test(turns, a_deadlock_ends_and_names_what_each_rank_waits_for)
{
    ag_turns_end_t ends[N_RANKS];

    ag_turns_play(&(ag_turns_opts_t){.n_ranks = N_RANKS, .seed = 1}, wait_in_a_circle, NULL, ends);
    for (int r = 0; r < N_RANKS; r++) {
        char part[64];

        cr_expect_eq(ends[r].status, AG_ERR_TIMEOUT);
        for (int w = 0; w < N_RANKS; w++) {
            snprintf(part, sizeof(part), "rank %d waits to receive 8 bytes of rank %d", w,
                     (w + 1) % N_RANKS);
            cr_expect(strstr(ends[r].error, part) != NULL, "%s", ends[r].error);
        }
    }
}

/* Each rank's failure stays its own, whoever ran since. */
static ag_status_t keep_ones_own_record(ag_turn_t *turn)
{
    char data[8] = {0};
    int rank = turn->net->rank, peer = rank ^ 1;

    (void)ag_fail(AG_ERR_IO, "the record of rank %d", rank);
    cr_assert_eq(rank < peer ? ag_net_send(turn->net, &turn->idle, peer, data, 8)
                             : ag_net_recv(turn->net, &turn->idle, peer, data, 8),
                 AG_OK);
    return AG_ERR_IO;
}

Test(turns, each_rank_has_a_record_of_its_own)
{
    ag_turns_end_t ends[N_RANKS];

    ag_turns_play(&(ag_turns_opts_t){.n_ranks = N_RANKS, .seed = 3}, keep_ones_own_record, NULL,
                  ends);
    for (int r = 0; r < N_RANKS; r++) {
        char text[64];

        snprintf(text, sizeof(text), "the record of rank %d", r);
        cr_expect_str_eq(ends[r].error, text);
    }
}

static ag_status_t gather_often(ag_turn_t *turn)
{
    ag_status_t status = AG_OK;

    for (int i = 0; i < 20 && status == AG_OK; i++) {
        int64_t *items = calloc(N_RANKS, sizeof(*items)); /* freed by the dead too */

        status = ag_agree_gather(turn->net, &turn->idle, items, sizeof(*items));
        free(items);
    }
    return status;
}

Test(turns, every_other_rank_is_told_who_died_whenever_that_is)
{
    unsigned n_told = 0;

    for (uint64_t call = 0; call < 40; call++) {
        ag_turns_end_t ends[N_RANKS];
        ag_turns_opts_t opts = {.n_ranks = N_RANKS,
                                .seed = call,
                                .has_death = true,
                                .dead_rank = (uint32_t)call % N_RANKS,
                                .death_call = call};

        ag_turns_play(&opts, gather_often, NULL, ends);
        for (uint32_t r = 0; r < N_RANKS; r++) {
            char text[64];

            snprintf(text, sizeof(text), "rank %u has died", opts.dead_rank);
            cr_expect_eq(ends[r].status, AG_ERR_PEER);
            cr_expect(r == opts.dead_rank || strstr(ends[r].error, text) != NULL, "rank %u: %s", r,
                      ends[r].error);
            n_told += ends[r].is_told;
        }
    }
    cr_expect_eq(n_told, 40 * (N_RANKS - 1));
}
