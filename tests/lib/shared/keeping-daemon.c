/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "daemon/world/keeper.h"
#include "proto/names.h"
#include "proto/state-page.h"
#include "tests/lib/shared/keeping-daemon.h"

#define PAGE_SIZE 4096
#define OFFSET sizeof(struct state_page_header)
#define GIVEN (UINT64_C(1) << 2)
#define NUMBER UINT64_C(7)

static struct kept *kept;
static uint64_t epoch;
static bool knows;
static int alive[2];
static uint8_t *page;
static sd_event *event;

static uint64_t *word(void)
{
        return (uint64_t *) (page + OFFSET);
}

static int reply_err(sd_bus_message *m)
{
        kept->state->n_asked++;
        if (*word() == GIVEN)
                return sd_bus_reply_method_return(m, "siis", "", 0, 0, "");
        return sd_bus_reply_method_return(
                        m, "siis", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, kept->state->cause);
}

static int cancel(sd_bus_message *m)
{
        int first = *word() == GIVEN;

        snprintf(kept->state->cause, sizeof kept->state->cause, "by daemon %u", (unsigned) epoch);
        __atomic_store_n(word(), GIVEN | STATE_WORD_CANCELED, __ATOMIC_RELEASE);
        eventfd_write(kept->done_fd, UINT64_MAX - 1);
        return sd_bus_reply_method_return(m, "buu", first, first, 0);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *member = sd_bus_message_get_member(m);

        if (!member)
                return 0;
        if (strcmp(member, "Hello") == 0)
                return sd_bus_reply_method_return(m, "s", ":1.7");
        if (strcmp(member, "Alive") == 0)
                return sd_bus_reply_method_return(m, "ht", alive[0], epoch);
        kept->state->n_calls++;
        if (strcmp(member, "Err") == 0 && kept->state->says_nothing)
                return 1;
        if (strcmp(member, "Err") == 0 && kept->state->wants_authorization) {
                kept->state->n_interactive += sd_bus_message_get_allow_interactive_authorization(m) > 0;
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                "Authentication may be required");
        }
        if (!knows)
                return sd_bus_reply_method_errorf(m, CTXD_ERROR_NO_SUCH_CONTEXT, "There is none");
        if (strcmp(member, "CreateAndOpen") == 0 && kept->state->no_page)
                return sd_bus_reply_method_return(m, "stbutahttt", "kept", UINT64_C(1), 1, 0, UINT64_MAX, 0,
                                UINT64_C(0), UINT64_C(0), UINT64_C(0));
        if (strcmp(member, "CreateAndOpen") == 0 || strcmp(member, "Open") == 0)
                return sd_bus_reply_method_return(m, "stbutahttt", "kept", UINT64_C(1),
                                !kept->state->is_found, 0, UINT64_MAX, 1,
                                kept->state->bad_page ? kept->done_fd : kept->page_fd, NUMBER,
                                (uint64_t) OFFSET, GIVEN);
        if (strcmp(member, "Release") == 0)
                kept->state->n_released++;
        if (strcmp(member, "Undone") == 0)
                kept->state->n_undone++;
        if (strcmp(member, "Done") == 0)
                return sd_bus_reply_method_return(m, "h", kept->done_fd);
        if (strcmp(member, "Err") == 0)
                return reply_err(m);
        if (strcmp(member, "Cancel") == 0)
                return cancel(m);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        sd_bus *bus;
        sd_id128_t id;

        if (sd_id128_randomize(&id) < 0 || sd_bus_new(&bus) < 0 ||
                        sd_bus_set_fd(bus, connection, connection) < 0 || sd_bus_set_server(bus, 1, id) < 0 ||
                        sd_bus_negotiate_fds(bus, 1) < 0 || sd_bus_set_sender(bus, ":1.0") < 0 ||
                        sd_bus_start(bus) < 0 || sd_bus_add_filter(bus, NULL, on_message, NULL) < 0 ||
                        sd_bus_attach_event(bus, event, 0) < 0)
                abort();
        return 0;
}

/* As a daemon that recovers: the epoch, then the keeper, before it serves. */
static void take_page(void)
{
        struct state_page_header *header;

        page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, kept->page_fd, 0);
        if (page == MAP_FAILED)
                abort();
        header = (struct state_page_header *) page;
        if (header->magic == 0) {
                header->magic = STATE_PAGE_MAGIC;
                header->version = STATE_PAGE_VERSION;
                header->n_slots = 1;
                header->number = NUMBER;
                *(struct state_slot *) (page + OFFSET) = (struct state_slot){GIVEN, UINT64_MAX};
        }
        if (!knows)
                return;
        __atomic_store_n(&header->epoch, epoch, __ATOMIC_RELEASE);
        if (keeper_map(kept->page_fd, PAGE_SIZE, offsetof(struct state_page_header, keeper), &page) < 0)
                abort();
}

static void serve(int ready)
{
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        take_page();
        if (pipe(alive) < 0 || sd_event_new(&event) < 0 ||
                        sd_event_add_io(event, NULL, kept->listen_fd, POLLIN, on_connection, NULL) < 0 ||
                        write(ready, "r", 1) != 1)
                abort();
        close(ready);
        sd_event_loop(event);
        _exit(1);
}

void kept_init(struct kept *k)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        strcpy(k->directory, "/tmp/ctxd-test-kept-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(k->directory));
        snprintf(address.sun_path, sizeof address.sun_path, "%s/bus", k->directory);
        snprintf(k->address, sizeof k->address, "unix:path=%s", address.sun_path);
        k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ck_assert_int_eq(bind(k->listen_fd, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(k->listen_fd, 64), 0);
        k->page_fd = memfd_create("kept", MFD_CLOEXEC);
        ck_assert_int_eq(ftruncate(k->page_fd, PAGE_SIZE), 0);
        k->done_fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        ck_assert_int_ge(k->done_fd, 0);
        k->state = mmap(NULL, sizeof *k->state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(k->state, MAP_FAILED);
}

void kept_deinit(struct kept *k)
{
        unlink(k->address + strlen("unix:path="));
        rmdir(k->directory);
        munmap(k->state, sizeof *k->state);
        close(k->listen_fd);
        close(k->page_fd);
        close(k->done_fd);
}

pid_t keeping_daemon_start(struct kept *k, uint64_t its_epoch, bool it_knows)
{
        int ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(ready), 0);
        pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
                kept = k;
                epoch = its_epoch;
                knows = it_knows;
                close(ready[0]);
                serve(ready[1]);
        }
        close(ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

void keeping_daemon_kill(pid_t pid)
{
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
