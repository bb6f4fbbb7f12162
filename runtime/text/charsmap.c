#include "runtime/text/charsmap_priv.h"

#include <string.h>
#include <utf8proc.h>

#include "runtime/text/unicode_priv.h"

typedef struct map {
    const unsigned char *units; /* (n_units, 4) */
    size_t n_units;
    const char *texts; /* (n_texts) */
    size_t n_texts;
} map_t;

typedef struct replacement {
    size_t n_matched; /* 0: none */
    const char *text;
    size_t n_text;
} replacement_t;

static uint32_t word_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* The parts of a map; false: it has no such. */
static bool open_map(const char *bytes, size_t n_bytes, map_t *map)
{
    size_t n_trie = n_bytes >= 4 ? word_at((const unsigned char *)bytes) : 0;

    if (n_trie < 4 || n_trie % 4 != 0 || n_trie > n_bytes - 4) {
        return false;
    }
    *map = (map_t){.units = (const unsigned char *)bytes + 4,
                   .n_units = n_trie / 4,
                   .texts = bytes + 4 + n_trie,
                   .n_texts = n_bytes - 4 - n_trie};
    return map->n_texts > 0 && map->texts[map->n_texts - 1] == '\0';
}

ag_status_t ag_charsmap_check(const char *map, size_t n_map)
{
    map_t opened;

    return open_map(map, n_map, &opened)
               ? AG_OK
               : ag_fail(AG_ERR_FORMAT, "a precompiled map of characters of %zu bytes is damaged",
                         n_map);
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* What stands for the longest, or the shortest, beginning of a text. */
static replacement_t find(const map_t *map, const char *text, size_t n_bytes, bool longest)
{
    replacement_t found = {0};
    size_t at = offset_of(word_at(map->units));

    for (size_t i = 0; i < n_bytes; i++) {
        uint32_t unit, value;

        at ^= (unsigned char)text[i];
        unit = at < map->n_units ? word_at(map->units + 4 * at) : 0;
        if (at >= map->n_units || (unit & 0x800000ffu) != (unsigned char)text[i]) {
            break;
        }
        at ^= offset_of(unit);
        if (!(unit & 0x100u) || at >= map->n_units) {
            continue;
        }
        value = word_at(map->units + 4 * at) & 0x7fffffffu;
        if (value < map->n_texts) { /* the last of them ends with a NUL */
            found = (replacement_t){i + 1, map->texts + value, strlen(map->texts + value)};
        }
        if (!longest) {
            break;
        }
    }
    return found;
}

ag_status_t ag_charsmap_apply(const char *map, size_t n_map, const char *text, size_t n_bytes,
                              size_t most_bytes, ag_array_t *mapped)
{
    ag_status_t status = AG_OK;
    map_t opened;

    if (!open_map(map, n_map, &opened)) {
        return ag_charsmap_check(map, n_map);
    }
    for (size_t at = 0; at < n_bytes && mapped->n_items <= most_bytes && status == AG_OK;) {
        replacement_t found = find(&opened, text + at, n_bytes - at, true);
        size_t n = found.n_matched > 0 ? found.n_matched : ag_unicode_length(text + at);

        status = found.n_matched > 0 ? ag_array_append(mapped, found.text, found.n_text)
                                     : ag_array_append(mapped, text + at, n);
        at += n;
    }
    return status;
}

/* Bytes of the grapheme that begins a text. */
static size_t grapheme_length(const char *text, size_t n_bytes)
{
    utf8proc_int32_t code = 0, next = 0, state = 0;
    size_t at =
        (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n_bytes, &code);

    while (at < n_bytes) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                              (utf8proc_ssize_t)(n_bytes - at), &next);

        if (n <= 0 || utf8proc_grapheme_break_stateful(code, next, &state)) {
            break;
        }
        code = next;
        at += (size_t)n;
    }
    return at;
}

static ag_status_t map_characters(const map_t *map, const char *text, size_t n_bytes,
                                  size_t most_bytes, ag_array_t *mapped)
{
    ag_status_t status = AG_OK;

    for (size_t at = 0; at < n_bytes && mapped->n_items <= most_bytes && status == AG_OK;) {
        size_t n = ag_unicode_length(text + at);
        replacement_t found = find(map, text + at, n, false);

        status = found.n_matched > 0 ? ag_array_append(mapped, found.text, found.n_text)
                                     : ag_array_append(mapped, text + at, n);
        at += n;
    }
    return status;
}

ag_status_t ag_charsmap_apply_by_char(const char *map, size_t n_map, const char *text,
                                      size_t n_bytes, size_t most_bytes, ag_array_t *mapped)
{
    enum { MOST_WHOLE = 5 }; /* bytes of a grapheme that is looked for whole */
    ag_status_t status = AG_OK;
    map_t opened;

    if (!open_map(map, n_map, &opened)) {
        return ag_charsmap_check(map, n_map);
    }
    for (size_t at = 0; at < n_bytes && mapped->n_items <= most_bytes && status == AG_OK;) {
        size_t n = grapheme_length(text + at, n_bytes - at);
        replacement_t found = {0};

        if (n <= MOST_WHOLE) {
            found = find(&opened, text + at, n, false);
        }
        status = found.n_matched > 0 ? ag_array_append(mapped, found.text, found.n_text)
                                     : map_characters(&opened, text + at, n, most_bytes, mapped);
        at += n;
    }
    return status;
}
