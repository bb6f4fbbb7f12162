/* Of a training program: every micro-batch goes once forward and once back through each part of the
 * model that a rank has, and the weights change once, behind all of them. Of one that evaluates: it
 * goes forward, and nothing changes. */
#include <stdlib.h>

#include "parallel/program/check_priv.h"

/* What a rank must do of each micro-batch in one of its chunks. */
typedef struct course {
    ag_array_t parts; /* ag_part_t, forward and back; of experts that ranks may share out the three
                         parts that come in the place of one */
    uint32_t *done;   /* (turns of the replica) parts of each so far */
} course_t;

typedef struct way {
    const ag_plan_t *plan;
    ag_status_t status; /* of listing parts */
    ag_place_t place;
    uint32_t n_stages, n_chunks;
    bool may_spread;  /* ranks may share experts out */
    bool shares_rows; /* .. and rows of the residual stream */
    bool evaluates;
    bool adds;           /* what a part of a layer makes is added by a part of its own */
    bool is_decided;     /* the first layer has said so */
    course_t *courses;   /* (n_chunks) */
    uint32_t begin, end; /* turns of the replica, each a micro-batch or an empty one */
    uint32_t n_complete; /* micro-batches in chunks */
    uint32_t n_steps;    /* zero, totals; update, and where replicas share it out adopt */
    uint32_t most_steps;
} way_t;

static const ag_part_kind_t of_step[] = {AG_PART_ZERO, AG_PART_TOTALS, AG_PART_UPDATE,
                                         AG_PART_ADOPT};

enum { N_OF_STEP = 4, N_OF_STEP_FORWARD = 2 };

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

static bool is_of_step(uint32_t kind)
{
    return kind == AG_PART_ZERO || kind == AG_PART_SHARE || kind == AG_PART_SHARED ||
           kind == AG_PART_TOTALS || kind == AG_PART_UPDATE || kind == AG_PART_ADOPT;
}

static uint32_t n_works(const way_t *way)
{
    return (way->end - way->begin) * way->n_chunks;
}

static ag_part_t nth_part(const course_t *course, size_t i)
{
    return i < course->parts.n_items ? AG_ITEMS(&course->parts, ag_part_t)[i]
                                     : (ag_part_t){AG_N_PART_KINDS, 0};
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
    ag_part_t next = nth_part(course, i);
    uint32_t n = 1;

    if (next.kind == AG_PART_FFN_W && part->kind == AG_PART_ATTN_W && way->may_spread) {
        return next.layer == part->layer ? 2
                                         : 0; /* of experts that ranks share out there is none */
    }
    if (next.layer != part->layer ||
        (next.kind != part->kind && whole_of(next.kind) != part->kind)) {
        return 0;
    }
    if (next.kind == part->kind) {
        return !is_of_experts(part->kind) || way->may_spread;
    }
    while (is_of_experts(nth_part(course, i + n).kind) &&
           whole_of(nth_part(course, i + n).kind) == nth_part(course, i + n).kind) {
        n++;
    }
    return n;
}

static ag_status_t list_parts(const way_t *way, uint32_t number)
{
    ag_check_course_t course = {.plan = way->plan,
                                .chunk = number * way->n_stages + way->place.stage,
                                .stage = way->place.stage,
                                .evaluates = way->evaluates,
                                .adds = way->adds};

    return ag_check_list_parts(&course, &way->courses[number].parts);
}

/* The rows that a part is of. */
static uint32_t rows_of(const way_t *way, const ag_part_t *part)
{
    bool between_sums = part->kind == AG_PART_ATTN_NORM || part->kind == AG_PART_FFN_NORM ||
                        part->kind == AG_PART_ATTN_NORM_B || part->kind == AG_PART_FFN_NORM_B ||
                        part->kind == AG_PART_ADD;

    return way->shares_rows && between_sums ? AG_ROWS_SHARE : AG_HALF_BOTH;
}

/* The first layer says how its parts are added. */
static ag_status_t decide(way_t *way, uint32_t kind)
{
    ag_status_t status = AG_OK;

    way->is_decided = true;
    way->adds = kind == AG_PART_ATTN_ADD;
    for (uint32_t i = 0; i < way->n_chunks && way->adds && status == AG_OK; i++) {
        way->courses[i].parts.n_items = 0;
        status = list_parts(way, i);
    }
    return status;
}

static bool take_part(void *arg, const ag_op_t *op, const ag_part_t *part)
{
    way_t *way = arg;
    uint32_t number = op->chunk / way->n_stages, *done, n;
    course_t *course;

    if (op->half != rows_of(way, part) || op->stream != AG_STREAM_COMPUTE) {
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
        way->status = decide(way, part->kind);
    }
    course = &way->courses[number];
    done = &course->done[op->micro_batch - way->begin];
    n = steps_of(way, course, *done, part);
    *done += n;
    way->n_complete += n > 0 && *done == course->parts.n_items;
    return n > 0;
}

static ag_status_t fail_missing(const way_t *way, uint32_t rank)
{
    for (uint32_t i = 0; i < n_works(way); i++) {
        const course_t *course = &way->courses[i % way->n_chunks];
        uint32_t micro_batch = i / way->n_chunks, done = course->done[micro_batch];

        if (done < course->parts.n_items) {
            ag_part_t part = nth_part(course, done);

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
    way->most_steps = way->evaluates                ? N_OF_STEP_FORWARD
                      : ag_plan_shares_update(plan) ? N_OF_STEP
                                                    : N_OF_STEP - 1;
    way->may_spread = ag_plan_ranks(plan) > 1 && plan->stages[0].experts.n_experts > 0;
    way->shares_rows =
        ag_plan_shares_rows(plan, &plan->stages[way->place.stage].replicas[way->place.replica]);
    way->begin = ag_plan_first_turn(plan, way->place.replica);
    way->end = way->begin + plan->stages[0].replicas[way->place.replica].turns;
    way->courses = calloc(way->n_chunks, sizeof(*way->courses));
    if (way->courses == NULL) {
        return ag_fail_nomem("checking a program", sizeof(*way->courses));
    }
    for (uint32_t i = 0; i < way->n_chunks && status == AG_OK; i++) {
        way->courses[i].parts = AG_ARRAY(ag_part_t);
        way->courses[i].done =
            calloc((size_t)(way->end - way->begin) + 1, sizeof(*way->courses[i].done));
        status = way->courses[i].done == NULL
                     ? ag_fail_nomem("checking a program", way->end - way->begin)
                     : list_parts(way, i);
    }
    return status;
}

ag_status_t ag_check_train_parts(const ag_program_t *program, const ag_plan_t *plan, uint32_t rank)
{
    way_t way = {.plan = plan, .status = AG_OK, .evaluates = ag_program_evaluates(program)};
    ag_status_t status = init_way(plan, rank, &way);

    if (status == AG_OK) {
        status = check_ops(program, rank, &way);
        status = way.status == AG_OK ? status : way.status;
    }
    for (uint32_t i = 0; way.courses != NULL && i < way.n_chunks; i++) {
        free(way.courses[i].done);
        ag_array_fini(&way.courses[i].parts);
    }
    free(way.courses);
    return status;
}
