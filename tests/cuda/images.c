/* The images of a test's build: none of them is looked into, for the fake card has the kernels' PTX and finds them by name. Takes the place of
 * csrc/device/cuda/images.c. */
#include "device/cuda/images.h"

#include "device/cuda/kernels/list.h"

static const char nothing[] = "the fake card brings its own";

#define ROW(module) {#module, nothing, nothing + sizeof nothing - 1},
const wo_cuda_image wo_cuda_images[] = {WO_CUDA_MODULE_LIST(ROW)};
const size_t wo_cuda_image_count = sizeof wo_cuda_images / sizeof *wo_cuda_images;
const int wo_cuda_built_with = 12010; /* a version that a test can be below and no other need be */
