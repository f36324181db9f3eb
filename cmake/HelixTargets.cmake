# One INTERFACE target carries what every target of the project is compiled with.
add_library(helix_options INTERFACE)
target_compile_features(helix_options INTERFACE cxx_std_20)
target_compile_options(helix_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
    -Wnull-dereference $<$<BOOL:${HELIX_WERROR}>:-Werror>>)
if(HELIX_SANITIZE)
  # Instrumented, g++ 12 takes members of its own <regex> for uninitialised; the release build keeps the warning.
  target_compile_options(helix_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                                 -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  target_link_options(helix_options INTERFACE -fsanitize=address,undefined)
endif()
if(HELIX_FUZZ)
  target_compile_options(helix_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow
                                                 -fno-sanitize-recover=all)
  target_link_options(helix_options INTERFACE -fsanitize=address,undefined)
endif()
target_include_directories(helix_options INTERFACE ${PROJECT_SOURCE_DIR})

# helix_precompile(TARGET [headers...]): parses the standard library's and fmt's headers, and those given, once for all
# sources of a target. For speed alone: every source still includes what it uses.
function(helix_precompile target)
  if(HELIX_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE
      <algorithm> <array> <cmath> <filesystem> <fstream> <functional> <map> <memory> <optional> <set> <span> <sstream>
      <string> <string_view> <utility> <vector> <fmt/format.h> ${ARGN})
  endif()
endfunction()

# helix_library(NAME [EXCEPT folder] [PRECOMPILE headers...] LINK libs...): a static library of the current folder's
# *.cpp, its subfolders included, but for one that is a library of its own.
function(helix_library name)
  cmake_parse_arguments(ARG "" "EXCEPT" "PRECOMPILE;LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(ARG_EXCEPT)
    list(FILTER sources EXCLUDE REGEX "^${CMAKE_CURRENT_SOURCE_DIR}/${ARG_EXCEPT}/")
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC helix_options ${ARG_LINK})
  helix_precompile(${name} ${ARG_PRECOMPILE})
endfunction()

# helix_embed(TARGET FUNCTION EXTENSION files...): compiles text files into TARGET as
# `std::span<const helix::EmbeddedFile> helix::FUNCTION()`, so that the program needs no data files beside it. They are
# called as the files without their extension.
function(helix_embed target function extension)
  set(entries "")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    get_filename_component(stem ${file} NAME)
    string(REGEX REPLACE "\\.${extension}$" "" stem ${stem})
    string(APPEND entries "    {\"${stem}\", R\"EMBED(${text})EMBED\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp CONTENT
"// Generated from *.${extension} by helix_embed.
#include <array>

#include \"roofline/embedded.hpp\"

namespace helix {
std::span<const EmbeddedFile> @function@() {
  static const auto files = std::to_array<EmbeddedFile>({
@entries@  });
  return files;
}
}  // namespace helix
" @ONLY)
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp)
endfunction()
