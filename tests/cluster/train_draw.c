#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_case.h"

static void add_number(char *text, const char *separator, uint32_t number)
{
    size_t n = strlen(text);

    snprintf(text + n, TEXT_BYTES - n, "%s%u", n == 0 ? "" : separator, number);
}

/* Layers of p x v chunks, in model order. */
static void draw_layers(dice_t *dice, train_case_t *c, uint32_t n_chunks)
{
    uint32_t left = c->model.n_layers;

    for (uint32_t i = 0; i < n_chunks; i++) {
        uint32_t n = i + 1 == n_chunks ? left : dice_between(dice, 1, left - (n_chunks - i - 1));

        add_number(c->pipeline_split, ",", n);
        left -= n;
    }
}

/* Degrees and shares of the stages; ranks of one replica. */
static uint32_t draw_degrees(dice_t *dice, train_case_t *c, uint32_t n_stages, uint32_t dp,
                             uint32_t most)
{
    uint32_t n_ranks = 0;

    for (uint32_t s = 0; s < n_stages; s++) {
        uint32_t degree = dice_between(dice, 1, most), copy = dice_between(dice, 1, degree * dp);

        n_ranks += degree;
        add_number(c->tp, ",", degree);
        for (; degree * dp % copy != 0; copy--) { /* ranks that hold a copy of the experts */
        }
        if (c->model.n_experts > 0) {
            add_number(c->ep, ",", copy);
        }
        for (uint32_t i = 0; i < degree; i++) {
            add_number(c->tensor_split, i == 0 ? ";" : ",", dice_between(dice, 1, 4));
        }
    }
    return n_ranks;
}

static void draw_plan(dice_t *dice, train_case_t *c)
{
    static const char *const schedules[] = {"gpipe", "1f1b", "interleaved"};
    uint32_t n_stages = dice_between(dice, 1, c->model.n_layers < 3 ? c->model.n_layers : 3);
    uint32_t dp = dice_between(dice, 1, 3), schedule = dice_below(dice, 3), v = 1, each = 1, n = 0;

    if (schedule == 2 && c->model.n_layers >= 4) {
        n_stages = dice_between(dice, 2, c->model.n_layers < 6 ? 2 : 3);
        v = 2;
        each = n_stages; /* micro-batches that it asks for a multiple of */
    } else if (schedule == 2) {
        schedule = 1;
    }
    draw_layers(dice, c, n_stages * v);
    c->n_ranks = dp * draw_degrees(dice, c, n_stages, dp, 12 / (dp * n_stages) > 3 ? 3 : 2);
    for (uint32_t i = 0; i < dp; i++) {
        uint32_t left = (MOST_BATCHES - c->n_batches - (dp - i - 1) * each) / each;

        n = each * dice_between(dice, 1, left < 3 ? left : 3);
        add_number(c->micro_batches, ",", n);
        c->n_batches += n;
    }
    c->opts = (ag_plan_opts_t){.tp = c->tp,
                               .tensor_split = c->tensor_split,
                               .pipeline_split = c->pipeline_split,
                               .compute = AG_COMPUTE_F32,
                               .dp = dp,
                               .ep = c->ep[0] != '\0' ? c->ep : NULL,
                               .micro_batches = c->micro_batches,
                               .schedule = schedules[schedule],
                               .virtual_stages = v,
                               .zero_stage = dice_below(dice, 2),
                               .recompute = dice_one_in(dice, 3)};
}

/* Documents of any lengths, some tokens without a target, now and then a micro-batch without any.
 */
static void draw_batch(dice_t *dice, train_case_t *c)
{
    uint32_t n_all = c->n_steps * c->n_batches, n = c->n_tokens;

    c->tokens = calloc((size_t)n_all * n, sizeof(int32_t));
    c->targets = calloc((size_t)n_all * n, sizeof(int32_t));
    c->row_begin = calloc((size_t)n_all * (n + 1), sizeof(int32_t));
    c->n_sequences = calloc(n_all, sizeof(uint32_t));
    for (uint32_t b = 0; b < n_all; b++) {
        int32_t *begins = c->row_begin + (size_t)b * (n + 1);
        bool none = dice_one_in(dice, 12);

        for (uint32_t i = 0; i < n; i++) {
            size_t at = (size_t)b * n + i;

            c->tokens[at] = (int32_t)dice_below(dice, c->model.vocab);
            c->targets[at] =
                none || dice_one_in(dice, 4) ? -1 : (int32_t)dice_below(dice, c->model.vocab);
            if (i == 0 || dice_one_in(dice, 9)) {
                begins[c->n_sequences[b]++] = (int32_t)i;
            }
        }
        begins[c->n_sequences[b]] = (int32_t)n;
    }
}

void train_case_draw(uint64_t number, const char *folder, train_case_t *c)
{
    dice_t dice = {.seed = number + (1ull << 40)};
    uint32_t n_rows, row_tokens;

    memset(c, 0, sizeof(*c));
    c->number = number;
    c->model = model_draw(&dice, number);
    if (model_write(&c->model, folder, c->path) != AG_OK) {
        fprintf(stderr, "%s\n", ag_error());
        abort();
    }
    draw_plan(&dice, c);
    /* attention within one token has no gradient but rounding */
    row_tokens = dice_between(&dice, 4, 12);
    n_rows = dice_between(&dice, 1, 3);
    c->n_tokens = n_rows * row_tokens;
    c->n_steps = dice_between(&dice, 1, MOST_STEPS);
    c->opts.sequence_tokens = row_tokens;
    c->opts.micro_batch_size = n_rows;
    c->one = (ag_plan_opts_t){.compute = AG_COMPUTE_F32,
                              .sequence_tokens = row_tokens,
                              .micro_batch_size = n_rows,
                              .global_batch_size = n_rows * c->n_batches};
    c->update = (ag_update_t){.learning_rate = 1e-3f,
                              .beta1 = 0.9f,
                              .beta2 = 0.95f,
                              .eps = 1e-3f, /* else what is nothing but rounding moves weights */
                              .weight_decay = 0.1f,
                              .clip_norm = dice_one_in(&dice, 2) ? 0.5f : 0};
    c->update.balance = c->model.n_experts > 0 && dice_one_in(&dice, 2) ? 0.02f : 0;
    c->update.z = c->update.balance / 2;
    draw_batch(&dice, c);
    c->opts.sequence_parallel = dice_one_in(&dice, 3) ? AG_CHOICE_OFF : AG_CHOICE_DEFAULT;
    c->opts.split_backward = !c->opts.recompute && dice_one_in(&dice, 3);
}

void train_case_free(train_case_t *c)
{
    free(c->tokens);
    free(c->targets);
    free(c->row_begin);
    free(c->n_sequences);
}

void train_case_print(const train_case_t *c)
{
    model_print(&c->model, stdout);
    printf("plan: --tp %s --tensor-split %s --ep %s --pipeline-split %s --dp %u --micro-batches %s "
           "--schedule %s --virtual-stages %u --zero-stage %u%s%s%s, %u ranks; %u steps of %u x %u "
           "tokens\n",
           c->tp, c->tensor_split, c->ep[0] != '\0' ? c->ep : "-", c->pipeline_split, c->opts.dp,
           c->micro_batches, c->opts.schedule, c->opts.virtual_stages, c->opts.zero_stage,
           c->opts.recompute ? " --recompute full" : "",
           c->opts.sequence_parallel == AG_CHOICE_OFF ? " --sequence-parallel off" : "",
           c->opts.split_backward ? " --split-backward" : "", c->n_ranks, c->n_steps, c->n_batches,
           c->n_tokens);
}
