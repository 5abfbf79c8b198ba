// Shared by all programs in C: options, a clock, random numbers, and memory figures.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

// Returns the value of an option, or `otherwise` if the option is missing.
static inline const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

static inline long number(int argc, char **argv, const char *name, long otherwise) {
    const char *value = option(argc, argv, name, NULL);
    return value ? atol(value) : otherwise;
}

static inline uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

// xorshift64: every program draws the same numbers.
static uint64_t seed = 88172645463325252ull;

static inline uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static inline void fail(const char *call) {
    perror(call);
    exit(1);
}

// Ends the program for a reason other than a failed system call.
static inline void refuse(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(1);
}

// Returns the result of a call. Ends the program if the call failed.
static inline int checked(int result, const char *call) {
    if (result < 0) fail(call);
    return result;
}

// Compares two numbers, for qsort.
static inline int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static inline void raise_open_files_limit(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

// Returns the anonymous memory of this process in bytes. File pages do not count, since code is
// loaded at its first use. /proc/self/statm is not used because its numbers lag behind: see
// proc(5).
static inline long resident_bytes(void) {
    long kilobytes = -1;
    char line[256];
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (!file) fail("/proc/self/smaps_rollup");
    while (kilobytes < 0 && fgets(line, sizeof line, file)) sscanf(line, "Anonymous: %ld kB", &kilobytes);
    fclose(file);
    if (kilobytes < 0) fail("/proc/self/smaps_rollup");
    return kilobytes * 1024;
}
