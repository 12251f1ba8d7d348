/* Stands before the C library's ptrace in a user-mode kernel, for processors whose vector registers are more than it knows.
 *
 * User-mode Linux before 6.13 keeps 2696 bytes of a process's vector registers, which is all of them up to AVX-512. The host
 * takes them back only whole, and with AMX the whole is 11008 bytes: without this, the first process inside cannot start.
 * Here the rest is what the process has already: the kernel inside offers no program those registers. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* NT_X86_XSTATE: all vector registers, in the processor's own layout. */
#define VECTORS ((void *)0x202)

static long (*host_ptrace)(int, ...);
/* The kernel inside has one thread that asks. Larger than any processor's registers. */
static char whole[1 << 16];

__attribute__((constructor)) static void find(void) {
    host_ptrace = (long (*)(int, ...))dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...) {
    va_list arguments;
    va_start(arguments, request);
    int process = va_arg(arguments, int);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && address == VECTORS) {
        const struct iovec *known = data;
        struct iovec all = {whole, sizeof whole};
        if (host_ptrace(PTRACE_GETREGSET, process, address, &all) < 0)
            return -1;
        if (known->iov_len < all.iov_len) {
            memcpy(whole, known->iov_base, known->iov_len);
            return host_ptrace(request, process, address, &all);
        }
    }
    return host_ptrace(request, process, address, data);
}
