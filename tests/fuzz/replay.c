/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Runs a corpus through the fuzzer's function, without libFuzzer: what once broke stays mended. Arguments are
 * files and directories; in TAP, a directory or file a test. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "tests/fuzz/input.h"

static char current[4096];

static int run_file(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        uint8_t *data;
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return 0;
        /* Of exactly that size, so that a read past its end is seen. */
        data = malloc(st.st_size > 0 ? (size_t) st.st_size : 1);
        if (!data)
                return -ENOMEM;
        n = read(fd, data, (size_t) st.st_size);
        closep(&fd);
        fd = -1;
        if (n == st.st_size) {
                snprintf(current, sizeof current, "# %s\n", path);
                LLVMFuzzerTestOneInput(data, (size_t) n);
        }
        free(data);
        return n == st.st_size ? 1 : -EIO;
}

static int run_directory(const char *path)
{
        struct dirent **entries;
        int k, n = scandir(path, &entries, NULL, alphasort), done = 0;

        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                char file[4096];

                snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
                free(entries[i]);
                k = done < 0 ? 0 : run_file(file);
                done = k < 0 ? k : done + k;
        }
        free(entries);
        return done;
}

/* Which input it was: after a crash nothing else says so. */
static void on_abort(int signal_number)
{
        if (write(STDERR_FILENO, current, strlen(current)) < 0)
                _exit(1);
        signal(signal_number, SIG_DFL);
        raise(signal_number);
}

int main(int argc, char *argv[])
{
        int failed = 0;

        signal(SIGABRT, on_abort);
        printf("1..%d\n", argc - 1);
        for (int i = 1; i < argc; i++) {
                struct stat st;
                int n = stat(argv[i], &st) < 0 ? -errno
                        : S_ISDIR(st.st_mode)  ? run_directory(argv[i])
                                               : run_file(argv[i]);

                if (n <= 0)
                        printf("not ok %d - %s: %s\n", i, argv[i], n < 0 ? strerror(-n) : "no input");
                else
                        printf("ok %d - %d inputs\n", i, n);
                failed += n <= 0;
        }
        return failed > 0;
}
