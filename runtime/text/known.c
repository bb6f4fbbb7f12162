/*
 * Pre-tokenizers that GGUF files name (llama.cpp's llama-vocab.cpp has the names; the rules are
 * those of the models' own tokenizer.json).
 */
#include <stdio.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/text/split_priv.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BEFORE_LETTERS "[^\\r\\n\\p{L}\\p{N}]?"
#define WORD_END "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SIGNS "| ?[^\\s\\p{L}\\p{N}]+"
#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALLS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

const char ag_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const ag_split_rule_t gpt2_rules[] = {{.pattern = ag_pattern_gpt2}};
static const ag_split_rule_t smollm_rules[] = {{.pattern = "\\p{N}"}, {.pattern = ag_pattern_gpt2}};
static const ag_split_rule_t llama3_rules[] = {
    {.pattern = CONTRACTIONS "|" BEFORE_LETTERS "\\p{L}+|\\p{N}{1,3}" SIGNS "[\\r\\n]*" WORD_END}};
static const ag_split_rule_t qwen2_rules[] = {
    {.pattern = CONTRACTIONS "|" BEFORE_LETTERS "\\p{L}+|\\p{N}" SIGNS "[\\r\\n]*" WORD_END}};
static const ag_split_rule_t gpt4o_rules[] = {
    {.pattern =
         BEFORE_LETTERS CAPITALS "*" SMALLS "+" CONTRACTIONS "?|" BEFORE_LETTERS CAPITALS "+" SMALLS
                                 "*" CONTRACTIONS "?|\\p{N}{1,3}" SIGNS "[\\r\\n/]*" WORD_END}};
static const ag_split_rule_t tekken_rules[] = {{.pattern = BEFORE_LETTERS CAPITALS
                                                "*" SMALLS "+|" BEFORE_LETTERS CAPITALS "+" SMALLS
                                                "*|\\p{N}" SIGNS "[\\r\\n/]*" WORD_END}};

/* Letters of alphabets with capitals, as DeepSeek's first tokenizer lists them. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-"         \
    "\u02AF\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"     \
    "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-"        \
    "\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15"         \
    "\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D"          \
    "\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB"         \
    "\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D"          \
    "\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183"     \
    "\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B"          \
    "\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-"        \
    "\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB"           \
    "\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"

static const ag_split_rule_t deepseek_llm_rules[] = {
    {.pattern = "[\r\n]"},
    {.pattern = "\\s?[" CASED_LETTERS "]+"},
    {.pattern = "\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+"},
    {.pattern = "\\s+$"},
    {.pattern = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"},
    {.pattern = "\\p{N}"}};
static const ag_split_rule_t deepseek_coder_rules[] = {
    {.pattern = "[\r\n]"},
    {.pattern = "\\s?\\p{L}+"},
    {.pattern = "\\s?\\p{P}+"},
    {.pattern = "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"},
    {.pattern = "\\p{N}"}};
static const ag_split_rule_t deepseek_v3_rules[] = {
    {.pattern = "\\p{N}{1,3}"},
    {.pattern = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"},
    {.pattern = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
                "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}};

#define RULES(rules) rules, sizeof(rules) / sizeof(rules[0])

/* Of rows that are alike but for the name the first is what a file is written with. */
static const ag_pre_tokenizer_t known[] = {
    {"gpt-2", RULES(gpt2_rules), false, false, false},
    {"phi-2", RULES(gpt2_rules), false, false, false},
    {"mpt", RULES(gpt2_rules), false, false, false},
    {"olmo", RULES(gpt2_rules), false, false, true},
    {"llama-bpe", RULES(llama3_rules), true, true, false},
    {"llama3", RULES(llama3_rules), true, true, false},
    {"llama-v3", RULES(llama3_rules), true, true, false},
    {"dbrx", RULES(llama3_rules), false, false, false},
    {"smaug-bpe", RULES(llama3_rules), false, false, false},
    {"chatglm-bpe", RULES(llama3_rules), false, false, false},
    {"glm4", RULES(llama3_rules), false, false, false},
    {"smollm", RULES(smollm_rules), false, false, false},
    {"starcoder", RULES(smollm_rules), false, false, false},
    {"refact", RULES(smollm_rules), false, false, false},
    {"codeshell", RULES(smollm_rules), false, false, false},
    {"exaone", RULES(smollm_rules), false, false, false},
    {"command-r", RULES(smollm_rules), false, false, true},
    {"qwen2", RULES(qwen2_rules), false, false, true},
    {"deepseek-r1-qwen", RULES(qwen2_rules), false, false, true},
    {"stablelm2", RULES(qwen2_rules), false, false, false},
    {"deepseek-llm", RULES(deepseek_llm_rules), false, false, false},
    {"deepseek-coder", RULES(deepseek_coder_rules), false, false, false},
    {"deepseek-v3", RULES(deepseek_v3_rules), false, false, false},
    {"gpt-4o", RULES(gpt4o_rules), false, false, false},
    {"llama4", RULES(gpt4o_rules), false, false, false},
    {"tekken", RULES(tekken_rules), true, true, false},
};

enum { N_KNOWN = sizeof(known) / sizeof(known[0]) };

ag_status_t ag_pre_tokenizer_find(const char *path, const char *name, size_t n_bytes,
                                  const ag_pre_tokenizer_t **pre_p)
{
    char names[512];
    size_t n = 0;

    for (size_t i = 0; i < N_KNOWN; i++) {
        if (strlen(known[i].name) == n_bytes && memcmp(known[i].name, name, n_bytes) == 0) {
            *pre_p = &known[i];
            return AG_OK;
        }
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i > 0 ? ", " : "",
                              known[i].name);
    }
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not known (known: %s)", path,
                   ag_quote(name, n_bytes).text, names);
}

/* The next byte of an expression, in which a line's end may be spelt \r, \n or stand as it is. */
static char next_byte(const char **at)
{
    char c = *(*at)++;

    if (c == '\\' && (**at == 'r' || **at == 'n')) {
        return *(*at)++ == 'r' ? '\r' : '\n';
    }
    if (c == '\\' && **at == '\\') { /* a pair is none of these */
        (*at)++;
        return '\1';
    }
    return c;
}

static bool are_alike(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0') {
        if (next_byte(&a) != next_byte(&b)) {
            return false;
        }
    }
    return *a == *b;
}

const ag_pre_tokenizer_t *ag_pre_tokenizer_of(const ag_split_rule_t *rules, size_t n_rules,
                                              bool ignore_merges, bool composes)
{
    for (size_t i = 0; i < N_KNOWN; i++) {
        bool same = known[i].n_rules == n_rules && known[i].ignore_merges == ignore_merges &&
                    known[i].composes == composes;

        for (size_t r = 0; r < n_rules && same; r++) {
            const ag_split_rule_t *a = &known[i].rules[r], *b = &rules[r];

            same = b->kind == AG_RULE_CUT && are_alike(a->pattern, b->pattern) &&
                   a->literal == b->literal && a->invert == b->invert && a->cut == b->cut;
        }
        if (same) {
            return &known[i];
        }
    }
    return NULL;
}
