#include <catch2/catch.hpp>

#include "roofline/base/dtype.hpp"
#include "roofline/base/error.hpp"

using namespace helix;

TEST_CASE("bytes per value count the scales of block formats") {
  CHECK(bytes_per_value(DType::fp32) == 4.0);
  CHECK(bytes_per_value(DType::bf16) == 2.0);
  CHECK(bytes_per_value(DType::fp8) == 1.0);
  CHECK(bytes_per_value(DType::nvfp4) == 0.5625);
  CHECK(bytes_per_value(DType::fp4) == 0.5);
}

TEST_CASE("data types are parsed by their own names") {
  for (DType dtype : {DType::bf16, DType::fp8, DType::nvfp4, DType::fp4})
    CHECK(parse_dtype(name(dtype)) == dtype);
}

TEST_CASE("an unknown data type is refused and the valid ones are named") {
  using Catch::Matchers::Contains;
  for (const char* text : {"int3", "", "BF16", "fp32", "fp8 "}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_dtype(text), UsageError);
    CHECK_THROWS_WITH(parse_dtype(text), Contains(text) && Contains("bf16, fp8, nvfp4, fp4"));
  }
}
