/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>

#include "bpf/choose.h"
#include "bpf/probe.h"
#include "bpf/report.h"
#include "util/capability.h"
#include "util/log.h"
#include "util/realtime.h"

int backend_choose(struct probe *probe, const struct probe_welcome *welcome, const int *kept, bool *ret_kept)
{
        uint64_t keep = 0;
        int r;

        *ret_kept = false;
        switch (welcome->backend) {
        case PROBE_BACKEND_BPF:
                r = backend_bpf_new(kept, &probe->backend, probe->reason, sizeof probe->reason);
                if (r == -EUCLEAN && kept) {
                        log_warning("%s; members are counted afresh", probe->reason);
                        kept = NULL;
                        r = backend_bpf_new(NULL, &probe->backend, probe->reason, sizeof probe->reason);
                }
                if (r >= 0) {
                        probe->reason[0] = '\0';
                        *ret_kept = kept != NULL;
                        break;
                }
                if (!welcome->strict && backend_proc_new(&probe->backend) < 0)
                        return -ENOMEM;
                report_unavailable(probe);
                break;
        case PROBE_BACKEND_PROC:
                snprintf(probe->reason, sizeof probe->reason, "Probe=proc is configured");
                r = backend_proc_new(&probe->backend);
                if (r < 0)
                        return r;
                break;
        default:
                snprintf(probe->reason, sizeof probe->reason, "Probe=off is configured");
        }

        /* The BPF backend needs no capability from here on, with one exception: for moments it takes a
         * real-time priority, and where it may not raise the limit that allows this, it keeps CAP_SYS_NICE.
         * (LimitRTPRIO= of the unit raises that limit.) For another user's process, /proc tells the system
         * call and the descriptors only with CAP_SYS_PTRACE, and the directory of descriptors can be
         * entered only with CAP_DAC_READ_SEARCH. */
        if (backend_kind(probe->backend) == PROBE_BACKEND_BPF && !realtime_allow())
                keep = CAPABILITY(SYS_NICE);
        if (backend_kind(probe->backend) == PROBE_BACKEND_PROC)
                keep = CAPABILITY(SYS_PTRACE) | CAPABILITY(DAC_READ_SEARCH);
        r = capability_drop(keep, 0);
        if (r < 0)
                return r;
        probe->chosen = true;
        return 0;
}

bool backend_fits(struct probe *probe, const struct probe_welcome *welcome, const int *kept)
{
        enum probe_backend kind = backend_kind(probe->backend);

        if (kept && kind == PROBE_BACKEND_BPF)
                return welcome->backend == PROBE_BACKEND_BPF && backend_bpf_has(probe->backend, kept);
        if (welcome->backend == PROBE_BACKEND_BPF && kind != PROBE_BACKEND_BPF)
                return (welcome->strict != 0) == (kind == PROBE_BACKEND_OFF);
        return welcome->backend == kind;
}
