/*
 * The net of ranks that take turns. Who meets whom is net_loop's: it carries, from the sender to
 * the receiver, a pointer to what was posted. The bytes then go in pieces: each leaves the sender's
 * memory at one time and comes into the receiver's at a later one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/net_loop.h"
#include "turns_priv.h"

enum { MOST_PIECES = 4, TEXT_BYTES = AG_TURNS_TEXT_BYTES };

/* Between two ranks; a few messages take none. */
static const uint64_t MOST_LATENCY_NS = 200000, MOST_JITTER_NS = 100000, MOST_NOTICE_NS = 400000;

typedef enum piece_state { PIECE_WAITS, PIECE_ON_WIRE, PIECE_ARRIVED } piece_state_t;

/* A range of a message's bytes. */
typedef struct piece {
    piece_state_t state;
    size_t begin, end;
    uint64_t leaves_ns, arrives_ns;
} piece_t;

typedef enum message_state { UNDER_WAY, DONE, DISAGREES } message_state_t;

/* One end of a message. */
typedef struct message {
    struct message *self;    /* what a sender tells */
    struct message *partner; /* receives: the sender's end, once they have met */
    ag_net_request_t loop;
    int rank, peer;
    uint32_t channel;
    bool sends, has_met;
    bool is_lost; /* its rank's memory is not to be touched any more */
    unsigned char *data;
    size_t bytes, other_bytes;
    unsigned char *wire; /* (bytes) sends: what has left */
    message_state_t state;
    uint32_t n_pieces; /* receives that have met */
    piece_t pieces[MOST_PIECES];
} message_t;

typedef struct rank_net {
    ag_net_t base;
    turns_net_t *all;
    ag_net_t *loop;
    bool has_left, is_dead, is_told;
    uint64_t notice_ns; /* when it learns of a death */
} rank_net_t;

struct turns_net {
    turns_host_t *host;
    uint32_t n_ranks;
    draws_t draws;
    uint64_t *latencies_ns; /* (n_ranks, n_ranks) */
    rank_net_t *ranks;
    ag_array_t messages; /* message_t *: all ever posted */
    ag_array_t active;   /* message_t *: receives under way */
    uint64_t next_ns;    /* when a piece moves, or a rank is told; UINT64_MAX: nothing will */
    int dead_rank;       /* -1: none */
    bool refuses;        /* who was told of a death: to post fails too */
    bool stuck;
    char stuck_text[TEXT_BYTES];
};

static message_t *active_at(const turns_net_t *net, size_t i)
{
    return AG_ITEMS(&net->active, message_t *)[i];
}

static void tell(turns_net_t *net, const message_t *message)
{
    net->host->tell(net->host->arg, message->rank);
}

/* Cut a message and draw when each piece leaves and arrives. */
static void draw_pieces(turns_net_t *net, message_t *recv)
{
    uint64_t latency_ns =
        net->latencies_ns[(uint32_t)recv->peer * net->n_ranks + (uint32_t)recv->rank];
    bool at_once = turns_draw(&net->draws, 4) == 0;
    size_t n = 1 + turns_draw(&net->draws, MOST_PIECES), begin = 0;

    recv->n_pieces = (uint32_t)(n > recv->bytes ? 1 : n);
    for (uint32_t i = 0; i < recv->n_pieces; i++) {
        piece_t *piece = &recv->pieces[i];
        uint64_t wait_ns = turns_draw(&net->draws, MOST_JITTER_NS);

        piece->state = PIECE_WAITS;
        piece->begin = begin;
        piece->end = i + 1 == recv->n_pieces
                         ? recv->bytes
                         : begin + turns_draw(&net->draws, recv->bytes - begin + 1);
        begin = piece->end;
        piece->leaves_ns = net->host->now_ns + (at_once ? 0 : wait_ns);
        piece->arrives_ns =
            piece->leaves_ns + (at_once ? 0 : latency_ns + turns_draw(&net->draws, MOST_JITTER_NS));
        net->next_ns = piece->leaves_ns < net->next_ns ? piece->leaves_ns : net->next_ns;
    }
}

static void meet(turns_net_t *net, message_t *recv)
{
    message_t *send = recv->partner;

    recv->has_met = send->has_met = true;
    recv->other_bytes = send->bytes;
    send->other_bytes = recv->bytes;
    if (recv->bytes != send->bytes) {
        recv->state = DISAGREES;
        send->state = send->state == DONE ? DONE : DISAGREES;
        tell(net, recv);
        tell(net, send);
        return;
    }
    draw_pieces(net, recv);
}

/* Which receives have a sender since the last look? */
static void settle(turns_net_t *net)
{
    for (size_t i = 0; i < net->active.n_items; i++) {
        message_t *recv = active_at(net, i);

        if (!recv->has_met && ag_net_test(net->ranks[recv->rank].loop, &recv->loop) == AG_OK) {
            meet(net, recv);
        }
    }
}

static void *take(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void append(ag_array_t *array, message_t *message)
{
    if (ag_array_append(array, &message, 1) != AG_OK) {
        abort();
    }
}

/* Its memory may be gone after this. */
static void lose_messages(turns_net_t *net, int rank)
{
    for (size_t i = 0; i < net->messages.n_items; i++) {
        message_t *message = AG_ITEMS(&net->messages, message_t *)[i];

        message->is_lost |= message->rank == rank;
    }
}

/* Under way, and it will ever be: its peer has left without it. */
static bool is_forlorn(const turns_net_t *net, const message_t *message)
{
    const message_t *partner = message->partner;
    bool can_go_on =
        message->has_met && (partner == NULL || !partner->is_lost || partner->state == DONE);

    return !can_go_on && net->ranks[message->peer].has_left && net->dead_rank < 0;
}

/* All that the rank has under way ends with this. */
static ag_status_t fail_told(turns_net_t *net, rank_net_t *rank)
{
    rank->is_told = true;
    lose_messages(net, rank->base.rank);
    return ag_fail(AG_ERR_PEER, "rank %d has died", net->dead_rank);
}

static ag_status_t fail_dead(const rank_net_t *rank)
{
    return ag_fail(AG_ERR_PEER, "rank %d is dead itself", rank->base.rank);
}

static ag_status_t post(ag_net_t *base, int peer, uint32_t channel, const void *data, size_t bytes,
                        ag_net_request_t *request, bool sends)
{
    rank_net_t *rank = (rank_net_t *)base;
    turns_net_t *net = rank->all;
    message_t *message;
    ag_status_t status;

    if (!net->host->call(net->host->arg, base->rank)) {
        return fail_dead(rank);
    }
    if (net->dead_rank >= 0 && net->refuses && rank->notice_ns <= net->host->now_ns) {
        return fail_told(net, rank);
    }
    message = take(calloc(1, sizeof(*message)));
    *message = (message_t){.self = message,
                           .rank = base->rank,
                           .peer = peer,
                           .channel = channel,
                           .sends = sends,
                           .data = (unsigned char *)data,
                           .bytes = bytes};
    append(&net->messages, message);
    request->state[0] = (uint64_t)(uintptr_t)message;
    if (sends) {
        status = ag_net_post_send(rank->loop, peer, channel, &message->self, sizeof(message->self),
                                  &message->loop);
    } else {
        status = ag_net_post_recv(rank->loop, peer, channel, &message->partner,
                                  sizeof(message->partner), &message->loop);
    }
    if (status != AG_OK) {
        return status;
    }
    if (sends) {
        message->wire = take(malloc(bytes + 1));
        if (turns_draw(&net->draws, 2) == 0) { /* it is buffered: the sender is done */
            memcpy(message->wire, bytes > 0 ? data : "", bytes);
            message->state = DONE;
        }
    } else {
        append(&net->active, message);
    }
    settle(net);
    net->host->pause(net->host->arg, base->rank);
    return AG_OK;
}

static ag_status_t turns_post_send(ag_net_t *net, int peer, uint32_t channel, const void *data,
                                   size_t bytes, ag_net_request_t *request)
{
    return post(net, peer, channel, data, bytes, request, true);
}

static ag_status_t turns_post_recv(ag_net_t *net, int peer, uint32_t channel, void *data,
                                   size_t bytes, ag_net_request_t *request)
{
    return post(net, peer, channel, data, bytes, request, false);
}

static ag_status_t turns_test(ag_net_t *base, ag_net_request_t *request)
{
    rank_net_t *rank = (rank_net_t *)base;
    turns_net_t *net = rank->all;
    const message_t *message = (const message_t *)(uintptr_t)request->state[0];

    if (!net->host->call(net->host->arg, base->rank)) {
        return fail_dead(rank);
    }
    if (message->state == DONE) {
        return AG_OK;
    }
    if (message->state == DISAGREES) {
        return ag_fail(AG_ERR_PEER,
                       "rank %d expects a message of %zu bytes with rank %d, which has %zu",
                       base->rank, message->bytes, message->peer, message->other_bytes);
    }
    if (net->dead_rank >= 0 && rank->notice_ns <= net->host->now_ns) {
        return fail_told(net, rank);
    }
    if (net->stuck) {
        lose_messages(net, base->rank);
        return ag_fail(AG_ERR_TIMEOUT, "nobody can go on: %s", net->stuck_text);
    }
    return is_forlorn(net, message)
               ? ag_fail(AG_ERR_PEER, "rank %d waits for rank %d, which has left", base->rank,
                         message->peer)
               : AG_PENDING;
}

static void turns_close(ag_net_t *base)
{
    rank_net_t *rank = (rank_net_t *)base;

    rank->has_left = true;
    lose_messages(rank->all, base->rank);
    for (uint32_t r = 0; r < rank->all->n_ranks; r++) { /* some may wait for it in vain */
        rank->all->host->tell(rank->all->host->arg, (int)r);
    }
}

static const ag_net_ops_t turns_ops = {
    .name = "turns",
    .close = turns_close,
    .post_send = turns_post_send,
    .post_recv = turns_post_recv,
    .test = turns_test,
};

/* A piece of a message that is due. @return when its next move is. */
static uint64_t move_piece(const turns_net_t *net, message_t *recv, piece_t *piece)
{
    message_t *send = recv->partner;
    size_t n = piece->end - piece->begin;

    if (piece->state == PIECE_WAITS && piece->leaves_ns <= net->host->now_ns) {
        if (send->state == DONE) { /* it was buffered */
            piece->state = PIECE_ON_WIRE;
        } else if (!send->is_lost) {
            memcpy(send->wire + piece->begin, send->data + piece->begin, n);
            piece->state = PIECE_ON_WIRE;
        }
    }
    if (piece->state == PIECE_ON_WIRE && piece->arrives_ns <= net->host->now_ns) {
        if (!recv->is_lost && n > 0) {
            memcpy(recv->data + piece->begin, send->wire + piece->begin, n);
        }
        piece->state = PIECE_ARRIVED;
    }
    if (piece->state == PIECE_WAITS) {
        return send->is_lost && send->state != DONE ? UINT64_MAX : piece->leaves_ns;
    }
    return piece->state == PIECE_ON_WIRE ? piece->arrives_ns : UINT64_MAX;
}

/* @return when a piece of it moves next. */
static uint64_t move_message(const turns_net_t *net, message_t *recv)
{
    uint64_t next_ns = UINT64_MAX;
    uint32_t n_waiting = 0, n_arrived = 0;

    for (uint32_t i = 0; i < recv->n_pieces; i++) {
        piece_t *piece = &recv->pieces[i];
        uint64_t piece_ns = move_piece(net, recv, piece);

        next_ns = piece_ns < next_ns ? piece_ns : next_ns;
        n_waiting += piece->state == PIECE_WAITS;
        n_arrived += piece->state == PIECE_ARRIVED;
    }
    if (n_waiting == 0 && recv->partner->state == UNDER_WAY) {
        recv->partner->state = DONE;
        net->host->tell(net->host->arg, recv->peer);
    }
    if (n_arrived == recv->n_pieces) {
        recv->state = DONE;
        net->host->tell(net->host->arg, recv->rank);
    }
    return next_ns;
}

void turns_net_deliver(turns_net_t *net)
{
    size_t n_active = 0;

    if (net->next_ns > net->host->now_ns) {
        return;
    }
    net->next_ns = UINT64_MAX;
    for (size_t i = 0; i < net->active.n_items; i++) {
        message_t *recv = active_at(net, i);

        if (recv->state == UNDER_WAY && recv->n_pieces > 0) {
            uint64_t next_ns = move_message(net, recv);

            net->next_ns = next_ns < net->next_ns ? next_ns : net->next_ns;
        }
        if (recv->state == UNDER_WAY) {
            AG_ITEMS(&net->active, message_t *)[n_active++] = recv;
        }
    }
    net->active.n_items = n_active;
    for (uint32_t r = 0; r < net->n_ranks && net->dead_rank >= 0; r++) {
        uint64_t notice_ns = net->ranks[r].notice_ns;

        if (notice_ns <= net->host->now_ns) {
            net->host->tell(net->host->arg, (int)r);
        } else if (notice_ns < net->next_ns) {
            net->next_ns = notice_ns;
        }
    }
}

uint64_t turns_net_next_ns(const turns_net_t *net)
{
    return net->next_ns;
}

void turns_net_die(turns_net_t *net, int rank)
{
    net->dead_rank = rank;
    net->ranks[rank].is_dead = true;
    net->refuses = turns_draw(&net->draws, 2) == 0;
    lose_messages(net, rank);
    for (uint32_t r = 0; r < net->n_ranks; r++) {
        uint64_t notice_ns = net->host->now_ns + turns_draw(&net->draws, MOST_NOTICE_NS);

        net->ranks[r].notice_ns = notice_ns;
        net->next_ns = notice_ns < net->next_ns ? notice_ns : net->next_ns;
    }
}

void turns_net_give_up(turns_net_t *net)
{
    size_t n_chars = 0;

    net->stuck = true;
    net->stuck_text[0] = '\0';
    for (size_t i = 0; i < net->messages.n_items && n_chars < TEXT_BYTES; i++) {
        const message_t *message = AG_ITEMS(&net->messages, message_t *)[i];

        if (message->state == UNDER_WAY && !message->is_lost) {
            n_chars += (size_t)snprintf(
                net->stuck_text + n_chars, TEXT_BYTES - n_chars,
                "%srank %d waits to %s %zu bytes %s rank %d on channel %u", n_chars > 0 ? ", " : "",
                message->rank, message->sends ? "send" : "receive", message->bytes,
                message->sends ? "to" : "of", message->peer, message->channel);
        }
    }
}

bool turns_net_is_told(const turns_net_t *net, int rank)
{
    return net->ranks[rank].is_told;
}

turns_net_t *turns_net_create(turns_host_t *host, uint32_t n_ranks, uint64_t seed,
                              ag_net_t **nets_p)
{
    turns_net_t *net = take(calloc(1, sizeof(*net)));

    *net = (turns_net_t){.host = host,
                         .n_ranks = n_ranks,
                         .draws = {.seed = seed, .stream = 5},
                         .latencies_ns = take(calloc((size_t)n_ranks * n_ranks, sizeof(uint64_t))),
                         .ranks = take(calloc(n_ranks, sizeof(rank_net_t))),
                         .messages = AG_ARRAY(message_t *),
                         .active = AG_ARRAY(message_t *),
                         .next_ns = UINT64_MAX,
                         .dead_rank = -1};
    if (ag_net_loop_create((int)n_ranks, nets_p) != AG_OK) {
        abort();
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        net->ranks[r] =
            (rank_net_t){.base = {.ops = &turns_ops, .rank = (int)r, .n_ranks = (int)n_ranks},
                         .all = net,
                         .loop = nets_p[r]};
        nets_p[r] = &net->ranks[r].base;
        for (uint32_t to = 0; to < n_ranks; to++) {
            net->latencies_ns[r * n_ranks + to] = turns_draw(&net->draws, MOST_LATENCY_NS);
        }
    }
    return net;
}

void turns_net_destroy(turns_net_t *net)
{
    for (uint32_t r = 0; r < net->n_ranks; r++) {
        ag_net_close(net->ranks[r].loop);
    }
    for (size_t i = 0; i < net->messages.n_items; i++) {
        message_t *message = AG_ITEMS(&net->messages, message_t *)[i];

        free(message->wire);
        free(message);
    }
    ag_array_fini(&net->messages);
    ag_array_fini(&net->active);
    free(net->latencies_ns);
    free(net->ranks);
    free(net);
}
