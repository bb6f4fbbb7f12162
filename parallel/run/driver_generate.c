/*
 * Prompts to answers, many at once. A step is of one kind: chunks of prompts, or one row of each of
 * some sequences. Steps follow one another without waiting, as long as sequences have rows that do
 * not need the logits of a step in flight, and slots are free.
 */
#include <stdlib.h>

#include "parallel/run/sequence_priv.h"

typedef enum state {
    IDLE,
    FILLING, /* rows of its prompt are to come */
    WAITING, /* for logits */
    READY,   /* its next token is known */
} state_t;

/* A sequence that answers a prompt. */
typedef struct seat {
    ag_sequence_t sequence;
    ag_answer_t *answer;
    state_t state;
    size_t n_filled; /* of the prompt, in steps so far */
    uint64_t n_made;
    int32_t next; /* READY */
} seat_t;

/* A step in flight. */
typedef struct flight {
    ag_phase_t *phase;
    uint32_t n;      /* outputs */
    uint32_t *seats; /* (sequences) whose they are */
} flight_t;

typedef struct generation {
    ag_job_t *job;
    const ag_plan_t *plan;
    const ag_generate_opts_t *opts;
    ag_run_figures_t *figures;
    ag_answer_t *answers;
    size_t n_answers, n_begun;
    ag_kv_pool_t pool;
    ag_rows_t rows;
    ag_sampler_t *sampler; /* whose token is chosen has it */
    ag_meter_t meter;
    seat_t *seats;
    uint32_t n_seats, n_busy;
    uint32_t turn;     /* the seat that is next to be served */
    flight_t *flights; /* (slots) step i in i mod slots */
    uint32_t n_slots;
    uint64_t n_posted, n_taken;
} generation_t;

static const int32_t *rest_of(const seat_t *seat, size_t *n_p)
{
    *n_p = seat->answer->n_prompt - seat->n_filled;
    return seat->answer->prompt + seat->n_filled;
}

/* Rows that a seat has for a step now: of a prompt the next chunk. 0: none. */
static uint32_t rows_of(const generation_t *g, const seat_t *seat)
{
    size_t rest;

    if (seat->state != FILLING) {
        return seat->state == READY;
    }
    rest_of(seat, &rest);
    return rest < g->plan->batch_tokens ? (uint32_t)rest : g->plan->batch_tokens;
}

static seat_t *seat_in_turn(const generation_t *g, uint32_t i)
{
    return &g->seats[(g->turn + i) % g->n_seats];
}

/* Whom the next step serves first: who fills before who decodes, in turn. NULL: nobody has rows. */
static const seat_t *choose_first(const generation_t *g)
{
    static const state_t states[] = {FILLING, READY};

    for (int s = 0; s < 2; s++) {
        for (uint32_t i = 0; i < g->n_seats; i++) {
            if (seat_in_turn(g, i)->state == states[s]) {
                return seat_in_turn(g, i);
            }
        }
    }
    return NULL;
}

/* A seat's rows into the step that is being put together. */
static void serve(generation_t *g, seat_t *seat, flight_t *flight)
{
    uint32_t n = rows_of(g, seat);
    size_t rest = 1;
    const int32_t *tokens = &seat->next;
    bool last;

    if (seat->state == FILLING) {
        tokens = rest_of(seat, &rest);
        seat->n_filled += n;
    }
    last = n == rest;
    ag_rows_add(&g->rows, &seat->sequence, tokens, n, last ? AG_OUTPUT_LAST : AG_OUTPUT_NONE,
                flight->phase);
    if (last) {
        flight->seats[flight->n++] = (uint32_t)(seat - g->seats);
        seat->state = WAITING;
    }
}

/*
 * Put the next step together: a chunk of a sequence, or one row of each of some, so that what rows
 * run with does not depend on other sequences; and no more of these than leaves some for the other
 * slots.
 * @return whether there is one.
 */
static bool compose(generation_t *g, flight_t *flight)
{
    const seat_t *first = choose_first(g);
    uint32_t most = (g->n_busy + g->n_slots - 1) / g->n_slots, n_served = 0, last = 0;
    state_t state;

    if (first == NULL) {
        return false;
    }
    state = first->state;
    most = rows_of(g, first) > 1 ? 1 : most;
    flight->n = 0;
    flight->phase = state == FILLING ? &g->figures->prefill : &g->figures->decode;
    ag_rows_begin(&g->rows);
    for (uint32_t i = 0; i < g->n_seats && n_served < most; i++) {
        seat_t *seat = seat_in_turn(g, i);

        if (seat == first || (seat->state == state && rows_of(g, seat) == 1 && most > 1)) {
            serve(g, seat, flight);
            n_served++;
            last = i;
        }
    }
    g->turn = (g->turn + last + 1) % g->n_seats;
    flight->phase->steps++;
    return true;
}

static void begin_answers(generation_t *g)
{
    for (uint32_t i = 0; i < g->n_seats && g->n_begun < g->n_answers; i++) {
        seat_t *seat = &g->seats[i];

        if (seat->state != IDLE) {
            continue;
        }
        seat->answer = &g->answers[g->n_begun++];
        seat->state = FILLING;
        seat->sequence.position = 0;
        seat->n_filled = 0;
        seat->n_made = 0;
        g->n_busy++;
    }
}

static ag_status_t end_answer(generation_t *g, seat_t *seat, ag_stop_t stop)
{
    const ag_driver_calls_t *calls = &g->opts->calls;

    seat->state = IDLE;
    seat->answer->stop = stop;
    g->n_busy--;
    return calls->on_answer != NULL ? calls->on_answer(calls->arg, seat->answer) : AG_OK;
}

/* The token that a seat's logits give. */
static ag_status_t pick(generation_t *g, seat_t *seat, const float *logits, ag_phase_t *phase)
{
    const ag_clock_t *clock = ag_job_clock(g->job);
    uint64_t begin_ns = ag_clock_now_ns(clock);
    const ag_answer_t *answer = seat->answer;
    ag_status_t status;

    ag_sampler_begin(g->sampler, answer->stream);
    ag_sampler_see(g->sampler, answer->prompt, answer->n_prompt);
    ag_sampler_see(g->sampler, AG_ITEMS(&answer->tokens, int32_t), answer->tokens.n_items);
    status = ag_sampler_pick(g->sampler, logits, seat->n_made, &seat->next);
    phase->sampling_ns += ag_clock_now_ns(clock) - begin_ns;
    return status == AG_ERR_FORMAT ? ag_fail_logits(g->job) : status;
}

static ag_status_t take_token(generation_t *g, seat_t *seat, const float *logits, ag_phase_t *phase)
{
    const ag_driver_calls_t *calls = &g->opts->calls;
    bool is_text = false;
    ag_status_t status;

    if (seat->n_made == g->opts->max_tokens) { /* of none */
        return end_answer(g, seat, AG_STOP_LENGTH);
    }
    status = pick(g, seat, logits, phase);
    if (status != AG_OK) {
        return status;
    }
    if (!g->opts->ignore_end && calls->is_end != NULL && calls->is_end(calls->arg, seat->next)) {
        return end_answer(g, seat, AG_STOP_END);
    }
    seat->n_made++;
    status = ag_array_append(&seat->answer->tokens, &seat->next, 1);
    if (status == AG_OK && calls->on_token != NULL) {
        is_text = calls->on_token(calls->arg, seat->answer, seat->next, &status);
    }
    if (status != AG_OK) {
        return status;
    }
    if (is_text || seat->n_made == g->opts->max_tokens ||
        seat->sequence.position >= g->plan->context_tokens) {
        return end_answer(g, seat, is_text ? AG_STOP_TEXT : AG_STOP_LENGTH);
    }
    seat->state = READY;
    return AG_OK;
}

/* Wait for the oldest step in flight, and take what it gives. The time since the one before is its
 * phase's. */
static ag_status_t take_step(generation_t *g)
{
    const flight_t *flight = &g->flights[g->n_taken % g->n_slots];
    uint64_t vocab = ag_job_model(g->job)->spec->vocab;
    const float *logits;
    ag_status_t status = ag_job_wait(g->job, &logits);

    g->n_taken++;
    for (uint32_t i = 0; i < flight->n && status == AG_OK; i++) {
        status = take_token(g, &g->seats[flight->seats[i]], logits + i * vocab, flight->phase);
    }
    ag_meter_lap(&g->meter, flight->phase);
    if (flight->n > 0 && g->opts->calls.pause != NULL) {
        g->opts->calls.pause(g->opts->calls.arg);
        ag_meter_lap(&g->meter, NULL);
    }
    return status;
}

static ag_status_t generate(generation_t *g)
{
    ag_status_t status = AG_OK;
    bool cancelled = false;

    while (status == AG_OK) {
        flight_t *flight = &g->flights[g->n_posted % g->n_slots];

        if (!cancelled) {
            status = ag_job_is_cancelled(g->job, &cancelled);
        }
        if (!cancelled) {
            begin_answers(g);
        }
        if (status == AG_OK && !cancelled && g->n_posted - g->n_taken < g->n_slots &&
            compose(g, flight)) {
            status = ag_job_post(g->job, &g->rows.step);
            g->n_posted++;
        } else if (status == AG_OK && g->n_posted > g->n_taken) {
            status = take_step(g);
        } else {
            break;
        }
    }
    return status;
}

static ag_status_t check_prompts(const generation_t *g)
{
    uint32_t context = g->plan->context_tokens;

    for (size_t i = 0; i < g->n_answers; i++) {
        const ag_answer_t *answer = &g->answers[i];
        ag_status_t status =
            ag_check_ids(ag_job_model(g->job), "the prompt", answer->prompt, answer->n_prompt);

        if (status != AG_OK) {
            return status;
        }
        if (answer->n_prompt == 0) {
            return ag_fail(AG_ERR_INVALID, "the prompt is empty: give at least one token");
        }
        if (answer->n_prompt > context) {
            return ag_fail(AG_ERR_INVALID,
                           "the prompt has %zu tokens, the context %u: shorten it, or give a "
                           "larger --context",
                           answer->n_prompt, context);
        }
    }
    return AG_OK;
}

static ag_status_t open_seats(generation_t *g)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < g->n_seats && status == AG_OK; i++) {
        status = ag_sequence_init(g->plan, &g->pool, &g->seats[i].sequence);
    }
    for (uint32_t i = 0; i < g->n_slots && status == AG_OK; i++) {
        g->flights[i].seats = calloc(g->n_seats, sizeof(*g->flights[i].seats));
        if (g->flights[i].seats == NULL) {
            status = ag_fail_nomem("making steps", g->n_seats * sizeof(*g->flights[i].seats));
        }
    }
    return status;
}

uint64_t ag_generate_bytes(const ag_plan_t *plan)
{
    uint64_t n_seats = plan->n_sequences, n_slots = ag_plan_slots(plan);

    return ag_kv_pool_bytes(ag_job_kv_blocks(plan)) + ag_rows_bytes(plan) +
           n_seats * (sizeof(seat_t) + ag_sequence_bytes(plan)) +
           n_slots * (sizeof(flight_t) + n_seats * sizeof(uint32_t));
}

static ag_status_t open_generation(generation_t *g)
{
    ag_status_t status = ag_kv_pool_init(ag_job_kv_blocks(g->plan), &g->pool);

    g->n_seats =
        g->plan->n_sequences < g->n_answers ? g->plan->n_sequences : (uint32_t)g->n_answers;
    g->n_slots = ag_job_slots(g->job);
    g->seats = calloc(g->n_seats, sizeof(*g->seats));
    g->flights = calloc(g->n_slots, sizeof(*g->flights));
    if (status == AG_OK && (g->seats == NULL || g->flights == NULL)) {
        status = ag_fail_nomem("making sequences", g->n_seats * sizeof(*g->seats));
    }
    if (status == AG_OK) {
        status = ag_rows_init(g->plan, ag_job_model(g->job)->spec, &g->rows);
    }
    if (status == AG_OK) {
        status =
            ag_sampler_create(ag_job_model(g->job)->spec->vocab, g->opts->sampling, &g->sampler);
    }
    return status == AG_OK ? open_seats(g) : status;
}

static void close_generation(generation_t *g)
{
    for (uint32_t i = 0; g->seats != NULL && i < g->n_seats; i++) {
        ag_sequence_fini(&g->seats[i].sequence);
    }
    for (uint32_t i = 0; g->flights != NULL && i < g->n_slots; i++) {
        free(g->flights[i].seats);
    }
    free(g->seats);
    free(g->flights);
    ag_sampler_destroy(g->sampler);
    ag_rows_fini(&g->rows);
    ag_kv_pool_fini(&g->pool);
}

ag_status_t ag_generate(ag_job_t *job, ag_answer_t *answers, size_t n_answers,
                        const ag_generate_opts_t *opts, ag_run_figures_t *figures)
{
    generation_t g = {.job = job,
                      .plan = ag_job_plan(job),
                      .opts = opts,
                      .figures = figures,
                      .answers = answers,
                      .n_answers = n_answers};
    ag_status_t status = check_prompts(&g);

    if (status != AG_OK || n_answers == 0) {
        return status;
    }
    for (size_t i = 0; i < n_answers; i++) {
        answers[i].stop = AG_STOP_INTERRUPTED;
    }
    status = open_generation(&g);
    if (status == AG_OK) {
        g.meter = ag_meter_begin(job);
        status = generate(&g);
    }
    close_generation(&g);
    return status;
}
