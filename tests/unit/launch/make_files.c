#define _GNU_SOURCE
#include "make_files.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder_path[64];

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder_path[0] != '\0') {
        nftw(folder_path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        folder_path[0] = '\0';
    }
}

const char *make_folder(void)
{
    remove_folder();
    snprintf(folder_path, sizeof(folder_path), "/tmp/argosy-launch-XXXXXX");
    cr_assert_not_null(mkdtemp(folder_path));
    atexit(remove_folder);
    return folder_path;
}

const char *make_file(const char *folder, const char *path, const char *text)
{
    static char whole[512];
    FILE *file;

    snprintf(whole, sizeof(whole), "%s/%s", folder, path);
    for (char *slash = strchr(whole + strlen(folder) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0777);
        *slash = '/';
    }
    file = fopen(whole, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
    return whole;
}
