#define _GNU_SOURCE
#include "runtime/file/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/array.h"

struct ag_folder {
    char *path;
    bool made;
    ag_array_t files; /* ag_aside_t * */
};

ag_status_t ag_folder_open(const char *path, ag_folder_t **folder_p)
{
    struct stat info;
    ag_folder_t *folder = calloc(1, sizeof(*folder));
    ag_status_t status = AG_OK;

    if (folder == NULL || (folder->path = strdup(path)) == NULL) {
        free(folder);
        return ag_fail_nomem(path, sizeof(*folder));
    }
    folder->files = AG_ARRAY(ag_aside_t *);
    folder->made = mkdir(path, 0777) == 0;
    if (!folder->made && errno != EEXIST) {
        status = ag_fail(AG_ERR_IO, "making the folder %s: %s", path, strerror(errno));
    } else if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        status = ag_fail(AG_ERR_INVALID, "writing %s: it exists and is no folder", path);
    }
    if (status != AG_OK) {
        ag_folder_discard(folder);
        return status;
    }
    *folder_p = folder;
    return AG_OK;
}

ag_status_t ag_folder_add(ag_folder_t *folder, const char *name, ag_aside_t **aside_p)
{
    char *path;
    ag_aside_t *aside;
    ag_status_t status;

    if (asprintf(&path, "%s/%s", folder->path, name) < 0) {
        return ag_fail_nomem(folder->path, strlen(name));
    }
    status = ag_aside_open(path, &aside);
    free(path);
    if (status != AG_OK) {
        return status;
    }
    status = ag_array_append(&folder->files, &aside, 1);
    if (status != AG_OK) {
        ag_aside_discard(aside);
        return status;
    }
    *aside_p = aside;
    return AG_OK;
}

ag_status_t ag_folder_add_text(ag_folder_t *folder, const char *name, const char *text, size_t n)
{
    ag_aside_t *aside;
    ag_status_t status = ag_folder_add(folder, name, &aside);

    if (status == AG_OK) {
        status = ag_aside_write(aside, text, n);
    }
    return status == AG_OK ? ag_aside_seal(aside) : status;
}

ag_status_t ag_folder_add_json(ag_folder_t *folder, const char *name, ag_json_t *json)
{
    char *text = NULL;
    ag_status_t status = ag_json_text(json, AG_JSON_INDENTED, &text);

    ag_json_destroy(json);
    if (status == AG_OK) {
        status = ag_folder_add_text(folder, name, text, strlen(text));
        free(text);
    }
    return status;
}

static ag_status_t seal_all(ag_folder_t *folder)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < folder->files.n_items && status == AG_OK; i++) {
        ag_aside_t *aside = AG_ITEMS(&folder->files, ag_aside_t *)[i];

        status = ag_aside_stream(aside) != NULL ? ag_aside_seal(aside) : AG_OK;
    }
    return status;
}

static ag_status_t remove_old(const ag_folder_t *folder, bool (*is_old)(const char *name))
{
    DIR *directory = opendir(folder->path);
    struct dirent *entry;
    ag_status_t status = AG_OK;

    if (directory == NULL) {
        return ag_fail(AG_ERR_IO, "listing %s: %s", folder->path, strerror(errno));
    }
    while (status == AG_OK && (entry = readdir(directory)) != NULL) {
        if (is_old(entry->d_name) && unlinkat(dirfd(directory), entry->d_name, 0) != 0) {
            status = ag_fail(AG_ERR_IO, "removing %s of %s: %s", entry->d_name, folder->path,
                             strerror(errno));
        }
    }
    closedir(directory);
    return status;
}

/* The names must reach the disk as well as what they name. */
static ag_status_t sync_folder(const ag_folder_t *folder)
{
    int fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL); /* some file systems cannot */
    ag_status_t status =
        synced ? AG_OK : ag_fail(AG_ERR_IO, "completing %s: %s", folder->path, strerror(errno));

    if (fd >= 0) {
        close(fd);
    }
    return status;
}

ag_status_t ag_folder_complete(ag_folder_t *folder, bool (*is_old)(const char *name))
{
    ag_status_t status = seal_all(folder);

    if (status == AG_OK && is_old != NULL && !folder->made) {
        status = remove_old(folder, is_old);
    }
    for (size_t i = 0; i < folder->files.n_items && status == AG_OK; i++) {
        status = ag_aside_complete(AG_ITEMS(&folder->files, ag_aside_t *)[i]);
        AG_ITEMS(&folder->files, ag_aside_t *)[i] = NULL;
    }
    if (status == AG_OK) {
        status = sync_folder(folder);
        folder->made = false;
    }
    ag_folder_discard(folder);
    return status;
}

void ag_folder_discard(ag_folder_t *folder)
{
    if (folder == NULL) {
        return;
    }
    for (size_t i = 0; i < folder->files.n_items; i++) {
        ag_aside_discard(AG_ITEMS(&folder->files, ag_aside_t *)[i]);
    }
    if (folder->made) {
        rmdir(folder->path); /* stays where something else has come into it */
    }
    ag_array_fini(&folder->files);
    free(folder->path);
    free(folder);
}
