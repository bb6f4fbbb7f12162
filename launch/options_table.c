/* Every option and every command: adding an option adds a line here and a field to ag_options_t. */
#include "launch/options_priv.h"

#include <assert.h>

enum {
    NONE = 1 << AG_COMMAND_NONE,
    GEN = 1 << AG_COMMAND_GENERATE,
    EVAL = 1 << AG_COMMAND_EVAL,
    VERIFY = 1 << AG_COMMAND_VERIFY,
    TOK = 1 << AG_COMMAND_TOKENIZE,
    CONV = 1 << AG_COMMAND_CONVERT,
    SHOW = 1 << AG_COMMAND_SHOW,
    B_LIMITS = 1 << AG_COMMAND_BENCH_LIMITS,
    B_MODEL = 1 << AG_COMMAND_BENCH_MODEL,
    MEASURE = 1 << AG_COMMAND_MEASURE_PROCESS,
    RATES = 1 << AG_COMMAND_MEASURE_RATES,
    RUN = GEN | EVAL,
    PLANS = RUN | VERIFY | SHOW | B_MODEL | 1 << AG_COMMAND_PLAN,
    BATCHES = PLANS & ~EVAL & ~VERIFY,
    ALL = PLANS | TOK | CONV,
    EVERY = NONE | ALL | B_LIMITS | MEASURE | RATES,
};

#define IS(kind) AG_OPTION_##kind
#define AT(field) offsetof(ag_options_t, field)
#define PLAN(field) offsetof(ag_options_t, plan.field)
#define PICK(field) offsetof(ag_options_t, sampling.field)

/* One line each, so that the table can be read as one. */
/* clang-format off */
const ag_option_t ag_option_table[] = {
    {"--model", "M", IS(FILE), AT(model), ALL, "a GGUF file or a Hugging Face folder"},
    {"--prompt", "TEXT", IS(TEXT), AT(prompt), GEN | VERIFY, "what to continue"},
    {"--prompt-file", "F", IS(FILE), AT(prompt_file), GEN | VERIFY, "one prompt: a file's text"},
    {"--prompts", "F", IS(FILE), AT(prompts), GEN, "a JSON string a line, answered in order"},
    {"--text", "FILE", IS(FILE), AT(text), EVAL, "the text to predict"},
    {"--text", "TEXT", IS(TEXT), AT(text), TOK, "the text; with --decode: a JSON array of ids"},
    {"--tokens", "IDS.npy", IS(FILE), AT(tokens), RUN | VERIFY, "token ids, int32; no BOS is added"},
    {"--file", "F", IS(FILE), AT(file), TOK, "raw bytes; with --decode: a JSON array of ids"},
    {"--jsonl", NULL, IS(FLAG), AT(jsonl), TOK, "a JSON value a line [from standard input]"},
    {"--decode", NULL, IS(FLAG), AT(decode), TOK, "from ids to text"},
    {"--no-special", NULL, IS(FLAG), AT(no_special), TOK, "special tokens are text, or not shown"},
    {"--to", "hf|gguf", IS(FORM), AT(to), CONV, "a Hugging Face folder, or a GGUF file"},
    {"--type", "T", IS(DTYPE), AT(type), CONV, "f32, bf16, f16; gguf: q8_0, q4_k.. [as they are]"},
    {"--max-tokens", "N", IS(COUNT), AT(max_tokens), GEN, "make at most N tokens [256]"},
    {"--prompt-tokens", "N", IS(COUNT), AT(prompt_tokens), B_MODEL, "prefill N tokens [512]"},
    {"--gen-tokens", "N", IS(COUNT), AT(gen_tokens), B_MODEL, "then decode N, at that depth [128]"},
    {"--batch", "N", IS(COUNT), PLAN(n_sequences), BATCHES, "sequences at a time [1]"},
    {"--context", "N", IS(COUNT), PLAN(context_tokens), PLANS, "positions to hold [as needed]"},
    {"--temperature", "T", IS(FROM_0), PICK(temperature), GEN, "sample [0: the likeliest token]"},
    {"--top-k", "K", IS(INDEX), PICK(top_k), GEN, "among the K likeliest [0: all]"},
    {"--top-p", "P", IS(FRACTION), PICK(top_p), GEN, "among the fewest with probability P [1]"},
    {"--min-p", "P", IS(PART), PICK(min_p), GEN, "no less likely than P x the likeliest [0]"},
    {"--repeat-penalty", "R", IS(POSITIVE), PICK(repeat_penalty), GEN, "of tokens seen [1: none]"},
    {"--seed", "S", IS(SEED), PICK(seed), GEN, "of the sampling [0]"},
    {"--stop", "TEXT", IS(STOP), 0, GEN, "end before this text; may be given again"},
    {"--ignore-eos", NULL, IS(FLAG), AT(ignore_eos), GEN, "run on past end tokens"},
    {"--chat", NULL, IS(FLAG), AT(chat), GEN, "the prompt is a user turn of the chat template"},
    {"--window", "N", IS(COUNT), AT(window), EVAL, "cut the tokens into windows of N [context]"},
    {"--logits", "OUT.npy", IS(FILE), AT(logits), EVAL, "write float32 (positions, vocabulary)"},
    {"--json", NULL, IS(FLAG), AT(json), RUN | VERIFY | B_MODEL | B_LIMITS, "one JSON object on standard output"},
    {"--tp", "N[,N..]", IS(TEXT), PLAN(tp), PLANS, "ranks for a layer, or a degree a stage [1]"},
    {"--pp", "N", IS(FEW), PLAN(pp), PLANS, "pipeline stages [1]"},
    {"--tensor-split", "5,4[;1]", IS(TEXT), PLAN(tensor_split), PLANS, "shares of its ranks [equal]"},
    {"--ep", "N[,N..]", IS(TEXT), PLAN(ep), PLANS, "ranks for a layer's experts; --tp is 1 or N [--tp]"},
    {"--expert-split", "3,2[;5]", IS(TEXT), PLAN(expert_split), PLANS, "experts of each rank [equal]"},
    {"--pipeline-split", "20,10", IS(TEXT), PLAN(pipeline_split), PLANS, "layers of a stage [equal]"},
    {"--overlap-tokens", "N", IS(TEXT), PLAN(overlap_tokens), PLANS, "N rows go in two halves; 0: never [128]"},
    {"--max-memory", "2G[,1G..]", IS(TEXT), PLAN(max_memory), PLANS, "bytes per rank [all free]"},
    {"--compute", "auto|f32", IS(COMPUTE), PLAN(compute), PLANS, "f32: exact; auto: fast [auto]"},
    {"--threads", "N", IS(FEW), AT(threads), PLANS | CONV | B_LIMITS | RATES, "per rank [its share of cores]"},
    {"--isa", "NAME", IS(TEXT), AT(isa), RUN | VERIFY | B_MODEL, "base, avx2 or avx512 [the best of all ranks]"},
    {"--dir", "D", IS(FILE), AT(dir), B_LIMITS, "measure the disk of this folder, too"},
    {"--plan", "F", IS(FILE), AT(plan_file), PLANS, "take the plan from a file of argosy plan"},
    {"--against", "F", IS(FILE), AT(against), VERIFY, "compare with this plan [one rank]"},
    {"--bound", "B", IS(POSITIVE), AT(bound), VERIFY, "allow B x the largest logit [by the plans]"},
    {"--rank", "R", IS(INDEX), AT(rank), SHOW, "this rank's program alone [all]"},
    {"--dry-run", NULL, IS(FLAG), AT(dry_run), RUN | VERIFY | B_MODEL, "print the plan and its memory, no more"},
    {"--dry-run", NULL, IS(FLAG), AT(dry_run), CONV, "say what would be written, no more"},
    {"--trace", "F", IS(FILE), AT(trace), RUN | B_MODEL, "write what ran when, for chrome://tracing"},
    {"--renew-limits", NULL, IS(FLAG), AT(renew_limits), PLANS & ~B_MODEL, "measure the limits anew"},
    {"--with-mpi", NULL, IS(FLAG), AT(with_mpi), MEASURE, NULL},
    {"--help", NULL, IS(FLAG), AT(help), EVERY, "this text"},
    {"--version", NULL, IS(FLAG), AT(version), EVERY, "the version"},
};
/* clang-format on */

const int ag_n_options = sizeof(ag_option_table) / sizeof(ag_option_table[0]);
static_assert(sizeof(ag_option_table) / sizeof(ag_option_table[0]) <= 64, "a bit for each");

const ag_option_alias_t ag_option_aliases[] = {
    {"--tp", "--tensor-parallel-size"},
    {"--tp", "--tensor-model-parallel-size"},
    {"--pp", "--pipeline-parallel-size"},
    {"--pp", "--pipeline-model-parallel-size"},
    {"--ep", "--expert-parallel-size"},
    {"--ep", "--expert-model-parallel-size"},
    {"--help", "-h"},
};
const int ag_n_option_aliases = sizeof(ag_option_aliases) / sizeof(ag_option_aliases[0]);

const ag_option_rule_t ag_option_rules[] = {
    {GEN, true, "--top-k", "--temperature", "without it the likeliest token is taken"},
    {GEN, true, "--top-p", "--temperature", "without it the likeliest token is taken"},
    {GEN, true, "--min-p", "--temperature", "without it the likeliest token is taken"},
    {VERIFY, false, "--prompt", "--tokens", "one input is compared"},
    {VERIFY, false, "--prompt", "--prompt-file", "one input is compared"},
    {VERIFY, false, "--prompt-file", "--tokens", "one input is compared"},
    {GEN, false, "--chat", "--tokens", "a user turn is made of text"},
    {TOK, false, "--jsonl", "--text", "lines come from standard input or --file"},
    {PLANS, false, "--plan", "--tp", "the file decides it"},
    {PLANS, false, "--plan", "--pp", "the file decides it"},
    {PLANS, false, "--plan", "--tensor-split", "the file decides it"},
    {PLANS, false, "--plan", "--pipeline-split", "the file decides it"},
    {PLANS, false, "--plan", "--ep", "the file decides it"},
    {PLANS, false, "--plan", "--expert-split", "the file decides it"},
    {PLANS, false, "--plan", "--overlap-tokens", "the file decides it"},
    {PLANS, false, "--plan", "--max-memory", "the file has budgets"},
    {PLANS, false, "--plan", "--compute", "the file decides it"},
    {PLANS, false, "--plan", "--context", "the file decides it"},
    {BATCHES, false, "--plan", "--batch", "the file decides it"},
    {GEN, true, "--batch", "--prompts", "one prompt is one sequence"},
};
const int ag_n_option_rules = sizeof(ag_option_rules) / sizeof(ag_option_rules[0]);

const ag_command_name_t ag_command_names[AG_N_COMMANDS] = {
    [AG_COMMAND_NONE] = {"", NULL},
    [AG_COMMAND_GENERATE] = {"generate", "continue a prompt"},
    [AG_COMMAND_EVAL] = {"eval", "how well a model predicts a text: perplexity, logits"},
    [AG_COMMAND_TOKENIZE] = {"tokenize", "text to token ids, and back"},
    [AG_COMMAND_CONVERT] = {"convert", "a model into other files: convert MODEL --to hf FOLDER"},
    [AG_COMMAND_VERIFY] = {"verify", "a plan's logits against one rank's, or another plan's"},
    [AG_COMMAND_PLAN] = {"plan", "the plan as JSON, its memory per rank as a table"},
    [AG_COMMAND_SHOW] = {"show", "the program of each rank as text"},
    [AG_COMMAND_BENCH_LIMITS] = {"bench limits", "what this machine can do at most"},
    [AG_COMMAND_BENCH_MODEL] = {"bench model", "how fast a model runs, and how near that is"},
    [AG_COMMAND_MEASURE_PROCESS] = {"measure-process", NULL},
    [AG_COMMAND_MEASURE_RATES] = {"measure-rates", NULL},
};
