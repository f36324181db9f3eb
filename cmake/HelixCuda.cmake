# The CUDA toolkit, as the `cuda` preset needs it. Nothing here needs a driver: the runtime is linked statically and
# looks for libcuda.so when it is first called, so that the program starts on any machine.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # Ampere as the baseline, then code for Hopper (H100, H200), Blackwell (B200, GB200), Blackwell Ultra (B300, GB300)
  # and RTX PRO 6000; PTX for what comes after them, which the driver compiles when the program starts.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual 100a-real 103a-real 120a-real CACHE STRING "GPU architectures")
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # Debian 12's CMake does not know how to ask nvcc for C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit 12.8 REQUIRED)  # the first that knows Blackwell

find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
add_library(helix_nccl INTERFACE)
target_include_directories(helix_nccl SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
target_link_libraries(helix_nccl INTERFACE ${NCCL_LIBRARY})

# Without -Wpedantic, which does not know the line directives of nvcc's output, and without 554, which does not see that a
# constraint rules a conversion out. A kernel that spills registers is an error, too.
target_compile_options(helix_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-diag-suppress=554;-Xcompiler=-Wall,-Wextra,-Wshadow>"
  "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${HELIX_WERROR}>>:-Xcompiler=-Werror;-Werror=all-warnings;-Xptxas=-warn-spills,-Werror>")
