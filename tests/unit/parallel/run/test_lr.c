#include <criterion/criterion.h>
#include <math.h>

#include "parallel/run/train.h"

static double at(ag_lr_schedule_t schedule, uint64_t warmup_steps, uint64_t n_steps, uint64_t step)
{
    return ag_lr_at(
        &(ag_lr_t){
            .schedule = schedule, .most = 2, .warmup_steps = warmup_steps, .n_steps = n_steps},
        step);
}

Test(lr, it_rises_along_a_line_and_stays)
{
    cr_expect_eq(at(AG_LR_CONSTANT, 4, 100, 1), 0.5);
    cr_expect_eq(at(AG_LR_CONSTANT, 4, 100, 4), 2);
    cr_expect_eq(at(AG_LR_CONSTANT, 4, 100, 5), 2);
    cr_expect_eq(at(AG_LR_CONSTANT, 4, 100, 100), 2);
}

/* As transformers' schedules have it at this many steps before: they count from 0. */
Test(lr, it_goes_down_as_elsewhere)
{
    cr_expect_float_eq(at(AG_LR_LINEAR, 0, 10, 1), 2, 1e-12);
    cr_expect_float_eq(at(AG_LR_LINEAR, 0, 10, 6), 1, 1e-12);
    cr_expect_float_eq(at(AG_LR_LINEAR, 0, 10, 10), 0.2, 1e-12);
    cr_expect_float_eq(at(AG_LR_LINEAR, 5, 10, 8), 2 * 0.6, 1e-12);
    cr_expect_float_eq(at(AG_LR_COSINE, 0, 10, 6), 1, 1e-12);
    cr_expect_float_eq(at(AG_LR_COSINE, 2, 10, 5), 2 * 0.5 * (1 + cos(acos(-1) * 2.0 / 8)), 1e-12);
}

Test(lr, wsd_is_constant_until_its_last_fifth)
{
    cr_expect_eq(at(AG_LR_WSD, 0, 100, 80), 2);
    cr_expect_eq(at(AG_LR_WSD, 0, 100, 81), 2);
    cr_expect_float_eq(at(AG_LR_WSD, 0, 100, 86), 2 * (1 - sqrt(5.0 / 20)), 1e-12);
}

Test(lr, every_step_learns_something)
{
    for (int schedule = 0; schedule < AG_N_LR_SCHEDULES; schedule++) {
        for (uint64_t n_steps = 1; n_steps < 30; n_steps++) {
            for (uint64_t warmup_steps = 0; warmup_steps < 32; warmup_steps++) {
                for (uint64_t step = 1; step <= n_steps; step++) {
                    double lr = at((ag_lr_schedule_t)schedule, warmup_steps, n_steps, step);

                    cr_expect(lr > 0 && lr <= 2, "%s, %d of %d, warm-up %d: %g",
                              ag_lr_schedule_names[schedule], (int)step, (int)n_steps,
                              (int)warmup_steps, lr);
                }
            }
        }
    }
}
