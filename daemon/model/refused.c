/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/model/internal.h"

static const int refusal_errno[] = {
                [REFUSED_INVALID] = EINVAL,
                [REFUSED_NAME] = EINVAL,
                [REFUSED_KEY] = EINVAL,
                [REFUSED_NO_SUCH] = ENOENT,
                [REFUSED_EXISTS] = EEXIST,
                [REFUSED_NOT_CANCELABLE] = EPERM,
                [REFUSED_DONE] = EALREADY,
                [REFUSED_ACCESS] = EACCES,
                [REFUSED_LIMIT] = EDQUOT,
                [REFUSED_PROCESS] = EACCES,
};

int refused_because(struct refused *ret, enum refusal reason, const char *detail)
{
        return refused_path(ret, reason, detail, "", 0);
}

int refused_path(
                struct refused *ret, enum refusal reason, const char *detail, const char *path, size_t length)
{
        if (ret) {
                ret->reason = reason;
                ret->detail = detail;
                if (length >= sizeof ret->path)
                        length = sizeof ret->path - 1;
                memcpy(ret->path, path, length);
                ret->path[length] = '\0';
                ret->limit = ret->limit_key = NULL;
                ret->used = ret->allowed = 0;
                ret->privilege = 0;
                ret->uid = (uid_t) -1;
                ret->first = false;
        }
        return -refusal_errno[reason];
}

int refused_context(struct refused *ret, enum refusal reason, const char *detail, const struct context *c)
{
        char path[CTXD_PATH_ID_MAX + 1];

        context_path(c, path);
        return refused_path(ret, reason, detail, path, strlen(path));
}

int refused_reference(struct refused *ret, enum refusal reason, const char *detail, const struct context *c)
{
        char reference[CTXD_PATH_ID_MAX + 1];

        context_reference(c, reference);
        return refused_path(ret, reason, detail, reference, strlen(reference));
}

int refused_without(struct refused *ret, unsigned privilege, int r)
{
        if (ret)
                ret->privilege = privilege;
        return r;
}

int refused_limit(struct refused *ret, const char *limit, const char *key, uint64_t used, uint64_t allowed)
{
        int r = refused_because(ret, REFUSED_LIMIT, NULL);

        if (ret) {
                ret->limit = limit;
                ret->limit_key = key;
                ret->used = used;
                ret->allowed = allowed;
        }
        return r;
}

/* Only the first refusal is worth a line in the log. */
static void note_refusal(struct refused *ret, const struct user *user, bool *logged)
{
        if (!ret)
                return;
        ret->uid = user->uid;
        ret->first = !*logged;
        *logged = true;
}

int refused_quota(struct refused *ret, struct user *user, enum resource resource)
{
        int r = refused_limit(ret, resource_name(resource), resource_key(resource), user->used[resource],
                        user->users->limit[resource]);

        note_refusal(ret, user, &user->refusal_logged[resource]);
        return r;
}

int refused_pool(struct refused *ret, struct user *user, enum resource resource)
{
        enum pool_kind kind = resource_pool(resource);
        int r = refused_limit(ret, pool_name(kind), pool_key(kind), user->users->pools[kind].used,
                        pool_limit(user, kind));

        /* It is one story, however many uids are refused. */
        note_refusal(ret, user, &user->users->pools[kind].refusal_logged);
        return r;
}

int tree_refuse_charge(struct refused *ret, struct user *user, enum resource resource, uint64_t amount)
{
        return user_is_at_own_limit(user, resource, amount) ? refused_quota(ret, user, resource)
                                                            : refused_pool(ret, user, resource);
}

int tree_charge(struct tree *t, struct charge *charge, struct user *user, enum resource resource,
                uint64_t amount, struct refused *ret_refused)
{
        int r = charge_init(charge, &t->users, user, resource, amount);

        return r == -EDQUOT ? tree_refuse_charge(ret_refused, user, resource, amount) : r;
}

int tree_charge_resize(struct charge *charge, uint64_t amount, struct refused *ret_refused)
{
        int r = charge_resize(charge, amount);

        return r == -EDQUOT ? tree_refuse_charge(ret_refused, charge->user, charge->resource,
                                              amount - charge->amount)
                            : r;
}
