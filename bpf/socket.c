/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "bpf/socket.h"
#include "bpf/waits.h"
#include "util/cleanup.h"

/* "127.0.0.1:80", "[::1]:80" */
static void append_address(FILE *out, const struct described *d, int i)
{
        char text[INET6_ADDRSTRLEN] = "?";

        (void) inet_ntop(d->family, d->addresses[i], text, sizeof text);
        fprintf(out, d->family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, d->ports[i]);
}

/* A path ends at a NUL. The name of an abstract socket begins with one and may have more: they become '@'. */
static void append_name(FILE *out, const char *name, size_t n)
{
        bool abstract = n > 0 && name[0] == '\0';

        for (size_t i = 0; i < n && (abstract || name[i]); i++)
                fputc(name[i] ? name[i] : '@', out);
}

static bool append_inet(FILE *out, const struct described *d)
{
        if (d->protocol != IPPROTO_TCP && d->protocol != IPPROTO_UDP)
                return false;
        fputs(d->protocol == IPPROTO_TCP ? "tcp " : "udp ", out);
        append_address(out, d, 0);
        if (d->ports[1] != 0) {
                fputs(" to ", out);
                append_address(out, d, 1);
        }
        if (d->protocol == IPPROTO_TCP && d->state == TCP_LISTEN)
                fputs(" (listening)", out);
        else if (d->protocol == IPPROTO_TCP && d->state == TCP_SYN_SENT)
                fputs(" (connecting)", out);
        return true;
}

static void append_unix(FILE *out, const struct described *d)
{
        bool listening = d->state == TCP_LISTEN;
        char process[64];

        fputs("unix", out);
        if (d->lengths[0] > 0) {
                fputc(' ', out);
                append_name(out, d->names[0], d->lengths[0]);
        }
        if (listening)
                fputs(" (listening)", out);
        if (d->lengths[1] > 0) {
                fputs(" to ", out);
                append_name(out, d->names[1], d->lengths[1]);
        }
        if (d->peer_pid > 0 && !listening) { /* a listening one has its own process there */
                waits_name_process((int) d->peer_pid, process, sizeof process);
                fprintf(out, d->lengths[1] > 0 ? " of %s" : " to %s", process);
        } else if (d->lengths[0] == 0 && d->lengths[1] == 0) {
                fprintf(out, " %s", d->path);
        }
}

void socket_text(const struct described *d, char *ret, size_t size)
{
        FILE *out = d->is_socket ? fmemopen(ret, size, "w") : NULL;
        bool known = false;

        ret[0] = '\0';
        if (out && (d->family == AF_INET || d->family == AF_INET6))
                known = append_inet(out, d);
        else if (out && d->family == AF_UNIX) {
                append_unix(out, d);
                known = true;
        }
        if (out)
                (void) fclose(out);
        ret[size - 1] = '\0';
        if (!known)
                snprintf(ret, size, "%s", d->path);
}

void socket_set_destination(struct described *d, const char *address, size_t n)
{
        const size_t begin = offsetof(struct sockaddr_un, sun_path);
        bool is_connected = d->lengths[1] > 0 || (d->peer_pid > 0 && d->state != TCP_LISTEN);

        if (!d->is_socket || d->family != AF_UNIX || is_connected || n <= begin)
                return;
        n -= begin;
        d->lengths[1] = (uint32_t) (n < sizeof d->names[1] ? n : sizeof d->names[1]);
        memcpy(d->names[1], address + begin, d->lengths[1]);
}

/* The kernel writes an address as words in its own order of bytes. */
static bool read_address(const char *text, struct described *d, int i)
{
        const char *colon = strchr(text, ':');
        size_t n = colon ? (size_t) (colon - text) : 0;

        if (n != 8 && n != 32)
                return false;
        d->family = n == 8 ? AF_INET : AF_INET6;
        for (size_t k = 0; k < n / 8; k++) {
                char word[9] = "";
                uint32_t value;

                memcpy(word, text + 8 * k, 8);
                value = (uint32_t) strtoul(word, NULL, 16);
                memcpy(d->addresses[i] + 4 * k, &value, sizeof value);
        }
        d->ports[i] = (uint16_t) strtoul(colon + 1, NULL, 16);
        return true;
}

static bool read_inet(const char *line, uint64_t inode, struct described *d)
{
        char local[48], remote[48];
        unsigned int state;
        uint64_t found;

        return sscanf(line, " %*s %47s %47s %x %*s %*s %*s %*s %*s %" SCNu64, local, remote, &state,
                               &found) == 4 &&
               found == inode && read_address(local, d, 0) && read_address(remote, d, 1) &&
               (d->state = (uint16_t) state, true);
}

/* It begins as the kernel does: "0000000000000000: 00000002 00000000 00010000 0001 01 ". */
static bool is_of_kernel(const char *line)
{
        static const char hex[] = "0123456789abcdefABCDEF";
        static const size_t digits[] = {8, 8, 8, 4, 2};
        size_t n = strspn(line, hex);

        if ((n != 8 && n != 16) || line[n] != ':')
                return false;
        line += n + 1;
        for (size_t i = 0; i < ELEMENTSOF(digits); i++) {
                if (line[0] != ' ' || strspn(line + 1, hex) != digits[i])
                        return false;
                line += 1 + digits[i];
        }
        return line[0] == ' ';
}

static bool read_unix(const char *line, uint64_t inode, struct described *d)
{
        unsigned int flags, type;
        const char *name;
        uint64_t found;
        int n = 0;

        if (!is_of_kernel(line) ||
                        sscanf(line, "%*s %*s %*s %x %x %*s %" SCNu64 "%n", &flags, &type, &found, &n) < 3 ||
                        found != inode)
                return false;
        d->family = AF_UNIX;
        d->type = (uint16_t) type;
        d->state = flags & 0x10000 ? TCP_LISTEN : 0;
        name = line + n + (line[n] == ' ');
        d->lengths[0] = (uint32_t) strnlen(name, sizeof d->names[0]);
        memcpy(d->names[0], name, d->lengths[0]);
        return true;
}

struct table {
        const char *kind; /* how the names of the kernel's protocols begin that are in it */
        const char *file;
        uint16_t protocol;
        bool (*read)(const char *line, uint64_t inode, struct described *d);
};

/* The name of a Unix socket is in the file as its owner chose it, with line breaks, so some lines are not the
 * kernel's. Where two contradict each other, no name is told. */
static void search(FILE *f, const struct table *table, uint64_t inode, struct described *d)
{
        const struct described unknown = *d;
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;
        ssize_t n;

        while ((n = getline(&line, &allocated, f)) > 0) {
                struct described found = unknown;

                line[n - (line[n - 1] == '\n')] = '\0';
                if (!table->read(line, inode, &found))
                        continue;
                found.is_socket = true;
                found.protocol = table->protocol;
                if (d->is_socket && memcmp(&found, d, sizeof found) != 0) {
                        *d = unknown;
                        d->is_socket = true;
                        d->family = found.family;
                        return;
                }
                *d = found;
        }
}

void socket_find(uint32_t pid, uint32_t tid, int fd, uint64_t inode, struct described *d)
{
        static const struct table tables[] = {
                        {"UNIX", "unix", 0, read_unix},
                        {"TCP", "tcp", IPPROTO_TCP, read_inet},
                        {"TCP", "tcp6", IPPROTO_TCP, read_inet},
                        {"UDP", "udp", IPPROTO_UDP, read_inet},
                        {"UDP", "udp6", IPPROTO_UDP, read_inet},
        };
        char path[96], kind[32] = "";

        /* The kernel knows of which kind a socket is, so that no other table is believed. */
        snprintf(path, sizeof path, "/proc/%u/fd/%d", pid, fd);
        if (getxattr(path, "system.sockprotoname", kind, sizeof kind - 1) < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(tables) && !d->is_socket; i++) {
                _cleanup_fclose_ FILE *f = NULL;

                if (strncmp(kind, tables[i].kind, strlen(tables[i].kind)) != 0)
                        continue;
                snprintf(path, sizeof path, "/proc/%u/task/%u/net/%s", pid, tid, tables[i].file);
                f = fopen(path, "re");
                if (f)
                        search(f, tables + i, inode, d);
        }
}
