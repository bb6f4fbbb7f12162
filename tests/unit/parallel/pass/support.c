#include "support.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/philox.h"

ag_status_t open_setup(const char *tp, uint32_t pp, const char *tensor_split, setup_t *setup)
{
    return open_class(tp, pp, tensor_split, (uint64_t[AG_N_SIZE_COUNTERS]){1, 16, 4, 1}, setup);
}

ag_status_t open_class(const char *tp, uint32_t pp, const char *tensor_split,
                       const uint64_t bounds[AG_N_SIZE_COUNTERS], setup_t *setup)
{
    return open_model("/tiny/llama",
                      &(ag_plan_opts_t){.tp = tp, .pp = pp, .tensor_split = tensor_split}, bounds,
                      setup);
}

ag_status_t open_model(const char *model, const ag_plan_opts_t *opts,
                       const uint64_t bounds[AG_N_SIZE_COUNTERS], setup_t *setup)
{
    ag_plan_model_t facts;
    char path[256];
    ag_status_t status;

    *setup = (setup_t){0};
    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA, model);
    status = ag_model_open(path, &setup->model);
    if (status != AG_OK) {
        return status;
    }
    facts = ag_build_plan_model(setup->model);
    status = ag_plan_make(&facts, opts, &setup->plan);
    if (status == AG_OK) {
        status = ag_build_create(setup->plan, setup->model, &setup->build);
    }
    return status == AG_OK ? ag_build_program(setup->build, bounds, true, &setup->program) : status;
}

static uint32_t draw(uint64_t seed, uint64_t index, uint32_t n)
{
    return (uint32_t)(ag_philox_uniform(seed, 3, index) * n);
}

ag_status_t open_random(uint64_t seed, setup_t *setup)
{
    uint32_t n_stages = 1 + draw(seed, 0, 3), n_rows = draw(seed, 1, 2) == 0 ? 1 : 128;
    char tp[32] = "", split[64] = "";

    for (uint32_t s = 0; s < n_stages; s++) {
        uint32_t degree = 1 + draw(seed, 2 + s, 5);

        sprintf(tp + strlen(tp), "%s%u", s > 0 ? "," : "", degree);
        for (uint32_t i = 0; i < degree; i++) {
            sprintf(split + strlen(split), "%s%u",
                    i > 0   ? ","
                    : s > 0 ? ";"
                            : "",
                    1 + draw(seed, 8 + s * 8 + i, 3));
        }
    }
    return open_class(tp, n_stages > 1 ? n_stages : 0, split,
                      (uint64_t[AG_N_SIZE_COUNTERS]){1, n_rows, 1 + draw(seed, 6, n_rows), 1},
                      setup);
}

void close_setup(setup_t *setup)
{
    ag_program_destroy(setup->program);
    ag_build_destroy(setup->build);
    ag_plan_destroy(setup->plan);
    ag_model_close(setup->model);
}

uint32_t count_ops(const ag_program_t *program, uint32_t rank, ag_op_kind_t kind)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    uint32_t n = 0;

    for (size_t i = 0; i < r->ops.n_items; i++) {
        n += ag_rank_ops(r)[i].kind == kind;
    }
    return n;
}
