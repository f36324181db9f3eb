// HELIX_SIMD_CLONES before a function: the compiler makes one copy for each of these instruction sets and the
// loader takes the best one that the CPU runs. For plain loops that vectorise by themselves; reductions are
// marked with `omp simd`. Elsewhere than on x86-64 Linux the baseline has its vector unit (Arm: NEON) and one
// copy is enough. A function that starts OpenMP threads must not carry it: the outlined body would not be
// cloned. (x86-64-v4: without AVX-512's byte and word instructions loops over bf16 take half the speed.)
#pragma once

// ifunc resolvers run before a sanitizer's runtime is up.
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define HELIX_SIMD_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define HELIX_SIMD_CLONES
#endif
