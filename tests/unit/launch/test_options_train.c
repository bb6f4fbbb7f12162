#include <criterion/criterion.h>
#include <string.h>

#include "parse_line.h"

Test(options_train, training_has_its_defaults)
{
    ag_options_t o;

    cr_assert_eq(parse("train --model m --data a --output d", &o), AG_OK, "%s", ag_error());
    cr_expect(o.trains && o.plan.sequence_tokens == 512 && o.plan.compute == AG_COMPUTE_F32);
    cr_expect(o.train.lr == 3e-4 && o.train.beta1 == 0.9 && o.train.beta2 == 0.95);
    cr_expect(o.train.eps == 1e-8 && o.train.weight_decay == 0.1 && o.train.clip_grad == 1);
    cr_expect(o.train.steps == 0 && o.train.epochs == 0 && o.train.save_steps == 0);
    cr_assert_eq(parse("generate --model m --prompt p", &o), AG_OK);
    cr_expect(!o.trains && o.plan.sequence_tokens == 0);
}

Test(options_train, what_may_be_on_or_off_is_left_to_the_default)
{
    ag_options_t o;

    cr_assert_eq(parse("train --model m --data a --output d", &o), AG_OK);
    cr_expect_eq(o.plan.sequence_parallel, AG_CHOICE_DEFAULT);
    cr_assert_eq(parse("train --model m --data a --output d --sequence-parallel on", &o), AG_OK);
    cr_expect_eq(o.plan.sequence_parallel, AG_CHOICE_ON);
    cr_assert_eq(parse("train --model m --data a --output d --sequence-parallel off", &o), AG_OK);
    cr_expect_eq(o.plan.sequence_parallel, AG_CHOICE_OFF);
    expect_error("train --model m --data a --output d --sequence-parallel some", "on or off",
                 "some");
}

Test(options_train, training_reads_several_files)
{
    ag_options_t o;

    cr_assert_eq(parse("train --model m --data a b --lr 0.1 --data c --output d", &o), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(o.train.data.n_items, 3);
    cr_expect_str_eq(o.train.data.items[0], "a");
    cr_expect_str_eq(o.train.data.items[1], "b");
    cr_expect_str_eq(o.train.data.items[2], "c");
    cr_assert_eq(parse("train --model m --tokens i.npy j.npy --output d", &o), AG_OK);
    cr_expect(o.train.data.n_items == 2 && o.tokens_given);
}

Test(options_train, training_says_what_is_wrong)
{
    expect_error("train --model m --output d", "--data", "--tokens");
    expect_error("train --model m --data a --tokens b --output d", "--data", "--tokens");
    expect_error("train --model m --data a", "--output", "folder");
    expect_error("train --model m --data a --output d --train-steps 5 --epochs 1", "--train-steps",
                 "--epochs");
    expect_error("train --model m --data a --output d --train-steps 0", "--train-steps", "from 1");
    expect_error("train --model m --data a --output d --lr-schedule sin", "cosine or wsd", "sin");
    expect_error("train --model m --data a --output d --zero-stage 2", "--zero-stage", "0 or 1");
    expect_error("train --model m --data a --output d --recompute some", "none or full", "some");
    expect_error("train --model m --data a --output d --compute f16", "f32 or bf16", "f16");
    expect_error("train --model m --data a --output d --eval-steps 5", "--eval-data", "needs");
    expect_error("train --model m --data a --output d --plan p --dp 2", "--plan", "--dp");
    expect_error("train --model m --tokens a --output d --train-on-prompt", "--train-on-prompt",
                 "--tokens");
    expect_error("train --model m --tokens a --output d --date 2026-01-31", "--date", "--tokens");
    expect_error("train --model m --tokens a --output d --thinking off", "--thinking", "--tokens");
    expect_good("train --model m --tokens a --eval-data b --output d --thinking off");
    expect_error("train --model m --data --train-steps 1 --output d", "--data needs a value",
                 "--train-steps is an option");
    expect_error("generate --model --prompt a", "--model needs a value", "--model=--prompt");
    expect_good("generate --model=--prompt --prompt a");
    expect_error("plan --model m --dp 2", "--dp", "--train");
    expect_error("plan --model m --train --batch 2", "--train", "--micro-batch-size");
    expect_good("plan --model m --train --dp 2 --seq-length 64 --zero-stage 1 --recompute full");
    expect_good("train --model m --data a --dry-run");
}
