#define _GNU_SOURCE /* fallocate, O_DIRECT */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parallel/run/checkpoint_priv.h"

static const char step_prefix[] = "step-", rank_prefix[] = "rank-";

/* A test says that the disk fails here. */
static bool is_refused(const ag_disk_t *disk, const char *path)
{
    errno = disk->fault != NULL ? disk->fault(disk->arg, path) : 0;
    return errno != 0;
}

static ag_status_t fail_io(const char *doing, const char *path)
{
    return ag_fail(AG_ERR_IO, "%s %s: %s", doing, path, strerror(errno));
}

ag_status_t ag_disk_make_folders(const ag_disk_t *disk, const char *path)
{
    char part[AG_PATH_BYTES];
    size_t n = strlen(path);

    for (size_t i = 1; i <= n; i++) {
        if ((path[i] != '/' && path[i] != '\0') || i >= sizeof(part)) {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (access(part, F_OK) != 0 &&
            (is_refused(disk, part) || (mkdir(part, 0777) != 0 && errno != EEXIST))) {
            return fail_io("making", part);
        }
    }
    return AG_OK;
}

/* A disk that is full says so before anything is written. Some file systems cannot say. */
static bool make_room(int fd, uint64_t bytes)
{
    int error;

    do {
        error = bytes > 0 && fallocate(fd, 0, 0, (off_t)bytes) != 0 ? errno : 0;
    } while (error == EINTR);
    return error == 0 || error == EOPNOTSUPP || error == ENOSYS;
}

ag_status_t ag_disk_create(const ag_disk_t *disk, const char *path, uint64_t bytes, int *fd_p)
{
    int fd =
        is_refused(disk, path) ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

    if (fd < 0) {
        return fail_io("creating", path);
    }
    if (!make_room(fd, bytes)) {
        ag_status_t status = fail_io("making room for", path);

        close(fd);
        unlink(path);
        return status;
    }
    *fd_p = fd;
    return AG_OK;
}

void ag_disk_begin_direct(int fd)
{
    (void)fcntl(fd, F_SETFL, O_DIRECT); /* not everywhere */
}

void ag_disk_end_direct(int fd)
{
    (void)fcntl(fd, F_SETFL, 0);
}

/* A file system may take what it does not do, and refuse the first write. */
static bool goes_on_indirect(int fd)
{
    if (errno != EINVAL || (fcntl(fd, F_GETFL) & O_DIRECT) == 0) {
        return false;
    }
    ag_disk_end_direct(fd);
    return true;
}

ag_status_t ag_disk_write(const ag_disk_t *disk, int fd, const char *path, const void *data,
                          size_t n_bytes)
{
    const char *at = data;

    while (n_bytes > 0) {
        ssize_t n = is_refused(disk, path) ? -1 : write(fd, at, n_bytes);

        if (n < 0 && errno != EINTR && !goes_on_indirect(fd)) {
            return fail_io("writing", path);
        }
        at += n > 0 ? n : 0;
        n_bytes -= n > 0 ? (size_t)n : 0;
    }
    return AG_OK;
}

ag_status_t ag_disk_sync(const ag_disk_t *disk, int fd, const char *path)
{
    return is_refused(disk, path) || fsync(fd) != 0 ? fail_io("writing", path) : AG_OK;
}

ag_status_t ag_disk_sync_folder(const ag_disk_t *disk, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ag_status_t status;

    if (fd < 0) {
        return ag_fail_open(path);
    }
    status = ag_disk_sync(disk, fd, path);
    close(fd);
    return status;
}

ag_status_t ag_disk_rename(const ag_disk_t *disk, const char *from, const char *to)
{
    return is_refused(disk, to) || rename(from, to) != 0 ? fail_io("completing", to) : AG_OK;
}

void ag_disk_remove(const ag_disk_t *disk, const char *path)
{
    if (!is_refused(disk, path)) {
        remove(path);
    }
}

void ag_step_folder(const char *dir, uint64_t step, char path[AG_PATH_BYTES])
{
    snprintf(path, AG_PATH_BYTES, "%s/%s%" PRIu64, dir, step_prefix, step);
}

void ag_rank_file(uint32_t rank, uint32_t number, char name[AG_RANK_FILE_BYTES])
{
    char again[16] = "";

    if (number > 0) {
        snprintf(again, sizeof(again), ".%u", number);
    }
    snprintf(name, AG_RANK_FILE_BYTES, "%s%u%s.bin", rank_prefix, rank, again);
}

/* Is it a name that ag_step_folder() makes? */
static bool is_step(const char *name, uint64_t *step_p)
{
    char again[AG_PATH_BYTES];

    if (strncmp(name, step_prefix, sizeof(step_prefix) - 1) != 0) {
        return false;
    }
    *step_p = strtoull(name + sizeof(step_prefix) - 1, NULL, 10);
    snprintf(again, sizeof(again), "%s%" PRIu64, step_prefix, *step_p);
    return strcmp(again, name) == 0;
}

/* Is it a name that ag_rank_file() makes? */
static bool is_rank_file(const char *name, uint32_t *rank_p)
{
    char again[AG_RANK_FILE_BYTES], *end;
    unsigned long number = 0;

    if (strncmp(name, rank_prefix, sizeof(rank_prefix) - 1) != 0) {
        return false;
    }
    *rank_p = (uint32_t)strtoul(name + sizeof(rank_prefix) - 1, &end, 10);
    number = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
    ag_rank_file(*rank_p, (uint32_t)number, again);
    return strcmp(again, name) == 0;
}

static int by_step(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* All steps that have a folder, or those alone that have a manifest. */
static ag_status_t list_steps(const char *dir, bool complete_only, ag_array_t *steps)
{
    DIR *folder = opendir(dir);
    ag_status_t status = AG_OK;

    if (folder == NULL) {
        return errno == ENOENT ? AG_OK : ag_fail_open(dir);
    }
    for (struct dirent *entry; status == AG_OK && (entry = readdir(folder)) != NULL;) {
        char path[AG_PATH_BYTES + sizeof("/" AG_MANIFEST_NAME)];
        uint64_t step;

        if (!is_step(entry->d_name, &step)) {
            continue;
        }
        ag_step_folder(dir, step, path);
        strcat(path, "/" AG_MANIFEST_NAME);
        if (!complete_only || access(path, F_OK) == 0) {
            status = ag_array_append(steps, &step, 1);
        }
    }
    closedir(folder);
    if (status == AG_OK && steps->n_items > 0) {
        qsort(steps->items, steps->n_items, sizeof(uint64_t), by_step);
    }
    return status;
}

ag_status_t ag_steps_complete(const char *dir, ag_array_t *steps)
{
    return list_steps(dir, true, steps);
}

static bool is_named(const char *name, const ag_stored_file_t *files, size_t n_files)
{
    for (size_t i = 0; i < n_files; i++) {
        if (strcmp(files[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void sweep_files(const ag_disk_t *disk, const char *folder, uint32_t rank,
                        const ag_stored_file_t *files, size_t n_files)
{
    DIR *stream = opendir(folder);

    for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;) {
        char path[AG_PATH_BYTES + sizeof(entry->d_name)];
        uint32_t whose;

        if (is_rank_file(entry->d_name, &whose) && (rank == 0 || whose == rank) &&
            !is_named(entry->d_name, files, n_files)) {
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            ag_disk_remove(disk, path);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
}

/*
 * Without its manifest it is none at once, whatever becomes of its other files.
 * @param whole  the folder too, where it is empty then.
 */
static void remove_checkpoint(const ag_disk_t *disk, const char *folder, uint32_t rank, bool whole)
{
    static const char *const names[] = {AG_MANIFEST_NAME, AG_MANIFEST_NAME ".tmp"};
    char path[AG_PATH_BYTES + 32];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && rank == 0; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        ag_disk_remove(disk, path);
    }
    sweep_files(disk, folder, rank, NULL, 0);
    if (whole) {
        ag_disk_remove(disk, folder);
    }
}

void ag_steps_sweep(const ag_disk_t *disk, const char *dir, uint32_t rank, const uint64_t *steps,
                    size_t n_steps, uint64_t current, const ag_stored_file_t *files, size_t n_files)
{
    ag_array_t all = AG_ARRAY(uint64_t);

    if (list_steps(dir, false, &all) != AG_OK) {
        return;
    }
    for (size_t i = 0; i < all.n_items; i++) {
        uint64_t step = AG_ITEMS(&all, uint64_t)[i];
        char folder[AG_PATH_BYTES];

        ag_step_folder(dir, step, folder);
        if (n_steps == 0 || bsearch(&step, steps, n_steps, sizeof(step), by_step) == NULL) {
            /* rank 0 may have begun one of a later step already */
            remove_checkpoint(disk, folder, rank, rank == 0 || step < current);
        } else if (step == current) {
            sweep_files(disk, folder, rank, files, n_files);
        }
    }
    ag_array_fini(&all);
}
