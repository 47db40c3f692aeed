# The CUDA device in the C build, included by the Makefile. The device itself compiles everywhere; what is made of kernels/*.cu needs nvcc (NVCC=,
# CUDA_HOME= or the PATH say where) and is only made when asked for.
#   make fakecuda     a card for tests: libcuda.so.1, which runs the kernels' PTX in an interpreter, and libcublasLt.so.13
#   make test-cuda    tests/cuda/**/test_*.c on that card, side by side under -j; takes SAN= as `test` does, and T=ops* for some of them
#   make cuda-ptx     kernels/*.cu as PTX for compute_80 and compute_120
#   make cuda-ptxas   registers, spills and shared memory of every kernel and target as a table
#   make check-ptxas  compares it with the accepted one, tests/cuda/ptxas.txt; PTXAS_LOG= names the output of another build to take it from, which
#                     nvcc was told to be verbose in (NVCC_APPEND_FLAGS="-Xptxas -v")
NVCC ?= $(firstword $(if $(CUDA_HOME),$(wildcard $(CUDA_HOME)/bin/nvcc)) $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
NVCCFLAGS := -std=c++17 -O3 -lineinfo -I.
CUDA_OUT ?= $(OUT)/cuda
CUDA_TARGETS := 80 120
CUDA_CODES := 80 86 89 90 100 120
CUDA_TESTING := ../tests/cuda

SOURCES += $(wildcard device/cuda/*.c)
CFLAGS += -DWO_HAVE_CUDA

# --- PTX and what ptxas says ------------------------------------------------------------------------------------------------------
CUDA_MODULES := $(if $(NVCC),$(patsubst device/cuda/kernels/%.cu,%,$(wildcard device/cuda/kernels/*.cu)))
CUDA_PTX := $(foreach t,$(CUDA_TARGETS),$(CUDA_MODULES:%=$(CUDA_OUT)/compute_$(t)/%.ptx))
define ptx_rule
$(CUDA_OUT)/compute_$(1)/%.ptx: device/cuda/kernels/%.cu
	@mkdir -p $$(@D); $$(NVCC) $$(NVCCFLAGS) -arch=compute_$(1) -ptx -MMD -MF $$(@:.ptx=.d) -MT $$@ $$< -o $$@
endef
$(foreach t,$(CUDA_TARGETS),$(eval $(call ptx_rule,$(t))))
cuda-ptx: $(CUDA_PTX)

$(CUDA_OUT)/ptxas/%.log: device/cuda/kernels/%.cu
	@mkdir -p $(@D); $(NVCC) $(NVCCFLAGS) -Xptxas -v $(foreach c,$(CUDA_CODES),-gencode arch=compute_$(c),code=sm_$(c)) \
	  -fatbin -MMD -MF $(@:.log=.d) -MT $@ $< -o $(@:.log=.fatbin) 2>$@.partial || { cat $@.partial; exit 1; }; mv $@.partial $@
# ptxas has one line for the entry, one for the spills and one for what is used.
$(CUDA_OUT)/ptxas.txt: $(or $(PTXAS_LOG),$(CUDA_MODULES:%=$(CUDA_OUT)/ptxas/%.log))
	@mkdir -p $(@D); printf '# nvcc %s\n# kernel target registers spilled_bytes static_shared_bytes\n' "$$($(NVCC) --version | sed -n 's/.*, V\([0-9.]*\).*/\1/p')" >$@; cat $^ | awk -F"'" '/Compiling entry/ {kernel = $$2; target = $$4} \
	  / spill stores/ {split($$0, w, " "); spilled = w[5] + w[9]} \
	  /Used [0-9]+ registers/ {match($$0, /[0-9]+ registers/); registers = substr($$0, RSTART, RLENGTH) + 0; shared = 0; \
	    if (match($$0, /[0-9]+ bytes smem/)) shared = substr($$0, RSTART, RLENGTH) + 0; print kernel, target, registers, spilled, shared}' | sort -V >>$@
cuda-ptxas: $(CUDA_OUT)/ptxas.txt
	@cat $<
# Nothing may spill, whatever the compiler. What else the table says is of one version of nvcc, and others are not held to it.
check-ptxas: $(CUDA_OUT)/ptxas.txt
	@! grep -v '^#' $< | awk '$$4 > 0 {print "spills: " $$0}' | grep .
	@if [ "$$(head -n 1 $<)" = "$$(head -n 1 $(CUDA_TESTING)/ptxas.txt)" ]; then diff $(CUDA_TESTING)/ptxas.txt $<; \
	  else test $$(grep -vc '^#' $<) -eq $$(grep -vc '^#' $(CUDA_TESTING)/ptxas.txt); fi
	@echo "what ptxas says of $$(grep -vc '^#' $<) kernels and targets is as accepted"

# --- the card for tests -----------------------------------------------------------------------------------------------------------
CUDA_INCLUDE := -I$(CUDA_TESTING)
# The interpreter is what takes the time, under sanitizers too.
FAKE_OBJECTS := $(patsubst $(CUDA_TESTING)/%.c,$(OUT)/fake/%.o,$(filter-out $(CUDA_TESTING)/fakecuda/cublaslt%,$(wildcard $(CUDA_TESTING)/fakecuda/*.c)) \
  $(filter-out $(CUDA_TESTING)/ptxsim/test_%,$(wildcard $(CUDA_TESTING)/ptxsim/*.c)))
$(OUT)/fake/ptxsim/%.o: CFLAGS += $(if $(filter none,$(SAN)),,-O2)
$(OUT)/fake/%.o: $(CUDA_TESTING)/%.c
	@mkdir -p $(@D); $(CC) $(CFLAGS) $(CUDA_INCLUDE) -MMD -c $< -o $@
$(OUT)/fake/fakecuda/ptx.o: CFLAGS += -DFAKE_PTX_FOLDER='"$(CUDA_OUT)"' '-DFAKE_PTX_LIST(X)=$(foreach t,$(CUDA_TARGETS),$(CUDA_MODULES:%=X($(t),%)))'
$(OUT)/fake/fakecuda/ptx.o: $(CUDA_PTX)
$(OUT)/fakecuda/libcuda.so.1: $(FAKE_OBJECTS)
	@mkdir -p $(@D); $(CC) $(CFLAGS) -shared -Wl,-soname,libcuda.so.1 -Wl,-z,defs $^ $(LDLIBS) -o $@
$(OUT)/fakecuda/libcublasLt.so.13: $(patsubst $(CUDA_TESTING)/%.c,$(OUT)/fake/%.o,$(wildcard $(CUDA_TESTING)/fakecuda/cublaslt*.c))
	@mkdir -p $(@D); $(CC) $(CFLAGS) -shared -Wl,-soname,libcublasLt.so.13 $^ $(LDLIBS) -o $@
FAKE_LIBRARIES := $(OUT)/fakecuda/libcuda.so.1 $(if $(wildcard $(CUDA_TESTING)/fakecuda/cublaslt*.c),$(OUT)/fakecuda/libcublasLt.so.13)
fakecuda: $(FAKE_LIBRARIES)

# --- tests on it ------------------------------------------------------------------------------------------------------------------
CUDA_TESTS := $(patsubst $(CUDA_TESTING)/%.c,$(OUT)/cuda_tests/%,$(sort $(foreach t,$(T),$(wildcard $(CUDA_TESTING)/test_$(t).c $(CUDA_TESTING)/*/test_$(t).c))))
CUDA_TEST_OBJECTS := $(OUT)/fake/images.o $(OUT)/fake/libptxsim.a
$(OUT)/fake/libptxsim.a: $(filter $(OUT)/fake/ptxsim/%,$(FAKE_OBJECTS))
	@rm -f $@; ar rcs $@ $^
$(OUT)/cuda_tests/%: $(CUDA_TESTING)/%.c $(CUDA_TEST_OBJECTS) $(OUT)/libwanoffload.a
	@mkdir -p $(@D); $(CC) $(CFLAGS) $(HAVE) $(CUDA_INCLUDE) -MMD $< $(CUDA_TEST_OBJECTS) $(OUT)/libwanoffload.a $(LDLIBS) -o $@
CUDA_RUNS := $(CUDA_TESTS:$(OUT)/cuda_tests/%=run-cuda/%)
CUDA_ALONE := run-cuda/test_offload_edges run-cuda/test_stream
test-cuda: $(if $(NVCC),,no-nvcc) $(CUDA_RUNS)
	@echo "all tests of the CUDA device passed ($(SAN))"
run-cuda/%: $(OUT)/cuda_tests/% $(FAKE_LIBRARIES)
	@began=$$(date +%s); LD_LIBRARY_PATH=$(abspath $(OUT))/fakecuda $< >$<.log 2>&1 && { echo "== $<: $$(($$(date +%s) - began)) s"; grep -v '^fakecuda: ' $<.log || true; } || { echo "== $<: failed"; cat $<.log; exit 1; }
$(CUDA_ALONE): run-cuda/%: | $(filter-out $(CUDA_ALONE),$(CUDA_RUNS))
no-nvcc:
	@echo "nvcc was not found: the tests of the CUDA device run the kernels' PTX, which nvcc makes (say where it is with NVCC=)"; exit 1

-include $(shell find $(CUDA_OUT) -name '*.d' 2>/dev/null)
.PHONY: cuda-ptx cuda-ptxas check-ptxas fakecuda test-cuda no-nvcc
