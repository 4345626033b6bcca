/* System calls on one file fail while a flag file exists. Preloaded; FAILING_PATH, FAILING_FLAG, FAILING_CALLS ("reads" or
 * "writes") and FAILING_ERRNO say which and how.
 *
 * A program need not make its calls through libc, so overriding libc's functions would not do: a seccomp filter turns the
 * calls into SIGSYS, and the handler makes the call itself, marked by a sixth argument that no such call has. The filter
 * outlives an exec and the handler does not: a program that the program starts would be killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define OURS 0x7a11

static const char *path, *flag;
static int error_number;

static int fails(int fd) {
    char link[64], target[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return strcmp(target, path) == 0 && access(flag, F_OK) == 0;
}

static long answer(long number, long fd, long b, long c, long d) {
    if (fails((int)fd)) return -error_number;
    long result = syscall(number, fd, b, c, d, 0L, (long)OURS);
    return result < 0 ? -errno : result;
}

static void on_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    int saved = errno;
    mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
#if defined(__x86_64__)
    greg_t *r = machine->gregs;
    r[REG_RAX] = answer(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10]);
#elif defined(__aarch64__)
    unsigned long long *r = machine->regs;
    r[0] = answer(info->si_syscall, r[0], r[1], r[2], r[3]);
#else
#error "this machine is not known here"
#endif
    errno = saved;
}

__attribute__((constructor)) static void begin(void) {
    const char *calls = getenv("FAILING_CALLS"), *number = getenv("FAILING_ERRNO");
    path = getenv("FAILING_PATH");
    flag = getenv("FAILING_FLAG");
    if (!calls || !number || !path || !flag) return;
    error_number = atoi(number);
    int reads = strcmp(calls, "reads") == 0;
    int trapped[4] = {SYS_pread64, SYS_pread64, SYS_pread64, SYS_pread64};
    if (!reads) {
        int writes[4] = {SYS_pwrite64, SYS_ftruncate, SYS_fsync, SYS_fdatasync};
        memcpy(trapped, writes, sizeof trapped);
    }
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, trapped[0], 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, trapped[1], 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, trapped[2], 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, trapped[3], 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    if (sigaction(SIGSYS, &action, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("failing.c: no seccomp here");
        _exit(99);
    }
}
