/* Monotonic time. */
#ifndef WO_BASE_CLOCK_H
#define WO_BASE_CLOCK_H

double wo_clock_seconds(void);
void wo_clock_sleep(double seconds);

#endif
