#include <criterion/criterion.h>
#include <math.h>

#include "launch/compare.h"

Test(compare, the_largest_difference_is_told_with_its_place)
{
    ag_difference_t d = {0};

    ag_difference_add(&d, 4, (float[]){1, 2, 3}, (float[]){1, 2, 4}, 3);
    ag_difference_add(&d, 5, (float[]){-8, 1, 0}, (float[]){-8, 3, 0}, 3);
    ag_difference_add(&d, 6, (float[]){1, 0, 0}, (float[]){1, 0, 0}, 3);
    cr_expect_eq(d.n_rows, 3);
    cr_expect_float_eq(d.absolute, 2, 0);
    cr_expect_eq(d.row, 5);
    cr_expect_eq(d.entry, 1);
    cr_expect_float_eq(d.own, 1, 0);
    cr_expect_float_eq(d.reference, 3, 0);
    cr_expect_float_eq(d.relative, 0.25, 0, "1 of 4, and 2 of 8");
    cr_expect_float_eq(d.scale, 8, 0);
    cr_expect_eq(d.n_greedy, 0);
}

Test(compare, rows_alike_are_not_apart_at_all)
{
    ag_difference_t d = {0};

    ag_difference_add(&d, 0, (float[]){0, 0}, (float[]){0, 0}, 2);
    cr_expect_eq(d.n_rows, 1);
    cr_expect_float_eq(d.absolute, 0, 0);
    cr_expect_float_eq(d.relative, 0, 0);
}

Test(compare, other_likeliest_tokens_are_counted_with_the_lead_they_had)
{
    ag_difference_t d = {0};

    ag_difference_add(&d, 0, (float[]){2, 1, 0}, (float[]){1, 1.5F, 0}, 3);
    ag_difference_add(&d, 1, (float[]){0, 1, 2}, (float[]){0, 1.25F, 1}, 3);
    ag_difference_add(&d, 2, (float[]){0, 1, 2}, (float[]){0, 1, 3}, 3);
    cr_expect_eq(d.n_greedy, 2);
    cr_expect_float_eq(d.margin, 0.5, 0);
}

Test(compare, what_is_no_number_is_beyond_every_bound)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};

    for (int i = 0; i < 6; i++) {
        float with[] = {1, 2, bad[i % 3]}, without[] = {1, 2, 3};
        ag_difference_t d = {0};

        ag_difference_add(&d, 7, i < 3 ? with : without, i < 3 ? without : with, 3);
        ag_difference_add(&d, 8, without, without, 3);
        cr_expect(isinf(d.absolute), "%d: %g", i, d.absolute);
        cr_expect_eq(d.row, 7);
        cr_expect_eq(d.entry, 2);
    }
}

/* A plan of stages with so many ranks each. */
typedef struct shape {
    ag_replica_t replicas[2];
    ag_stage_t stages[2];
    ag_plan_t plan;
} shape_t;

static const ag_plan_t *make(shape_t *shape, uint32_t first, uint32_t second, ag_compute_t compute,
                             ag_dtype_t kv_type)
{
    for (uint32_t s = 0; s < 2; s++) {
        shape->replicas[s] = (ag_replica_t){.n_ranks = s == 0 ? first : second,
                                            .tensor_ranks = s == 0 ? first : second};
        shape->stages[s] = (ag_stage_t){.n_replicas = 1, .replicas = &shape->replicas[s]};
    }
    shape->plan =
        (ag_plan_t){.n_stages = 2, .stages = shape->stages, .compute = compute, .kv_type = kv_type};
    return &shape->plan;
}

Test(compare, the_bound_is_of_what_two_plans_may_round_otherwise)
{
    shape_t whole, other, shared, exact, exact_shared, wide;
    const ag_plan_t *auto_whole = make(&whole, 1, 1, AG_COMPUTE_AUTO, AG_F16);
    const ag_plan_t *auto_other = make(&other, 1, 1, AG_COMPUTE_AUTO, AG_F16);
    const ag_plan_t *auto_shared = make(&shared, 1, 2, AG_COMPUTE_AUTO, AG_F16);
    const ag_plan_t *f32_whole = make(&exact, 1, 1, AG_COMPUTE_F32, AG_F32);
    const ag_plan_t *f32_shared = make(&exact_shared, 3, 1, AG_COMPUTE_F32, AG_F32);
    const ag_plan_t *f16_cache = make(&wide, 1, 1, AG_COMPUTE_F32, AG_F16);

    cr_expect_float_eq(ag_bound_of(auto_whole, auto_other, 9, 0).absolute, 0, 0);
    cr_expect_float_eq(ag_bound_of(f32_whole, f32_whole, 9, 0).absolute, 0, 0);
    shared.replicas[1].tensor_ranks = 1; /* its ranks share experts out alone */
    cr_expect_float_eq(ag_bound_of(auto_shared, auto_whole, 9, 0).absolute, 0, 0);
    shared.replicas[1].tensor_ranks = 2;
    cr_expect_float_eq(ag_bound_of(f32_shared, f32_whole, 10, 0).absolute, 2e-4, 1e-12);
    cr_expect_float_eq(ag_bound_of(f32_whole, f32_shared, 10, 0).absolute, 2e-4, 1e-12);
    cr_expect_float_eq(ag_bound_of(auto_shared, auto_whole, 10, 0).absolute, 1, 1e-12);
    cr_expect_float_eq(ag_bound_of(f32_whole, auto_whole, 10, 0).absolute, 1, 1e-12);
    cr_expect_float_eq(ag_bound_of(f32_whole, f16_cache, 10, 0).absolute, 1, 1e-12);
    cr_expect_float_eq(ag_bound_of(auto_whole, auto_other, 10, 1e-3).absolute, 1e-2, 1e-12);
}

/* Rows (4) of which so many are apart by a part of their largest logit. */
static ag_difference_t rows_apart(uint32_t n, float part)
{
    ag_difference_t d = {0};

    for (uint32_t i = 0; i < 4; i++) {
        ag_difference_add(&d, i, (float[]){1, i < n ? 4 - 4 * part : 4}, (float[]){1, 4}, 2);
    }
    return d;
}

Test(compare, a_routers_tie_excuses_what_is_beyond_the_bound_but_not_everything)
{
    static const struct {
        uint32_t n;
        float part, gap;
        ag_verdict_t verdict;
    } cases[] = {
        {4, 1e-6F, 0, AG_VERDICT_WITHIN},       {4, 1e-3F, INFINITY, AG_VERDICT_BEYOND},
        {4, 1e-3F, 2e-5F, AG_VERDICT_BEYOND},   {4, 1e-3F, 0.9e-5F, AG_VERDICT_EXCUSED},
        {2, 0.5F, 0.9e-5F, AG_VERDICT_EXCUSED}, {3, 0.5F, 0.9e-5F, AG_VERDICT_BEYOND},
        {1, NAN, 0.9e-5F, AG_VERDICT_BEYOND},   {1, 1.5F, 0.9e-5F, AG_VERDICT_EXCUSED},
        {1, 1e-3F, NAN, AG_VERDICT_BEYOND},
    };
    shape_t whole, shared;
    ag_bound_t bound = ag_bound_of(make(&shared, 2, 1, AG_COMPUTE_F32, AG_F32),
                                   make(&whole, 1, 1, AG_COMPUTE_F32, AG_F32), 4, 0);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_difference_t d[] = {rows_apart(cases[i].n, cases[i].part), {0}};

        cr_expect_eq(ag_bound_judge(&bound, d, 2, cases[i].gap), cases[i].verdict, "case %zu", i);
    }
    bound = ag_bound_of(&whole.plan, &whole.plan, 4, 0);
    cr_expect_eq(ag_bound_judge(&bound, (ag_difference_t[]){rows_apart(1, 1e-6F)}, 1, 0),
                 AG_VERDICT_BEYOND, "the same bits have the same experts");
}
