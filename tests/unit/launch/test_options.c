#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/options_priv.h"
#include "parse_line.h"

Test(options, what_is_not_given_is_zero_but_for_256_tokens)
{
    ag_options_t o;

    memset(&o, 0xff, sizeof(o));
    cr_assert_eq(parse("generate --model m --prompt p", &o), AG_OK);
    cr_expect_eq(o.command, AG_COMMAND_GENERATE);
    cr_expect_str_eq(o.model, "m");
    cr_expect_str_eq(o.prompt, "p");
    cr_expect_eq(o.max_tokens, 256);
    cr_expect(o.tokens == NULL && o.text == NULL && o.plan_file == NULL && o.plan.tp == NULL);
    cr_expect(o.threads == 0 && o.window == 0 && o.n_stops == 0 && o.plan.pp == 0);
    cr_expect(o.sampling.temperature == 0 && o.sampling.top_p == 0 && o.sampling.seed == 0);
    cr_expect_not(o.json || o.chat || o.ignore_eos || o.dry_run || o.help || o.rank_given);
}

Test(options, every_option_of_generate_reaches_its_field)
{
    ag_options_t o;

    cr_assert_eq(
        parse("generate --model m --prompt p --max-tokens 7 --context 99 --temperature 0.7 "
              "--top-k 40 --top-p 0.9 --min-p 0.05 --repeat-penalty 1.1 --seed 5 "
              "--ignore-eos --chat --json --compute f32 --threads 3 --trace t --dry-run "
              "--renew-limits",
              &o),
        AG_OK, "%s", ag_error());
    cr_expect_eq(o.max_tokens, 7);
    cr_expect_eq(o.plan.context_tokens, 99);
    cr_expect_float_eq(o.sampling.temperature, 0.7, 1e-15);
    cr_expect_eq(o.sampling.top_k, 40);
    cr_expect_float_eq(o.sampling.top_p, 0.9, 1e-15);
    cr_expect_float_eq(o.sampling.min_p, 0.05, 1e-15);
    cr_expect_float_eq(o.sampling.repeat_penalty, 1.1, 1e-15);
    cr_expect_eq(o.sampling.seed, 5);
    cr_expect(o.ignore_eos && o.chat && o.json && o.dry_run && o.renew_limits);
    cr_expect_eq(o.plan.compute, AG_COMPUTE_F32);
    cr_expect_eq(o.threads, 3);
    cr_expect_str_eq(o.trace, "t");
}

Test(options, the_split_goes_into_the_plan)
{
    ag_options_t o;

    cr_assert_eq(parse("plan --model m --tp 2,1 --pp 2 --tensor-split 5,4;1 --pipeline-split 20,10 "
                       "--max-memory 2G,1G --compute auto",
                       &o),
                 AG_OK);
    cr_expect_str_eq(o.plan.tp, "2,1");
    cr_expect_eq(o.plan.pp, 2);
    cr_expect_str_eq(o.plan.tensor_split, "5,4;1");
    cr_expect_str_eq(o.plan.pipeline_split, "20,10");
    cr_expect_str_eq(o.plan.max_memory, "2G,1G");
    cr_expect_eq(o.plan.compute, AG_COMPUTE_AUTO);
}

Test(options, long_names_and_megatrons_mean_the_same)
{
    static const char *const tp[] = {"--tp", "--tensor-parallel-size",
                                     "--tensor-model-parallel-size"};
    static const char *const pp[] = {"--pp", "--pipeline-parallel-size",
                                     "--pipeline-model-parallel-size"};
    char line[256];

    for (int i = 0; i < 3; i++) {
        ag_options_t o;

        snprintf(line, sizeof(line), "eval --model m --text t %s 3 %s=2", tp[i], pp[i]);
        cr_assert_eq(parse(line, &o), AG_OK, "%s", ag_error());
        cr_expect_str_eq(o.plan.tp, "3");
        cr_expect_eq(o.plan.pp, 2);
    }
    expect_error("plan --model m --tp 2 --tensor-parallel-size 2", "--tp", "twice");
}

Test(options, a_value_may_stand_behind_an_equals_sign)
{
    ag_options_t o;

    cr_assert_eq(parse("generate --model=a=b --prompt= --max-tokens=3", &o), AG_OK);
    cr_expect_str_eq(o.model, "a=b");
    cr_expect_str_eq(o.prompt, "");
    cr_expect_eq(o.max_tokens, 3);
}

Test(options, a_value_may_look_like_an_option)
{
    ag_options_t o;

    cr_assert_eq(parse("generate --model m --prompt --chat", &o), AG_OK);
    cr_expect_str_eq(o.prompt, "--chat");
    cr_expect_not(o.chat);
}

Test(options, text_is_a_text_to_tokenize_and_a_file_to_evaluate)
{
    ag_options_t o;

    cr_assert_eq(parse("tokenize --model m --text a_b", &o), AG_OK);
    cr_expect_str_eq(o.text, "a b");
    cr_assert_eq(parse("eval --model m --text f", &o), AG_OK);
    cr_expect_str_eq(o.text, "f");
}

Test(options, stop_texts_are_collected_in_order)
{
    ag_options_t o;

    cr_assert_eq(parse("generate --model m --prompt p --stop a --stop=b --stop a", &o), AG_OK);
    cr_assert_eq(o.n_stops, 3);
    cr_expect_str_eq(o.stops[0], "a");
    cr_expect_str_eq(o.stops[1], "b");
    cr_expect_str_eq(o.stops[2], "a");
    expect_error("generate --model m --prompt p --stop=", "--stop", "empty");
}

Test(options, there_is_an_end_to_stop_texts)
{
    char line[512] = "generate --model m --prompt p";

    for (int i = 0; i < AG_MAX_STOPS; i++) {
        strcat(line, " --stop=s");
    }
    expect_good(line);
    strcat(line, " --stop=s");
    expect_error(line, "--stop", "16");
}

Test(options, dates_are_days_and_thinking_is_on_or_off)
{
    ag_options_t o;

    cr_assert_eq(parse("generate --model m --prompt p --chat --date 2026-01-31 --thinking off "
                       "--chat-template llama3",
                       &o),
                 AG_OK, "%s", ag_error());
    cr_expect(o.chat_opts.date.year == 2026 && o.chat_opts.date.month == 1 &&
              o.chat_opts.date.day == 31);
    cr_expect_eq(o.chat_opts.thinking, AG_THINKING_OFF);
    cr_expect_str_eq(o.chat_opts.name, "llama3");
    expect_error("generate --model m --prompt p --chat --date 2026-13-01", "--date", "2026-01-31");
    expect_error("generate --model m --prompt p --chat --date 2026-04-31", "--date", "2026-01-31");
    expect_error("generate --model m --prompt p --chat --date 26-04-01", "--date", "2026-01-31");
    cr_assert_eq(parse("generate --model m --prompt p --chat --reasoning-effort low", &o), AG_OK);
    cr_expect_str_eq(o.chat_opts.effort, "low");
    expect_error("generate --model m --prompt p --chat --reasoning-effort max",
                 "--reasoning-effort", "low, medium or high");
    expect_error("generate --model m --prompt p --chat --thinking yes", "--thinking", "on or off");
    expect_error("generate --model m --prompt p --thinking on", "--thinking", "needs --chat");
}

Test(options, seeds_have_64_bits)
{
    ag_options_t o;

    cr_assert_eq(parse("generate --model m --prompt p --seed 18446744073709551615", &o), AG_OK);
    cr_expect_eq(o.sampling.seed, UINT64_MAX);
    expect_error("generate --model m --prompt p --seed 18446744073709551616", "--seed", "2^64");
    expect_error("generate --model m --prompt p --seed -1", "--seed", "2^64");
}

Test(options, numbers_are_whole_where_they_count)
{
    static const char *const bad[] = {"0",    "-1",  "+1", "1.5",      "1e3",
                                      "0x10", "12a", "_1", "16777217", "99999999999999999999"};
    char line[256];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(line, sizeof(line), "generate --model m --prompt p --max-tokens=%s", bad[i]);
        expect_error(line, "--max-tokens", "from 1 to 16777216");
    }
    expect_error("generate --model m --prompt p --max-tokens=", "--max-tokens", "whole number");
    expect_error("plan --model m --pp 4097", "--pp", "4096");
    expect_good("generate --model m --prompt p --max-tokens 16777216");
}

Test(options, numbers_are_within_what_makes_sense)
{
    static const struct {
        const char *option, *bad, *good;
    } cases[] = {
        {"--temperature", "-0.1", "0"},
        {"--temperature", "nan", "1e3"},
        {"--temperature", "inf", ".5"},
        {"--temperature", "1e999", "2"},
        {"--temperature", "0x1p3", "1."},
        {"--temperature", "hot", "1"},
        {"--top-p", "0", "1"},
        {"--top-p", "1.01", "0.5"},
        {"--min-p", "-0.5", "0"},
        {"--min-p", "1.5", "1"},
        {"--repeat-penalty", "0", "0.5"},
        {"--repeat-penalty", "-1", "1.3"},
        {"--top-k", "-1", "0"},
    };
    char line[256];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *also = strcmp(cases[i].option, "--temperature") == 0 ? "" : "--temperature 1";

        snprintf(line, sizeof(line), "generate --model m --prompt p %s %s=%s", also,
                 cases[i].option, cases[i].bad);
        expect_error(line, cases[i].option, "is expected");
        snprintf(line, sizeof(line), "generate --model m --prompt p %s %s=%s", also,
                 cases[i].option, cases[i].good);
        expect_good(line);
    }
}

Test(options, compute_is_auto_or_f32)
{
    expect_error("plan --model m --compute bf16", "--compute bf16", "auto or f32");
    expect_error("generate --model m --prompt x --compute bf16", "--compute bf16", "f32 or auto");
    expect_good("plan --model m --train --compute bf16");
}

Test(options, an_option_needs_its_value_and_a_flag_none)
{
    expect_error("generate --prompt p --model", "--model needs a value", "--model M");
    expect_error("generate --model m --prompt p --chat=yes", "--chat", "no value");
}

Test(options, a_value_is_given_once_a_flag_may_be_repeated)
{
    expect_error("generate --model m --prompt p --model n", "--model", "twice");
    expect_error("generate --model m --prompt p --top-k 1 --top-k 2", "--top-k", "twice");
    expect_good("generate --model m --prompt p --json --json");
}

Test(options, the_nearest_option_is_suggested)
{
    expect_error("generate --model m --promt p", "--promt", "did you mean --prompt?");
    expect_error("generate --model m --temprature=1", "--temprature",
                 "did you mean --temperature?");
    expect_error("plan --model m --tensor-paralel-size 2", "--tensor-paralel-size",
                 "did you mean --tensor-parallel-size?");
    expect_error("generate -prompt p", "-prompt", "did you mean --prompt?");
}

Test(options, nothing_is_suggested_that_is_not_near)
{
    ag_options_t o;

    expect_error("eval --model m --zebra", "--zebra", "argosy eval --help");
    cr_expect_eq(parse("eval --model m --zebra", &o), AG_ERR_INVALID);
    cr_expect_null(strstr(ag_error(), "did you mean"), "%s", ag_error());
}

Test(options, what_is_hidden_is_not_suggested)
{
    ag_options_t o;

    cr_assert_eq(parse("measure-proces", &o), AG_ERR_INVALID);
    cr_expect_null(strstr(ag_error(), "measure-process"), "%s", ag_error());
    cr_assert_eq(parse("measure-process --with-mp", &o), AG_ERR_INVALID);
    cr_expect_null(strstr(ag_error(), "--with-mpi"), "%s", ag_error());
}

Test(options, an_option_of_other_commands_names_them)
{
    expect_error("eval --model m --text t --prompt p", "argosy eval has no option --prompt",
                 "for generate");
    expect_error("tokenize --model m --text t --tp 2", "--tp",
                 "generate, eval, train, verify, plan, show");
    expect_error("plan --model m --rank 1", "--rank", "for show");
}

Test(options, the_nearest_command_is_suggested_else_all_are_listed)
{
    expect_error("genrate --model m", "genrate", "did you mean generate?");
    expect_error("serve", "serve", "generate, eval, tokenize, convert, train, verify, plan, show");
    expect_error("", "command is needed",
                 "generate, eval, tokenize, convert, train, verify, plan, show");
    expect_error("--model m generate", "command is needed before --model", "generate");
    expect_error("--zebra", "command is needed before --zebra", "--help");
}

Test(options, words_that_are_no_options_are_refused)
{
    expect_error("generate m.gguf", "m.gguf", "options begin with --");
    expect_error("generate --model m --prompt a b", "\"b\"", "options begin with --");
    expect_error("generate -", "\"-\"", "options begin with --");
}

Test(options, every_command_needs_a_model)
{
    static const char *const commands[] = {
        "generate --prompt p", "eval --text t", "tokenize --text t", "plan", "show", "verify"};

    for (int i = 0; i < 6; i++) {
        expect_error(commands[i], "--model", "GGUF");
    }
}

Test(options, generate_needs_one_prompt_alone)
{
    expect_error("generate --model m", "argosy generate needs one of", "--prompt-file");
    expect_error("generate --model m --prompt a --prompts b", "--prompt and --prompts", "one of");
    expect_error("generate --model m --prompt a --tokens b", "--prompt and --tokens", "one of");
    expect_good("generate --model m --prompts a");
    expect_good("generate --model m --prompt-file a");
    expect_good("generate --model m --tokens a");
}

Test(options, eval_needs_one_text_alone)
{
    expect_error("eval --model m", "argosy eval needs one of", "--tokens");
    expect_error("eval --model m --text t --tokens i", "--text and --tokens", "one of");
    expect_good("eval --model m --tokens i --window 5 --logits o --json");
}

Test(options, verify_takes_one_input_or_none_and_what_plans_take)
{
    expect_error("verify --model m --prompt p --tokens i", "--prompt", "--tokens");
    expect_error("verify --model m --prompt-file p --tokens i", "--prompt-file", "--tokens");
    expect_error("verify --model m --plan a --tp 2", "--plan", "the file decides");
    expect_error("verify --model m --bound 0", "--bound", "above 0");
    expect_error("verify --model m --trace t", "--trace", "generate");
    expect_good("verify --model m");
    expect_good("verify --model m --plan a --against b --bound 1e-3 --tokens i --json --isa base");
}

Test(options, tokenize_needs_one_source_alone)
{
    expect_error("tokenize --model m", "argosy tokenize needs one of", "--jsonl");
    expect_error("tokenize --model m --text t --file f", "--text and --file", "one of");
    expect_error("tokenize --model m --jsonl --text t", "--jsonl", "--text");
    expect_good("tokenize --model m --jsonl");
    expect_good("tokenize --model m --jsonl --file f --decode --no-special");
}

Test(options, convert_takes_a_model_and_what_to_make_of_it)
{
    ag_options_t o;

    cr_assert_eq(parse("convert m --to gguf out.gguf --type bf16", &o), AG_OK, "%s", ag_error());
    cr_expect_str_eq(o.model, "m");
    cr_expect_str_eq(o.to, "gguf");
    cr_expect_str_eq(o.output, "out.gguf");
    cr_expect(o.type_given && o.type == AG_BF16);
    cr_assert_eq(parse("convert --to hf --model m out --dry-run", &o), AG_OK, "%s", ag_error());
    cr_expect_str_eq(o.model, "m");
    cr_expect_str_eq(o.output, "out");
    cr_expect(!o.type_given && o.dry_run);
    cr_expect_eq(parse("convert m out --to hf --type bf16", &o), AG_OK);
    expect_error("convert m --to hf", "--to hf FOLDER", "--to gguf FILE");
    expect_error("convert m out", "--to hf FOLDER", "--to gguf FILE");
    expect_error("convert --to hf out", "--to hf FOLDER", "--to gguf FILE");
    expect_error("convert m --to onnx out", "--to onnx", "hf or gguf");
    expect_error("convert m --to gguf out --type q3", "--type q3", "q8_0");
    expect_error("convert m --to hf out more", "\"more\"", "options begin with --");
}

Test(options, choosing_among_samples_needs_a_temperature)
{
    expect_error("generate --model m --prompt p --top-k 5", "--top-k", "--temperature");
    expect_error("generate --model m --prompt p --top-p 0.5", "--top-p", "--temperature");
    expect_error("generate --model m --prompt p --min-p 0.5", "--min-p", "--temperature");
    expect_good("generate --model m --prompt p --temperature 0 --top-p 0.5");
    expect_good("generate --model m --prompt p --seed 5 --repeat-penalty 1.1");
}

Test(options, a_chat_turn_is_not_made_of_ids)
{
    expect_error("generate --model m --tokens i --chat", "--chat", "--tokens");
    expect_good("generate --model m --prompts f --chat");
}

Test(options, what_a_plan_file_decides_is_not_given_beside_it)
{
    static const char *const options[] = {
        "--tp 2",          "--pp 2",         "--tensor-split 1,1", "--pipeline-split 1,1",
        "--max-memory 1G", "--compute auto", "--context 5"};
    char line[256], name[32];

    for (int i = 0; i < 7; i++) {
        snprintf(line, sizeof(line), "show --model m --plan f %s", options[i]);
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(options[i], " "), options[i]);
        expect_error(line, "--plan", name);
    }
    expect_good("generate --model m --prompt p --plan f --threads 2 --dry-run");
}

Test(options, rank_0_is_not_the_same_as_no_rank)
{
    ag_options_t o;

    cr_assert_eq(parse("show --model m --rank 0", &o), AG_OK);
    cr_expect(o.rank_given);
    cr_assert_eq(parse("show --model m", &o), AG_OK);
    cr_expect_not(o.rank_given);
}

Test(options, help_and_version_need_nothing_else)
{
    ag_options_t o;

    cr_assert_eq(parse("--help", &o), AG_OK);
    cr_expect(o.help);
    cr_assert_eq(parse("-h", &o), AG_OK);
    cr_expect(o.help);
    cr_assert_eq(parse("eval --help", &o), AG_OK);
    cr_expect(o.help && o.command == AG_COMMAND_EVAL);
    cr_assert_eq(parse("bench --help", &o), AG_OK, "%s", ag_error());
    cr_expect(o.help && o.command == AG_COMMAND_NONE && strcmp(o.help_of, "bench") == 0);
    expect_error("bench", "argosy bench needs one of", "limits");
    cr_assert_eq(parse("--version", &o), AG_OK);
    cr_expect(o.version);
}

Test(options, hidden_commands_are_understood)
{
    ag_options_t o;

    cr_assert_eq(parse("measure-process --with-mpi", &o), AG_OK);
    cr_expect(o.command == AG_COMMAND_MEASURE_PROCESS && o.with_mpi);
    cr_assert_eq(parse("measure-rates --threads 2", &o), AG_OK);
    cr_expect(o.command == AG_COMMAND_MEASURE_RATES && o.threads == 2);
}

/* @param text_p  out: free() it. */
static void read_help(ag_command_t command, const char *first, char **text_p)
{
    size_t n_bytes;
    FILE *file = open_memstream(text_p, &n_bytes);

    cr_assert_not_null(file);
    ag_options_help(command, first, file);
    fclose(file);
}

Test(options, help_lists_a_commands_options_and_no_others)
{
    char *text, word[64];

    for (int c = 1; c < AG_N_COMMANDS; c++) {
        read_help((ag_command_t)c, NULL, &text);
        for (int i = 0; i < ag_n_options; i++) {
            const ag_option_t *option = ag_option_find((ag_command_t)c, ag_option_table[i].name,
                                                       strlen(ag_option_table[i].name));
            bool listed = ag_option_is_of(option, (ag_command_t)c) && option->help != NULL;

            snprintf(word, sizeof(word), "\n  %s ", ag_option_table[i].name);
            cr_expect_eq(strstr(text, word) != NULL, listed, "%s of %s", ag_option_table[i].name,
                         ag_command_names[c].name);
        }
        free(text);
    }
}

Test(options, help_names_aliases_defaults_and_commands)
{
    char *text;

    read_help(AG_COMMAND_GENERATE, NULL, &text);
    cr_expect_not_null(strstr(text, "--tensor-model-parallel-size"));
    cr_expect_not_null(strstr(text, "[256]"));
    free(text);
    read_help(AG_COMMAND_NONE, NULL, &text);
    cr_expect_not_null(strstr(text, "tokenize"));
    cr_expect_null(strstr(text, "measure"));
    free(text);
    read_help(AG_COMMAND_NONE, "bench", &text);
    cr_expect_not_null(strstr(text, "\n  bench limits "));
    cr_expect_not_null(strstr(text, "\n  bench model "));
    cr_expect_not_null(strstr(text, "argosy bench COMMAND --help"));
    cr_expect_null(strstr(text, "tokenize"));
    free(text);
}

Test(options, help_fits_a_terminal)
{
    for (int c = 0; c < AG_N_COMMANDS; c++) {
        char *text;

        read_help((ag_command_t)c, NULL, &text);
        for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
            cr_expect_leq(strcspn(line, "\n"), 80, "%.*s", (int)strcspn(line, "\n"), line);
        }
        free(text);
    }
}

Test(options, no_command_has_two_options_of_one_name)
{
    for (int i = 0; i < ag_n_options; i++) {
        for (int j = i + 1; j < ag_n_options; j++) {
            cr_expect(strcmp(ag_option_table[i].name, ag_option_table[j].name) != 0 ||
                          (ag_option_table[i].commands & ag_option_table[j].commands) == 0,
                      "%s", ag_option_table[i].name);
        }
    }
}

Test(options, rules_and_aliases_name_options_that_there_are)
{
    for (int i = 0; i < ag_n_option_rules; i++) {
        for (int c = 1; c < AG_N_COMMANDS; c++) {
            const char *names[] = {ag_option_rules[i].first, ag_option_rules[i].second};

            for (int n = 0; n < 2 && (ag_option_rules[i].commands & 1u << c) != 0; n++) {
                const ag_option_t *option =
                    ag_option_find((ag_command_t)c, names[n], strlen(names[n]));

                cr_expect(option != NULL && ag_option_is_of(option, (ag_command_t)c), "%s",
                          names[n]);
            }
        }
    }
    for (int i = 0; i < ag_n_option_aliases; i++) {
        const ag_option_alias_t *alias = &ag_option_aliases[i];

        cr_expect_not_null(ag_option_find(AG_COMMAND_PLAN, alias->alias, strlen(alias->alias)),
                           "%s", alias->alias);
    }
}

Test(options, no_command_has_too_many)
{
    for (int c = 1; c < AG_N_COMMANDS; c++) {
        int n = 0;

        for (int i = 0; i < ag_n_options; i++) {
            n += ag_option_is_of(&ag_option_table[i], (ag_command_t)c);
        }
        cr_expect_leq(n, AG_MOST_COMMAND_OPTIONS, "%s", ag_command_names[c].name);
    }
}
