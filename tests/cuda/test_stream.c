/* Streams of the cuda device, on the fake card. */
#include "device/cuda/cuda.h"
#include "fakecuda/fakecuda.h"
#include "tests/stream_cases.h"

int main(void) {
    CHECK_OK(wo_cuda_open("cuda", &device, &err), &err);
    run_stream_cases();
    wo_cuda_close(device);
    CHECK(wo_memory_current() == 0 && wo_cuda_pinned_bytes() == 0);
    CHECK(fakecuda()->misuses() == 0 && fakecuda()->live(FAKECUDA_CONTEXTS) == 0);
    return 0;
}
