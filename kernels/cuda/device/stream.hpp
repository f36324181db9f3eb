// The type of a CUDA stream (cudaStream_t), for host code that only hands it on. In the emulation it is
// always null.
#pragma once

struct CUstream_st;

namespace helix::cuda {

using Stream = CUstream_st*;

}  // namespace helix::cuda
