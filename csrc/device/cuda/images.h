/* The compiled kernels that this build carries: one image per module of kernels/list.h. The table is empty in a build without nvcc, and
 * then the device says so. */
#ifndef WO_DEVICE_CUDA_IMAGES_H
#define WO_DEVICE_CUDA_IMAGES_H

#include <stddef.h>

typedef struct wo_cuda_image {
    const char *module;     /* "norms": the row of WO_CUDA_MODULE_LIST, in its order */
    const char *data, *end; /* a fatbin, or PTX that ends with a NUL; static */
} wo_cuda_image;

extern const wo_cuda_image wo_cuda_images[];
extern const size_t wo_cuda_image_count; /* 0 or WO_CUDA_MODULES */
extern const int wo_cuda_built_with;     /* the first version of CUDA whose drivers load them, as drivers number it (13000); 0: any */

#endif
