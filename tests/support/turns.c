/* Coroutines that take turns. */
#define _GNU_SOURCE
#include "turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "asan.h"
#include "runtime/base/philox.h"
#include "turns_priv.h"

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* A stack is mapped where it is touched only; below it lies a page that must not be. */
enum { STACK_BYTES = 8 << 20, GUARD_BYTES = 4096, RECORD_BYTES = 2048 };

/* Rounds in which all may try, before nothing under way means that nobody can go on: work that a
 * rank does in pieces between its turns, and nets beside the cluster's, are not seen from here. */
enum { MOST_ROUNDS = 1000 };

/* The clock begins somewhere: 0 may stand for no time at all. */
static const uint64_t BEGIN_NS = 1000000000;

/* A thread of control, with the record of failures that is its own. */
typedef struct strand {
    ucontext_t context;
    const void *stack; /* its lowest byte; the thread's own is known to ASan alone */
    size_t stack_bytes;
    void *fake_stack; /* ASan's, while another strand runs */
    char record[RECORD_BYTES];
} strand_t;

typedef struct turns turns_t;

typedef struct rank_state {
    ag_turn_t turn;
    turns_t *turns;
    strand_t strand;
    ag_turns_end_t *end;
    bool ended, is_dead;
    bool waits; /* it found nothing to do */
    bool news;  /* since then, or since it last found nothing, something happened to it */
} rank_state_t;

struct turns {
    ag_turns_opts_t opts;
    ag_rank_fn_t fn;
    turns_host_t host;
    turns_net_t *net;
    ag_net_t **nets;
    rank_state_t *ranks;
    strand_t scheduler;
    draws_t draws;
    uint32_t n_running; /* that are neither dead nor ended */
    uint32_t n_rounds;  /* of trying, since anything happened */
};

uint64_t turns_draw(draws_t *draws, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(draws->seed, draws->stream, draws->n++) * (double)n);
}

/* The one place where strands change. */
static void switch_strands(strand_t *from, strand_t *to, bool from_ends)
{
    snprintf(from->record, sizeof(from->record), "%s", ag_error());
#ifdef HAS_ASAN
    __sanitizer_start_switch_fiber(from_ends ? NULL : &from->fake_stack, to->stack,
                                   to->stack_bytes);
#else
    (void)from_ends;
#endif
    swapcontext(&from->context, &to->context);
#ifdef HAS_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
    ag_fail(AG_OK, "%s", from->record);
}

static void leave(rank_state_t *rank, bool ends)
{
    switch_strands(&rank->strand, &rank->turns->scheduler, ends);
}

/* A rank from its beginning to its end, on its own strand. The pointer comes in two halves. */
static void run_rank(unsigned high, unsigned low)
{
    rank_state_t *rank = (rank_state_t *)((uintptr_t)high << 32 | (uintptr_t)low);

#ifdef HAS_ASAN
    __sanitizer_finish_switch_fiber(NULL, &rank->turns->scheduler.stack,
                                    &rank->turns->scheduler.stack_bytes);
#endif
    ag_fail(AG_OK, "%s", "");
    rank->end->status = rank->turns->fn(&rank->turn);
    if (rank->end->status != AG_OK) {
        snprintf(rank->end->error, sizeof(rank->end->error), "%.*s", AG_TURNS_TEXT_BYTES - 1,
                 ag_error());
    }
    ag_net_close(rank->turn.net);
    rank->ended = true;
    leave(rank, true);
}

static void make_strand(rank_state_t *rank)
{
    strand_t *strand = &rank->strand;
    unsigned char *pages = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (pages == MAP_FAILED || mprotect(pages, GUARD_BYTES, PROT_NONE) != 0 ||
        getcontext(&strand->context) != 0) {
        abort();
    }
    strand->stack = pages + GUARD_BYTES;
    strand->stack_bytes = STACK_BYTES;
#ifdef HAS_ASAN
    /* what the last frame of another strand left there */
    __asan_unpoison_memory_region(strand->stack, STACK_BYTES);
#endif
    strand->context.uc_stack.ss_sp = pages + GUARD_BYTES;
    strand->context.uc_stack.ss_size = STACK_BYTES;
    strand->context.uc_link = NULL;
    makecontext(&strand->context, (void (*)(void))run_rank, 2, (unsigned)((uintptr_t)rank >> 32),
                (unsigned)(uintptr_t)rank);
}

static void free_strand(strand_t *strand)
{
    munmap((unsigned char *)strand->context.uc_stack.ss_sp - GUARD_BYTES,
           STACK_BYTES + GUARD_BYTES);
}

static void give_way(void *arg)
{
    rank_state_t *rank = arg;

    if (rank->is_dead) {
        return; /* it is on its way out, alone */
    }
    rank->waits = true;
    leave(rank, false);
    rank->waits = rank->news = false;
}

static void give_way_waiting(void *arg, uint64_t waited_ns)
{
    (void)waited_ns;
    give_way(arg);
}

static uint64_t cluster_now_ns(void *arg)
{
    return ((const turns_host_t *)arg)->now_ns;
}

static void tell(void *arg, int rank)
{
    turns_t *turns = arg;

    turns->ranks[rank].news = true;
    turns->n_rounds = 0;
}

static void say_work(void *arg)
{
    rank_state_t *rank = arg;

    tell(rank->turns, (int)(rank - rank->turns->ranks));
}

/* Somebody else may go first after a post: what follows it is not one piece with it. */
static void pause_rank(void *arg, int r)
{
    turns_t *turns = arg;

    turns->n_rounds = 0;
    if (!turns->ranks[r].is_dead && turns_draw(&turns->draws, 4) == 0) {
        leave(&turns->ranks[r], false);
    }
}

static bool call(void *arg, int r)
{
    turns_t *turns = arg;
    rank_state_t *rank = &turns->ranks[r];

    if (!rank->is_dead && turns->opts.has_death && turns->opts.dead_rank == (uint32_t)r &&
        rank->end->n_calls == turns->opts.death_call) {
        rank->is_dead = true;
        turns->n_running--;
        turns_net_die(turns->net, r);
        leave(rank, false);
    }
    rank->end->n_calls += !rank->is_dead;
    return !rank->is_dead;
}

/* Some rank that can go on; now and then one that likely cannot. NULL: there is none. */
static rank_state_t *pick(turns_t *turns)
{
    uint32_t n = turns->opts.n_ranks, first = (uint32_t)turns_draw(&turns->draws, n);
    bool any = turns_draw(&turns->draws, 16) == 0;
    bool all_wait = true;
    rank_state_t *picked = NULL;

    for (uint32_t i = 0; i < n; i++) {
        rank_state_t *rank = &turns->ranks[(first + i) % n];
        bool can = !rank->ended && !rank->is_dead;

        all_wait = all_wait && (!can || (rank->waits && !rank->news));
        if (picked == NULL && can && (any || !rank->waits || rank->news)) {
            picked = rank;
        }
    }
    return all_wait ? NULL : picked;
}

/* Nobody can go on by what is known: time does, then all try, then there is no way. */
static void wake_somebody(turns_t *turns)
{
    uint64_t next_ns = turns_net_next_ns(turns->net);

    if (next_ns != UINT64_MAX) {
        turns->host.now_ns = next_ns;
        turns_net_deliver(turns->net);
        return;
    }
    if (++turns->n_rounds > MOST_ROUNDS) {
        turns_net_give_up(turns->net);
    }
    for (uint32_t r = 0; r < turns->opts.n_ranks; r++) {
        turns->ranks[r].news = true;
    }
}

static void let_run(turns_t *turns, rank_state_t *rank)
{
    switch_strands(&turns->scheduler, &rank->strand, false);
    turns->n_running -= rank->ended && !rank->is_dead;
}

static void schedule(turns_t *turns)
{
    while (turns->n_running > 0) {
        rank_state_t *rank;

        if (turns_draw(&turns->draws, 16) == 0 && turns_net_next_ns(turns->net) != UINT64_MAX) {
            turns->host.now_ns = turns_net_next_ns(turns->net); /* while some could still go on */
        }
        turns_net_deliver(turns->net);
        rank = pick(turns);
        if (rank != NULL) {
            let_run(turns, rank);
        } else {
            wake_somebody(turns);
        }
    }
    for (uint32_t r = 0; r < turns->opts.n_ranks; r++) {
        if (turns->ranks[r].is_dead) {
            let_run(turns, &turns->ranks[r]);
        }
    }
}

void ag_turns_play(const ag_turns_opts_t *opts, ag_rank_fn_t fn, void *arg, ag_turns_end_t *ends)
{
    turns_t turns = {.opts = *opts,
                     .fn = fn,
                     .draws = {.seed = opts->seed, .stream = 1},
                     .n_running = opts->n_ranks};

    turns.host = (turns_host_t){
        .arg = &turns, .now_ns = BEGIN_NS, .tell = tell, .pause = pause_rank, .call = call};
    turns.nets = calloc(opts->n_ranks, sizeof(*turns.nets));
    turns.ranks = calloc(opts->n_ranks, sizeof(*turns.ranks));
    if (turns.nets == NULL || turns.ranks == NULL) {
        abort();
    }
    turns.net = turns_net_create(&turns.host, opts->n_ranks, opts->seed, turns.nets);
    for (uint32_t r = 0; r < opts->n_ranks; r++) {
        rank_state_t *rank = &turns.ranks[r];

        ends[r] = (ag_turns_end_t){0};
        rank->turns = &turns;
        rank->end = &ends[r];
        rank->turn = (ag_turn_t){.net = turns.nets[r],
                                 .idle = {.fn = give_way, .arg = rank},
                                 .wait = {.idle = give_way_waiting, .arg = rank},
                                 .work = {.fn = say_work, .arg = rank},
                                 .clock = {.now_ns = cluster_now_ns, .arg = &turns.host},
                                 .arg = arg};
        make_strand(rank);
    }
    schedule(&turns);
    for (uint32_t r = 0; r < opts->n_ranks; r++) {
        ends[r].is_told = turns_net_is_told(turns.net, (int)r);
        free_strand(&turns.ranks[r].strand);
    }
    turns_net_destroy(turns.net);
    free(turns.ranks);
    free(turns.nets);
}

void ag_turns_run(uint32_t n_ranks, uint64_t seed, ag_rank_fn_t fn, void *arg,
                  ag_status_t *statuses)
{
    ag_turns_end_t *ends = calloc(n_ranks, sizeof(*ends));

    if (ends == NULL) {
        abort();
    }
    ag_turns_play(&(ag_turns_opts_t){.n_ranks = n_ranks, .seed = seed}, fn, arg, ends);
    for (uint32_t r = 0; r < n_ranks; r++) {
        statuses[r] = ends[r].status;
    }
    free(ends);
}
