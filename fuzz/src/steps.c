/* Counts the steps that instrumented code takes: each edge of its flow calls the first function.
 *
 * In C, since a function that is instrumented itself would call itself for ever. libFuzzer has functions of these
 * names, which only say that it doesn't use them any more; the linker is told to take these (see scripts/fuzz.sh). */
#include <stdint.h>

static uint64_t steps;

void __wrap___sanitizer_cov_trace_pc_guard(uint32_t *guard) {
  (void)guard;
  steps++;
}

void __wrap___sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop) {
  (void)start;
  (void)stop;
}

uint64_t logweir_fuzz_steps(void) { return steps; }
