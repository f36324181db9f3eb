// What FlashInfer's own launcher of the trtllm-gen kernels asks of the driver, for cases read from the standard input: the
// driver is this program. Compiled by trtllm_gen.py launches.
//   in:  mla kv_heads q_heads dim v_dim fp8 requests most_tokens multiprocessors pages table_width clusters
//   out: case,function,grid,threads,cluster,shared_bytes,parameter (hexadecimal, a tensor map being its number),maps
#include <cuda.h>
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "flashinfer/trtllm/fmha/fmhaRunner.cuh"

namespace {
std::string function, launched;
std::vector<std::string> maps;
int clusters = 0;
}  // namespace

extern "C" {
CUresult cuModuleLoadData(CUmodule*, const void*) {
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* found, CUmodule, const char* name) {
  *found = reinterpret_cast<CUfunction>(new std::string(name));
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult, const char** text) {
  *text = "an error";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "an error";
  return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveClusters(int* most, CUfunction, const CUlaunchConfig*) {
  *most = clusters;
  return CUDA_SUCCESS;
}
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill fill) {
  std::ostringstream text;
  text << (type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? "bf16"
           : type == CU_TENSOR_MAP_DATA_TYPE_UINT8  ? "bytes"
                                                    : "?")
       << ' ' << reinterpret_cast<std::uintptr_t>(base) << " dims";
  for (cuuint32_t i = 0; i < rank; ++i) text << ' ' << dims[i];
  text << " strides";
  for (cuuint32_t i = 0; i + 1 < rank; ++i) text << ' ' << strides[i];
  text << " box";
  for (cuuint32_t i = 0; i < rank; ++i) text << ' ' << box[i];
  text << " swizzle "
       << (swizzle == CU_TENSOR_MAP_SWIZZLE_128B  ? 128
           : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 64
           : swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? 32
                                                  : 0);
  for (cuuint32_t i = 0; i < rank; ++i)
    if (steps[i] != 1 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
        fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
      text << " ?";
  std::memset(map, 0, sizeof *map);
  maps.push_back(text.str());
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void** parameters, void**) {
  std::ostringstream text;
  text << *reinterpret_cast<std::string*>(f) << ',' << c->gridDimX << ' ' << c->gridDimY << ' ' << c->gridDimZ
       << ',' << c->blockDimX << ',' << c->attrs[0].value.clusterDim.x << ',' << c->sharedMemBytes << ',';
  const auto* bytes = static_cast<const unsigned char*>(parameters[0]);
  char two[3];
  for (std::size_t i = 0; i < sizeof(KernelParams); ++i) {
    std::snprintf(two, sizeof two, "%02x", bytes[i]);
    text << two;
  }
  launched = text.str();
  return CUDA_SUCCESS;
}
}

namespace flashinfer::trtllm_cubin_loader {
std::string getCubin(const std::string&, const std::string&) {
  return "code";
}
}  // namespace flashinfer::trtllm_cubin_loader
namespace tensorrt_llm::kernels {
void runFmhaReduction(const TllmGenFmhaKernelMetaInfo&, const KernelParams&, int32_t, bool, cudaStream_t) {}
}  // namespace tensorrt_llm::kernels

int main() {
  using namespace tensorrt_llm::kernels;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::int64_t mla, kv_heads, q_heads, dim, v_dim, fp8, requests, tokens, sms, pages, width;
    in >> mla >> kv_heads >> q_heads >> dim >> v_dim >> fp8 >> requests >> tokens >> sms >> pages >> width >>
        clusters;
    const auto cache = fp8 ? DATA_TYPE_E4M3 : DATA_TYPE_BF16;
    const std::int64_t bytes = fp8 ? 1 : 2, page = 32;
    TllmGenFmhaKernel kernels(sTllmGenFmhaKernelMetaInfos,
                              sizeof sTllmGenFmhaKernelMetaInfos / sizeof sTllmGenFmhaKernelMetaInfos[0],
                              DATA_TYPE_BF16, cache, cache, DATA_TYPE_BF16, kSM_100);
    kernels.loadKernels();
    TllmGenFmhaRunnerParams p;
    p.mQkvLayout = QkvLayout::PagedKv;
    p.mMaskType = mla ? TrtllmGenAttentionMaskType::Dense : TrtllmGenAttentionMaskType::Causal;
    p.mKernelType = FmhaKernelType::Generation;
    p.mTileScheduler = TileScheduler::Static;
    p.mMultiCtasKvMode = true;
    const std::int64_t k_bytes = kv_heads * page * dim * bytes;
    const auto at = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
    p.qPtr = at(0x10000);
    p.kPtr = at(0x20000);
    p.vPtr = at(0x20000 + static_cast<std::uintptr_t>(mla ? 0 : k_bytes));
    p.oPtr = at(0x30000);
    p.kvPageIdxPtr = static_cast<int*>(at(0x40000));
    p.seqLensKvPtr = static_cast<int*>(at(0x50000));
    p.multiCtasKvCounterPtr = static_cast<int*>(at(0x60000));
    p.softmaxStatsPtr = static_cast<float2*>(at(0x70000));
    p.multiCtasKvScratchPtr = at(0x80000);
    p.mHeadDimQk = static_cast<int>(dim);
    p.mHeadDimV = static_cast<int>(v_dim);
    p.mNumHeadsQ = static_cast<int>(q_heads);
    p.mNumHeadsKv = static_cast<int>(kv_heads);
    p.mNumHeadsQPerKv = static_cast<int>(q_heads / kv_heads);
    p.mBatchSize = static_cast<int>(requests);
    p.mMaxSeqLenKv = static_cast<int>(tokens);
    p.mMaxSeqLenQ = 1;
    p.mSumOfSeqLensQ = static_cast<int>(requests);
    p.mMaxNumPagesPerSeqKv = static_cast<int>(width);
    p.mNumTokensPerPage = static_cast<int>(page);
    p.mNumPagesInMemPool = static_cast<int>(pages);
    p.mMultiProcessorCount = static_cast<int>(sms);
    p.qStrideTokens = static_cast<int>(q_heads * dim);
    p.qStrideHeads = static_cast<int>(dim);
    p.kStrideKeysValues = p.vStrideKeysValues = static_cast<int>(dim);
    p.kStrideHeads = p.vStrideHeads = static_cast<int>(page * dim);
    p.kStrideBatch = p.vStrideBatch = static_cast<int>(kv_heads * page * (mla ? dim : dim + v_dim));
    p.outputScale = p.mScaleSfKv = p.mScaleSfO = 1;
    p.scaleSoftmaxLog2 = static_cast<float>(0.125 * M_LOG2E);
    p.mChunkedAttentionSize = p.mAttentionWindowSize = INT_MAX;
    p.mUsesSharedPagedKvIdx = true;
    maps.clear();
    launched.clear();
    try {
      kernels.run(p);
    } catch (const std::exception& error) {
      std::cerr << line << ": " << error.what() << '\n';
      continue;
    }
    // Where a kernel was given up for another, its maps come first.
    std::string of_launch;
    for (std::size_t i = maps.size() - 4; i < maps.size(); ++i)
      of_launch += (of_launch.empty() ? "" : ";") + maps[i];
    std::cout << line << ',' << launched << ',' << of_launch << '\n';
  }
}
