/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/world/keeper.h"
#include "proto/state-page.h"

/* When a thread ends, the kernel walks its list of robust futexes and marks each word that holds the thread's
 * id. A node of the list has to lie at a fixed distance from its word. Clients can read the page that has the
 * word, and must not see our addresses. So the node has a page of its own, right before the mapping.
 *
 * The C library registers such a list for its robust mutexes. This daemon has none, so the list here replaces
 * it. */

#define NODE_SIZE 4096

_Static_assert(STATE_KEEPER_DIED == FUTEX_OWNER_DIED, "the kernel sets it");

struct node {
        struct robust_list list; /* first */
        struct node *prev;
};

static __thread struct robust_list_head robust;
static __thread unsigned n_robust;

static int take_list(size_t offset)
{
        if (robust.list.next)
                return 0;
        robust.list.next = &robust.list;
        robust.futex_offset = (long) (NODE_SIZE + offset);
        if (syscall(SYS_set_robust_list, &robust, sizeof robust) == 0)
                return 0;
        robust.list.next = NULL;
        return -errno;
}

static void link_node(struct node *node)
{
        struct robust_list *next = robust.list.next;

        node->prev = NULL;
        node->list.next = next;
        if (next != &robust.list)
                ((struct node *) next)->prev = node;
        robust.list.next = &node->list;
        n_robust++;
}

static void unlink_node(struct node *node)
{
        if (node->list.next != &robust.list)
                ((struct node *) node->list.next)->prev = node->prev;
        if (node->prev)
                node->prev->list.next = node->list.next;
        else
                robust.list.next = node->list.next;
        n_robust--;
}

int keeper_map(int fd, size_t size, size_t offset, uint8_t **ret_map)
{
        uint8_t *whole, *map;

        whole = mmap(NULL, NODE_SIZE + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (whole == MAP_FAILED)
                return -errno;
        map = mmap(whole + NODE_SIZE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        if (map == MAP_FAILED) {
                int r = -errno;

                munmap(whole, NODE_SIZE + size);
                return r;
        }
        if (n_robust < ROBUST_LIST_LIMIT && take_list(offset) == 0) {
                *(uint32_t *) (map + offset) = (uint32_t) syscall(SYS_gettid);
                link_node((struct node *) whole);
        }
        *ret_map = map;
        return 0;
}

/* What the child that checks dies with: the kernel walks from the head to the node, and finds the word beside
 * it. */
struct check {
        uint32_t word;
        int error; /* of set_robust_list() */
        struct robust_list node;
        struct robust_list_head head;
};

/* A child that ends and does not give its word up. */
static _Noreturn void check_body(struct check *c)
{
        c->head = (struct robust_list_head){.list.next = &c->node,
                        .futex_offset = (long) offsetof(struct check, word) -
                                        (long) offsetof(struct check, node)};
        c->node.next = &c->head.list;
        if (syscall(SYS_set_robust_list, &c->head, sizeof c->head) < 0)
                c->error = errno;
        else
                __atomic_store_n(&c->word, (uint32_t) syscall(SYS_gettid), __ATOMIC_SEQ_CST);
        _exit(0);
}

/* A child dies for this, not a thread: in a process that has ever had a second thread, the C library takes
 * locks for each allocation, and for each byte that is read. */
int keeper_check(void)
{
        struct check *c;
        pid_t pid;
        int r = 0;

        c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (c == MAP_FAILED)
                return -errno;
        pid = fork();
        if (pid == 0)
                check_body(c);
        if (pid < 0 || waitpid(pid, NULL, 0) < 0)
                r = -errno;
        else if (c->error != 0)
                r = -c->error;
        else if (!(__atomic_load_n(&c->word, __ATOMIC_SEQ_CST) & STATE_KEEPER_DIED))
                r = -EOPNOTSUPP;
        munmap(c, sizeof *c);
        return r;
}

void keeper_unmap(uint8_t *map, size_t size, size_t offset)
{
        struct node *node = (struct node *) (map - NODE_SIZE);

        if (node->list.next)
                unlink_node(node);
        __atomic_store_n((uint32_t *) (map + offset), STATE_KEEPER_DIED, __ATOMIC_RELEASE);
        munmap(node, NODE_SIZE + size);
}
