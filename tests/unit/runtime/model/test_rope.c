/* Ropes in the spellings of config files; what is wanted is what transformers 5.23 computes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "spec_of.h"

#define LISTS "\"short_factor\": [1, 1.5, 2, 2.5], \"long_factor\": [1, 2, 4, 8]"
#define YARN "\"rope_type\": \"yarn\", \"original_max_position_embeddings\": 512"

typedef struct rope_case {
    const char *rope; /* members of the scaling's object */
    const char *more; /* settings beside it */
    float frequencies[2][4];
    float magnitude;
} rope_case_t;

static const rope_case_t cases[] = {
    {"\"rope_type\": \"default\"", "", {{1, 0.11892071f, 0.014142136f, 0.0016817928f}}, 1},
    {"\"rope_type\": \"linear\", \"factor\": 4",
     "",
     {{0.25f, 0.029730178f, 0.003535534f, 0.0004204482f}},
     1},
    {"\"rope_type\": \"dynamic\", \"factor\": 4",
     "",
     {{1, 0.11892071f, 0.014142136f, 0.0016817928f}},
     1},
    {YARN ", \"factor\": 4", "", {{1, 0.089190535f, 0.007071068f, 0.0004204482f}}, 1.138629436f},
    {YARN ", \"factor\": null", "", {{1, 0.089190535f, 0.007071068f, 0.0004204482f}}, 1.138629436f},
    {YARN ", \"factor\": 4, \"mscale\": 0.7, \"mscale_all_dim\": 0.3",
     "",
     {{1, 0.089190535f, 0.007071068f, 0.0004204482f}},
     1.053237682f},
    {YARN ", \"factor\": 4, \"truncate\": false",
     "",
     {{1, 0.088178091f, 0.0039696577f, 0.0004204482f}},
     1.138629436f},
    {"\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
     "\"original_max_position_embeddings\": 512",
     "",
     {{1, 0.11892071f, 0.0023964052f, 0.0002102241f}},
     1},
    {"\"rope_type\": \"longrope\", " LISTS ", \"original_max_position_embeddings\": 512",
     "",
     {{1, 0.079280473f, 0.007071068f, 0.00067271711f},
      {1, 0.059460357f, 0.003535534f, 0.0002102241f}},
     1.105541597f},
    {"\"rope_type\": \"longrope\", " LISTS ", \"attention_factor\": 1.25",
     ", \"original_max_position_embeddings\": 512",
     {{1, 0.079280473f, 0.007071068f, 0.00067271711f},
      {1, 0.059460357f, 0.003535534f, 0.0002102241f}},
     1.25f},
    {"\"rope_type\": \"su\", " LISTS,
     ", \"original_max_position_embeddings\": 512",
     {{1, 0.079280473f, 0.007071068f, 0.00067271711f},
      {1, 0.059460357f, 0.003535534f, 0.0002102241f}},
     1.105541597f},
};

static void expect_rope(const rope_case_t *c, const char *text)
{
    const ag_layer_spec_t *layer;
    ag_spec_t *spec;

    cr_assert_eq(spec_of(text, &spec), AG_OK, "%s: %s", text, ag_error());
    layer = ag_spec_layer(spec, 0);
    cr_expect_float_eq(layer->rope_magnitude, c->magnitude, 1e-6, "%s", text);
    for (int set = 0; set < 2; set++) {
        const float *got = ag_layer_frequencies(layer, set == 0 ? 512 : 513);
        const float *wanted = c->frequencies[c->frequencies[1][0] > 0 ? set : 0];

        for (int i = 0; i < 4; i++) {
            cr_expect_float_eq(got[i], wanted[i], 2e-7 * (double)wanted[i], "%s: %d", text, i);
        }
    }
    ag_spec_destroy(spec);
}

/* "rope_type" as early files call it. */
static void name_type(const char *rope, char text[512])
{
    snprintf(text, 512, "\"%s", rope + strlen("\"rope_"));
}

Test(rope, is_what_transformers_makes_of_each_spelling_of_its_settings)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const rope_case_t *c = &cases[i];
        char text[1024], early[512];

        snprintf(text, sizeof(text),
                 "\"model_type\": \"llama\", \"rope_parameters\": {\"rope_theta\": 5000, %s}%s",
                 c->rope, c->more);
        expect_rope(c, text);
        snprintf(text, sizeof(text),
                 "\"model_type\": \"llama\", \"rope_theta\": 5000, \"rope_scaling\": {%s}%s",
                 c->rope, c->more);
        expect_rope(c, text);
        name_type(c->rope, early);
        snprintf(text, sizeof(text),
                 "\"model_type\": \"llama\", \"rope_theta\": 5000, \"rope_scaling\": {%s}%s", early,
                 c->more);
        expect_rope(c, text);
    }
}

Test(rope, early_files_of_phi_3_call_theirs_yarn)
{
    expect_rope(&cases[8],
                "\"model_type\": \"phi3\", \"rope_theta\": 5000, \"rope_scaling\": {\"type\": "
                "\"yarn\", " LISTS "}, \"original_max_position_embeddings\": 512");
}

Test(rope, what_makes_no_sense_is_told)
{
    static const struct {
        const char *rope;
        ag_status_t status;
        const char *word;
    } wrong[] = {
        {"\"rope_type\": \"longrope\", " LISTS, AG_ERR_FORMAT, "original_max_position_embeddings"},
        {"\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1, 1], "
         "\"original_max_position_embeddings\": 512",
         AG_ERR_FORMAT, "long_factor of 4 numbers"},
        {"\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1], \"long_factor\": [1, 1, 1, 1], "
         "\"original_max_position_embeddings\": 512",
         AG_ERR_FORMAT, "short_factor of 4 numbers"},
        {"\"rope_type\": \"longrope\", \"short_factor\": [1, 0, 1, 1], "
         "\"long_factor\": [1, 1, 1, 1], \"original_max_position_embeddings\": 512",
         AG_ERR_FORMAT, "short_factor holds a factor that is not above zero"},
        {"\"rope_type\": \"longrope\", \"short_factor\": [1, 1, 1, \"1\"], "
         "\"long_factor\": [1, 1, 1, 1], \"original_max_position_embeddings\": 512",
         AG_ERR_FORMAT, "not above zero"},
        {"\"rope_type\": \"yarn\"", AG_ERR_FORMAT, "factor"},
        {"\"rope_type\": \"linear\", \"factor\": 0", AG_ERR_FORMAT, "factor"},
        {"\"rope_type\": \"proportional\"", AG_ERR_UNSUPPORTED, "\"proportional\""},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[512];
        ag_spec_t *spec;

        snprintf(text, sizeof(text), "\"model_type\": \"llama\", \"rope_parameters\": {%s}",
                 wrong[i].rope);
        cr_expect_eq(spec_of(text, &spec), wrong[i].status, "%s", text);
        cr_expect_not_null(strstr(ag_error(), wrong[i].word), "%s: %s", text, ag_error());
    }
}
