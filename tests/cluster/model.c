/* The files of a random model. */
#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"
#include "runtime/base/philox.h"

enum { MOST_NAME = 96, GGUF_ALIGNMENT = 32 };

/* Bytes that grow. */
static void put(ag_array_t *bytes, const void *data, size_t n)
{
    if (ag_array_append(bytes, data, n) != AG_OK) {
        abort();
    }
}

static void put_u32(ag_array_t *bytes, uint32_t value)
{
    put(bytes, &value, sizeof(value));
}

static void put_u64(ag_array_t *bytes, uint64_t value)
{
    put(bytes, &value, sizeof(value));
}

static void put_text(ag_array_t *bytes, const char *text)
{
    put_u64(bytes, strlen(text));
    put(bytes, text, strlen(text));
}

/* xorshift64*: weights need be no better. */
static uint64_t next_word(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

/* In [-1, 1). */
static float next_float(uint64_t *state)
{
    return (float)(int32_t)(next_word(state) >> 32) * 0x1p-31f;
}

static void put_scale(unsigned char *dst, float value)
{
    uint16_t half = ag_f32_to_f16(value);

    memcpy(dst, &half, sizeof(half));
}

/* Where a block has its scales, and how they follow from the largest value that it should have;
 * all else of it is random. */
static const struct {
    uint32_t scale_at, minimum_at; /* equal: there is no minimum */
    float scale, minimum;
    bool is_exponent; /* the scale is a power of two, of which a byte is the exponent */
} block_forms[AG_N_DTYPES] = {
    [AG_Q8_0] = {.scale = 1 / 128.0f},
    [AG_Q4_0] = {.scale = 1 / 8.0f},
    [AG_Q4_1] = {.minimum_at = 2, .scale = 2 / 15.0f, .minimum = -1},
    [AG_Q6_K] = {.scale_at = 208, .minimum_at = 208, .scale = 1 / 4096.0f},
    [AG_Q4_K] = {.minimum_at = 2, .scale = 2 / 945.0f, .minimum = 1 / 63.0f},
    [AG_Q5_0] = {.scale = 1 / 16.0f},
    [AG_Q5_1] = {.minimum_at = 2, .scale = 2 / 31.0f, .minimum = -1},
    [AG_MXFP4] = {.scale = 1 / 6.0f, .is_exponent = true},
    [AG_Q5_K] = {.minimum_at = 2, .scale = 2 / 1953.0f, .minimum = 1 / 63.0f},
    [AG_Q2_K] = {.scale_at = 80, .minimum_at = 82, .scale = 2 / 45.0f, .minimum = 1 / 15.0f},
    [AG_Q3_K] = {.scale_at = 108, .minimum_at = 108, .scale = 1 / 128.0f},
    [AG_IQ4_NL] = {.scale = 1 / 127.0f},
    [AG_IQ4_XS] = {.scale = 1 / 4064.0f},
};

static void fill_blocks(ag_dtype_t type, unsigned char *dst, size_t n_blocks, float size,
                        uint64_t *state)
{
    size_t block_bytes = ag_dtype_info(type)->block_bytes;

    for (size_t i = 0; i < n_blocks; i++, dst += block_bytes) {
        for (size_t k = 0; k < block_bytes; k += 8) {
            uint64_t word = next_word(state);

            memcpy(dst + k, &word, block_bytes - k < 8 ? block_bytes - k : 8);
        }
        if (block_forms[type].is_exponent) {
            dst[0] = (unsigned char)(127 + ilogbf(size * block_forms[type].scale));
            continue;
        }
        put_scale(dst + block_forms[type].scale_at, size * block_forms[type].scale);
        if (block_forms[type].minimum_at != block_forms[type].scale_at) {
            put_scale(dst + block_forms[type].minimum_at, size * block_forms[type].minimum);
        }
    }
}

/* n values around `middle`, up to `size` away. */
static void put_values(ag_array_t *bytes, ag_dtype_t type, size_t n, float middle, float size,
                       uint64_t *state)
{
    size_t at = bytes->n_items;
    unsigned char *dst;

    put(bytes, NULL, ag_dtype_bytes(type, n));
    dst = AG_ITEMS(bytes, unsigned char) + at;
    if (ag_dtype_info(type)->block_elements > 1) {
        fill_blocks(type, dst, n / ag_dtype_info(type)->block_elements, size, state);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float value = middle + size * next_float(state);
        uint16_t half = type == AG_F16 ? ag_f32_to_f16(value) : ag_f32_to_bf16(value);

        memcpy(dst + i * ag_dtype_bytes(type, 1), type == AG_F32 ? (void *)&value : (void *)&half,
               ag_dtype_bytes(type, 1));
    }
}

/* A tensor of a model's files. */
typedef struct part {
    char name[MOST_NAME];
    ag_dtype_t type;
    uint32_t n_dims;
    uint64_t dims[3];    /* outermost first */
    uint64_t begin, end; /* of its bytes in the data */
} part_t;

typedef struct writer {
    const model_t *model;
    ag_array_t parts; /* part_t */
    ag_array_t data;
    uint64_t state;
} writer_t;

static bool has_tensor(const model_t *model, const tensor_row_t *row)
{
    const bool present[N_PRESENCES] = {
        [ALWAYS] = true,
        [IF_UNTIED] = !model->is_tied,
        [IF_QKV_BIAS] = model->qkv_bias,
        [IF_O_BIAS] = model->o_bias,
        [IF_FFN_BIAS] = model->ffn_bias,
        [IF_Q_RANK] = model->q_rank > 0,
        [IF_NO_Q_RANK] = model->q_rank == 0,
        [IF_SPLIT] = model->is_split,
        [IF_NO_SPLIT] = !model->is_split,
    };

    return present[row->presence];
}

static ag_dtype_t type_of(writer_t *writer, const tensor_row_t *row)
{
    const model_t *model = writer->model;
    ag_dtype_t type = next_word(&writer->state) % 3 == 0 ? model->other_type : model->type;

    if (row->cols == AXIS_NONE || row->rows == AXIS_EXPERTS) { /* a router, too */
        return model->is_gguf ? AG_F32 : model->type;
    }
    return model_length(model, row->cols) % ag_dtype_info(type)->block_elements == 0 ? type
                                                                                     : AG_F16;
}

static void add_tensor(writer_t *writer, const tensor_row_t *row, uint32_t layer, uint32_t expert)
{
    const model_t *model = writer->model;
    uint64_t rows = model_length(model, row->rows), cols = model_length(model, row->cols);
    bool is_vector = row->cols == AXIS_NONE, is_bias = strncmp(row->ending, "bias", 4) == 0;
    part_t part = {.type = type_of(writer, row), .n_dims = is_vector ? 1 : 2, .dims = {rows, cols}};
    size_t padding = (GGUF_ALIGNMENT - writer->data.n_items % GGUF_ALIGNMENT) % GGUF_ALIGNMENT;
    const char *bar = strchr(row->ending, '|'), *other = bar != NULL ? bar + 1 : row->ending;
    bool adds_1 = model->family->adds_1 && !model->is_gguf;
    int n_chars;

    if (row->form == FORM_STACK && model->is_gguf) {
        part.n_dims++;
        part.dims[0] = model->n_experts;
        part.dims[1] = rows;
        part.dims[2] = cols;
        rows *= model->n_experts;
    }
    if (row->form == FORM_TRANSPOSED && !model->is_gguf) {
        part.dims[0] = cols;
        part.dims[1] = rows;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n_chars = snprintf(part.name, sizeof(part.name), model->is_gguf ? row->gguf : row->hf, layer,
                       expert); /* our own tables' patterns: two %u at most */
#pragma GCC diagnostic pop
    snprintf(part.name + n_chars, sizeof(part.name) - (size_t)n_chars, ".%.*s",
             (int)(model->is_gguf ? strcspn(row->ending, "|") : strlen(other)),
             model->is_gguf ? row->ending : other);
    put(&writer->data, NULL, model->is_gguf ? padding : 0);
    part.begin = writer->data.n_items;
    if (is_vector) {
        /* Norms multiply by numbers around 1, whatever files hold of that. By numbers around 2, as
         * of Gemma's folders it once was, most scores stand at their cap, and gradients make so
         * much of each rounding that even one rank's, and PyTorch's, are 2e-5 off the true ones. */
        put_values(&writer->data, part.type, rows, is_bias || adds_1 ? 0 : 1, 0.3f, &writer->state);
    } else {
        put_values(&writer->data, part.type, rows * cols, 0, 1.7f / sqrtf((float)cols),
                   &writer->state);
    }
    part.end = writer->data.n_items;
    put(&writer->parts, &part, 1);
}

static void add_tensors(writer_t *writer)
{
    const model_t *model = writer->model;

    for (const tensor_row_t *row = model->family->tensors; row->hf != NULL; row++) {
        bool in_layers = strstr(row->hf, "%u") != NULL;
        uint32_t n_experts = row->form == FORM_STACK && !model->is_gguf ? model->n_experts : 1;

        for (uint32_t layer = 0; layer < (in_layers ? model->n_layers : 1); layer++) {
            for (uint32_t expert = 0; expert < n_experts && has_tensor(model, row); expert++) {
                add_tensor(writer, row, layer, expert);
            }
        }
    }
}

static ag_status_t write_file(const char *path, const ag_array_t *head, const ag_array_t *data)
{
    FILE *file = fopen(path, "wb");
    bool written;

    if (file == NULL) {
        return ag_fail_open(path);
    }
    written = fwrite(head->items, 1, head->n_items, file) == head->n_items &&
              (data == NULL || fwrite(data->items, 1, data->n_items, file) == data->n_items);
    return fclose(file) == 0 && written ? AG_OK : ag_fail(AG_ERR_IO, "writing %s", path);
}

enum { MOST_SETTINGS = 48 };

static uint32_t list_settings(const model_t *model, setting_t settings[MOST_SETTINGS])
{
    const setting_t common[] = {
        {"num_hidden_layers", "block_count", model->n_layers, false},
        {"hidden_size", "embedding_length", model->hidden, false},
        {"vocab_size", "vocab_size", model->vocab, false},
        {"max_position_embeddings", "context_length", model->context, false},
        {"num_attention_heads", "attention.head_count", model->n_heads, false},
        {"num_key_value_heads", "attention.head_count_kv", model->n_kv_heads, false},
        {"head_dim", "attention.key_length", model->head_dim, false},
        {"intermediate_size", "feed_forward_length", model->ffn, false},
        {"rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-5, true},
        {"rope_theta", "rope.freq_base", 10000, true},
        {model->family->has_positions ? "layer_norm_epsilon" : "norm_epsilon",
         "attention.layer_norm_epsilon", 1e-5, true},
    };
    const setting_t rotary = {"partial_rotary_factor", "rope.dimension_count",
                              model->is_gguf ? model->rotates
                                             : model->rotates / (double)model->head_dim,
                              !model->is_gguf};
    uint32_t n = sizeof(common) / sizeof(common[0]);

    memcpy(settings, common, sizeof(common));
    if (model->n_experts > 0) {
        n += experts_settings(model, settings + n);
    }
    if (model->family->rotates_part && model->rotates < model->head_dim) {
        settings[n++] = rotary;
    }
    if (model->window > 0) {
        settings[n++] =
            (setting_t){"sliding_window", "attention.sliding_window", model->window, false};
    }
    if (model->period > 0 && !model->is_gguf) {
        settings[n++] = (setting_t){"sliding_window_pattern", NULL, model->period, false};
    }
    if (model->query_scalar > 0) {
        settings[n++] = (setting_t){"query_pre_attn_scalar", NULL, model->query_scalar, false};
    }
    if (model->score_cap > 0) {
        settings[n++] = (setting_t){"attn_logit_softcapping", "attn_logit_softcapping",
                                    (double)model->score_cap, true};
    }
    if (model->logit_cap > 0) {
        settings[n++] = (setting_t){"final_logit_softcapping", "final_logit_softcapping",
                                    (double)model->logit_cap, true};
    }
    return n;
}

static void put_gguf_settings(const model_t *model, ag_array_t *head)
{
    setting_t settings[MOST_SETTINGS];
    uint32_t n = list_settings(model, settings);
    bool scaled = model->rope != AG_ROPE_DEFAULT;
    char key[MOST_NAME];

    put_u64(head, n + 1 + (scaled ? 2 : 0));
    put_text(head, "general.architecture");
    put_u32(head, 8);
    put_text(head, model->family->gguf_arch);
    for (uint32_t i = 0; i < n; i++) {
        float real = (float)settings[i].value;

        snprintf(key, sizeof(key), "%s.%s", model->family->gguf_arch, settings[i].gguf);
        put_text(head, key);
        put_u32(head, settings[i].is_real ? 6 : 4);
        if (settings[i].is_real) {
            put(head, &real, sizeof(real));
        } else {
            put_u32(head, (uint32_t)settings[i].value);
        }
    }
    if (scaled) {
        float factor = 2.5f;

        snprintf(key, sizeof(key), "%s.rope.scaling.type", model->family->gguf_arch);
        put_text(head, key);
        put_u32(head, 8);
        put_text(head, rope_names[model->rope]);
        snprintf(key, sizeof(key), "%s.rope.scaling.factor", model->family->gguf_arch);
        put_text(head, key);
        put_u32(head, 6);
        put(head, &factor, sizeof(factor));
    }
}

static ag_status_t write_gguf(const writer_t *writer, const char *path)
{
    ag_array_t head = AG_ARRAY(unsigned char);
    const part_t *parts = AG_ITEMS(&writer->parts, part_t);
    ag_status_t status;

    put(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, writer->parts.n_items);
    put_gguf_settings(writer->model, &head);
    for (size_t i = 0; i < writer->parts.n_items; i++) {
        put_text(&head, parts[i].name);
        put_u32(&head, parts[i].n_dims);
        for (uint32_t d = parts[i].n_dims; d > 0; d--) {
            put_u64(&head, parts[i].dims[d - 1]);
        }
        put_u32(&head, (uint32_t)ag_dtype_info(parts[i].type)->ggml_type);
        put_u64(&head, parts[i].begin);
    }
    put(&head, NULL, (GGUF_ALIGNMENT - head.n_items % GGUF_ALIGNMENT) % GGUF_ALIGNMENT);
    status = write_file(path, &head, &writer->data);
    ag_array_fini(&head);
    return status;
}

static void put_format(ag_array_t *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put_format(ag_array_t *text, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    put(text, line, strlen(line));
}

static ag_status_t write_safetensors(const writer_t *writer, const char *path)
{
    ag_array_t head = AG_ARRAY(unsigned char);
    const part_t *parts = AG_ITEMS(&writer->parts, part_t);
    uint64_t n_bytes;
    ag_status_t status;

    put_u64(&head, 0);
    for (size_t i = 0; i < writer->parts.n_items; i++) {
        const part_t *part = &parts[i];

        put_format(&head, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%llu", i > 0 ? ", " : "{",
                   part->name, ag_dtype_info(part->type)->safetensors,
                   (unsigned long long)part->dims[0]);
        if (part->n_dims > 1) {
            put_format(&head, ", %llu", (unsigned long long)part->dims[1]);
        }
        put_format(&head, "], \"data_offsets\": [%llu, %llu]}", (unsigned long long)part->begin,
                   (unsigned long long)part->end);
    }
    put_format(&head, "}");
    n_bytes = head.n_items - sizeof(n_bytes);
    memcpy(head.items, &n_bytes, sizeof(n_bytes));
    status = write_file(path, &head, &writer->data);
    ag_array_fini(&head);
    return status;
}

static ag_status_t write_config(const model_t *model, const char *path)
{
    static const char *const scalings[] = {
        [AG_ROPE_DEFAULT] = "null",
        [AG_ROPE_LINEAR] = "{\"rope_type\": \"linear\", \"factor\": 2.5}",
        [AG_ROPE_LLAMA3] = "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
                           "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 16}",
        [AG_ROPE_YARN] = "{\"rope_type\": \"yarn\", \"factor\": 4, "
                         "\"original_max_position_embeddings\": 16}",
    };
    setting_t settings[MOST_SETTINGS];
    ag_array_t text = AG_ARRAY(unsigned char);
    ag_status_t status;

    put_format(&text,
               "{\"model_type\": \"%s\", \"hidden_act\": \"silu\", \"attention_bias\": %s, "
               "\"mlp_bias\": %s, \"tie_word_embeddings\": %s, \"rope_scaling\": %s",
               model->family->hf_type != NULL ? model->family->hf_type : model->family->name,
               model->o_bias ? "true" : "false", model->ffn_bias ? "true" : "false",
               model->is_tied ? "true" : "false", scalings[model->rope]);
    for (uint32_t i = 0, n = list_settings(model, settings); i < n; i++) {
        put_format(&text, ", \"%s\": %.9g", settings[i].hf, settings[i].value);
    }
    put_format(&text, "}\n");
    status = write_file(path, &text, NULL);
    ag_array_fini(&text);
    return status;
}

ag_status_t model_write(const model_t *model, const char *folder, char path[256])
{
    writer_t writer = {.model = model,
                       .parts = AG_ARRAY(part_t),
                       .data = AG_ARRAY(unsigned char),
                       .state = model->seed * 11400714819323198485u | 1};
    ag_status_t status;

    add_tensors(&writer);
    if (model->is_gguf) {
        snprintf(path, 256, "%s/model.gguf", folder);
        status = write_gguf(&writer, path);
    } else {
        snprintf(path, 256, "%s/model.safetensors", folder);
        status = write_safetensors(&writer, path);
        snprintf(path, 256, "%s/config.json", folder);
        status = status == AG_OK ? write_config(model, path) : status;
        snprintf(path, 256, "%s", folder);
    }
    ag_array_fini(&writer.parts);
    ag_array_fini(&writer.data);
    return status;
}
