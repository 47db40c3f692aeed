/* The scale that may stand beside an 8-bit weight in a file. Private to offload. */
#ifndef WO_OFFLOAD_SCALE_H
#define WO_OFFLOAD_SCALE_H

#include "offload/component.h"

/* Sets p->scale and the scaling of p->conversion from what the store has beside p->entry, which is set. A scale that cannot
 * be applied is WO_ECHECKPOINT: the tensor, the file, what was found and what to do. component: name, for errors. */
wo_status wo_scale_find(const char *component, const wo_store *store, wo_param *p, wo_error *err);
/* Why a tensor that goes with 8-bit weights is not used; NULL for any other name. */
const char *wo_scale_excuse(const char *tensor);

#endif
