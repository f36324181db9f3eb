# Builds the main branch of the repository that this file lies in:
#   spack repo add packaging/spack/spack_repo/helix_bench && spack install helix-bench [+cuda cuda_arch=90a]
import os

from spack_repo.builtin.build_systems.cmake import CMakePackage
from spack_repo.builtin.build_systems.cuda import CudaPackage

from spack.package import *


class HelixBench(CMakePackage, CudaPackage):
    """Measured and predicted Helix-parallel decoding of large language models: KV cache and weights spread over MPI
    ranks, each time beside its DRAM roofline."""

    homepage = "https://arxiv.org/abs/2507.07120"
    git = "file://" + os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 6))

    license("Apache-2.0")

    version("main", branch="main")

    variant("microbench", default=False, description="Build the micro-benchmarks")

    depends_on("cxx", type="build")
    depends_on("cmake@3.24:", type="build")
    depends_on("ninja", type="build")
    depends_on("mpi")
    depends_on("cli11@2.1:")
    depends_on("fmt@9:")
    depends_on("yaml-cpp@0.7:")
    depends_on("nlohmann-json@3.11:")
    depends_on("pugixml@1.13:")
    depends_on("highway@1.0.3:")
    depends_on("benchmark@1.7:", when="+microbench")
    depends_on("onednn@2.6:", when="+microbench")
    depends_on("cuda@12.8:", when="+cuda")
    depends_on("nccl", when="+cuda")

    conflicts("%gcc@:11", msg="needs C++20 as g++ 12 has it")

    generator("ninja")

    def cmake_args(self):
        arguments = [
            self.define("HELIX_BUILD_TESTS", False),
            self.define_from_variant("HELIX_BUILD_MICROBENCH", "microbench"),
            self.define_from_variant("HELIX_CUDA", "cuda"),
        ]
        architectures = self.spec.variants["cuda_arch"].value if "+cuda" in self.spec else ("none",)
        if architectures != ("none",):
            arguments.append(self.define("CMAKE_CUDA_ARCHITECTURES", [f"{name}-real" for name in architectures]))
        return arguments

    @run_after("install")
    @on_package_attributes(run_tests=True)
    def check_install(self):
        Executable(self.prefix.bin.join("helix-bench"))("predict", "--model", "llama-3.1-8b", "--system", "h100",
                                                        "--context", "64k", "--ranks", "8")
