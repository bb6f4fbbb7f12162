/* Of a training program: every micro-batch goes once forward and once back through each part of the
 * model that a rank has, and the weights change once, behind all of them. Of one that evaluates: it
 * goes forward, and nothing changes. */
#include <stdlib.h>

#include "parallel/program/check_priv.h"

/* What a rank must do of each micro-batch in one of its chunks. */
typedef struct course {
    ag_layers_t layers;
    bool first, last; /* chunk of the model */
    uint32_t n_parts; /* forward and back */
    uint32_t *done;   /* (micro-batches of the replica) parts of each so far */
} course_t;

typedef struct way {
    ag_place_t place;
    uint32_t n_stages, n_chunks;
    bool again;      /* a layer is computed again before its gradients */
    bool may_spread; /* ranks may share experts out */
    bool evaluates;
    bool adds;           /* what a part of a layer makes is added by a part of its own */
    bool is_decided;     /* the first layer has said so */
    course_t *courses;   /* (n_chunks) */
    uint32_t begin, end; /* turns of the replica, each a micro-batch or an empty one */
    uint32_t n_complete; /* micro-batches in chunks */
    uint32_t n_steps;    /* zero, totals; update, and where replicas share it out adopt */
    uint32_t most_steps;
} way_t;

static const ag_part_kind_t of_head[] = {AG_PART_HEAD, AG_PART_LOSS, AG_PART_HEAD_B,
                                         AG_PART_HEAD_NORM_B};
static const ag_part_kind_t of_step[] = {AG_PART_ZERO, AG_PART_TOTALS, AG_PART_UPDATE,
                                         AG_PART_ADOPT};

enum { N_OF_HEAD = 4, N_OF_STEP = 4, MOST_OF_LAYER = 13 };
enum { N_OF_HEAD_FORWARD = 2, N_OF_STEP_FORWARD = 2 };

/* Parts of a layer: forward, and on the way back; of those the first ones only where it is computed
 * again. Whether a layer has experts the plan does not say: where ranks may share some out, FFN may
 * come in the place of the three. */
typedef struct layer_parts {
    uint32_t n, n_again, n_back;
    ag_part_kind_t forward[MOST_OF_LAYER], back[MOST_OF_LAYER];
} layer_parts_t;

/* Where the next part adds what one makes, and where a part of its own does. */
static const layer_parts_t of_layer[] = {
    {.n = 4,
     .n_again = 3,
     .n_back = 9,
     .forward = {AG_PART_ATTN, AG_PART_ROUTE, AG_PART_EXPERTS, AG_PART_COMBINE},
     .back = {AG_PART_ATTN, AG_PART_ROUTE, AG_PART_EXPERTS, AG_PART_COMBINE_B, AG_PART_EXPERTS_B,
              AG_PART_ROUTE_B, AG_PART_FFN_NORM_B, AG_PART_ATTN_B, AG_PART_ATTN_NORM_B}},
    {.n = 6,
     .n_again = 5,
     .n_back = 13,
     .forward = {AG_PART_ATTN, AG_PART_ATTN_ADD, AG_PART_ROUTE, AG_PART_EXPERTS, AG_PART_COMBINE,
                 AG_PART_FFN_ADD},
     .back = {AG_PART_ATTN, AG_PART_ATTN_ADD, AG_PART_ROUTE, AG_PART_EXPERTS, AG_PART_COMBINE,
              AG_PART_FFN_ADD_B, AG_PART_COMBINE_B, AG_PART_EXPERTS_B, AG_PART_ROUTE_B,
              AG_PART_FFN_NORM_B, AG_PART_ATTN_ADD_B, AG_PART_ATTN_B, AG_PART_ATTN_NORM_B}},
};

static uint32_t back_of_layer(const way_t *way)
{
    const layer_parts_t *parts = &of_layer[way->adds];

    return way->again ? parts->n_back : parts->n_back - parts->n_again;
}

/* Parts of a micro-batch on its way through a chunk. */
static void count_parts(const way_t *way, course_t *course)
{
    uint32_t n = course->layers.end - course->layers.begin;
    uint32_t forward = course->first + of_layer[way->adds].n * n + !way->adds;

    course->n_parts = way->evaluates ? forward + (course->last ? N_OF_HEAD_FORWARD : 0)
                                     : forward + (course->last ? N_OF_HEAD : 0) +
                                           back_of_layer(way) * n + course->first;
}

static bool is_of_experts(uint32_t kind)
{
    return kind == AG_PART_ROUTE || kind == AG_PART_EXPERTS || kind == AG_PART_COMBINE ||
           kind == AG_PART_COMBINE_B || kind == AG_PART_EXPERTS_B || kind == AG_PART_ROUTE_B;
}

/* The part that may come in the place of several that begin with this one. */
static uint32_t whole_of(uint32_t kind)
{
    return kind == AG_PART_ROUTE ? AG_PART_FFN : kind == AG_PART_COMBINE_B ? AG_PART_FFN_B : kind;
}

/* A micro-batch's part number i. */
static ag_part_t nth_part(const way_t *way, const course_t *course, uint32_t i)
{
    uint32_t n = course->layers.end - course->layers.begin, n_back = back_of_layer(way);
    const layer_parts_t *parts = &of_layer[way->adds];

    if (course->first && i == 0) {
        return (ag_part_t){AG_PART_EMBED, 0};
    }
    i -= course->first;
    if (i < parts->n * n) {
        return (ag_part_t){parts->forward[i % parts->n], course->layers.begin + i / parts->n};
    }
    i -= parts->n * n;
    if (i == 0 && !way->adds) {
        return (ag_part_t){AG_PART_ADD, 0};
    }
    i -= !way->adds;
    if (course->last && i < N_OF_HEAD) {
        return (ag_part_t){of_head[i], 0};
    }
    i -= course->last ? N_OF_HEAD : 0;
    if (i < n_back * n) {
        return (ag_part_t){parts->back[parts->n_back - n_back + i % n_back],
                           course->layers.end - 1 - i / n_back};
    }
    return (ag_part_t){AG_PART_EMBED_B, 0};
}

static bool is_of_step(uint32_t kind)
{
    return kind == AG_PART_ZERO || kind == AG_PART_SHARE || kind == AG_PART_SHARED ||
           kind == AG_PART_TOTALS || kind == AG_PART_UPDATE || kind == AG_PART_ADOPT;
}

static uint32_t n_works(const way_t *way)
{
    return (way->end - way->begin) * way->n_chunks;
}

/* Of all micro-batches together. */
static bool take_step(way_t *way, const ag_part_t *part)
{
    bool in_turn, complete = way->n_complete == n_works(way);

    if (part->kind == AG_PART_SHARE || part->kind == AG_PART_SHARED) {
        return way->n_steps == 1 && complete;
    }
    in_turn = way->n_steps < way->most_steps && of_step[way->n_steps] == part->kind &&
              (way->n_steps == 0 || complete);
    way->n_steps++;
    return in_turn;
}

/* How many of a micro-batch's parts from number i on a part is; 0: it is not its turn. */
static uint32_t steps_of(const way_t *way, const course_t *course, uint32_t i,
                         const ag_part_t *part)
{
    ag_part_t next =
        i < course->n_parts ? nth_part(way, course, i) : (ag_part_t){AG_N_PART_KINDS, 0};
    uint32_t n = 1;

    if (next.layer != part->layer ||
        (next.kind != part->kind && whole_of(next.kind) != part->kind)) {
        return 0;
    }
    if (next.kind == part->kind) {
        return !is_of_experts(part->kind) || way->may_spread;
    }
    while (is_of_experts(nth_part(way, course, i + n).kind) &&
           whole_of(nth_part(way, course, i + n).kind) == nth_part(way, course, i + n).kind) {
        n++;
    }
    return n;
}

/* The first layer says how its parts are added. */
static void decide(way_t *way, uint32_t kind)
{
    way->is_decided = true;
    way->adds = kind == AG_PART_ATTN_ADD;
    for (uint32_t i = 0; i < way->n_chunks; i++) {
        count_parts(way, &way->courses[i]);
    }
}

static bool take_part(void *arg, const ag_op_t *op, const ag_part_t *part)
{
    way_t *way = arg;
    uint32_t number = op->chunk / way->n_stages, *done, n;
    course_t *course;

    if (op->half != AG_HALF_BOTH || op->stream != AG_STREAM_COMPUTE) {
        return false;
    }
    if (is_of_step(part->kind)) {
        return take_step(way, part);
    }
    if (op->micro_batch < way->begin || op->micro_batch >= way->end || way->n_steps != 1 ||
        number >= way->n_chunks || op->chunk % way->n_stages != way->place.stage) {
        return false;
    }
    if (!way->is_decided && part->kind != AG_PART_EMBED && part->kind != AG_PART_ATTN) {
        decide(way, part->kind);
    }
    course = &way->courses[number];
    done = &course->done[op->micro_batch - way->begin];
    n = steps_of(way, course, *done, part);
    *done += n;
    way->n_complete += n > 0 && *done == course->n_parts;
    return n > 0;
}

static ag_status_t fail_missing(const way_t *way, uint32_t rank)
{
    for (uint32_t i = 0; i < n_works(way); i++) {
        const course_t *course = &way->courses[i % way->n_chunks];
        uint32_t micro_batch = i / way->n_chunks, done = course->done[micro_batch];

        if (done < course->n_parts) {
            ag_part_t part = nth_part(way, course, done);

            return ag_fail(AG_ERR_INVALID,
                           "rank %u: nobody computes %s of layer %u, micro-batch %u", rank,
                           ag_part_infos[way->may_spread ? part.kind : whole_of(part.kind)].name,
                           part.layer, way->begin + micro_batch);
        }
    }
    return ag_fail(AG_ERR_INVALID, "rank %u: nobody computes %s", rank,
                   ag_part_infos[of_step[way->n_steps]].name);
}

static ag_status_t check_ops(const ag_program_t *program, uint32_t r, way_t *way)
{
    ag_status_t status = ag_check_each_part(program, r, take_part, way);

    if (status != AG_OK) {
        return status;
    }
    return way->n_steps == way->most_steps ? AG_OK : fail_missing(way, r);
}

static ag_status_t init_way(const ag_plan_t *plan, uint32_t rank, way_t *way)
{
    ag_status_t status = ag_mesh_place(plan, rank, &way->place);

    if (status != AG_OK) {
        return status;
    }
    way->n_stages = plan->n_stages;
    way->n_chunks = ag_plan_chunks(plan);
    way->again = plan->train.recompute;
    way->most_steps = way->evaluates                ? N_OF_STEP_FORWARD
                      : ag_plan_shares_update(plan) ? N_OF_STEP
                                                    : N_OF_STEP - 1;
    way->may_spread = ag_plan_ranks(plan) > 1 && plan->stages[0].experts.n_experts > 0;
    way->begin = ag_plan_first_turn(plan, way->place.replica);
    way->end = way->begin + plan->stages[0].replicas[way->place.replica].turns;
    way->courses = calloc(way->n_chunks, sizeof(*way->courses));
    for (uint32_t i = 0; way->courses != NULL && i < way->n_chunks; i++) {
        uint32_t chunk = i * plan->n_stages + way->place.stage;
        course_t *course = &way->courses[i];

        course->layers = ag_plan_layers(plan, chunk);
        course->first = chunk == 0;
        course->last = chunk + 1 == way->n_chunks * plan->n_stages;
        count_parts(way, course);
        course->done = calloc((size_t)(way->end - way->begin) + 1, sizeof(*course->done));
        if (course->done == NULL) {
            return ag_fail_nomem("checking a program", sizeof(*course->done));
        }
    }
    return way->courses != NULL ? AG_OK
                                : ag_fail_nomem("checking a program", sizeof(*way->courses));
}

ag_status_t ag_check_train_parts(const ag_program_t *program, const ag_plan_t *plan, uint32_t rank)
{
    way_t way = {.evaluates = ag_program_evaluates(program)};
    ag_status_t status = init_way(plan, rank, &way);

    if (status == AG_OK) {
        status = check_ops(program, rank, &way);
    }
    for (uint32_t i = 0; way.courses != NULL && i < way.n_chunks; i++) {
        free(way.courses[i].done);
    }
    free(way.courses);
    return status;
}
