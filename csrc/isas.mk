# One line per x86-64 instruction set: name and compiler flags. Read by the Makefile and by setup.py; order from plain to best.
X86_ISAS := avx2 avx512 avx512_bf16 amx
FLAGS_generic :=
FLAGS_avx2 := -mavx2 -mfma -mf16c
FLAGS_avx512 := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
FLAGS_avx512_bf16 := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16
FLAGS_amx := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mamx-tile -mamx-bf16
