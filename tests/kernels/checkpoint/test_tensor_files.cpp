#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "kernels/checkpoint/safetensors_header.hpp"
#include "kernels/checkpoint/stored_matrix.hpp"
#include "kernels/checkpoint/tensor_files.hpp"
#include "kernels/checkpoint/written_checkpoint.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "tests/scratch_folder.hpp"
#include "usage_error.hpp"

using namespace helix;
using namespace helix::testing;
using Catch::Matchers::Contains;

namespace {

std::string file_with_header(const std::string& header, std::size_t data_bytes) {
  std::string length(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(length.data(), &size, sizeof(size));
  return length + header + std::string(data_bytes, '\0');
}

std::string refusal(const std::string& file) {
  return usage_error([&] { parse_safetensors_header(file, file.size(), "FILE"); });
}

}  // namespace

TEST_CASE("a safetensors header gives each tensor's type, shape and place") {
  const std::string file =
      safetensors_file({{"a", {"F32", {2}, std::string(8, 'a')}}, {"b", {"BF16", {1, 3}, "bbbbbb"}}});
  const std::vector<StoredTensor> tensors = parse_safetensors_header(file, file.size(), "FILE");
  REQUIRE(tensors.size() == 2);
  CHECK((tensors[0].name == "a" && tensors[0].type == StoredType::f32 && tensors[0].bytes == 8));
  CHECK((tensors[1].description() == "BF16 [1, 3]" && file.substr(tensors[1].offset) == "bbbbbb"));
  const std::string empty = file_with_header(R"({"__metadata__": {"format": "pt"}})", 0);
  CHECK(parse_safetensors_header(empty, empty.size(), "FILE").empty());
}

TEST_CASE("a damaged safetensors file is refused with file and tensor") {
  CHECK_THAT(refusal("short"), Contains("FILE: too short"));
  CHECK_THAT(refusal(file_with_header("{", 0)), Contains("FILE: malformed JSON"));
  CHECK_THAT(refusal(file_with_header("[]", 0)), Contains("FILE: its header is no JSON object"));
  std::string truncated = file_with_header("{}", 0);
  truncated[0] = 100;
  CHECK_THAT(refusal(truncated), Contains("truncated: its header would have 100 bytes"));
  const auto entry = [](const std::string& text) {
    return refusal(file_with_header("{\"w\": " + text + "}", 8));
  };
  CHECK_THAT(entry("1"), Contains("FILE: tensor 'w': its entry is no JSON object"));
  CHECK_THAT(entry(R"({"shape": [2], "data_offsets": [0, 8]})"), Contains("no dtype"));
  CHECK_THAT(entry(R"({"dtype": "F31", "shape": [2], "data_offsets": [0, 8]})"),
             Contains("'F31' is not of safetensors"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]})"),
             Contains("no whole number"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]})"),
             Contains("before they begin"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 12]})"),
             Contains("bytes end at 12, but 8 are behind the header: the file is truncated"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})"),
             Contains("F32 [3] takes 12 bytes"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]})"),
             Contains("more values than any file"));
  CHECK_THAT(refusal(file_with_header(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                                          "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
                                      8)),
             Contains("another tensor's, too"));
  CHECK_THAT(refusal(file_with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                                          "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
                                      8)),
             Contains("FILE: 'a' is named twice"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]})"),
             Contains("'w': the 4 bytes before it are no tensor's"));
  CHECK_THAT(entry(R"({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})"),
             Contains("FILE: its last 4 bytes are no tensor's"));
}

TEST_CASE("what is no file is refused, and a pipe is not waited for") {
  const ScratchFolder folder;
  const auto path = folder.path / "model.safetensors";
  const auto open = [&] { return usage_error([&] { TensorFiles files(folder.path); }); };
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK_THAT(open(), Contains("model.safetensors: cannot be read: Invalid argument"));
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  CHECK_THAT(open(), Contains("model.safetensors: cannot be read: Is a directory"));
}

TEST_CASE("an index and its files must agree") {
  const ScratchFolder folder;
  const auto open = [&] { return usage_error([&] { TensorFiles files(folder.path); }); };
  CHECK_THAT(open(), Contains("neither model.safetensors.index.json nor model.safetensors is there"));
  folder.write("one.safetensors", safetensors_file({{"a", {"F32", {1}, "aaaa"}}}));
  folder.write("two.safetensors",
               safetensors_file({{"a", {"F32", {1}, "aaaa"}}, {"b", {"F32", {1}, "bbbb"}}}));
  const auto with_map = [&](const std::string& map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\": " + map + "}");
    return open();
  };
  CHECK(with_map(R"({"a": "one.safetensors"})").empty());
  CHECK_THAT(with_map(R"({"a": "one.safetensors", "a": "two.safetensors"})"),
             Contains("model.safetensors.index.json: 'a' is named twice"));
  CHECK_THAT(with_map("3"), Contains("weight_map = 3"));
  CHECK_THAT(with_map(R"({"a": "../one.safetensors"})"), Contains("its file is not named"));
  CHECK_THAT(with_map(R"({"c": "one.safetensors"})"), Contains("one.safetensors: tensor 'c' is not there"));
  CHECK_THAT(with_map(R"({"c": "three.safetensors"})"),
             Contains("three.safetensors: cannot be read: No such file"));
  CHECK_THAT(with_map(R"({"a": "one.safetensors", "b": "two.safetensors"})"), Contains("tensor 'a' is in"));
  CHECK_THAT(with_map(R"({"b": "two.safetensors"})"),
             Contains("two.safetensors: tensor 'a' is surplus: model.safetensors.index.json leaves it out"));
}

TEST_CASE("stored matrices are read in every format, rows and columns alike") {
  // Three rows of 32 values: numbers that every format holds exactly, e4m3 and e2m1 with their scales.
  std::vector<float> expected;
  for (int i = 0; i < 96; ++i) expected.push_back(static_cast<float>((i * 5) % 7 - 3) * 0.5f);
  std::vector<std::uint16_t> bf16, f16;
  std::vector<std::uint8_t> e4m3, e2m1, e4m3_of_blocks;
  const auto half = [](float x) {  // of a multiple of 0.5 below 2
    const auto u = std::bit_cast<std::uint32_t>(x);
    return static_cast<std::uint16_t>((u >> 16 & 0x8000u) |
                                      (x == 0 ? 0u : ((u >> 13 & 0x3ffffu) - (112u << 10))));
  };
  for (std::size_t i = 0; i < expected.size(); ++i) {
    bf16.push_back(to_bf16(expected[i]).bits);
    f16.push_back(half(expected[i]));
    e4m3.push_back(to_fp8(expected[i] / 0.25f).bits);
    const std::size_t row = i / 32, block = i % 32 / 16;
    e4m3_of_blocks.push_back(to_fp8(expected[i] / static_cast<float>(1 + row / 2 * 2 + block)).bits);
    const unsigned code =
        expected[i] == 0 ? 0u
                         : static_cast<unsigned>(std::fabs(expected[i]) * 2) | (expected[i] < 0 ? 8u : 0u);
    if (i % 2 == 0)
      e2m1.push_back(static_cast<std::uint8_t>(code));
    else
      e2m1.back() = static_cast<std::uint8_t>(e2m1.back() | code << 4);
  }
  const std::vector<std::uint8_t> ones(6, to_fp8(2.0f).bits);
  const ScratchFolder folder;
  folder.write(
      "model.safetensors",
      safetensors_file({{"f32", {"F32", {3, 32}, bytes_of(expected)}},
                        {"bf16", {"BF16", {3, 32}, bytes_of(bf16)}},
                        {"f16", {"F16", {3, 32}, bytes_of(f16)}},
                        {"parts", {"F32", {1, 3, 32}, bytes_of(expected)}},
                        {"tensor", {"F8_E4M3", {3, 32}, bytes_of(e4m3)}},
                        {"tensor_scale", {"F32", {}, bytes_of(std::vector{0.25f})}},
                        {"row", {"F8_E4M3", {3, 32}, bytes_of(e4m3)}},
                        {"row_scale", {"F32", {3, 1}, bytes_of(std::vector{0.25f, 0.25f, 0.25f})}},
                        {"block", {"F8_E4M3", {3, 32}, bytes_of(e4m3_of_blocks)}},
                        {"block_scale_inv", {"F32", {2, 2}, bytes_of(std::vector{1.0f, 2.0f, 3.0f, 4.0f})}},
                        {"nvfp4", {"U8", {3, 16}, bytes_of(e2m1)}},
                        {"nvfp4_scale", {"F8_E4M3", {3, 2}, bytes_of(ones)}},
                        {"nvfp4_scale_2", {"F32", {}, bytes_of(std::vector{0.5f})}},
                        {"divided_packed", {"U8", {3, 16}, bytes_of(e2m1)}},
                        {"divided_scale", {"F8_E4M3", {3, 2}, bytes_of(ones)}},
                        {"divided_global_scale", {"F32", {1}, bytes_of(std::vector{2.0f})}}}));
  const TensorFiles files(folder.path);
  for (const char* name :
       {"f32", "bf16", "f16", "parts", "tensor", "row", "block", "nvfp4", "divided_packed"}) {
    CAPTURE(name);
    const StoredMatrix matrix(files, *files.find(name), {2, 16});
    REQUIRE((matrix.rows() == 3 && matrix.cols() == 32));
    const bool rounded = std::string_view(name) == "block";  // a third is not in e4m3
    for (std::int64_t row = 0; row < 3; ++row) {
      for (const Range columns : {Range{0, 32}, Range{5, 18}, Range{31, 32}}) {
        std::vector<float> out(static_cast<std::size_t>(columns.size()));
        matrix.read({row, row + 1}, columns, out.data());
        for (std::int64_t c = columns.begin; c < columns.end; ++c) {
          const float value = expected[static_cast<std::size_t>(row * 32 + c)];
          CHECK(out[static_cast<std::size_t>(c - columns.begin)] ==
                Approx(value).epsilon(rounded ? 0x1p-4 : 1e-7).margin(1e-9));
        }
      }
    }
    const Range some_rows{1, 3}, some{3, 21};
    std::vector<float> wide(static_cast<std::size_t>(some_rows.size() * some.size()));
    matrix.read(some_rows, some, wide.data());
    std::vector<BF16> bf16_values(wide.size());
    std::vector<FP8> fp8_values(wide.size());
    for (const float factor : {1.0f, 0x1p5f}) {
      matrix.read_rounded(some_rows, some, factor, bf16_values.data());
      matrix.read_rounded(some_rows, some, factor, fp8_values.data());
      for (std::size_t i = 0; i < wide.size(); ++i) {
        CHECK(to_float(bf16_values[i]) == to_float(to_bf16(wide[i] * factor)));
        CHECK(to_float(fp8_values[i]) == to_float(to_fp8(wide[i] * factor)));
      }
    }
    const float largest = std::fabs(*std::ranges::max_element(wide, {}, fabsf));
    for (const float known : {0.0f, 0.5f * largest, largest, 2 * largest})
      CHECK(matrix.largest(some_rows, some, known) == std::max(known, largest));
    const std::byte* const in_place = matrix.rows_in_bf16(1, {0, 32});
    CHECK((in_place != nullptr) == (std::string_view(name) == "bf16"));
    if (in_place != nullptr) CHECK(std::memcmp(in_place, bf16.data() + 32, 64) == 0);
    CHECK(matrix.rows_in_bf16(1, {0, 31}) == nullptr);
  }
}

TEST_CASE("half precision is widened with its subnormals, infinities and NaN") {
  const std::vector<std::uint16_t> halves{0x0001, 0x83ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x7e00};
  const ScratchFolder folder;
  folder.write("model.safetensors", safetensors_file({{"h", {"F16", {7}, bytes_of(halves)}}}));
  const TensorFiles files(folder.path);
  float out[7];
  read_values(*files.find("h"), 0, 7, out);
  CHECK((out[0] == 0x1p-24f && out[1] == -1023 * 0x1p-24f && out[2] == 0x1p-14f && out[3] == 65504.0f));
  CHECK((out[4] == INFINITY && out[5] == -INFINITY && std::isnan(out[6])));
}

TEST_CASE("scales that are missing or of another shape are refused by name") {
  const ScratchFolder folder;
  folder.write("model.safetensors", safetensors_file({{"bare", {"F8_E4M3", {2, 16}, std::string(32, '\0')}},
                                                      {"odd", {"F8_E4M3", {2, 16}, std::string(32, '\0')}},
                                                      {"odd_scale", {"F32", {3}, std::string(12, '\0')}},
                                                      {"int", {"F8_E4M3", {2, 16}, std::string(32, '\0')}},
                                                      {"int_scale", {"I32", {}, std::string(4, '\0')}},
                                                      {"packed", {"U8", {2, 8}, std::string(16, '\0')}},
                                                      {"w_packed", {"U8", {2, 8}, std::string(16, '\0')}},
                                                      {"whole", {"I32", {2, 2}, std::string(16, '\0')}},
                                                      {"flat", {"F32", {2}, std::string(8, '\0')}}}));
  const TensorFiles files(folder.path);
  const auto open = [&](const char* name) {
    return usage_error([&] { StoredMatrix(files, *files.find(name), {128, 128}); });
  };
  CHECK_THAT(open("bare"), Contains("model.safetensors: tensor 'bare': F8_E4M3 without 'bare_scale_inv'"));
  CHECK_THAT(open("odd"), Contains("tensor 'odd_scale': F32 [3] are no scales of odd F8_E4M3 [2, 16]"));
  CHECK_THAT(open("int"), Contains("tensor 'int_scale': no weights are read from I32 []"));
  CHECK_THAT(open("packed"), Contains("NVFP4, without 'packed_scale' and 'packed_scale_2'"));
  CHECK_THAT(open("w_packed"), Contains("NVFP4, without 'w_scale' and 'w_global_scale'"));
  CHECK_THAT(open("whole"), Contains("no weights are read from I32 [2, 2]"));
  CHECK_THAT(open("flat"), Contains("a matrix is expected, it is F32 [2]"));
}

TEST_CASE("a scale that is no number is named where it is read") {
  const ScratchFolder folder;
  const std::vector<float> scales{1.0f, INFINITY, 2.0f, NAN};
  folder.write("model.safetensors", safetensors_file({{"w", {"F8_E4M3", {4, 32}, std::string(128, '\x38')}},
                                                      {"w_scale_inv", {"F32", {2, 2}, bytes_of(scales)}}}));
  const TensorFiles files(folder.path);
  const StoredMatrix matrix(files, *files.find("w"), {2, 16});
  std::vector<float> out(4 * 32);
  matrix.read({0, 4}, {0, 16}, out.data());
  CHECK_THAT(
      usage_error([&] {
        matrix.read({1, 4}, {3, 17}, out.data());
      }),
      Contains("model.safetensors: tensor 'w_scale_inv': the scale of 'w' at row 1, column 16 is no number"));
  CHECK_THAT(usage_error([&] {
               matrix.largest({2, 4}, {0, 32}, 0.0f);
             }),
             Contains("at row 2, column 16 is no number"));
}
