/* Assertions of the C tests: they print where and why, and end the program with 1. They hold in release builds too. */
#ifndef WO_TESTS_CHECK_H
#define WO_TESTS_CHECK_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers make arithmetic tens of times as slow. */
enum {
#ifdef __SANITIZE_THREAD__
    UNDER_THREAD_SANITIZER = 1,
#else
    UNDER_THREAD_SANITIZER = 0,
#endif
#ifdef __SANITIZE_ADDRESS__
    UNDER_ADDRESS_SANITIZER = 1
#else
    UNDER_ADDRESS_SANITIZER = 0
#endif
};

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* The call returns the wanted status; both are printed when not. */
#define CHECK_STATUS(call, wanted)                                                                              \
    do {                                                                                                        \
        wo_status check_status_ = (call);                                                                       \
        if (check_status_ != (wanted)) {                                                                        \
            fprintf(stderr, "%s:%d: %s returned \"%s\", not \"%s\"\n", __FILE__, __LINE__, #call,               \
                    wo_status_text(check_status_), wo_status_text(wanted));                                     \
            exit(1);                                                                                            \
        }                                                                                                       \
    } while (0)

/* The call, which fills *err when it fails, returns WO_OK; its message is printed when not. */
#define CHECK_OK(call, err)                                                                                     \
    do {                                                                                                        \
        wo_status check_status_ = (call);                                                                       \
        if (check_status_ != WO_OK) {                                                                           \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, (err)->message);                      \
            exit(1);                                                                                            \
        }                                                                                                       \
    } while (0)

/* The text contains the part; both are printed when not. */
#define CHECK_CONTAINS(text, part)                                                                              \
    do {                                                                                                        \
        if (strstr((text), (part)) == NULL) {                                                                   \
            fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, (text), (part));     \
            exit(1);                                                                                            \
        }                                                                                                       \
    } while (0)

#endif
