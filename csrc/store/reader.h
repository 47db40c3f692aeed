/* Persistent reader threads with one FIFO of requests. No allocation after create. */
#ifndef WO_STORE_READER_H
#define WO_STORE_READER_H

#include "base/cancel.h"
#include "store/store.h"

typedef struct wo_reader wo_reader;

typedef struct wo_read_request {
    const wo_store *store; /* must outlive the request */
    int32_t file;
    uint64_t offset;
    size_t bytes;
    void *dst;             /* host-addressable */
    /* before: on the reader thread, may block until dst may be written; not WO_OK skips the read. May be NULL.
     * after: on the reader thread, exactly once per request, with the outcome (also when cancelled or failed). Required. */
    wo_status (*before)(void *ctx, wo_error *err);
    void (*after)(void *ctx, wo_status status, const wo_error *err);
    void *ctx;
    /* On reader thread `thread` (from 0), after each look at the file: what wo_reader_seconds and wo_reader_bytes grew by, and when
     * it began. May be NULL. */
    void (*timed)(void *ctx, int thread, size_t bytes, double begin, double seconds);
} wo_read_request;

/* threads >= 1; depth: requests that may wait in the queue. */
wo_status wo_reader_create(int threads, size_t depth, wo_reader **out, wo_error *err);
void wo_reader_destroy(wo_reader *reader); /* waits for what was submitted */
/* Copies the request. Requests start in the order of submission. Blocks while the queue is full. */
wo_status wo_reader_submit(wo_reader *reader, const wo_read_request *request, wo_error *err);
/* Waits until every request submitted so far has ended. */
void wo_reader_drain(wo_reader *reader);
/* Requests that begin while the token is requested are not read; `after` gets WO_ECANCELLED. NULL detaches. */
void wo_reader_set_cancel(wo_reader *reader, wo_cancel *cancel);
double wo_reader_seconds(const wo_reader *reader); /* spent inside pread, all threads */
uint64_t wo_reader_bytes(const wo_reader *reader);

#endif
