#include "lists.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A posted message that has not met its other end. */
typedef struct message {
    uint32_t from, to;
    uint64_t n;
    lists_contents_t *place;
    bool sends;
} message_t;

static const ag_transfer_t *transfer_at(const lists_rank_t *rank, size_t i)
{
    return &AG_ITEMS(&rank->transfers, ag_transfer_t)[i];
}

static lists_contents_t *make_area(lists_rank_t *rank, ag_transfer_area_t area, uint64_t n)
{
    rank->n[area] = n;
    rank->areas[area] = calloc(n + 1, sizeof(lists_contents_t));
    return rank->areas[area];
}

void lists_init(lists_t *lists, const ag_drawn_t *drawn)
{
    bool is_apart = drawn->shape.collective == AG_ALL_TO_ALL;

    *lists = (lists_t){.drawn = drawn, .messages = AG_ARRAY(message_t)};
    for (uint32_t r = 0; r < drawn->shape.n_ranks; r++) {
        ag_transfer_shape_t shape = ag_drawn_shape(drawn, r);
        lists_rank_t *rank = &lists->ranks[r];
        uint64_t n = ag_drawn_elements(drawn, r, AG_AREA_BUFFER);
        lists_contents_t *brought = make_area(rank, AG_AREA_BUFFER, n);

        make_area(rank, AG_AREA_STAGING, ag_transfer_stage_elements(&shape, r));
        if (is_apart) {
            n = ag_drawn_elements(drawn, r, AG_AREA_INPUT);
            brought = make_area(rank, AG_AREA_INPUT, n);
        }
        for (uint64_t i = 0; i < n; i++) {
            if (ag_drawn_brings(drawn, r, i)) {
                brought[i] = (lists_contents_t){.index = i, .is_something = true};
                brought[i].times[r] = 1;
            }
        }
        rank->transfers = AG_ARRAY(ag_transfer_t);
        cr_assert_eq(ag_transfer_list(&shape, r, &rank->transfers), AG_OK, "%s", ag_error());
    }
}

void lists_fini(lists_t *lists)
{
    for (uint32_t r = 0; r < lists->drawn->shape.n_ranks; r++) {
        ag_array_fini(&lists->ranks[r].transfers);
        for (int area = 0; area < AG_N_AREAS; area++) {
            free(lists->ranks[r].areas[area]);
        }
    }
    ag_array_fini(&lists->messages);
}

static bool reads(const ag_transfer_t *t)
{
    return t->kind != AG_TRANSFER_RECV;
}

static bool writes(const ag_transfer_t *t)
{
    return t->kind != AG_TRANSFER_SEND;
}

static bool is_message(const ag_transfer_t *t)
{
    return t->kind == AG_TRANSFER_SEND || t->kind == AG_TRANSFER_RECV;
}

static bool is_in(const lists_rank_t *rank, uint8_t area, uint64_t begin, uint64_t n)
{
    return area < AG_N_AREAS && n <= rank->n[area] && begin <= rank->n[area] - n;
}

static bool overlap(uint8_t area, uint64_t begin, uint64_t n, uint8_t other_area, uint64_t other,
                    uint64_t n_others)
{
    return area == other_area && begin < other + n_others && other < begin + n;
}

static const char *check_alone(const lists_t *lists, uint32_t r, const ag_transfer_t *t)
{
    const lists_rank_t *rank = &lists->ranks[r];

    if (t->kind > AG_TRANSFER_REDUCE || t->n == 0) {
        return "a transfer of no kind or no elements";
    }
    if (is_message(t) && (t->peer >= lists->drawn->shape.n_ranks || t->peer == r)) {
        return "a message with nobody";
    }
    if ((reads(t) && !is_in(rank, t->from_area, t->from, t->n)) ||
        (writes(t) && !is_in(rank, t->to_area, t->to, t->n))) {
        return "a transfer outside its area";
    }
    if (writes(t) && t->to_area == AG_AREA_INPUT) {
        return "the input is written";
    }
    return !is_message(t) && overlap(t->from_area, t->from, t->n, t->to_area, t->to, t->n)
               ? "a transfer onto itself"
               : NULL;
}

/* Messages of a phase are under way in any order: no receive may touch what another one does. */
static const char *check_races(const lists_rank_t *rank)
{
    for (size_t i = rank->at; i < rank->phase_end; i++) {
        const ag_transfer_t *t = transfer_at(rank, i);

        for (size_t j = rank->at; j < rank->phase_end && t->kind == AG_TRANSFER_RECV; j++) {
            const ag_transfer_t *u = transfer_at(rank, j);

            if (i != j && is_message(u) &&
                overlap(t->to_area, t->to, t->n,
                        u->kind == AG_TRANSFER_RECV ? u->to_area : u->from_area,
                        u->kind == AG_TRANSFER_RECV ? u->to : u->from, u->n)) {
                return "messages of a phase touch the same";
            }
        }
    }
    return NULL;
}

static const char *read_all(lists_contents_t *place, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!place[i].is_something) {
            return "what nothing wrote is read";
        }
        place[i].is_unread = false;
    }
    return NULL;
}

static const char *copy(lists_contents_t *to, lists_contents_t *from, uint64_t n)
{
    const char *complaint = read_all(from, n);

    for (uint64_t i = 0; i < n && complaint == NULL; i++) {
        complaint = to[i].is_unread ? "what nothing read is overwritten" : NULL;
        to[i] = from[i];
        to[i].is_unread = true;
    }
    return complaint;
}

static const char *reduce(lists_contents_t *to, lists_contents_t *from, uint64_t n)
{
    const char *complaint = read_all(from, n);

    complaint = complaint == NULL ? read_all(to, n) : complaint;
    for (uint64_t i = 0; i < n && complaint == NULL; i++) {
        complaint = to[i].index != from[i].index ? "what does not belong together is added" : NULL;
        for (int r = 0; r < AG_DRAWN_RANKS; r++) {
            to[i].times[r] = (unsigned char)(to[i].times[r] + from[i].times[r]);
        }
        to[i].is_unread = true;
    }
    return complaint;
}

static void count_message(lists_t *lists, uint32_t from, uint32_t to, uint64_t n)
{
    const uint32_t *hosts = lists->drawn->hosts;

    if (hosts[from] != hosts[to]) {
        lists->far_messages++;
        lists->far_elements[hosts[from]] += n;
    }
}

/* Both ends of a message are posted. */
static const char *meet(lists_t *lists, const message_t *send, const message_t *recv)
{
    if (send->n != recv->n) {
        return "the ends of a message differ in size";
    }
    lists->ranks[send->from].n_pending--;
    lists->ranks[send->to].n_pending--;
    count_message(lists, send->from, send->to, send->n);
    return copy(recv->place, send->place, send->n);
}

/* The oldest message of the pair waits for this end, or this end waits. */
static const char *post(lists_t *lists, const message_t *message)
{
    for (size_t i = 0; i < lists->messages.n_items; i++) {
        message_t *at = &AG_ITEMS(&lists->messages, message_t)[i], other = *at;

        if (other.sends != message->sends && other.from == message->from &&
            other.to == message->to) {
            memmove(at, at + 1, (--lists->messages.n_items - i) * sizeof(*at));
            return message->sends ? meet(lists, message, &other) : meet(lists, &other, message);
        }
    }
    cr_assert_eq(ag_array_append(&lists->messages, message, 1), AG_OK);
    return NULL;
}

static const char *begin_phase(lists_t *lists, uint32_t r)
{
    lists_rank_t *rank = &lists->ranks[r];
    const char *complaint = NULL;

    rank->phase_end = rank->at;
    while (rank->phase_end < rank->transfers.n_items && complaint == NULL &&
           transfer_at(rank, rank->phase_end)->phase == transfer_at(rank, rank->at)->phase) {
        complaint = check_alone(lists, r, transfer_at(rank, rank->phase_end));
        rank->n_pending += is_message(transfer_at(rank, rank->phase_end++));
    }
    if (complaint == NULL) {
        complaint =
            rank->at > 0 && rank->phase_end > rank->at &&
                    transfer_at(rank, rank->at - 1)->phase >= transfer_at(rank, rank->at)->phase
                ? "phases out of order"
                : check_races(rank);
    }
    for (size_t i = rank->at; i < rank->phase_end && complaint == NULL; i++) {
        const ag_transfer_t *t = transfer_at(rank, i);
        bool sends = t->kind == AG_TRANSFER_SEND;

        if (is_message(t)) {
            complaint =
                post(lists, &(message_t){.from = sends ? r : t->peer,
                                         .to = sends ? t->peer : r,
                                         .n = t->n,
                                         .place = sends ? &rank->areas[t->from_area][t->from]
                                                        : &rank->areas[t->to_area][t->to],
                                         .sends = sends});
        }
    }
    return complaint;
}

static const char *end_phase(lists_rank_t *rank)
{
    const char *complaint = NULL;

    for (; rank->at < rank->phase_end && complaint == NULL; rank->at++) {
        const ag_transfer_t *t = transfer_at(rank, rank->at);

        if (!is_message(t)) {
            complaint = (t->kind == AG_TRANSFER_REDUCE ? reduce : copy)(
                &rank->areas[t->to_area][t->to], &rank->areas[t->from_area][t->from], t->n);
        }
    }
    return complaint;
}

static const char *run_phases(lists_t *lists)
{
    uint32_t p = lists->drawn->shape.n_ranks, n_ended = 0;
    const char *complaint = NULL;
    bool moved = true;

    for (uint32_t r = 0; r < p && complaint == NULL; r++) {
        complaint = begin_phase(lists, r);
    }
    while (moved && complaint == NULL) {
        moved = false;
        for (uint32_t r = 0; r < p && complaint == NULL; r++) {
            lists_rank_t *rank = &lists->ranks[r];

            if (rank->n_pending > 0 || rank->at == rank->transfers.n_items) {
                continue;
            }
            moved = true;
            complaint = end_phase(rank);
            complaint = complaint == NULL ? begin_phase(lists, r) : complaint;
        }
    }
    for (uint32_t r = 0; r < p; r++) {
        n_ended += lists->ranks[r].at == lists->ranks[r].transfers.n_items;
    }
    if (complaint == NULL && n_ended < p) {
        return "a deadlock";
    }
    return complaint;
}

static const char *check_element(const lists_t *lists, uint32_t r, uint64_t i)
{
    const lists_contents_t *element = &lists->ranks[r].areas[AG_AREA_BUFFER][i];

    for (uint32_t from = 0; from < lists->drawn->shape.n_ranks; from++) {
        uint64_t index;
        bool has = ag_drawn_has(lists->drawn, r, i, from, &index);

        if (element->times[from] != has || (has && element->index != index)) {
            return "a wrong result";
        }
    }
    return NULL;
}

const char *lists_run(lists_t *lists)
{
    const char *complaint = run_phases(lists);

    for (uint32_t r = 0; r < lists->drawn->shape.n_ranks && complaint == NULL; r++) {
        const lists_rank_t *rank = &lists->ranks[r];

        for (uint64_t i = 0; i < rank->n[AG_AREA_BUFFER] && complaint == NULL; i++) {
            if (ag_drawn_is_result(lists->drawn, r, i)) {
                complaint = check_element(lists, r, i);
            } else if (rank->areas[AG_AREA_BUFFER][i].is_unread) {
                complaint = "something is done for nothing";
            }
        }
        for (uint64_t i = 0; i < rank->n[AG_AREA_STAGING] && complaint == NULL; i++) {
            const lists_contents_t *staged = &rank->areas[AG_AREA_STAGING][i];

            complaint = !staged->is_something ? "staging that is not used"
                        : staged->is_unread   ? "something is done for nothing"
                                              : NULL;
        }
    }
    return complaint;
}
