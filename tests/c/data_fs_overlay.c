/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The data path on overlayfs, for files of the upper and of the lower layer. */
#include "data_common.h"

#define LENGTH (2 * MIB + 3)

/* Opened for reading, a file of the lower layer stays there. */
static void from_below(const char *dir)
{
    char path[PATH_MAX];
    int sv[2];
    snprintf(path, sizeof path, "%s/merged/below", dir);
    snapsend_t *ctx = create_ctx();
    int file = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
    unsigned char *image = image_of(0, LENGTH, 45);
    tcp_pair(sv);
    every_way(ctx, sv, file, image, LENGTH, NULL, NULL, NULL);
    close(file);
    free(image);
    close_pair(sv);
    destroy_ctx(ctx);
}

int main(void)
{
    static const char *const names[] = {"lower", "upper", "work", "merged"};
    const char *dir = private_mounts();
    char path[PATH_MAX], options[3 * PATH_MAX];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        SYS(mkdir(path, 0700));
    }
    snprintf(path, sizeof path, "%s/lower/below", dir);
    int file = (int)SYS(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    pattern_write(file, 0, LENGTH, 45);
    close(file);
    snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", dir, dir, dir);
    snprintf(path, sizeof path, "%s/merged", dir);
    if (mount("overlay", path, "overlay", 0, options) != 0)
        skip("no overlayfs here");
    from_below(dir);
    exercise_file_system(path);
    return 0;
}
