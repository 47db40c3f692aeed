/* What the engine knows of a component beyond its public face. Private to offload. */
#ifndef WO_OFFLOAD_COMPONENT_IMPL_H
#define WO_OFFLOAD_COMPONENT_IMPL_H

#include "offload/component.h"

/* A number that no other component of the process has or will have: weights held for a destroyed component are never mistaken
 * for those of a new one at the same address. */
uint64_t wo_component_serial(const wo_component *c);

/* WO_ECHECKPOINT, naming the first difference, unless either's weights fit where the other's do. */
wo_status wo_component_check_alike(const wo_component *a, const wo_component *b, wo_error *err);

/* Elements that a conversion cannot part: one, or one output channel of a convolution. */
int64_t wo_param_granule(const wo_param *p);
/* Bytes at rest of the rows that are read, and where in the file they begin. */
uint64_t wo_param_bytes_at_rest(const wo_param *p);
uint64_t wo_param_file_offset(const wo_param *p);

#endif
