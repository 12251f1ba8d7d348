/* A driver whose GPU is lost, for tests/tests/gpu_lost.rs: stands before the real one, and passes everything on until the file
 * named by LOST_GPU_FILE is there. The file holds two numbers: how many more kernels are started, and the error that everything
 * gives from then on, until the file is removed.
 *
 * Built with REAL, the path of the real driver, which this library also names among those it needs, so that whoever looks a
 * function up here finds the others there. */

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Kernels that are still started; below zero, none was announced. */
static int left = -1;

/* The error to give now, or 0. */
static int lost(int starts_a_kernel) {
    const char *path = getenv("LOST_GPU_FILE");
    int kernels, code;
    FILE *file = path ? fopen(path, "r") : NULL;
    pthread_mutex_lock(&lock);
    if (!file || fscanf(file, "%d %d", &kernels, &code) != 2) {
        left = -1;
        code = 0;
    } else {
        if (left < 0) left = kernels;
        if (left > 0) {
            left -= starts_a_kernel;
            code = 0;
        }
    }
    pthread_mutex_unlock(&lock);
    if (file) fclose(file);
    return code;
}

static void *real(const char *name) {
    void *driver = dlopen(REAL, RTLD_LAZY | RTLD_NOLOAD);
    void *function = driver ? dlsym(driver, name) : NULL;
    if (!function) {
        fprintf(stderr, "%s has no %s\n", REAL, name);
        abort();
    }
    return function;
}

typedef unsigned long long device_address;

#define CALL(name, starts_a_kernel, parameters, arguments)             \
    int name parameters {                                              \
        static int(*next) parameters;                                  \
        int code = lost(starts_a_kernel);                              \
        if (code) return code;                                         \
        if (!next) *(void **)&next = real(#name);                      \
        return next arguments;                                         \
    }

CALL(cuLaunchKernel, 1,
     (void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
      void **parameters, void **extra),
     (f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra))
CALL(cuMemcpyHtoDAsync_v2, 0, (device_address to, const void *from, size_t bytes, void *stream), (to, from, bytes, stream))
CALL(cuMemcpyDtoHAsync_v2, 0, (void *to, device_address from, size_t bytes, void *stream), (to, from, bytes, stream))
CALL(cuMemsetD8Async, 0, (device_address to, unsigned char byte, size_t count, void *stream), (to, byte, count, stream))
CALL(cuStreamCreate, 0, (void **stream, unsigned flags), (stream, flags))
CALL(cuStreamSynchronize, 0, (void *stream), (stream))
CALL(cuEventRecord, 0, (void *event, void *stream), (event, stream))
CALL(cuEventSynchronize, 0, (void *event), (event))
CALL(cuMemGetInfo_v2, 0, (size_t *free, size_t *total), (free, total))
CALL(cuMemAlloc_v2, 0, (device_address *address, size_t bytes), (address, bytes))
CALL(cuMemHostAlloc, 0, (void **address, size_t bytes, unsigned flags), (address, bytes, flags))
